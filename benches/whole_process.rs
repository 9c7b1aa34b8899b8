//! The whole embedded process: from HTTP batches of 500 to counters that can be read in SQLite and in memory, then what
//! a restart after SIGKILL costs. Beside it a plain read-parse-hash-write loop over the same file, in the same run.
//!
//! `cargo build --release && cargo bench --bench whole_process -- [EVENTS] [--write-baseline]` (500,000 by default).
//! Medians of 3. The ratio to the plain loop of the same run is compared with `benches/baseline.json`.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tally::workload::Plan;
use tally_model::Event;
use tally_testkit::baseline::{Ratios, report};
use tally_testkit::{Client, Sender, Site, wait_until};

const RUNS: usize = 3;
const EVENTS: u64 = 500_000;
const RESTARTS: usize = 5;

struct Measured {
    events_per_second: f64,
    cpu_per_million: f64,
    anonymous_mb: f64,
    plain_cpu_per_million: f64,
    restarts_s: Vec<f64>,
}

fn main() -> ExitCode {
    let events = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(EVENTS);
    let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/tally");
    assert!(binary.exists(), "build it first: cargo build --release");
    let runs: Vec<_> = (0..RUNS).map(|run| measure(&binary, events, run as u64)).collect();
    let median = |value: &dyn Fn(&Measured) -> f64| {
        let mut values: Vec<_> = runs.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let plain = median(&|m| m.plain_cpu_per_million);
    let cpu = median(&|m| m.cpu_per_million);
    let ratio = median(&|m| m.cpu_per_million / m.plain_cpu_per_million);
    let mut restarts: Vec<_> = runs.iter().flat_map(|m| m.restarts_s.clone()).collect();
    restarts.sort_by(f64::total_cmp);
    println!("{events} events, medians of {RUNS}:");
    println!("  events per second, sent until readable {:>10.0}", median(&|m| m.events_per_second));
    println!("  CPU-seconds per million, the process   {cpu:>10.2}   {ratio:.1} x");
    println!("  CPU-seconds per million, a plain loop  {plain:>10.2}");
    println!("  anonymous memory at its peak, MB       {:>10.0}", median(&|m| m.anonymous_mb));
    println!(
        "  restart to first commit, s: p50 {:.2}, worst of {} {:.2}",
        restarts[restarts.len() / 2],
        restarts.len(),
        restarts[restarts.len() - 1]
    );
    report("whole_process", Ratios::new(events, [("the process", ratio)]))
}

fn measure(binary: &Path, events: u64, seed: u64) -> Measured {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("events.ndjson");
    let now_ms = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as i64);
    let mut out = BufWriter::new(std::fs::File::create(&file).expect("a file"));
    Plan::full(events, seed, now_ms).write(&mut out).expect("written");
    out.flush().expect("written");
    let plain = plain_loop(&file);

    let site = Site::new(binary, dir.path());
    let service = site.start();
    let (pid, client) = (service.id(), Client(site.listen.clone()));
    let (peak, done) = watch_memory(pid);
    let (begun, cpu_before) = (Instant::now(), cpu_seconds(pid));
    let sent = Sender::spawn(binary, &file, &client.0, &["--batch", "500"]).finish();
    assert!(sent.status.success(), "{}", sent.messages);
    client.wait_until_applied();
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds(pid) - cpu_before);
    done.store(true, Ordering::Relaxed);
    let anonymous_mb = peak.join().expect("the watcher") as f64 / 1024.0;
    service.kill();
    let restarts_s = (0..RESTARTS).map(|n| restart(&site, n)).collect();
    let measured = Measured {
        events_per_second: events as f64 / seconds,
        cpu_per_million: cpu / events as f64 * 1e6,
        anonymous_mb,
        plain_cpu_per_million: plain / events as f64 * 1e6,
        restarts_s,
    };
    eprintln!(
        "  run {seed}: {:.0} events/s, {:.2} CPU-s/M, {anonymous_mb:.0} MB, restarts {:.2?} s",
        measured.events_per_second, measured.cpu_per_million, measured.restarts_s
    );
    measured
}

/// Starts again after a kill; seconds until an event sent to it is committed.
fn restart(site: &Site, n: usize) -> f64 {
    let begun = Instant::now();
    let service = site.start();
    let client = Client(site.listen.clone());
    let event = format!(r#"{{"event_id":"restart-{n}","type":"view","actor_id":"u1","subject_id":"article:1"}}"#);
    wait_until("the ingest API", || {
        client.post("/v1/events", "application/json", event.as_bytes()).ok().filter(|answer| answer.status == 202)
    });
    wait_until("the first commit", || {
        let progress = client.get("/v1/progress").ok().filter(|answer| answer.status == 200)?.json();
        let mut partitions = progress["partitions"].as_array()?.iter();
        partitions.all(|partition| partition["committed"] == partition["end"]).then_some(())
    });
    let seconds = begun.elapsed().as_secs_f64();
    service.kill();
    seconds
}

/// The largest RssAnon that a process had, in kB, sampled.
fn watch_memory(pid: u32) -> (std::thread::JoinHandle<u64>, Arc<AtomicBool>) {
    let done = Arc::new(AtomicBool::new(false));
    let seen = done.clone();
    let watcher = std::thread::spawn(move || {
        let mut peak = 0;
        while !seen.load(Ordering::Relaxed) {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
            let kb = anonymous.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
            peak = peak.max(kb.unwrap_or(0));
            std::thread::sleep(Duration::from_millis(50));
        }
        peak
    });
    (watcher, done)
}

/// User and system time of a process so far; `/proc` counts in ticks of 10 ms.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields.iter().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Read, parse, hash, count, write: the least that any such program does. CPU-seconds.
fn plain_loop(file: &Path) -> f64 {
    let before = cpu_seconds(std::process::id());
    let (mut seen, mut counts) = (HashSet::new(), HashMap::<(String, String), i64>::new());
    for line in BufReader::new(std::fs::File::open(file).expect("the file")).split(b'\n') {
        let Ok(event) = Event::from_log(&line.expect("a line"), i64::MAX / 2) else { continue };
        if seen.insert((event.actor_id().to_owned(), event.event_id().to_owned())) {
            *counts.entry((event.subject_id.to_string(), event.event_type().to_owned())).or_default() += 1;
        }
    }
    let mut out = Vec::new();
    for ((subject, kind), count) in &counts {
        serde_json::to_writer(&mut out, &(subject, kind, count)).expect("json");
    }
    std::hint::black_box(out);
    cpu_seconds(std::process::id()) - before
}
