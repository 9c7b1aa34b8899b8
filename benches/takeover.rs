//! Time from a kill until a process commits again, on a broker of the benchmark's own.
//!
//! `cargo build --release && cargo bench --bench takeover -- [EVENTS] [RUNS]` (2,000,000 and 20 by default):
//! 1. One process has counted EVENTS; it is killed and started again, RUNS times: seconds from the start of the process
//!    to its first commit, and how much of the changelogs it read.
//! 2. A second process joins; one of the two is killed, RUNS times: seconds from the kill until the one that is left has
//!    committed something new of every partition; the killed one comes back before the next.
//!
//! Meanwhile 1,000 events a second are appended, so that there is something to commit.

mod broker;

use broker::*;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tally_streams::log::kafka::KafkaLog;
use tally_streams::log::{AppendBatch, Log, system_clock};
use tally_testkit::{Service, Site};

const GROUP: &str = "peer";
const TOPIC: &str = "user-actions";
const PATIENCE: Duration = Duration::from_secs(600);
/// Pause between queries of the group's offsets.
const LOOK: Duration = Duration::from_millis(10);
/// Interval of the steady events, and how long they are sent between two kills.
const BATCH_EVERY: Duration = Duration::from_millis(20);
const BATCH: u64 = 20;
const BETWEEN: Duration = Duration::from_secs(2);

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let (events, runs) = (numbers.first().copied().unwrap_or(2_000_000), numbers.get(1).copied().unwrap_or(20));
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(dir.path());
    let log = broker.log();
    let sent = fill(&log, events, 1);
    let sites = ["first", "second"].map(|name| site(&broker, &dir.path().join(name)));
    let mut first = sites[0].start();
    wait("everything is counted", || committed(&log, GROUP, TOPIC).iter().sum::<u64>() >= sent);
    let metrics = |site: &Site| {
        let body = tally_testkit::Client(site.listen.clone()).get("/metrics").expect("metrics").body;
        String::from_utf8(body).expect("UTF-8")
    };
    let entries = total(&metrics(&sites[0]), "tally_store_entries");
    let records = changelog_records(&log);
    println!("{sent} events: {entries} entries in stores, {records} records in changelogs");

    let stop = Arc::new(AtomicBool::new(false));
    let trickle = std::thread::spawn({
        let (log, stop) = (broker.log(), stop.clone());
        move || trickle(&log, &stop)
    });
    std::thread::sleep(BETWEEN);
    let (mut seconds, mut restored) = (Vec::new(), Vec::new());
    for run in 0..runs {
        first.kill();
        let before = committed(&log, GROUP, TOPIC);
        let begun = Instant::now();
        first = sites[0].spawn();
        let mut one = None;
        wait("a commit of every partition", || {
            let now = committed(&log, GROUP, TOPIC);
            if now != before {
                one.get_or_insert(begun.elapsed());
            }
            now.iter().zip(&before).all(|(now, before)| now > before)
        });
        first.wait_until_ready();
        let read = total(&metrics(&sites[0]), "tally_restored_records_total");
        let one = one.unwrap_or_default().as_secs_f64();
        println!(
            "restart {run}: first commit after {one:.2} s, all {:.2} s, {read} records",
            begun.elapsed().as_secs_f64()
        );
        seconds.push(one);
        restored.push(read);
        std::thread::sleep(BETWEEN);
    }
    println!("restart of the only process: {}; changelog records read: {}", spread(seconds), spread(restored));

    let mut processes = [Some(first), Some(sites[1].start())];
    let mut seconds = Vec::new();
    for run in 0..runs as usize {
        wait("both have tasks", || {
            processes.iter_mut().flatten().for_each(Service::wait_until_ready);
            sites.iter().all(|site| total(&metrics(site), "tally_tasks") > 0.0)
        });
        std::thread::sleep(BETWEEN);
        if let Some(killed) = processes[run % 2].take() {
            killed.kill();
        }
        let begun = Instant::now();
        let before = committed(&log, GROUP, TOPIC);
        wait("a commit of every partition by the other", || {
            committed(&log, GROUP, TOPIC).iter().zip(&before).all(|(now, before)| now > before)
        });
        let took = begun.elapsed().as_secs_f64();
        println!("takeover {run}: {took:.2} s");
        seconds.push(took);
        processes[run % 2] = Some(sites[run % 2].spawn());
    }
    println!("one of two processes killed, until all partitions are committed again: {}", spread(seconds));
    stop.store(true, Ordering::Relaxed);
    trickle.join().expect("the trickle ends");
}

fn site(broker: &Broker, dir: &Path) -> Site {
    std::fs::create_dir_all(dir).expect("a directory");
    let mut site = Site::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/tally"), dir);
    site.topology = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/topology.yaml");
    let flags = ["process", "--log", &format!("kafka://{}", broker.address), "--threads", "2", "--state"];
    let flags = flags.iter().map(|flag| (*flag).to_owned());
    site.role = Some(flags.chain([site.state_dir.display().to_string()]).collect());
    site
}

fn trickle(log: &KafkaLog, stop: &AtomicBool) {
    let appender = log.appender().expect("an appender");
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut batch = AppendBatch::default();
        for _ in 0..BATCH {
            number += 1;
            let (actor, now_ms) = (format!("u{}", number * 7919 % 200_000), system_clock()());
            let line = format!(
                r#"{{"event_id":"t{number}","type":"view","actor_id":"{actor}","subject_id":"article:{}","occurred_at":{now_ms}}}"#,
                number % 20_000
            );
            batch.push(record(&actor, line.as_bytes()));
        }
        append(&*appender, batch);
        std::thread::sleep(BATCH_EVERY);
    }
}

fn changelog_records(log: &KafkaLog) -> u64 {
    let of = |subtopology: &str| ends(log, &format!("{GROUP}-{subtopology}-changelog")).unwrap_or_default();
    ["user-actions", "by-subject_id"].map(|subtopology| of(subtopology).iter().sum::<u64>()).iter().sum()
}

/// The sum of a metric over its labels.
fn total(metrics: &str, name: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "waited for: {what}");
        std::thread::sleep(LOOK);
    }
}

fn spread(values: Vec<f64>) -> String {
    let worst = values.iter().copied().fold(0.0, f64::max);
    format!("p50 {:.2}, worst of {} {worst:.2}", median(values.clone()), values.len())
}
