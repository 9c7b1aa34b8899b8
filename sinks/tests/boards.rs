//! Boards in every target: replaced as wholes, under one guard each.

mod fixture;

use fixture::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use redis::cmd;
use std::collections::BTreeMap;
use std::sync::Arc;
use tally_model::Ranking;
use tally_sinks::{Batch, Move, TargetError};
use tally_streams::log::TopicPartition;

/// A step of the position of `rankings/0`.
fn step_of_rankings(expected: Option<u64>, next_offset: u64) -> Move {
    let expected = expected.map(|expected| (expected, 1));
    Move { partition: TopicPartition::new("rankings", 0), ..step(expected, next_offset, &[(0, next_offset)], 1) }
}

fn batch(rankings: &[&Ranking], expected: Option<u64>, next_offset: u64) -> Batch {
    let mut batch = Batch::default();
    rankings.iter().for_each(|ranking| add_ranking(&mut batch, ranking));
    batch.positions.push(step_of_rankings(expected, next_offset));
    batch
}

fn databases() -> impl Iterator<Item = Box<dyn Place>> {
    DatabasePlace::all().into_iter().map(|place| Box::new(place) as Box<dyn Place>)
}

fn caches() -> impl Iterator<Item = Box<dyn Place>> {
    let redis = redis_places().into_iter().map(|place| Box::new(place) as Box<dyn Place>);
    redis.chain([Box::new(CachePlace::new()) as Box<dyn Place>])
}

fn suite(place: &dyn Place) {
    let mut target = place.target();
    assert_eq!(place.board("hot"), None);

    // Beyond 2^53, where doubles distinguish no neighbours; equal scores by id.
    let first = ranking("hot", &[("a:1", (1 << 60) + 1), ("a:2", 1 << 60), ("b:'\"|", 7), ("b:\u{7528}", 7)], 5);
    target.write(&batch(&[&first], None, 1)).unwrap();
    assert_eq!(place.board("hot"), Some(shown(&first)));

    // A smaller board, with a subject at another place: nothing of the greater one stays.
    let second = ranking("hot", &[("b:'\"|", 9), ("a:1", 8)], 6);
    target.write(&batch(&[&second], Some(1), 2)).unwrap();
    assert_eq!(place.board("hot"), Some(shown(&second)));

    // An older version changes nothing, in a batch that changes another board.
    let older = ranking("hot", &[("a:9", 1), ("a:8", 1), ("a:7", 1)], 5);
    let other = ranking("hot/a}b", &[("a:9", 1)], 1);
    target.write(&batch(&[&older, &other], Some(2), 3)).unwrap();
    assert_eq!(place.board("hot"), Some(shown(&second)));
    assert_eq!(place.board("hot/a}b"), Some(shown(&other)));

    // An equal one is taken: what is read again is written again.
    let equal = ranking("hot", &[("a:4", 4), ("a:1", 1), ("a:2", 1)], 6);
    target.write(&batch(&[&equal], Some(3), 4)).unwrap();
    assert_eq!(place.board("hot"), Some(shown(&equal)));

    // The newest record of a batch wins, wherever it is.
    let newest = ranking("hot", &[("a:1", 1)], 8);
    let between = ranking("hot", &[("a:1", 1), ("a:2", 1)], 7);
    target.write(&batch(&[&newest, &between], Some(4), 5)).unwrap();
    assert_eq!(place.board("hot"), Some(shown(&newest)));

    // A zombie has a newer version, and a position that is not its own any more.
    let zombie = ranking("hot", &[("z:1", 1)], 99);
    let refused = target.write(&batch(&[&zombie], Some(3), 4));
    assert!(
        matches!(&refused, Err(TargetError::Moved { found: Some(found), .. }) if found.next_offset == 5),
        "{refused:?}"
    );
    assert_eq!(place.board("hot"), Some(shown(&newest)));

    // A board without subjects is still a board.
    let empty = ranking("hot", &[], 9);
    target.write(&batch(&[&empty], Some(5), 6)).unwrap();
    assert_eq!(place.board("hot"), Some(shown(&empty)));

    // Longer than a statement has rows, and a script arguments.
    let ids: Vec<_> = (0..2_500).map(|i| format!("article:{i:04}")).collect();
    let items: Vec<_> = ids.iter().map(|id| (id.as_str(), 3)).collect();
    let long = ranking("hot", &items, 10);
    target.write(&batch(&[&long], Some(6), 7)).unwrap();
    assert_eq!(place.board("hot"), Some(shown(&long)));
    let half = ranking("hot", &items[..1_250], 11);
    target.write(&batch(&[&half], Some(7), 8)).unwrap();
    assert_eq!(place.board("hot"), Some(shown(&half)));
    assert_eq!(place.board("hot/a}b"), Some(shown(&other)), "other boards stay");
}

