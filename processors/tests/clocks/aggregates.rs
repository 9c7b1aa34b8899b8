//! Aggregates whose brokers and process are apart by ten seconds either way, and whose clocks jump while tasks idle: what is
//! late, what is closed and with which values is the same in a second run over the same log.

use super::clocks_world::World;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use tally_testkit::SHIPPED_TOPOLOGY;

/// A step of [`World::run`] in milliseconds.
const STEP_MS: i64 = 10;

fn topology() -> String {
    let node = |name: &str, emit: &str| {
        format!(
            "  {name}: {{ type: aggregate, from: checked, grace: 1s, emit: {emit},
           values: {{ n: count, sum: {{ sum: properties.v, scale: 2 }}, first: {{ first: properties.v, scale: 2 }}, last: {{ last: properties.v, scale: 2 }},
                     mean: {{ avg: properties.v, scale: 2 }}, who: {{ distinct: actor_id }}, high: {{ quantile: properties.v, q: 0.9, scale: 2 }} }},
           windows: [2s, {{ hopping: 3s, every: 1s }}, {{ session: 1s, max: 8s }}, {{ sliding: 1s }}] }}\n"
        )
    };
    let (aggregates, by_subject) = (node("upd", "on_update") + &node("fin", "on_close"), "  # by subject:");
    let text = SHIPPED_TOPOLOGY.replacen(by_subject, &(aggregates + by_subject), 1);
    text.replacen("visitors], by: subject_id", "visitors, upd, fin], by: subject_id", 1)
}

/// Clocks of brokers that are ten seconds behind, right and ten seconds ahead, and that are set back and forward again.
fn apart(partition: u32, offset: u64) -> i64 {
    [-10_000, 0, 10_000][partition as usize % 3] - i64::from(offset / 8 % 2 == 1) * 3_000
}

/// Everything that was decided.
#[derive(Debug, PartialEq)]
struct Decisions {
    /// By partition and offset.
    verdicts: BTreeMap<(u64, u64), String>,
    /// Partition, offset and reason of the records that were rejected.
    dead_letters: Vec<[String; 3]>,
    totals: BTreeMap<Vec<u8>, serde_json::Value>,
    /// The last value of each window that is emitted on updates, and its end. Which sessions were emitted before others absorbed
    /// them is decided by commits.
    updated: BTreeMap<Vec<u8>, [serde_json::Value; 2]>,
    /// Every value of each window that is emitted when it closes, and its end.
    closed: BTreeMap<Vec<u8>, Vec<[serde_json::Value; 2]>>,
}

impl Decisions {
    fn of(world: &World) -> Self {
        let verdict = |verdict: serde_json::Value| {
            let place = (verdict["partition"].as_u64().unwrap(), verdict["offset"].as_u64().unwrap());
            (place, verdict["verdict"].as_str().unwrap().to_owned())
        };
        let mut dead_letters: Vec<_> = world
            .read("dead-letters")
            .iter()
            .map(|letter| {
                ["partition", "offset", "reason"].map(|name| {
                    let (_, value) = letter.headers.iter().find(|(known, _)| known == name).unwrap();
                    String::from_utf8(value.clone()).unwrap()
                })
            })
            .collect();
        dead_letters.sort();
        let (mut updated, mut closed) = (BTreeMap::new(), BTreeMap::<_, Vec<_>>::new());
        for record in world.read("counter-windows") {
            let window = record.json();
            let value = ["value", "window_end_ms"].map(|field| window[field].clone());
            match window["metric"].as_str().unwrap().split('.').next().unwrap() {
                "fin" => closed.entry(record.key).or_default().push(value),
                _ if window["deleted"] == true => _ = updated.remove(&record.key),
                _ => _ = updated.insert(record.key, value),
            }
        }
        let totals = world.newest("counters").into_iter();
        Self {
            verdicts: world.read("verdicts").iter().map(|record| verdict(record.json())).collect(),
            dead_letters,
            totals: totals.map(|(key, value)| (key, value["counters"].clone())).collect(),
            updated,
            closed,
        }
    }
}

