//! What the processors cost: the shipped topology over the memory log, all hops with changelog, and beside it a plain
//! read-parse-hash-write loop over the same records. CPU-seconds per million events, medians of 3.
//!
//! `cargo bench --bench processors -- [EVENTS]` (2,000,000 by default).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use tally::workload::{LineKind, Plan};
use tally_model::Event;
use tally_processors::{Actions, REGISTRY};
use tally_sinks::SINK_TYPES;
use tally_streams::log::memory::MemoryLog;
use tally_streams::log::*;
use tally_streams::runtime::{Limits, Polling, StreamMetrics, StreamThread};
use tally_streams::task::{TaskSite, WIRE_VERSIONS};
use tally_streams::topology::Topology;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RUNS: usize = 3;
const HOPS: &[&str] = &["tally-user-actions-by-subject_id-repartition", "tally-by-subject_id-by-board-repartition"];
const CHANGELOGS: &[&str] =
    &["tally-user-actions-changelog", "tally-by-subject_id-changelog", "tally-by-board-changelog"];

/// Kinds of boards, by what makes them so.
const KINDS: [(&str, &str); 5] = [
    ("a half-life", "half_life: 6h"),
    ("a window", "window: 24h, bucket: 5m"),
    ("min_actors", "half_life: 6h, min_actors: 5"),
    ("a baseline", "window: 1h, bucket: 5m, baseline: 24h"),
    ("a group", "half_life: 6h, group: properties.source, groups: [feed]"),
];

