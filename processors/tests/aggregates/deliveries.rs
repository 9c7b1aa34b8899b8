//! Random events with disorder and lateness, in random commits, rollbacks and deliveries of the hop: the final values, the
//! values that are emitted when windows close, and what is late are those of a naive model, each time.

use super::case::{MIDNIGHT, TOPOLOGY};
use super::naive::{self, Event, GRACE, HOPPING, SESSION, SLIDING, TUMBLING, Windows};
use super::world::{PARTITIONS, World};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tally_streams::log::partition_of;

pub const DELIVERIES: u64 = 20;

fn topology() -> String {
    let text = TOPOLOGY.replace("PARTITIONS", &PARTITIONS.to_string()).replace("RANKINGS", "");
    let values = "n: count, sum: { sum: properties.v, scale: 2 }, least: { min: properties.v, scale: 2 }, most: { max: properties.v, scale: 2 }, \
                  first: { first: properties.t }, last: { last: properties.t }, mean: { avg: properties.v, scale: 2 }, \
                  who: { distinct: properties.v }, high: { quantile: properties.v, q: 0.9, scale: 2 }";
    let windows = format!(
        "[{TUMBLING}ms, {{ hopping: {}ms, every: {}ms }}, {{ session: {}ms, max: {}ms }}, {{ sliding: {SLIDING}ms }}]",
        HOPPING.0, HOPPING.1, SESSION.0, SESSION.1
    );
    let node = |name: &str, emit: &str| {
        format!(
            "  {name}: {{ type: aggregate, from: valid, events: [view], values: {{ {values} }}, windows: {windows}, grace: {GRACE}ms, emit: {emit} }}\n"
        )
    };
    let totals = "  totals: { type: total, from: [upd, fin], to: [counters, windows] }\n";
    format!("{text}{}{}{totals}", node("upd", "on_update"), node("fin", "on_close"))
}

/// Few numbers, so that the same choices come often.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % sides
    }
}

/// An actor of a partition.
fn actor(partition: usize) -> String {
    let of = |n: &usize| partition_of(format!("u{n}").as_bytes(), PARTITIONS as u32) as usize == partition;
    format!("u{}", (0..).find(of).unwrap())
}

