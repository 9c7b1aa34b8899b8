//! What the processors cost: the shipped topology over the memory log, all hops with changelog, and beside it a plain
//! read-parse-hash-write loop over the same records. CPU-seconds per million events, medians of 3.
//!
//! `cargo bench --bench processors -- [EVENTS] [--write-baseline]` (500,000 by default). The ratios to the plain loop,
//! each over the same records at the same time, are compared with `benches/baseline.json`.

use std::collections::{HashMap, HashSet};
use std::process::ExitCode;
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
use tally_streams::task::{StateMemory, TaskSite, WIRE_VERSIONS};
use tally_streams::topology::Topology;
use tally_testkit::baseline::{Ratios, report};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RUNS: usize = 3;
const EVENTS: u64 = 500_000;
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

/// Nodes that are added to the topology without boards, and what `totals` reads of them. Every event passes `filter` and
/// `derive`; the node behind them takes none. Six events of ten are views.
const NODES: [(&str, &str, &str); 3] = [
    (
        "filter and derive",
        "  deep: { type: filter, from: checked, where: \"duration_ms == null || duration_ms >= 0\" }\n  \
         tagged: { type: derive, from: deep, set: { who: \"actor_id + '@' + type\" } }\n  \
         tail: { type: count, from: tagged, event: saved }",
        "tail",
    ),
    ("an aggregate", "  plain: { type: aggregate, from: checked, events: [view], values: { n: count } }", "plain"),
    (
        "12 hopping windows",
        "  hops: { type: aggregate, from: checked, events: [view], subject: \"'actor:' + id(actor_id)\", values: { n: count }, \
         windows: [{ hopping: 1h, every: 5m }], totals: false }",
        "hops",
    ),
];

fn main() -> ExitCode {
    let events = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(EVENTS);
    let text = include_str!("../topology.yaml");
    // The last subtopology is that of the boards.
    let is_board = |line: &&str| line.contains("type: board,") || line.contains("value: ranking,");
    let without_boards = text.lines().filter(|line| !is_board(line)).collect::<Vec<_>>().join("\n");
    let without_boards = without_boards.replace(" rankings,", "").replace(", rankings]", "]");
    // Each kind of board alone: what it costs is the difference to none.
    let kinds = KINDS.map(|(what, params)| {
        let score = "score: { likes: 4, reads: 2, views: 0.1 }";
        let board = format!("  alone: {{ type: board, from: [likes, reads, views], {score}, {params}, to: rankings }}");
        let lines = text.lines().filter(|line| !line.contains("type: board,"));
        let lines =
            lines.flat_map(|line| line.starts_with("sinks:").then_some(board.as_str()).into_iter().chain([line]));
        (what, lines.collect::<Vec<_>>().join("\n"))
    });
    let nodes = NODES.map(|(what, node, read)| {
        let text = without_boards.replace("\nsinks:", &format!("\n{node}\n\nsinks:"));
        (what, text.replace("from: [likes, collects, follows,", &format!("from: [{read}, likes, collects, follows,")))
    });
    let mut of_nodes = nodes.map(|(what, text)| (what, Costs::of(&text, events)));
    let (mut shipped, mut checkpoints) = (Costs::of(text, events), Costs::of(text, events));
    let mut boardless = Costs::of(&without_boards, events);
    let mut of_kinds = kinds.map(|(what, text)| (what, Costs::of(&text, events)));
    for run in 0..RUNS as u64 {
        shipped.measure(run, None);
        boardless.measure(run, None);
        for (what, costs) in &mut of_kinds {
            eprintln!("  a board with {what}:");
            costs.measure(run, None);
        }
        for (what, costs) in &mut of_nodes {
            eprintln!("  {what}:");
            costs.measure(run, None);
        }
        let dir = tempfile::tempdir().expect("a directory");
        checkpoints.measure(run, Some(dir.path()));
    }
    println!("{events} events, CPU-seconds per million, medians of {RUNS}:");
    println!("  plain read-parse-hash-write loop       {:6.2}", shipped.plain());
    println!("  processors, state in memory            {:6.2}   {:.1} x", shipped.pipeline(), shipped.ratio());
    println!("  processors, without boards             {:6.2}   {:.1} x", boardless.pipeline(), boardless.ratio());
    for (what, costs) in &of_kinds {
        let cost = costs.pipeline();
        println!("  processors, a board with {what:<14}{cost:6.2}   {:+.2}", cost - boardless.pipeline());
    }
    for (what, costs) in &of_nodes {
        let cost = costs.pipeline();
        println!("  processors, and {what:<23}{cost:6.2}   {:+.2}", cost - boardless.pipeline());
    }
    println!("  processors, with checkpoints           {:6.2}   {:.1} x", checkpoints.pipeline(), checkpoints.ratio());
    let named = [("state in memory", &shipped), ("without boards", &boardless), ("with checkpoints", &checkpoints)];
    let named = named.map(|(name, costs)| (name.to_owned(), costs.ratio()));
    let boards = of_kinds.iter().map(|(what, costs)| (format!("a board with {what}"), costs.ratio()));
    report("processors", Ratios::new(events, named.into_iter().chain(boards)))
}

/// What a topology has cost in each run, beside a plain loop over the same records. CPU-seconds per million events.
struct Costs {
    text: String,
    events: u64,
    plain: Vec<f64>,
    pipeline: Vec<f64>,
}

impl Costs {
    fn of(text: &str, events: u64) -> Self {
        Self { text: text.to_owned(), events, plain: Vec::new(), pipeline: Vec::new() }
    }

    fn topology(&self) -> Topology<Actions> {
        Topology::load("topology.yaml", &self.text, REGISTRY, SINK_TYPES).expect("a topology")
    }

    fn measure(&mut self, seed: u64, state: Option<&std::path::Path>) {
        let log = filled(&self.topology(), self.events, seed);
        let per_million = 1e6 / self.events as f64;
        self.plain.push(plain_loop(log.as_ref()) * per_million);
        self.pipeline.push(processors(&log, self.topology(), state) * per_million);
    }

    fn plain(&self) -> f64 {
        median(self.plain.iter().copied())
    }

    fn pipeline(&self) -> f64 {
        median(self.pipeline.iter().copied())
    }

    /// The ratio of each run to the plain loop beside it.
    fn ratio(&self) -> f64 {
        median(self.pipeline.iter().zip(&self.plain).map(|(pipeline, plain)| pipeline / plain))
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
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

/// A memory log that holds the workload's valid events, as the ingest API writes them.
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
        let key = bytes::Bytes::copy_from_slice(event.actor_id().as_bytes());
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
        memory: StateMemory::unlimited(),
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
            if seen.insert((event.actor_id().to_owned(), event.event_id().to_owned())) {
                *counts.entry((event.subject_id.to_string(), event.event_type().to_owned())).or_default() += 1;
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
