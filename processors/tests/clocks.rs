//! Stream threads whose clocks lie: the wall clock of the process is set back and forward, and what is counted, and when,
//! is the same.

#[path = "clocks/aggregates.rs"]
mod aggregates;
mod clocks_world;

use clocks_world::World;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use tally_streams::log::{Log, TopicPartition};
use tally_streams::task::{ClockMove, ConfirmedTime};
use tally_streams::testkit::StoredRecord;
use tally_testkit::NOW_MS;

const HOUR: i64 = 3_600_000;

#[test]
fn a_wall_clock_that_is_set_stops_no_commit() {
    for step_ms in [-60_000, -HOUR, HOUR, 30 * HOUR] {
        let world = World::new();
        let mut thread = world.thread();
        world.like("u1", "article:1");
        world.run(&mut thread, 20);
        assert_eq!(world.likes("article:1"), 1);
        world.wall.step(step_ms);
        world.like("u2", "article:1");
        // A commit is due every 50 ms, and 1 s passes here.
        world.run(&mut thread, 100);
        assert_eq!(world.likes("article:1"), 2, "after a step of {step_ms} ms");
    }
}

/// Clocks that are behind, right and ahead, and one that is set back and forward again.
fn apart(partition: u32, offset: u64) -> i64 {
    [-5_000, 0, 2_500][partition as usize % 3] - i64::from(offset / 8 % 2 == 1) * 3_000
}

/// What was decided: the verdict on each event, and everything that was counted.
#[derive(Debug, PartialEq)]
struct Decisions {
    verdicts: BTreeMap<(u64, u64), String>,
    totals: BTreeMap<Vec<u8>, serde_json::Value>,
    windows: BTreeMap<Vec<u8>, serde_json::Value>,
    reactions: BTreeMap<Vec<u8>, serde_json::Value>,
}

impl Decisions {
    fn of(world: &World) -> Self {
        let mut verdicts = BTreeMap::new();
        for record in world.read("verdicts") {
            let verdict = record.json();
            let place = (verdict["partition"].as_u64().unwrap(), verdict["offset"].as_u64().unwrap());
            verdicts.insert(place, verdict["verdict"].as_str().unwrap().to_owned());
        }
        let newest = |topic: &str, field: &str| {
            let newest = world.newest(topic).into_iter();
            newest.map(|(key, value)| (key, value[field].clone())).collect()
        };
        Self {
            verdicts,
            totals: newest("counters", "counters"),
            windows: newest("counter-windows", "value"),
            reactions: newest("reactions", "occurred_at_ms"),
        }
    }
}

/// Many like and unlike, so that rate rules hold and drop clicks; pauses let the clock of idle tasks run ahead of brokers.
fn first_run(seed: u64) -> World {
    let world = World::with(apart);
    let mut thread = world.thread();
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..600 {
        for _ in 0..random.random_range(0..4) {
            let actor = format!("u{}", random.random_range(0..12));
            let kind = ["like", "unlike", "view"][random.random_range(0..3)];
            let late = random.random_bool(0.2);
            // About as old as may be counted.
            let ago_ms =
                if late { 24 * HOUR + random.random_range(-6_000..6_000) } else { random.random_range(0..9_000) };
            world.event(kind, &actor, &format!("article:{}", random.random_range(0..5)), world.broker.ms() - ago_ms);
        }
        let steps = if random.random_bool(0.2) { random.random_range(50..400) } else { random.random_range(1..8) };
        world.run(&mut thread, steps);
        if random.random_bool(0.02) {
            drop(thread);
            thread = world.thread();
        }
    }
    world.run(&mut thread, 15_000);
    world
}

#[test]
fn a_second_run_decides_like_the_first_whatever_the_clocks_were() {
    for seed in 1..4 {
        let first = first_run(seed);
        assert!(first.metrics.behind_clock.get() > 20, "brokers were behind");
        let decided = Decisions::of(&first);
        assert!(decided.verdicts.values().any(|verdict| verdict == "late"));
        let again = |with_moves| {
            let world = first.again(with_moves);
            // Days later, on a process that has restarted in the middle of it.
            world.wall.set(first.wall.ms() + 72 * HOUR);
            world.broker.set(world.wall.ms());
            let mut thread = world.thread();
            world.run(&mut thread, 12);
            drop(thread);
            world.run(&mut world.thread(), 15_000);
            Decisions::of(&world)
        };
        assert_eq!(again(true), decided, "seed {seed}");
        assert_ne!(
            again(false),
            decided,
            "seed {seed}: without the recorded moves it would not matter when a task was idle"
        );
    }
}