#[test]
fn every_database_keeps_its_promises() {
    databases().for_each(|place| suite(&*place));
}

#[test]
fn every_cache_keeps_its_promises() {
    caches().for_each(|place| suite(&*place));
}

#[test]
fn a_failure_between_the_tables_changes_neither() {
    for place in DatabasePlace::all() {
        let mut target = place.target();
        let first = ranking("hot", &[("a:1", 2), ("a:2", 1)], 1);
        target.write(&batch(&[&first], None, 1)).unwrap();
        let second = batch(&[&ranking("hot", &[("a:3", 1)], 2)], Some(1), 2);
        for table in ["board_entries", "sink_progress"] {
            place.rows(&format!("ALTER TABLE {table} RENAME TO gone"));
            assert!(matches!(target.write(&second), Err(TargetError::Unavailable(_))), "{table}");
            place.rows(&format!("ALTER TABLE gone RENAME TO {table}"));
            assert_eq!(place.board("hot"), Some(shown(&first)), "{table}");
        }
        target.write(&second).unwrap();
        assert_eq!(place.board("hot").unwrap().0, 2);
    }
}

#[test]
fn an_entry_that_a_server_refuses_is_told_with_its_place() {
    for place in server_databases().into_iter().map(DatabasePlace::Server) {
        let mut target = place.target();
        let long = format!("a:{}", "x".repeat(127));
        let outcome = target.write(&batch(&[&ranking("hot", &[("a:1", 2), (&long, 1)], 1)], None, 1));
        let Err(TargetError::Refused { row, .. }) = outcome else { panic!("{outcome:?}") };
        assert!(row.starts_with("board_entries (board \"hot\", position "), "{row}");
        assert_eq!(place.board("hot"), None);
    }
}

#[test]
fn a_refilled_redis_loses_what_an_older_epoch_had() {
    for place in redis_places() {
        let (mut former, topics) = (place.target(), [Arc::from("rankings")]);
        let before = ranking("hot", &[("a:1", 3), ("a:2", 2), ("a:3", 1)], 9);
        former.write(&batch(&[&before], None, 1)).unwrap();
        let _: i64 = place.nodes.ask(place.keys.progress_slot(), cmd("DEL").arg(place.keys.progress()));
        // The log may be another one, whose versions start low.
        let mut target = place.target();
        assert_eq!(target.positions(&topics).unwrap(), []);
        let after = ranking("hot", &[("a:2", 5)], 2);
        target.write(&batch(&[&after], None, 1)).unwrap();
        assert_eq!(place.board("hot"), Some(shown(&after)));
        assert_eq!(place.board_epoch("hot").as_ref(), place.progress().get("epoch"));
        let zombie = former.write(&batch(&[&ranking("hot", &[("z:1", 5)], 10)], Some(1), 2));
        assert!(matches!(zombie, Err(TargetError::Lost(_))), "{zombie:?}");
        assert_eq!(place.board("hot"), Some(shown(&after)));
    }
}

