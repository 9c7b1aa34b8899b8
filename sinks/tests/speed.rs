//! What a row costs. Run with `cargo test --release -p tally-sinks --test speed -- --ignored --nocapture`.

mod fixture;

use fixture::*;
use std::time::{Duration, Instant};
use tally_model::OutputType;
use tally_sinks::Batch;
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

/// Fills a batch with a record a subject: neighbours in the log are strangers in the table.
fn fill(batch: &mut Batch, topic: &str, round: i64, subjects: i64) {
    for i in 0..RECORDS {
        let subject = (round * RECORDS + i) * 7_919 % subjects;
        if topic == "counters" {
            let totals = [("likes", round), ("reads", 3), ("views", 7), ("visitors", 2)];
            add_counters(batch, &counters(&format!("article:{subject}"), &totals, &["likes"], round), false);
        } else {
            let reaction = reaction(&format!("u{subject}"), true, NOW_MS + round, round);
            let value = serde_json::to_vec(&reaction).unwrap();
            let from = TopicPartition::new("reactions", 0);
            add(batch, &from, OutputType::Reaction, &reaction.key(), &value, false);
        }
    }
}

fn measure(name: &str, place: &dyn Place, topic: &str, subjects: i64) {
    let mut target = place.target();
    let (mut fold_us, mut write_us, mut wall) = (0.0, 0.0, Duration::ZERO);
    let mut expected = None;
    let mut batch = Batch::default();
    for round in 0..BATCHES {
        batch.clear();
        let before = cpu_us();
        fill(&mut batch, topic, round, subjects);
        batch.positions.push(step(expected, (round + 1) as u64, &[(0, 1)], round));
        expected = Some(((round + 1) as u64, round));
        let (folded, started) = (cpu_us(), Instant::now());
        target.write(&batch).unwrap();
        (fold_us, write_us) = (fold_us + folded - before, write_us + cpu_us() - folded);
        wall += started.elapsed();
    }
    let rows = (BATCHES * RECORDS) as f64;
    let wall_us = wall.as_micros() as f64 / rows;
    let (fold_us, write_us) = (fold_us / rows, write_us / rows);
    println!(
        "{name}, {topic} of {subjects}: CPU a row {fold_us:.2} us JSON and folding, {write_us:.2} us writing ({wall_us:.2} us wall)"
    );
}

#[test]
#[ignore = "a measurement"]
fn rows() {
    for subjects in [1_000, 10_000, 200_000] {
        measure("database", &DatabasePlace::new(), "counters", subjects);
        measure("database", &DatabasePlace::new(), "reactions", subjects);
    }
    measure("cache", &CachePlace::new(), "counters", 200_000);
}
