//! What every target promises, asked of all.

mod fixture;

use fixture::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use tally_model::VerdictKind;
use tally_sinks::{Batch, DeadLetter, Expired, StoredPosition, Target, TargetError, ValueType};
use tally_streams::log::TopicPartition;

fn totals(pairs: &[(&str, i64)]) -> BTreeMap<String, i64> {
    pairs.iter().map(|(metric, value)| ((*metric).to_owned(), *value)).collect()
}

fn position(target: &mut dyn Target) -> Option<StoredPosition> {
    target.positions(&[Arc::from("counters")]).unwrap().pop()
}

/// Totals, the names of those that changed, and the version.
type Written<'a> = (&'a [(&'a str, i64)], &'a [&'a str], i64);

fn batch(records: &[Written<'_>], step: tally_sinks::Move) -> Batch {
    let mut batch = Batch::default();
    for (totals, changed, version) in records {
        add_counters(&mut batch, &counters("article:7", totals, changed, *version), false);
    }
    batch.positions.push(step);
    batch
}

fn suite(place: &dyn Place) {
    let mut target = place.target();
    assert_eq!(position(&mut *target), None, "an empty target has no positions");
    assert_eq!(place.totals("article:7"), totals(&[]));

    // Rows and position together; the newest of a key wins, and takes along what the older one changed.
    let first = batch(
        &[(&[("likes", 1)], &["likes"], 1), (&[("likes", 1), ("views", 2)], &["views"], 2)],
        step(None, 2, &[(0, 10)], 2),
    );
    target.write(&first).unwrap();
    assert_eq!(place.totals("article:7"), totals(&[("likes", 1), ("views", 2)]));
    let stored = position(&mut *target).unwrap();
    assert_eq!((stored.next_offset, stored.version), (2, 2));
    assert_eq!(stored.roots.merged()[0].next_offset, 10);

    // The same batch again: the position is no longer what it expects, and nothing changes.
    let again = target.write(&first);
    assert!(
        matches!(again, Err(TargetError::Moved { expected: None, found: Some(found), .. }) if found.next_offset == 2)
    );
    assert_eq!(position(&mut *target).unwrap(), stored);

    // A replay over the same rows, with the right position, changes nothing either.
    let replay = batch(&[(&[("likes", 1)], &["likes"], 1)], step(Some((2, 2)), 3, &[(0, 10)], 2));
    target.write(&replay).unwrap();
    assert_eq!(place.totals("article:7"), totals(&[("likes", 1), ("views", 2)]));

    // Versions out of order: the smaller is refused, the equal one is taken.
    let newer = batch(&[(&[("likes", 9), ("views", 2)], &["likes"], 9)], step(Some((3, 2)), 4, &[(0, 12)], 9));
    target.write(&newer).unwrap();
    let older = batch(&[(&[("likes", 4), ("views", 2)], &["likes"], 4)], step(Some((4, 9)), 5, &[(0, 12)], 9));
    target.write(&older).unwrap();
    assert_eq!(place.totals("article:7")["likes"], 9);
    let equal = batch(&[(&[("likes", 10), ("views", 2)], &["likes"], 9)], step(Some((5, 9)), 6, &[(0, 12)], 9));
    target.write(&equal).unwrap();
    assert_eq!(place.totals("article:7")["likes"], 10);

    // A zombie goes on from where it once was: nothing of it is written, and the position stays.
    let stored = position(&mut *target).unwrap();
    let zombie = batch(&[(&[("likes", 99)], &["likes"], 99)], step(Some((4, 9)), 5, &[(0, 11)], 99));
    let refused = target.write(&zombie);
    assert!(
        matches!(&refused, Err(TargetError::Moved { found: Some(found), .. }) if found.next_offset == 6),
        "{refused:?}"
    );
    assert_eq!(position(&mut *target).unwrap(), stored);
    assert_eq!(place.totals("article:7")["likes"], 10, "all or nothing");

    // One position of several that is wrong is enough.
    let mut half = batch(&[(&[("likes", 98)], &["likes"], 98)], step(Some((6, 9)), 7, &[(0, 13)], 98));
    half.positions
        .push(tally_sinks::Move { partition: TopicPartition::new("counters", 1), ..step(Some((3, 9)), 4, &[], 98) });
    assert!(matches!(target.write(&half), Err(TargetError::Moved { found: None, .. })));
    assert_eq!((place.totals("article:7")["likes"], position(&mut *target).unwrap()), (10, stored));

    // At an equal position marks move on by themselves, and who has not seen that moves nothing, back or on.
    target.write(&batch(&[], step(Some((6, 9)), 6, &[(0, 20)], 20))).unwrap();
    let stored = position(&mut *target).unwrap();
    for (next_offset, root, version) in [(6, 15, 15), (7, 15, 15), (8, 30, 30)] {
        let zombie =
            batch(&[(&[("likes", 97)], &["likes"], 97)], step(Some((6, 9)), next_offset, &[(0, root)], version));
        let refused = target.write(&zombie);
        assert!(matches!(&refused, Err(TargetError::Moved { .. })), "{refused:?}");
        assert_eq!((place.totals("article:7")["likes"], position(&mut *target).unwrap()), (10, stored.clone()));
    }
    assert_eq!(stored.roots.merged()[0].next_offset, 20);

    // A position may be moved back on purpose (a log that was replaced).
    target.write(&batch(&[], step(Some((6, 20)), 0, &[], 0))).unwrap();
    assert_eq!(position(&mut *target).unwrap().next_offset, 0);
    assert_eq!(position(&mut *target).unwrap().roots.merged(), []);

    if place.survives() {
        drop(target);
        let mut target = place.target();
        assert_eq!(position(&mut *target).unwrap().next_offset, 0);
        assert_eq!(place.totals("article:7"), totals(&[("likes", 10), ("views", 2)]));
    }
}

#[test]
fn every_database_keeps_its_promises() {
    DatabasePlace::all().iter().for_each(|place| suite(place));
}

#[test]
fn the_cache_keeps_its_promises() {
    suite(&CachePlace::new());
}

#[test]
fn redis_keeps_its_promises() {
    redis_places().iter().for_each(|place| suite(place));
}

#[test]
fn positions_of_other_topics_are_not_told() {
    let mut places: Vec<Box<dyn Place>> = vec![Box::new(CachePlace::new())];
    places.extend(DatabasePlace::all().into_iter().map(|place| Box::new(place) as Box<dyn Place>));
    places.extend(redis_places().into_iter().map(|place| Box::new(place) as Box<dyn Place>));
    for place in places {
        let mut target = place.target();
        target.write(&batch(&[], step(None, 2, &[], 0))).unwrap();
        assert_eq!(target.positions(&[Arc::from("reactions")]).unwrap(), []);
    }
}

#[test]
fn the_database_writes_only_what_changed_and_everything_when_it_refills() {
    for place in DatabasePlace::all() {
        let mut target = place.target();
        let record = counters("article:7", &[("likes", 3), ("views", 9)], &["views"], 5);
        let mut changed = Batch::default();
        add_counters(&mut changed, &record, false);
        target.write(&changed).unwrap();
        assert_eq!(place.totals("article:7"), totals(&[("views", 9)]));
        let mut whole = Batch::default();
        add_counters(&mut whole, &record, true);
        target.write(&whole).unwrap();
        assert_eq!(place.totals("article:7"), totals(&[("likes", 3), ("views", 9)]));
    }
}

#[test]
fn a_reaction_keeps_when_it_was_first_seen() {
    for place in DatabasePlace::all() {
        let mut target = place.target();
        let from = TopicPartition::new("reactions", 0);
        for batch_of in [vec![(true, 100, 1), (false, 200, 2)], vec![(true, 300, 3)], vec![(false, 50, 2)]] {
            let mut batch = Batch::default();
            for (active, appended_at_ms, version) in batch_of {
                let reaction = reaction("u1", active, appended_at_ms, version);
                let value = serde_json::to_vec(&reaction).unwrap();
                add(&mut batch, &from, ValueType::Reaction, &reaction.key(), &value, false);
            }
            assert_eq!(batch.reactions.rows().len(), 1);
            target.write(&batch).unwrap();
        }
        let rows = place.rows("SELECT * FROM reactions");
        assert_eq!(rows, ["u1|likes|article:7|1|295|100|300|3"]);
    }
}

#[test]
fn every_table_takes_its_rows_in_chunks_of_every_size() {
    for place in DatabasePlace::all() {
        let mut target = place.target();
        let mut batch = Batch::default();
        let rows = 512 + 64 + 64 + 8 + 1 + 1;
        for i in 0..rows {
            let id = format!("article:{i}");
            add_counters(&mut batch, &counters(&id, &[("likes", i)], &["likes"], 1), false);
            let of = |topic: &str| TopicPartition::new(topic, 0);
            let window = window(i * 3_600_000, i, 1);
            let value = serde_json::to_vec(&window).unwrap();
            add(&mut batch, &of("windows"), ValueType::CounterWindow, &window.key(), &value, false);
            let verdict = verdict(3, i as u64, Some("0a"), NOW_MS);
            let value = serde_json::to_vec(&verdict).unwrap();
            add(&mut batch, &of("verdicts"), ValueType::Verdict, b"u1", &value, false);
        }
        target.write(&batch).unwrap();
        for (table, sum) in [("counters", "value"), ("counter_windows", "value"), ("verdicts", "`offset`")] {
            let found = place.rows(&format!("SELECT COUNT(*), SUM({sum}) FROM {table}"));
            assert_eq!(found, [format!("{rows}|{}", rows * (rows - 1) / 2)], "{table}");
        }
        assert_eq!(
            place.rows("SELECT * FROM verdicts WHERE `offset` = 5"),
            ["3|5|0a|e5|-|duplicate|counted before|fresh|1795248000000|1"]
        );
        // MySQL writes a space into its JSON.
        let totals = place.rows("SELECT * FROM subject_totals WHERE subject_id = 'article:5'");
        assert_eq!(totals[0].replace(": ", ":"), r#"article:5|{"likes":5}|1"#);
    }
}

#[test]
fn old_rows_leave_and_the_rest_stays() {
    for place in DatabasePlace::all() {
        const DAY_MS: i64 = 86_400_000;
        let mut target = place.target();
        let mut batch = Batch::default();
        for i in 0..2_500u64 {
            batch.verdicts.push(verdict(0, i, None, NOW_MS - DAY_MS - 1));
        }
        batch.verdicts.push(verdict(0, 9_999, None, NOW_MS - DAY_MS));
        for (letter_offset, appended_at_ms) in [(1, NOW_MS - 14 * DAY_MS - 1), (2, NOW_MS - 14 * DAY_MS)] {
            let letter = TopicPartition::new("dead-letters", 0);
            let (reason, detail, node, topic, partition, offset, key, value) = Default::default();
            batch.dead_letters.push(DeadLetter {
                letter,
                letter_offset,
                reason,
                detail,
                node,
                topic,
                partition,
                offset,
                key,
                value,
                appended_at_ms,
            });
        }
        let from = TopicPartition::new("windows", 0);
        for window in [window(NOW_MS - 90 * DAY_MS - 3_600_001, 1, 1), window(NOW_MS - 90 * DAY_MS - 3_600_000, 2, 1)] {
            add(
                &mut batch,
                &from,
                ValueType::CounterWindow,
                &window.key(),
                &serde_json::to_vec(&window).unwrap(),
                false,
            );
        }
        target.write(&batch).unwrap();
        let slices = [(1_000, 1, 1), (1_000, 0, 0), (500, 0, 0)];
        for (slice, (verdicts, letters, windows)) in slices.into_iter().enumerate() {
            let rows = vec![("verdicts", verdicts), ("dead_letters", letters), ("counter_windows", windows)];
            assert_eq!(target.expire(NOW_MS).unwrap(), Expired { rows, more: slice < 2 });
        }
        assert_eq!(place.rows("SELECT `offset` FROM verdicts"), ["9999"]);
        assert_eq!(place.rows("SELECT value FROM counter_windows"), ["2"]);
        assert_eq!(place.rows("SELECT letter_offset FROM dead_letters"), ["2"]);
    }
}

#[test]
fn the_last_verdict_on_an_event_holds_and_what_is_released_has_none() {
    for place in DatabasePlace::all() {
        let mut target = place.target();
        let said = |offset, kind| tally_model::Verdict { verdict: kind, ..verdict(3, offset, Some("0a"), NOW_MS) };
        let write = |target: &mut Box<dyn Target>, verdicts: Vec<tally_model::Verdict>| {
            let mut batch = Batch::default();
            batch.verdicts = verdicts;
            target.write(&batch).unwrap();
        };
        use VerdictKind::{Held, Limited, Released};
        // Within a batch, whatever lies between.
        let mut verdicts: Vec<_> = (0..600).map(|offset| said(offset, Held)).collect();
        verdicts.extend((0..300).map(|offset| said(offset, Limited)));
        verdicts.extend((300..599).map(|offset| said(offset, Released)));
        write(&mut target, verdicts);
        let kinds =
            || place.rows("SELECT verdict, COUNT(*), MIN(`offset`) FROM verdicts GROUP BY verdict ORDER BY verdict");
        assert_eq!(kinds(), ["held|1|599", "limited|300|0"]);
        // And from batch to batch; also where the rows have gone already.
        write(&mut target, (600..1_900).map(|offset| said(offset, Held)).collect());
        write(&mut target, (400..1_899).map(|offset| said(offset, Released)).collect());
        assert_eq!(kinds(), ["held|1|1899", "limited|300|0"]);
    }
}

#[test]
fn a_database_that_is_locked_is_an_error_and_writes_nothing() {
    use sqlx::{Connection, SqliteConnection};
    let place = DatabasePlace::new();
    let mut target = place.target();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut other = runtime.block_on(SqliteConnection::connect(&place.url())).unwrap();
    runtime.block_on(sqlx::query("BEGIN IMMEDIATE").execute(&mut other)).unwrap();
    let write = batch(&[(&[("likes", 1)], &["likes"], 1)], step(None, 1, &[], 1));
    assert!(matches!(target.write(&write), Err(TargetError::Unavailable(_))));
    runtime.block_on(sqlx::query("ROLLBACK").execute(&mut other)).unwrap();
    assert_eq!(position(&mut *target), None);
    target.write(&write).unwrap();
    assert_eq!(place.totals("article:7"), totals(&[("likes", 1)]));
}

#[test]
fn a_database_that_cannot_be_opened_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().display());
    let error = tally_sinks::Database::open(&url, Default::default()).err().unwrap().to_string();
    assert!(error.contains("it is a directory: name a file in it"), "{error}");
    for (url, part) in [
        ("mysql://u:secret@127.0.0.1", "it names no database"),
        ("postgres://u:secret@h/db", "use `sqlite:FILE` or `mysql://"),
        ("mysql://u:secret@h:x/db", "invalid port number"),
    ] {
        let error = tally_sinks::Database::open(url, Default::default()).err().unwrap().to_string();
        assert!(error.contains("://u:…@") && error.contains(part) && !error.contains("secret"), "{error}");
    }
}

#[test]
fn batches_of_every_size_arrive_whole() {
    for place in DatabasePlace::all() {
        let mut target = place.target();
        for (round, rows) in [1, 8, 64, 512, 513, 1_500].into_iter().enumerate() {
            let mut batch = Batch::default();
            // Not in the order of their keys.
            for i in (0..rows).rev() {
                let total = (round as i64) * 10_000 + i;
                let id = format!("article:{i}");
                add_counters(&mut batch, &counters(&id, &[("likes", total)], &["likes"], round as i64), false);
            }
            batch.positions.push(step(
                (round as u64).checked_sub(1).map(|at| (at, 0)),
                round as u64,
                &[],
                round as i64,
            ));
            target.write(&batch).unwrap();
            let found = place.rows(&format!("SELECT COUNT(*), SUM(value) FROM counters WHERE version = {round}"));
            let sum = rows * (round as i64) * 10_000 + rows * (rows - 1) / 2;
            assert_eq!(found, [format!("{rows}|{sum}")], "{rows} rows");
        }
    }
}

#[test]
fn ids_are_compared_byte_by_byte() {
    let longest = format!("article:{}", "\u{7528}".repeat(40));
    let ids = ["article:A", "article:a", "article:a ", "article:a  ", "article:\u{e9}", "article:e\u{301}", &longest];
    let actors = ["u", "U", "u ", "\u{df}", "ss", &"\u{7528}".repeat(40)];
    assert_eq!((longest.len(), actors[5].len()), (128, 120));
    for place in DatabasePlace::all() {
        let mut target = place.target();
        let mut batch = Batch::default();
        let mut version = 0;
        for id in ids {
            version += 1;
            add_counters(&mut batch, &counters(id, &[("likes", version)], &["likes"], version), false);
            for actor in actors {
                let reaction = tally_model::Reaction { subject_id: id.into(), ..reaction(actor, true, NOW_MS, 1) };
                let value = serde_json::to_vec(&reaction).unwrap();
                let from = TopicPartition::new("reactions", 0);
                add(&mut batch, &from, ValueType::Reaction, &reaction.key(), &value, false);
            }
        }
        target.write(&batch).unwrap();
        for (id, version) in ids.iter().zip(1..) {
            assert_eq!(place.totals(id), totals(&[("likes", version)]), "{id:?}");
        }
        let found = place.rows("SELECT COUNT(*), COUNT(DISTINCT actor_id), COUNT(DISTINCT subject_id) FROM reactions");
        assert_eq!(found, ["42|6|7"]);
    }
}

#[test]
fn a_poisonous_verdict_is_stored_whatever_its_ids_are() {
    for place in DatabasePlace::all() {
        let mut target = place.target();
        let long = "\u{fffd}".repeat(100_000);
        let mut poison = verdict(1, 1, None, NOW_MS);
        (poison.event_id, poison.actor_id, poison.reason) = (Some(long.clone()), Some(long.clone()), long);
        let mut batch = Batch::default();
        batch.verdicts.push(poison);
        target.write(&batch).unwrap();
        let found = place.rows("SELECT event_id FROM verdicts");
        assert_eq!(found[0].len(), 300_000);
    }
}