#[test]
fn moves_before_the_start_of_their_source_are_deleted_and_a_replay_from_there_decides_the_same() {
    let first = first_run(4);
    let (events, recorded) = (first.read_raw("user-actions"), first.moves());
    let source = |partition| TopicPartition::new("user-actions", partition);
    let start = |partition| first.log.bounds(&source(partition)).unwrap().1 / 2;
    let delete = |world: &World| {
        (0..world.partitions()).for_each(|n| world.log.delete_records(&source(n), start(n)).unwrap());
    };
    delete(&first);
    // Starts are looked at every minute.
    first.run(&mut first.thread(), 7_000);
    let kept: Vec<_> = first.moves().into_iter().filter(|kept| recorded.contains(kept)).collect();
    let mut shortened = 0;
    for partition in 0..first.partitions() {
        let its = |moves: &[StoredRecord]| -> Vec<u64> {
            let its = moves.iter().filter(|record| record.partition == partition);
            its.map(|record| ClockMove::decode(record.value.as_deref().unwrap()).unwrap().next_offset).collect()
        };
        let before = |offsets: &[u64]| offsets.iter().filter(|offset| **offset < start(partition)).count();
        let (recorded, kept) = (its(&recorded), its(&kept));
        assert_eq!(before(&kept), before(&recorded).min(1), "{recorded:?} {kept:?}");
        assert_eq!(kept, recorded[recorded.len() - kept.len()..], "the others stay");
        shortened += u32::from(kept.len() < recorded.len());
    }
    assert!(shortened > 3, "{shortened}");
    let decided = |moves: &[StoredRecord]| {
        let world = first.replayed(events.clone(), moves);
        delete(&world);
        world.wall.set(first.wall.ms() + 72 * HOUR);
        world.broker.set(world.wall.ms());
        world.run(&mut world.thread(), 15_000);
        Decisions::of(&world)
    };
    let expected = decided(&recorded);
    assert_eq!(decided(&kept), expected);
    assert_ne!(decided(&[]), expected, "the moves matter");
}

#[test]
fn moves_of_an_idle_clock_are_recorded_with_the_record_that_follows() {
    let world = World::new();
    let moves = || {
        let mut moves = BTreeMap::<u32, Vec<(u64, i64)>>::new();
        for record in world.read(&world.idle_topic()) {
            let one = ClockMove::decode(&record.value.unwrap()).unwrap();
            assert_eq!((one.partition, one.generation, one.is_set), (record.partition, 1, false));
            moves.entry(record.partition).or_default().push((one.next_offset, one.clock_ms));
        }
        assert!(moves.values().all(|moves| moves.is_sorted_by(|a, b| a < b)), "none is recorded twice: {moves:?}");
        moves
    };
    let actors: Vec<_> = (0..world.partitions()).flat_map(|n| world.actors_of(n, 1)).collect();
    let like = |subject: &str| actors.iter().for_each(|actor| world.like(actor, subject));
    for (next_offset, restarts) in [(0, 0), (1, 1), (2, 3)] {
        let before = moves();
        // Several commits of idle tasks each.
        (0..restarts).for_each(|_| world.run(&mut world.thread(), 1_500));
        let mut thread = world.thread();
        world.run(&mut thread, 1_500);
        assert_eq!(moves(), before, "nothing is recorded while nothing comes");
        let at_ms = world.wall.ms();
        like(&format!("article:{next_offset}"));
        world.run(&mut thread, 100);
        let after = moves();
        assert_eq!(after.len() as u32, world.partitions(), "all were idle");
        for moves in after.values() {
            let (offset, clock_ms) = moves[moves.len() - 1];
            assert_eq!((moves.len() as u64, offset), (next_offset + 1, next_offset), "one before each record");
            assert!((at_ms - 1_200..=at_ms).contains(&clock_ms), "a second behind the wall, just before the record");
        }
    }
}

/// The clock of a task that has stopped since is recorded by its successor, who has never been idle.
#[test]
fn the_idle_clock_of_a_former_owner_is_recorded_with_the_record_that_follows() {
    let world = World::new();
    world.run(&mut world.thread(), 1_500);
    let stopped_ms = world.wall.ms();
    let actors: Vec<_> = (0..world.partitions()).flat_map(|n| world.actors_of(n, 1)).collect();
    actors.iter().for_each(|actor| world.like(actor, "article:1"));
    world.run(&mut world.thread(), 100);
    let moves: Vec<_> = world.read(&world.idle_topic()).into_iter().map(|record| record.value.unwrap()).collect();
    assert_eq!(moves.len() as u32, world.partitions());
    for one in moves.iter().map(|value| ClockMove::decode(value).unwrap()) {
        // A second behind the wall, at a commit of the last five seconds.
        assert!(one.next_offset == 0 && (stopped_ms - 6_500..stopped_ms).contains(&one.clock_ms), "{one:?}");
    }
}

