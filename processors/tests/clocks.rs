//! Stream threads whose clocks lie: the wall clock of the process is set back and forward, and what is counted, and when,
//! is the same.

mod clocks_world;

use clocks_world::{NOON, World};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use tally_streams::log::{Log, TopicPartition};
use tally_streams::task::ClockMove;

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

/// Behind, right, ahead; and one that is set back and forward again.
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
        for (.., value) in world.read("verdicts") {
            let verdict: serde_json::Value = serde_json::from_slice(&value).unwrap();
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
            let ago_ms = if late { 24 * HOUR + random.random_range(-6_000..6_000) } else { random.random_range(0..9_000) };
            world.event(kind, &actor, &format!("article:{}", random.random_range(0..5)), world.broker.ms() - ago_ms);
        }
        let steps = if random.random_bool(0.2) { random.random_range(50..400) } else { random.random_range(1..8) };
        world.run(&mut thread, steps);
        if random.random_bool(0.02) {
            drop(std::mem::replace(&mut thread, world.thread()));
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
        assert_ne!(again(false), decided, "seed {seed}: without the recorded moves it would not matter when a task was idle");
    }
}

#[test]
fn moves_of_an_idle_clock_are_recorded_with_what_acted_on_them() {
    let world = World::new();
    let mut thread = world.thread();
    world.like("u1", "article:1");
    world.run(&mut thread, 1_000);
    let mut moves = BTreeMap::<u32, Vec<(u64, i64)>>::new();
    for (partition, .., value) in world.read(&world.idle_topic()) {
        let one = ClockMove::decode(&value).unwrap();
        assert_eq!((one.partition, one.generation, one.is_set), (partition, 1, false));
        moves.entry(partition).or_default().push((one.next_offset, one.clock_ms));
    }
    assert_eq!(moves.len() as u32, world.partitions(), "all were idle");
    for (partition, moves) in moves {
        assert!(moves.is_sorted(), "{moves:?}");
        let (next_offset, clock_ms) = moves[moves.len() - 1];
        assert_eq!(next_offset, world.log.bounds(&TopicPartition::new("user-actions", partition)).unwrap().1);
        assert!((NOON + 4_000..=NOON + 9_000).contains(&clock_ms), "a second behind the wall, at the last commit");
    }
    // What a process has recorded, it does not repeat when it comes back.
    let recorded = world.read(&world.idle_topic()).len();
    drop(thread);
    world.run(&mut world.thread(), 2);
    assert_eq!(world.read(&world.idle_topic()).len(), recorded);
}