fn main() {
    let events = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(2_000_000u64);
    let text = include_str!("../topology.yaml");
    let load = |text: &str| Topology::<Actions>::load("topology.yaml", text, REGISTRY, SINK_TYPES).expect("a topology");
    let shipped = || load(text);
    // The last subtopology is that of the boards.
    let is_board = |line: &&str| line.contains("type: board,") || line.contains("value: ranking,");
    let without_boards = text.lines().filter(|line| !is_board(line)).collect::<Vec<_>>().join("\n");
    let without_boards = without_boards.replace(" rankings,", "").replace(", rankings]", "]");
    let boardless = || load(&without_boards);
    // Each kind of board alone: what it costs is the difference to none.
    let kinds = KINDS.map(|(what, params)| {
        let score = "score: { likes: 4, reads: 2, views: 0.1 }";
        let board = format!("  alone: {{ type: board, from: [likes, reads, views], {score}, {params}, to: rankings }}");
        let lines = text.lines().filter(|line| !line.contains("type: board,"));
        let lines =
            lines.flat_map(|line| line.starts_with("sinks:").then_some(board.as_str()).into_iter().chain([line]));
        (what, lines.collect::<Vec<_>>().join("\n"))
    });
    let mut of_kinds = KINDS.map(|_| Vec::new());
    let (mut pipeline, mut with_checkpoints, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    let mut without = Vec::new();
    for run in 0..RUNS {
        let log = filled(&shipped(), events, run as u64);
        let dir = tempfile::tempdir().expect("a directory");
        plain.push(plain_loop(log.as_ref()) / events as f64 * 1e6);
        pipeline.push(processors(&log, shipped(), None) / events as f64 * 1e6);
        let log = filled(&boardless(), events, run as u64);
        without.push(processors(&log, boardless(), None) / events as f64 * 1e6);
        for ((what, text), costs) in kinds.iter().zip(&mut of_kinds) {
            eprintln!("  a board with {what}:");
            let log = filled(&load(text), events, run as u64);
            costs.push(processors(&log, load(text), None) / events as f64 * 1e6);
        }
        let log = filled(&shipped(), events, run as u64);
        with_checkpoints.push(processors(&log, shipped(), Some(dir.path())) / events as f64 * 1e6);
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (pipeline, with_checkpoints, plain) = (median(pipeline), median(with_checkpoints), median(plain));
    let without = median(without);
    println!("{events} events, CPU-seconds per million, medians of {RUNS}:");
    println!("  plain read-parse-hash-write loop       {plain:6.2}");
    println!("  processors, state in memory            {pipeline:6.2}   {:.1} x", pipeline / plain);
    println!("  processors, without boards             {without:6.2}   {:.1} x", without / plain);
    for ((what, _), costs) in kinds.iter().zip(of_kinds) {
        let cost = median(costs);
        println!("  processors, a board with {what:<14}{cost:6.2}   {:+.2}", cost - without);
    }
    println!("  processors, with checkpoints           {with_checkpoints:6.2}   {:.1} x", with_checkpoints / plain);
}

/// User time and system time of this process so far, in seconds.
fn cpu_seconds() -> f64 {
    // SAFETY: getrusage fills the struct that it is given.
    let usage = unsafe {
        let mut usage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// A memory log that holds the workload's valid events, as the door writes them.
fn filled(topology: &Topology<Actions>, events: u64, seed: u64) -> Arc<MemoryLog> {
    let log = Arc::new(MemoryLog::new(system_clock()));
    log.ensure_topics(&topology.topic_specs()).expect("topics");
    let partitions = log.partitions("user-actions").expect("the root topic");
    let appender = log.appender().expect("an appender");
    let now_ms = system_clock()();
    let mut batch = AppendBatch::default();
    let flush = |batch: &mut AppendBatch| {
        let (sender, receiver) = channel();
        let done = Box::new(move |outcome| drop(sender.send(outcome)));
        appender.append("user-actions", std::mem::take(batch), done);
        receiver.recv().expect("an outcome").expect("appended");
    };
    let each = |kind: LineKind, line: &[u8]| -> Result<(), ()> {
        if matches!(kind, LineKind::Garbage) {
            return Ok(());
        }
        let event = Event::from_log(line, now_ms).expect("valid");
        let key = bytes::Bytes::copy_from_slice(event.actor_id.as_bytes());
        batch.push(OwnedRecord {
            partition: partition_of(&key, partitions),
            key: Some(key),
            value: Some(bytes::Bytes::copy_from_slice(line.trim_ascii_end())),
            headers: bytes::Bytes::new(),
        });
        if batch.records.len() == 5_000 {
            flush(&mut batch);
        }
        Ok(())
    };
    Plan::full(events, seed, now_ms).for_each(each).expect("the workload");
    flush(&mut batch);
    log
}

/// Runs one stream thread until everything is counted; CPU-seconds.
fn processors(log: &Arc<MemoryLog>, topology: Topology<Actions>, state: Option<&std::path::Path>) -> f64 {
    let site = TaskSite {
        topology: Arc::new(topology),
        generation: 1,
        wire_version: *WIRE_VERSIONS.end(),
        hash_seed: 7,
        secret: [7; 32],
        owner: "bench".into(),
        siblings: ["bench".into()].into(),
        confirmed_times: [].into(),
        state_dir: state.map(Into::into),
        boot_id: "boot".to_owned(),
    };
    let clock = system_clock();
    let metrics = StreamMetrics::new(&prometheus::Registry::new()).expect("metrics");
    let (started, wall) = (cpu_seconds(), Instant::now());
    let mut thread = StreamThread::new(log.clone(), site, Limits::default(), metrics).expect("a thread");
    while thread.poll_once(Now::both(clock()), Duration::from_millis(10)).expect("a step") != Polling::Idle
        || !at_rest(log)
    {}
    let seconds = cpu_seconds() - started;
    let log = log.as_ref();
    let records = |topic: &str| -> u64 {
        (0..log.partitions(topic).unwrap_or(0))
            .map(|p| log.bounds(&TopicPartition::new(topic, p)).map_or(0, |b| b.1))
            .sum()
    };
    eprintln!(
        "  {:.2} s CPU, {:.2} s wall, {} counters records, {} rankings records, {} hop records, {} changelog records",
        seconds,
        wall.elapsed().as_secs_f64(),
        records("counters"),
        records("rankings"),
        HOPS.iter().map(|hop| records(hop)).sum::<u64>(),
        CHANGELOGS.iter().map(|changelog| records(changelog)).sum::<u64>(),
    );
    seconds
}

fn at_rest(log: &Arc<MemoryLog>) -> bool {
    ["user-actions"].iter().chain(HOPS).all(|topic| {
        (0..log.partitions(topic).unwrap_or(0)).all(|p| {
            let partition = TopicPartition::new(*topic, p);
            let committed = log.committed("tally", &partition).ok().flatten().map_or(0, |c| c.offset);
            log.bounds(&partition).is_ok_and(|(_, end)| committed == end)
        })
    })
}

/// The least that any such program does: read every record, parse it, look its id up, add to a count, write the counts.
fn plain_loop(log: &MemoryLog) -> f64 {
    let started = cpu_seconds();
    let mut consumer = log.consumer("").expect("a consumer");
    for p in 0..log.partitions("user-actions").expect("the root topic") {
        consumer.assign(&TopicPartition::new("user-actions", p), 0).expect("assigned");
    }
    let mut seen: HashSet<(String, String)> = HashSet::new();
    let mut counts: HashMap<(String, String), i64> = HashMap::new();
    while let Polled::Records { records, .. } = consumer.poll(Duration::ZERO).expect("a poll") {
        for record in records.map(|record| record.expect("a record")) {
            let event = Event::from_log(record.value.unwrap_or_default(), record.append_time_ms).expect("valid");
            if seen.insert((event.actor_id.to_string(), event.event_id.to_string())) {
                *counts.entry((event.subject_id.to_string(), event.event_type.to_string())).or_default() += 1;
            }
        }
    }
    let mut out = Vec::new();
    for ((subject, kind), count) in &counts {
        serde_json::to_writer(&mut out, &serde_json::json!({"subject": subject, "type": kind, "count": count}))
            .expect("json");
    }
    assert!(!std::hint::black_box(out).is_empty());
    cpu_seconds() - started
}
