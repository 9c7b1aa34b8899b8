//! What a record costs on its way from an output topic into the stores: the outputs of the shipped topology, prepared in a
//! memory log, read by the shipped sinks. CPU by topic, that of the sink's thread and of SQLite's; medians of 3.
//!
//! `cargo bench --bench sinks -- [EVENTS] [NAME…]` (300,000 by default; names of topics, `database` or `cache` for what the
//! whole sink reads). Servers of `TALLY_TEST_MARIADB` and `TALLY_TEST_MYSQL` are measured as well; their own CPU is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;
use tally::workload::{LineKind, Plan};
use tally_cache::{Admit, CacheLimits, MemoryCache};
use tally_model::{Event, OutputType};
use tally_processors::{Actions, REGISTRY};
use tally_sinks::{Database, MemoryTarget, Retention, SINK_TYPES, SinkConfig, SinkMetrics, SinkTask, Step, Target};
use tally_streams::log::memory::MemoryLog;
use tally_streams::log::*;
use tally_streams::runtime::{Limits, Polling, StreamMetrics, StreamThread};
use tally_streams::task::{StateMemory, TaskSite, WIRE_VERSIONS};
use tally_streams::topology::{Sink, Topology};
use tally_testkit::{NOW_MS, ServerDatabase, server_databases};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RUNS: usize = 3;
/// Events that a commit contains at 80,000 a second.
const EVENTS_PER_COMMIT: usize = 4_000;
const COMMIT_MS: i64 = 50;
/// Polls in a row that find nothing where nothing is left.
const IDLE_POLLS: u32 = 20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let events = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(300_000u64);
    let names: Vec<&str> = args.iter().map(String::as_str).filter(|arg| arg.parse::<u64>().is_err()).collect();
    let topology =
        Topology::<Actions>::load("topology.yaml", include_str!("../topology.yaml"), REGISTRY, SINK_TYPES).unwrap();
    let topology = Arc::new(topology);
    let log = processed(&topology, events);
    let records = |topic: &str| -> u64 {
        let bounds = |p| log.bounds(&TopicPartition::new(topic, p)).unwrap().1;
        (0..log.partitions(topic).unwrap()).map(bounds).sum()
    };
    for topic in topology.topic_specs().iter().map(|topic| &topic.name) {
        eprintln!("  {topic}: {} offsets", records(topic));
    }
    println!("{events} events, medians of {RUNS}: CPU-µs per record, CPU-seconds per million events");
    for sink in &topology.sinks {
        let mut topics: Vec<Vec<String>> = sink.from.iter().map(|topic| vec![topic.clone()]).collect();
        topics.push(sink.from.clone());
        for from in topics {
            let name = if from.len() == 1 { &from[0] } else { &sink.name };
            if !names.is_empty() && !names.contains(&name.as_str()) {
                continue;
            }
            for store in stores(sink.kind) {
                // On a thread of its own, which profilers can tell from the one that prepared the log.
                let run = || drain(&topology, sink, &from, &log, &store);
                let run = || {
                    std::thread::scope(|scope| {
                        std::thread::Builder::new()
                            .name("sink".into())
                            .spawn_scoped(scope, run)
                            .unwrap()
                            .join()
                            .unwrap()
                    })
                };
                let mut runs: Vec<_> = (0..RUNS).map(|_| run()).collect();
                runs.sort_by_key(Cost::total_ns);
                let Cost { records, own_ns, worker_ns } = runs[RUNS / 2];
                let us = |ns: u64| ns as f64 / 1e3 / records.max(1) as f64;
                let seconds = |ns: u64| ns as f64 / 1e3 / events as f64;
                println!(
                    "  {:<9}{:<8}{name:<16}{records:>8} records: sink {:5.2} µs, SQLite {:5.2} µs; {:5.2} + {:5.2} s",
                    sink.name,
                    store.name(),
                    us(own_ns),
                    us(worker_ns),
                    seconds(own_ns),
                    seconds(worker_ns)
                );
            }
        }
    }
}

/// Where a sink writes to.
enum Store {
    Sqlite,
    Server(Box<ServerDatabase>),
    Memory,
}

impl Store {
    fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Server(_) => "server",
            Self::Memory => "memory",
        }
    }
}

fn stores(kind: &str) -> Vec<Store> {
    match kind {
        "database" => {
            [Store::Sqlite].into_iter().chain(server_databases().into_iter().map(Box::new).map(Store::Server)).collect()
        }
        _ => vec![Store::Memory],
    }
}

#[derive(Clone, Copy)]
struct Cost {
    records: u64,
    own_ns: u64,
    worker_ns: u64,
}

impl Cost {
    fn total_ns(&self) -> u64 {
        self.own_ns + self.worker_ns
    }
}