#[test]
fn a_board_of_a_later_epoch_is_left_alone_and_tells_the_writer_so() {
    for place in redis_places() {
        let mut target = place.target();
        let before = ranking("hot", &[("a:1", 3)], 9);
        target.write(&batch(&[&before], None, 1)).unwrap();
        // Another sink has begun an epoch in the moment between the look and the script.
        let later = place.progress()["epoch"].parse::<u64>().unwrap() + 1;
        let (slot, key) = (tally_cache::redis::Keys::board_slot("hot"), place.keys.ranking("hot"));
        place.nodes.ask::<()>(slot, cmd("HSET").arg(key).arg("@epoch").arg(later));
        let written = target.write(&batch(&[&ranking("hot", &[("a:2", 5)], 10)], Some(1), 2));
        assert!(matches!(&written, Err(TargetError::Lost(reason)) if reason.contains("later")), "{written:?}");
        assert_eq!(place.board("hot"), Some(shown(&before)));
        assert!(place.progress()["rankings/0"].starts_with(r#"{"next_offset":1,"#), "{:?}", place.progress());
    }
}

#[test]
fn a_position_is_written_after_the_boards_are() {
    for place in redis_places() {
        let mut target = place.target();
        target.write(&batch(&[], None, 1)).unwrap();
        // A key of another type: the script fails, and nothing after it may be claimed.
        let slot = tally_cache::redis::Keys::board_slot("hot");
        place.nodes.ask::<()>(slot, cmd("SET").arg(place.keys.ranking("hot")).arg("x"));
        let written = target.write(&batch(&[&ranking("hot", &[("a:1", 1)], 1)], Some(1), 2));
        assert!(matches!(written, Err(TargetError::Unavailable(_))), "{written:?}");
        assert!(place.progress()["rankings/0"].starts_with(r#"{"next_offset":1,"#), "{:?}", place.progress());
    }
}

/// Boards by name, each as some record had it.
type Model = BTreeMap<String, Ranking>;

fn histories() -> impl Strategy<Value = Vec<Vec<Ranking>>> {
    let version = prop_oneof![0..9i64, (0..6i64).prop_map(|low| (40 << 48) + (1 << 47) + low)];
    let items = prop::collection::btree_map(0..12u8, 1..4i64, 0..9);
    let record = (0..3usize, version, items).prop_map(|(board, version, items)| {
        let mut items: Vec<_> = items.into_iter().map(|(subject, score)| (format!("a:{subject}"), score)).collect();
        items.sort_by(|(a, a_score), (b, b_score)| (b_score, a).cmp(&(a_score, b)));
        let items: Vec<_> = items.iter().map(|(id, score)| (id.as_str(), *score)).collect();
        ranking(["hot", "hot/a", "new"][board], &items, version)
    });
    prop::collection::vec(prop::collection::vec(record, 0..4), 1..10)
}

/// Writes a batch each, and compares: the greatest version wins, the later of equal ones.
fn check(place: &dyn Place, batches: &[Vec<Ranking>]) -> Result<(), TestCaseError> {
    let (mut target, mut model) = (place.target(), Model::new());
    for (at, records) in batches.iter().enumerate() {
        let expected = (at > 0).then_some(at as u64);
        target.write(&batch(&records.iter().collect::<Vec<_>>(), expected, at as u64 + 1)).unwrap();
        for record in records {
            if model.get(&record.board).is_none_or(|known| known.version <= record.version) {
                model.insert(record.board.clone(), record.clone());
            }
        }
        for board in ["hot", "hot/a", "new"] {
            prop_assert_eq!(place.board(board), model.get(board).map(shown), "{} after batch {}", board, at);
        }
    }
    Ok(())
}

fn run(cases: u32, check: impl Fn(&[Vec<Ranking>]) -> Result<(), TestCaseError>) {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
    TestRunner::new(config).run(&histories(), |batches| check(&batches)).unwrap();
}

#[test]
fn boards_end_as_the_newest_records_have_them() {
    run(64, |batches| check(&DatabasePlace::new(), batches));
    run(64, |batches| check(&CachePlace::new(), batches));
}

#[test]
fn on_services_they_do_so_too() {
    for place in server_databases().into_iter().map(DatabasePlace::Server) {
        drop(place.open());
        run(24, |batches| {
            place.clear();
            check(&place, batches)
        });
    }
    for place in redis_places() {
        run(24, |batches| {
            place.clear();
            check(&place, batches)
        });
    }
}