fn json_of(event: &Event) -> Vec<u8> {
    let properties = match event.v {
        Some(v) => {
            let sign = if v < 0 { "-" } else { "" };
            format!(r#"{{"v":{sign}{}.{:02},"t":"t{v}"}}"#, v.abs() / 100, v.abs() % 100)
        }
        None => "{}".to_owned(),
    };
    let (id, actor, subject, time) = (event.offset, actor(event.partition), &event.subject, event.time);
    format!(
        r#"{{"event_id":"e{id}","type":"view","actor_id":"{actor}","subject_id":"{subject}","occurred_at":{time},"properties":{properties}}}"#
    )
    .into_bytes()
}

/// Partition, subject, how much later than the one before it is appended, how much older it is, and its number.
pub fn raw_event() -> impl Strategy<Value = (usize, usize, i64, i64, Option<i64>)> {
    let step = prop_oneof![3 => Just(0), 5 => (0..8i64).prop_map(|n| n * 500), 1 => Just(1), 1 => 0..40_000i64];
    let age = prop_oneof![4 => Just(0), 5 => (0..30i64).prop_map(|n| n * 500), 1 => Just(1), 1 => 0..30_000i64];
    (0..PARTITIONS, 0..3usize, step, age, prop::option::weighted(0.8, -120..120i64))
}

pub fn events(base: i64, raw: Vec<(usize, usize, i64, i64, Option<i64>)>) -> Vec<Event> {
    let mut append = base + 5_000;
    let mut offsets = [0; PARTITIONS];
    let mut events = Vec::new();
    for (partition, subject, step, age, v) in raw {
        append += step;
        let time = (append - age).max(base);
        let (subject, offset) = (format!("a:{subject}"), offsets[partition]);
        offsets[partition] += 1;
        events.push(Event { partition, subject, time, append, v, offset });
    }
    events
}

/// How often each value was written: by subject, window, value and start.
pub type Times = BTreeMap<(String, String, String, i64), usize>;

/// The last value of each window of a node, and how often it was written.
pub fn windows(world: &World, node: &str) -> (Windows, Times) {
    let (mut last, mut times) = (Windows::new(), BTreeMap::new());
    for (_, window) in world.written.iter().filter(|(topic, _)| topic == "windows") {
        let Some((of, metric)) = window["metric"].as_str().unwrap().split_once('.').filter(|(of, _)| *of == node)
        else {
            continue;
        };
        assert_eq!(of, node);
        let start = window["window_start_ms"].as_i64().unwrap();
        let (name, end) = match window["window_ms"].as_i64() {
            Some(size) => (size.to_string(), start + size),
            None => (window["window"].as_str().unwrap().to_owned(), window["window_end_ms"].as_i64().unwrap()),
        };
        let key = (window["subject_id"].as_str().unwrap().to_owned(), name, metric.to_owned(), start);
        if window["deleted"] == true {
            last.remove(&key);
            continue;
        }
        *times.entry(key.clone()).or_default() += 1;
        last.insert(key, (end, window["value"].clone()));
    }
    (last, times)
}

pub fn totals(world: &World, node: &str) -> BTreeMap<String, Value> {
    let mut last = BTreeMap::new();
    for (_, counters) in world.written.iter().filter(|(topic, _)| topic == "counters") {
        let of = counters["counters"].as_object().unwrap().iter();
        let of = of
            .filter_map(|(metric, value)| Some((metric.strip_prefix(&format!("{node}."))?.to_owned(), value.clone())));
        last.insert(counters["subject_id"].as_str().unwrap().to_owned(), json!(of.collect::<BTreeMap<_, _>>()));
    }
    last
}

/// Runs the events in an order of processing, commits, rollbacks and deliveries that the seed decides.
pub fn run(text: &str, events: &[Event], seed: u64, end: i64) -> World {
    let (mut world, mut dice) = (World::new(text), Dice(seed | 1));
    for event in events {
        world.append(event.partition, json_of(event), event.append);
    }
    for partition in 0..PARTITIONS {
        world.idle(partition, end);
    }
    let behind = world.levels() - 1;
    for _ in 0..20 * events.len() * behind {
        let (one, other) = (dice.roll(PARTITIONS), dice.roll(PARTITIONS));
        let level = 1 + dice.roll(behind);
        match dice.roll(12) {
            0..=4 => _ = world.process_root(one),
            5 => _ = world.commit(0, one),
            6..=8 => _ = world.deliver(level, one, other),
            9 => _ = world.commit(level, one),
            10 if dice.roll(4) == 0 => world.rollback(0, one),
            11 if dice.roll(4) == 0 => world.rollback(level, one),
            _ => {}
        }
    }
    world.finish();
    // A task behind the hop acts when its clock moves, not when it gets its first one.
    for move_ms in [1_000, 2_000].into_iter().take(behind) {
        (0..PARTITIONS).for_each(|partition| world.idle(partition, end + move_ms));
        world.finish();
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]
    #[test]
    fn every_delivery_gives_what_the_naive_model_gives(
        raw in prop::collection::vec(raw_event(), 1..40), seed in any::<u64>(), at_1970 in any::<bool>(),
    ) {
        let events = events(if at_1970 { 0 } else { MIDNIGHT }, raw);
        let (expected, sums, late) = naive::run(&events);
        let end = events.last().unwrap().append + 200_000;
        let text = topology();
        for delivery in 0..DELIVERIES {
            let mut world = run(&text, &events, seed.wrapping_mul(31).wrapping_add(delivery * 0x9E37_79B9), end);
            let (updated, _) = windows(&world, "upd");
            prop_assert_eq!(&updated, &expected, "on_update, delivery {}", delivery);
            let (closed, times) = windows(&world, "fin");
            prop_assert_eq!(&closed, &expected, "on_close, delivery {}", delivery);
            prop_assert!(times.values().all(|times| *times == 1), "a window was closed twice: {:?}", times);
            for node in ["upd", "fin"] {
                prop_assert_eq!(&totals(&world, node), &sums);
            }
            let counted = world.late();
            for node in ["upd", "fin"] {
                let of = counted.iter().filter(|((of, _), _)| of == node).map(|((_, window), count)| (window.clone(), *count));
                prop_assert_eq!(of.collect::<BTreeMap<_, _>>(), late.clone());
            }
        }
    }
}