/// Lets a sink read these topics to their ends.
fn drain(topology: &Topology<Actions>, sink: &Sink, from: &[String], log: &Arc<MemoryLog>, store: &Store) -> Cost {
    let dir = tempfile::tempdir().unwrap();
    let target: Box<dyn Target> = match store {
        Store::Sqlite => {
            let url = format!("sqlite:{}", dir.path().join("tally.db").display());
            Box::new(Database::open(&url, Retention::default()).unwrap())
        }
        Store::Server(server) => {
            server.admin(&format!("DROP DATABASE {0}; CREATE DATABASE {0}", server.name));
            Box::new(Database::open(&server.url, Retention::default()).unwrap())
        }
        Store::Memory => Box::new(MemoryTarget::new(MemoryCache::of_all(CacheLimits::default(), Admit::All))),
    };
    let output = |topic: &String| OutputType::from_name(&topology.topics[topic].value).unwrap();
    let config = SinkConfig {
        name: sink.name.clone(),
        group: format!("bench-{}", dir.path().display()),
        member: "bench".into(),
        topics: from.iter().map(|topic| (topic.clone(), output(topic))).collect(),
        progress_topic: Some(topology.progress_topic()),
        records_max: sink.records_max,
        linger: sink.linger,
    };
    let metrics = SinkMetrics::register(&prometheus::Registry::new()).unwrap();
    let before = cpu_ns();
    let mut task = SinkTask::new(config, log.clone(), target, &metrics);
    let mut now_ms = NOW_MS;
    let mut records = 0;
    let mut idle = 0;
    while idle < IDLE_POLLS {
        match task.poll_once(Now::both(now_ms), 0.5, Duration::ZERO).unwrap() {
            Step::Read(read) => (records, idle) = (records + read as u64, 0),
            Step::Wrote(_) => idle = 0,
            Step::Idle => (now_ms, idle) = (now_ms + 1_000, idle + 1),
            Step::Waiting(_) => panic!("the target fails"),
        }
    }
    task.finish(Now::both(now_ms));
    let after = cpu_ns();
    Cost { records, own_ns: after.0 - before.0, worker_ns: after.1 - before.1 }
}

/// CPU time of this thread, and of the others.
fn cpu_ns() -> (u64, u64) {
    let of = |path: std::path::PathBuf| -> u64 {
        let stat = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
    };
    let own = of("/proc/thread-self".into());
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    (own, tasks.map(|task| of(task.path())).sum::<u64>().saturating_sub(own))
}

/// A log in which the shipped topology has processed the workload, with as many events a commit as under load.
fn processed(topology: &Arc<Topology<Actions>>, events: u64) -> Arc<MemoryLog> {
    let clock_ms = Arc::new(AtomicI64::new(NOW_MS));
    let clock = clock_ms.clone();
    let log = Arc::new(MemoryLog::new(Arc::new(move || clock.load(Ordering::Relaxed))));
    log.ensure_topics(&topology.topic_specs()).unwrap();
    let site = TaskSite {
        topology: topology.clone(),
        generation: 1,
        wire_version: *WIRE_VERSIONS.end(),
        hash_seed: 7,
        secret: [7; 32],
        owner: "bench".into(),
        siblings: ["bench".into()].into(),
        confirmed_times: [].into(),
        state_dir: None,
        boot_id: "boot".to_owned(),
        memory: StateMemory::unlimited(),
    };
    let metrics = StreamMetrics::new(&prometheus::Registry::new()).unwrap();
    let mut thread = StreamThread::new(log.clone(), site, Limits::default(), metrics).unwrap();
    let mut step = || {
        let now = Now::both(clock_ms.fetch_add(COMMIT_MS, Ordering::Relaxed) + COMMIT_MS);
        // A poll may find nothing in one partition while others have records.
        let mut idle = 0;
        while idle < IDLE_POLLS {
            idle = if thread.poll_once(now, Duration::ZERO).unwrap() == Polling::Idle { idle + 1 } else { 0 };
        }
    };
    let partitions = log.partitions("user-actions").unwrap();
    let appender = log.appender().unwrap();
    let mut batch = AppendBatch::default();
    let mut flush = |batch: &mut AppendBatch| {
        let (sender, receiver) = channel();
        appender.append("user-actions", std::mem::take(batch), Box::new(move |outcome| drop(sender.send(outcome))));
        receiver.recv().unwrap().unwrap();
        step();
    };
    let each = |_: LineKind, line: &[u8]| -> Result<(), ()> {
        let line = line.trim_ascii_end();
        let actor_id = Event::from_log(line, NOW_MS).map(|event| event.actor_id().to_string()).unwrap_or_default();
        let key = bytes::Bytes::from(actor_id);
        batch.push(OwnedRecord {
            partition: partition_of(&key, partitions),
            key: Some(key),
            value: Some(bytes::Bytes::copy_from_slice(line)),
            headers: bytes::Bytes::new(),
        });
        if batch.records.len() == EVENTS_PER_COMMIT {
            flush(&mut batch);
        }
        Ok(())
    };
    Plan::full(events, 1, NOW_MS).for_each(each).unwrap();
    for _ in 0..10 {
        flush(&mut batch);
    }
    log
}