/// Bursts of events around now, and pauses in which the clocks of idle tasks pass those of brokers that are behind.
fn first_run(seed: u64) -> World {
    let world = World::of(&topology(), apart);
    let mut thread = world.thread();
    let mut random = StdRng::seed_from_u64(seed);
    let mut number = 0;
    for _ in 0..500 {
        for _ in 0..random.random_range(0..4) {
            number += 1;
            let (actor, subject) = (format!("u{}", random.random_range(0..24)), random.random_range(0..5));
            let kind = ["like", "unlike", "view", "view"][random.random_range(0..4)];
            // Clients' clocks are ahead and behind; some events come late.
            let ago_ms = if random.random_bool(0.1) {
                random.random_range(0..20_000)
            } else {
                random.random_range(-2_000..3_000)
            };
            let value = if random.random_bool(0.02) {
                "\"x\"".to_owned()
            } else {
                format!("{}.{:02}", random.random_range(-300..300), random.random_range(0..100))
            };
            let json = format!(
                r#"{{"event_id":"e{number}","type":"{kind}","actor_id":"{actor}","subject_id":"article:{subject}","occurred_at":{},"properties":{{"v":{value}}}}}"#,
                world.broker.ms() - ago_ms
            );
            world.append(&actor, json.into_bytes());
        }
        let is_idle = random.random_bool(0.2);
        world.run(&mut thread, if is_idle { random.random_range(50..400) } else { random.random_range(1..8) });
        if is_idle && random.random_bool(0.3) {
            // The process's clock is set, and set right again while everything is idle.
            let by_ms = [-10_000, 10_000][random.random_range(0..2)];
            world.wall.step(by_ms);
            world.run(&mut thread, random.random_range(1..200));
            world.wall.step(-by_ms);
        }
        if random.random_bool(0.02) {
            drop(thread);
            thread = world.thread();
        }
    }
    world.run(&mut thread, 60_000 / STEP_MS as usize);
    world
}

#[test]
fn a_second_run_closes_the_same_windows_with_the_same_values_whatever_the_clocks_were() {
    for seed in 1..4 {
        let first = first_run(seed);
        assert!(first.metrics.behind_clock.get() > 100, "brokers were behind");
        let late: u64 = ["2000", "hopping:3000:1000", "session:1000:8000", "sliding:1000"]
            .map(|window| first.metrics.late.with_label_values(&["fin", window]).get())
            .iter()
            .sum();
        let decided = Decisions::of(&first);
        assert!(late > 100, "{late}");
        assert!(decided.closed.values().all(|values| values.len() == 1), "a window was closed twice");
        assert!(decided.closed.len() > 3_000 && decided.dead_letters.len() > 10, "{}", decided.closed.len());
        let records = first.read("counter-windows");
        assert!(records.iter().any(|record| record.json()["deleted"] == true), "sessions were absorbed");
        let again = |with_moves| {
            let world = first.again(with_moves);
            // Days later, on a process that has restarted in the middle of it.
            world.wall.set(first.wall.ms() + 72 * 3_600_000);
            world.broker.set(world.wall.ms());
            let mut thread = world.thread();
            world.run(&mut thread, 12);
            drop(thread);
            world.run(&mut world.thread(), 3_000);
            Decisions::of(&world)
        };
        let second = again(true);
        assert_eq!(second.verdicts, decided.verdicts, "seed {seed}");
        assert_eq!(second.dead_letters, decided.dead_letters, "seed {seed}");
        assert_eq!(second.totals, decided.totals, "seed {seed}");
        for (key, values) in &decided.closed {
            assert_eq!(second.closed.get(key), Some(values), "seed {seed}: {}", String::from_utf8_lossy(key));
        }
        for (key, value) in &decided.updated {
            assert_eq!(second.updated.get(key), Some(value), "seed {seed}: {}", String::from_utf8_lossy(key));
        }
        assert_eq!(second, decided, "seed {seed}");
        assert_ne!(
            again(false).closed,
            decided.closed,
            "seed {seed}: without the recorded moves it would not matter when a task was idle"
        );
    }
}
