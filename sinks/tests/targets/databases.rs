//! What every database promises beside.

use super::*;
use tally_model::DeadLetter;
use tally_model::VerdictKind;
use tally_sinks::{DeadLetterRow, Expired};

pub fn it_writes_only_what_changed_and_everything_when_it_refills(place: &DatabasePlace) {
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

pub fn a_reaction_keeps_when_it_was_first_seen(place: &DatabasePlace) {
    let mut target = place.target();
    let from = TopicPartition::new("reactions", 0);
    for batch_of in [vec![(true, 100, 1), (false, 200, 2)], vec![(true, 300, 3)], vec![(false, 50, 2)]] {
        let mut batch = Batch::default();
        for (active, appended_at_ms, version) in batch_of {
            let reaction = reaction("u1", active, appended_at_ms, version);
            let value = serde_json::to_vec(&reaction).unwrap();
            add(&mut batch, &from, OutputType::Reaction, &reaction.key(), &value, false);
        }
        assert_eq!(batch.reactions.rows().len(), 1);
        target.write(&batch).unwrap();
    }
    let rows = place.rows("SELECT * FROM reactions");
    assert_eq!(rows, ["u1|likes|article:7|1|295|100|300|3"]);
}

pub fn every_table_takes_its_rows_in_chunks_of_every_size(place: &DatabasePlace) {
    let mut target = place.target();
    let mut batch = Batch::default();
    let rows = 512 + 64 + 64 + 8 + 1 + 1;
    for i in 0..rows {
        let id = format!("article:{i}");
        add_counters(&mut batch, &counters(&id, &[("likes", i)], &["likes"], 1), false);
        let of = |topic: &str| TopicPartition::new(topic, 0);
        let window = window(i * 3_600_000, i, 1);
        let value = serde_json::to_vec(&window).unwrap();
        add(&mut batch, &of("windows"), OutputType::CounterWindow, &window.key(), &value, false);
        let verdict = verdict(3, i as u64, Some("0a"), NOW_MS);
        let value = serde_json::to_vec(&verdict).unwrap();
        add(&mut batch, &of("verdicts"), OutputType::Verdict, b"u1", &value, false);
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

pub fn old_rows_leave_and_the_rest_stays(place: &DatabasePlace) {
    const DAY_MS: i64 = 86_400_000;
    let mut target = place.target();
    let mut batch = Batch::default();
    for i in 0..2_500u64 {
        batch.verdicts.push(verdict(0, i, None, NOW_MS - DAY_MS - 1));
    }
    batch.verdicts.push(verdict(0, 9_999, None, NOW_MS - DAY_MS));
    for (letter_offset, appended_at_ms) in [(1, NOW_MS - 14 * DAY_MS - 1), (2, NOW_MS - 14 * DAY_MS)] {
        let place = TopicPartition::new("dead-letters", 0);
        let letter = DeadLetter { appended_at_ms, ..DeadLetter::default() };
        batch.dead_letters.push(DeadLetterRow { place, place_offset: letter_offset, letter });
    }
    let from = TopicPartition::new("windows", 0);
    for window in [window(NOW_MS - 90 * DAY_MS - 3_600_001, 1, 1), window(NOW_MS - 90 * DAY_MS - 3_600_000, 2, 1)] {
        add(&mut batch, &from, OutputType::CounterWindow, &window.key(), &serde_json::to_vec(&window).unwrap(), false);
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

pub fn the_last_verdict_on_an_event_holds_and_what_is_released_has_none(place: &DatabasePlace) {
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
    // And from batch to batch, even if the rows were already deleted.
    write(&mut target, (600..1_900).map(|offset| said(offset, Held)).collect());
    write(&mut target, (400..1_899).map(|offset| said(offset, Released)).collect());
    assert_eq!(kinds(), ["held|1|1899", "limited|300|0"]);
}

pub fn batches_of_every_size_arrive_whole(place: &DatabasePlace) {
    let mut target = place.target();
    for (round, rows) in [1, 8, 64, 512, 513, 1_500].into_iter().enumerate() {
        let mut batch = Batch::default();
        // Not in the order of their keys.
        for i in (0..rows).rev() {
            let total = (round as i64) * 10_000 + i;
            let id = format!("article:{i}");
            add_counters(&mut batch, &counters(&id, &[("likes", total)], &["likes"], round as i64), false);
        }
        batch.positions.push(step((round as u64).checked_sub(1).map(|at| (at, 0)), round as u64, &[], round as i64));
        target.write(&batch).unwrap();
        let found = place.rows(&format!("SELECT COUNT(*), SUM(value) FROM counters WHERE version = {round}"));
        let sum = rows * (round as i64) * 10_000 + rows * (rows - 1) / 2;
        assert_eq!(found, [format!("{rows}|{sum}")], "{rows} rows");
    }
}

pub fn ids_are_compared_byte_by_byte(place: &DatabasePlace) {
    let longest = format!("article:{}", "\u{7528}".repeat(40));
    let ids = ["article:A", "article:a", "article:a ", "article:a  ", "article:\u{e9}", "article:e\u{301}", &longest];
    let actors = ["u", "U", "u ", "\u{df}", "ss", &"\u{7528}".repeat(40)];
    assert_eq!((longest.len(), actors[5].len()), (128, 120));
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
            add(&mut batch, &from, OutputType::Reaction, &reaction.key(), &value, false);
        }
    }
    target.write(&batch).unwrap();
    for (id, version) in ids.iter().zip(1..) {
        assert_eq!(place.totals(id), totals(&[("likes", version)]), "{id:?}");
    }
    let found = place.rows("SELECT COUNT(*), COUNT(DISTINCT actor_id), COUNT(DISTINCT subject_id) FROM reactions");
    assert_eq!(found, ["42|6|7"]);
}

pub fn a_poisonous_verdict_is_stored_whatever_its_ids_are(place: &DatabasePlace) {
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
