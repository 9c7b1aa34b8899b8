//! What a row costs. Run with `cargo test --release -p tally-sinks --test speed -- --ignored --nocapture`.

mod fixture;

use fixture::*;
use std::time::Instant;
use tally_sinks::{Batch, ValueType};
use tally_streams::log::TopicPartition;

const BATCHES: i64 = 200;
const RECORDS: i64 = 1_000;

/// CPU time of the whole process, SQLite's thread included.
fn cpu_us() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let own = stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0);
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of = |path: std::path::PathBuf| std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
    let all: f64 = tasks.filter_map(|t| of(t.path()).split(' ').next().and_then(|ns| ns.parse::<f64>().ok())).sum();
    all.max(own) / 1_000.0
}

fn measure(name: &str, place: &dyn Place, subjects: i64) {
    let mut target = place.target();
    let (started, before, mut parse_us) = (Instant::now(), cpu_us(), 0.0);
    let mut expected = None;
    let mut batch = Batch::default();
    for round in 0..BATCHES {
        batch.clear();
        let parsing = cpu_us();
        for i in 0..RECORDS {
            // Neighbours in the log are strangers in the table.
            let subject = (round * RECORDS + i) * 7_919 % subjects;
            let totals = [("likes", round), ("reads", 3), ("views", 7), ("visitors", 2)];
            add_counters(&mut batch, &counters(&format!("article:{subject}"), &totals, &["likes"], round), false);
            let reaction = reaction(&format!("u{subject}"), true, NOW_MS, round);
            let value = serde_json::to_vec(&reaction).unwrap();
            let from = TopicPartition::new("reactions", 0);
            add(&mut batch, &from, ValueType::Reaction, &reaction.key(), &value, false);
        }
        parse_us += cpu_us() - parsing;
        batch.positions.push(step(expected, (round + 1) as u64, &[(0, 1)], round));
        expected = Some((round + 1) as u64);
        target.write(&batch).unwrap();
    }
    let rows = (BATCHES * RECORDS * 2) as f64;
    let (cpu, wall) = (cpu_us() - before, started.elapsed().as_micros() as f64);
    println!(
        "{name}, {subjects} subjects: {:.2} us CPU a row ({:.2} of it JSON, both ways, and folding), {:.2} us wall",
        cpu / rows,
        parse_us / rows,
        wall / rows
    );
}

#[test]
#[ignore = "a measurement"]
fn rows() {
    measure("database", &DatabasePlace::new(), 10_000);
    measure("database", &DatabasePlace::new(), 200_000);
    measure("cache", &CachePlace::new(), 200_000);
}