#[test]
fn a_wall_clock_that_was_ahead_for_a_moment_makes_nothing_late() {
    let run = |is_judged: bool| {
        let world = World::new();
        let (mut thread, judged) = (world.thread(), world.judged());
        let mut run = |steps| match is_judged {
            true => world.run_judged(&mut thread, &judged, steps),
            false => world.run(&mut thread, steps),
        };
        world.like("u1", "article:1");
        run(200);
        world.wall.step(26 * HOUR);
        run(1_000);
        world.wall.step(-26 * HOUR);
        run(200);
        world.like("u2", "article:1");
        run(600);
        (world.likes("article:1"), world.read("verdicts").len())
    };
    assert_eq!(run(true), (2, 0));
    assert_eq!(run(false), (1, 1), "it would matter");
}

/// The broker of partitions 0 and 1 was ten minutes ahead for its second record.
fn ahead_once(partition: u32, offset: u64) -> i64 {
    if partition < 2 && offset == 1 { 10 * 60_000 } else { 0 }
}

#[test]
fn a_record_whose_append_time_lies_ahead_is_waited_for_and_the_others_go_on() {
    let world = World::with(ahead_once);
    let (mut thread, judged) = (world.thread(), world.judged());
    let (ahead, other) = (world.actors_of(0, 3), world.actors_of(5, 2));
    for actor in ahead.iter().chain(&other) {
        world.like(actor, "article:1");
    }
    world.run_judged(&mut thread, &judged, 300);
    assert_eq!(world.likes("article:1"), 3, "one before it, and those of another partition");
    assert!(!thread.is_working());
    let gauge = || world.metrics.ahead.with_label_values(&["tally-0"]).get();
    assert_eq!(gauge(), 1);
    world.like(&other[0], "article:2");
    world.run_judged(&mut thread, &judged, 300);
    assert_eq!(world.likes("article:2"), 1);
    // Two minutes ahead is not too far.
    world.pass(8 * 60_000 - 10_000);
    world.run_judged(&mut thread, &judged, 100);
    assert_eq!(world.likes("article:1"), 3);
    world.pass(10_000);
    world.run_judged(&mut thread, &judged, 300);
    assert_eq!((world.likes("article:1"), gauge()), (5, 0), "none was skipped");
    assert!(thread.is_working());
    assert_eq!(world.read("verdicts").len(), 0);
}

/// The brokers were 26 hours ahead for some records of each partition.
fn ahead_for_a_while(_partition: u32, offset: u64) -> i64 {
    if (2..4).contains(&offset) { 26 * HOUR } else { 0 }
}

#[test]
fn a_log_whose_time_was_ahead_goes_on_from_what_is_confirmed() {
    let mut world = World::with(ahead_for_a_while);
    let actors: Vec<_> = (0..world.partitions()).flat_map(|partition| world.actors_of(partition, 5)).collect();
    let everybody = |world: &World, subject: &str| actors.iter().for_each(|actor| world.like(actor, subject));
    let mut thread = world.thread();
    everybody(&world, "article:1");
    world.run(&mut thread, 300);
    let ahead_ms = world.wall.ms() + 26 * HOUR;
    everybody(&world, "article:2");
    world.run(&mut thread, 300);
    assert!(world.likes("article:2") < 40, "late from now on");
    thread.leave().unwrap();
    while thread.poll_once(world.now(), std::time::Duration::ZERO).unwrap() != tally_streams::runtime::Polling::Left {}
    // Taken before it is confirmed, and not processed.
    everybody(&world, "article:3");
    let of = |partition| {
        let at = TopicPartition::new("user-actions", partition);
        let until_offset = world.log.bounds(&at).unwrap().1;
        let committed = world.log.committed("tally", &at).unwrap().map_or(0, |committed| committed.offset);
        let clock_ms = world.wall.ms();
        ConfirmedTime { partition, from_offset: committed, until_offset, clock_ms, log_ms: ahead_ms }
    };
    let confirmed = (0..world.partitions()).map(of).collect();
    world.confirmed = confirmed;
    world.pass(1_000);
    let mut thread = world.thread();
    everybody(&world, "article:4");
    world.run(&mut thread, 300);
    assert_eq!(world.likes("article:4"), 40, "nothing is late any more");
    // A repeat of an event that was counted before counts nothing, even if its id was forgotten.
    let before = world.likes("article:1");
    for (number, actor) in (0..).zip(&actors) {
        world.send(number, "like", actor, "article:1", NOW_MS);
    }
    world.run(&mut thread, 300);
    drop(thread);
    everybody(&world, "article:5");
    world.run(&mut world.thread(), 15_000);
    assert_eq!((world.likes("article:1"), world.likes("article:5")), (before, 40), "over a restart as well");
    let decided = Decisions::of(&world);
    let again = world.again(true);
    again.wall.set(world.wall.ms() + 72 * HOUR);
    again.broker.set(again.wall.ms());
    again.run(&mut again.thread(), 15_000);
    assert_eq!(Decisions::of(&again), decided);
}
