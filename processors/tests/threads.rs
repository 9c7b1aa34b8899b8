//! Stream threads over a log, with faults: whatever happens between two commits, the outputs are those of a run in
//! which nothing happened.
//!
//! Everything is driven from a seed: which thread polls, when time passes, when a commit fails and how, when a thread
//! dies. The reference is the same input, in the same partitions and at the same append times, through the test driver.

#[path = "threads/faults.rs"]
mod faults;
#[path = "threads/restored.rs"]
mod restored;
#[path = "threads/seen.rs"]
mod seen;

use faults::{FaultyProducer, failing_assignments};
use prometheus::Registry;
use prometheus::core::Collector;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use seen::Seen;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tally_processors::{Actions, REGISTRY};
use tally_sinks::SINK_TYPES;
use tally_streams::log::memory::MemoryLog;
use tally_streams::log::*;
use tally_streams::runtime::{Limits, Polling, StreamMetrics, StreamThread};
use tally_streams::store::{Checkpoint, CheckpointSite};
use tally_streams::task::{StateMemory, TaskSite};
use tally_streams::testkit::{AlteredLog, StoredRecord, TopologyTestDriver, append, read_topic};
use tally_streams::topology::Topology;
use tally_testkit::{MINUTE_MS, NOW_MS, SHIPPED_TOPOLOGY};

/// The shipped one, with boards that age while a run lasts.
fn topology() -> Topology<Actions> {
    let text = SHIPPED_TOPOLOGY
        .replace("half_life: 6h", "half_life: 1m")
        .replace("window: 24h, bucket: 5m", "window: 3m, bucket: 1m");
    Topology::load("topology.yaml", &text, REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}"))
}

/// Everything of a topic but progress marks, by partition and offset.
fn values_of(log: &dyn Log, topic: &str) -> impl Iterator<Item = StoredRecord> + use<> {
    read_topic(log, topic).into_iter().filter(|record| record.key.first() != Some(&0))
}

fn event(random: &mut StdRng, i: usize) -> (String, Vec<u8>) {
    let actor = format!("u{}", random.random_range(0..40));
    if random.random_bool(0.01) {
        return (actor, b"garbage".to_vec());
    }
    let kind = ["view", "like", "unlike", "follow", "share"][random.random_range(0..5)];
    let id = if random.random_bool(0.05) { i / 2 } else { i };
    let subject = format!("article:{}", random.random_range(0..12));
    let occurred_at = NOW_MS + i as i64 - random.random_range(0..5_000);
    let json = format!(
        r#"{{"event_id":"e{id}","type":"{kind}","actor_id":"{actor}","subject_id":"{subject}","occurred_at":{occurred_at}}}"#
    );
    (actor, json.into_bytes())
}

struct World {
    log: Arc<AlteredLog>,
    next_fault: Arc<AtomicU32>,
    lost_answers: Arc<AtomicU64>,
    /// Assignments that fail.
    failures: Arc<AtomicU32>,
    time_ms: Arc<AtomicI64>,
    metrics: StreamMetrics,
    /// What the state of a thread may take in memory.
    state_bytes_max: usize,
}

impl World {
    fn new() -> Self {
        let time_ms = Arc::new(AtomicI64::new(NOW_MS));
        let clock = time_ms.clone();
        let inner = MemoryLog::new(Arc::new(move || clock.load(Ordering::Relaxed)));
        inner.ensure_topics(&topology().topic_specs()).unwrap();
        let (next_fault, lost_answers) = (Arc::<AtomicU32>::default(), Arc::<AtomicU64>::default());
        let faulty = {
            let (next_fault, lost_answers) = (next_fault.clone(), lost_answers.clone());
            move |inner| -> Box<dyn TransactionalProducer> {
                let (next_fault, lost_answers) = (next_fault.clone(), lost_answers.clone());
                Box::new(FaultyProducer { inner, next_fault, lost_answers })
            }
        };
        let failures = Arc::<AtomicU32>::default();
        let before = failing_assignments(failures.clone());
        let log = Arc::new(AlteredLog::new(Arc::new(inner)).producers(faulty).consumer_calls(before));
        let metrics = StreamMetrics::new(&Registry::new()).unwrap();
        Self { log, next_fault, lost_answers, failures, time_ms, metrics, state_bytes_max: usize::MAX }
    }

    fn thread(&self, index: usize, state_dir: &Path) -> StreamThread<Actions> {
        // Each thread's checkpoints are apart, as they would be on two machines.
        let state_dir = Some(state_dir.join(index.to_string()));
        let memory = StateMemory::new(self.state_bytes_max);
        let site =
            TaskSite { state_dir, memory, ..TaskSite::in_memory(Arc::new(topology()), &format!("tally-{index}")) };
        let limits = Limits {
            checkpoint_bytes: 2_000,
            checkpoint_age: Duration::from_millis(500),
            purge_interval: Duration::from_millis(300),
            // Snapshots all the time, in parts as small as they get.
            snapshot_tail_bytes: 0,
            snapshot_step_bytes: 1,
            hydrate_entries: 3,
            ..Limits::default()
        };
        StreamThread::new(self.log.clone(), site, limits, self.metrics.clone()).unwrap()
    }

    fn append(&self, key: &str, value: Vec<u8>) {
        append(&*self.log, "user-actions", [(key.to_owned(), value)]);
    }

    /// Whether everything appended is committed and everything sent over the hop is processed.
    fn at_rest(&self) -> bool {
        let at_end = |topic: &str| {
            (0..self.log.partitions(topic).unwrap()).all(|p| {
                let partition = TopicPartition::new(topic, p);
                let committed = self.log.committed("tally", &partition).unwrap().map_or(0, |c| c.offset);
                committed == self.log.bounds(&partition).unwrap().1
            })
        };
        at_end("user-actions")
            && at_end("tally-user-actions-by-subject_id-repartition")
            && at_end("tally-by-subject_id-by-board-repartition")
    }

    fn now(&self) -> Now {
        Now::both(self.time_ms.load(Ordering::Relaxed))
    }

    /// Nothing fails any more, and time passes until every task's clock is in a minute that nothing happened in.
    fn end(&self, threads: &mut [Option<StreamThread<Actions>>], state_dir: &Path) -> i64 {
        self.next_fault.store(0, Ordering::Relaxed);
        self.time_ms.store((self.now().wall_ms / MINUTE_MS + 2) * MINUTE_MS + 5_000, Ordering::Relaxed);
        for (i, thread) in threads.iter_mut().enumerate() {
            thread.get_or_insert_with(|| self.thread(i, state_dir));
        }
        let minute = self.now().wall_ms / MINUTE_MS;
        while self.now().wall_ms / MINUTE_MS == minute {
            for thread in threads.iter_mut().flatten() {
                thread.poll_once(self.now(), Duration::ZERO).unwrap_or_else(|e| panic!("at the end: {e}"));
            }
            self.time_ms.fetch_add(20, Ordering::Relaxed);
        }
        self.time_ms.fetch_sub(1_000, Ordering::Relaxed);
        assert!(self.at_rest());
        self.now().wall_ms
    }
}

fn reference(log: &dyn Log, end_ms: i64) -> Seen {
    let mut driver = TopologyTestDriver::new(topology());
    driver.hold();
    let mut input = Vec::new();
    for record in values_of(log, "user-actions") {
        let value = record.value.expect("no tombstones");
        input.push((record.append_time_ms, record.partition, record.offset, record.key, value));
    }
    input.sort();
    for (append_time_ms, partition, _, key, value) in input {
        driver.pipe_to(partition, Some(&key), &value, &[], append_time_ms).unwrap();
    }
    driver.commit().unwrap();
    driver.advance_clock(end_ms).unwrap();
    Seen::of(|topic| {
        let written = driver.read(topic).into_iter();
        written
            .map(|w| {
                let json = w.json();
                (w.key, json)
            })
            .collect()
    })
}

fn run(seed: u64, faults: bool) {
    // With half of the seeds, all that can be evicted always is.
    let evicts = seed.is_multiple_of(2);
    let state_bytes_max = if evicts { 0 } else { usize::MAX };
    let (world, dir) = (World { state_bytes_max, ..World::new() }, tempfile::tempdir().unwrap());
    let mut random = StdRng::seed_from_u64(seed);
    let mut threads: Vec<_> = (0..2).map(|i| Some(world.thread(i, dir.path()))).collect();
    let (mut sent, mut steps, mut deaths) = (0, 0, 0);
    while sent < 3_000 || !world.at_rest() {
        steps += 1;
        assert!(steps < 400_000, "seed {seed}: does not come to rest");
        match random.random_range(0..1_000) {
            0..300 if sent < 3_000 => {
                for _ in 0..random.random_range(1..20) {
                    let (key, value) = event(&mut random, sent);
                    world.append(&key, value);
                    sent += 1;
                }
            }
            300..500 => _ = world.time_ms.fetch_add(random.random_range(1..60), Ordering::Relaxed),
            500..506 if faults => world.next_fault.store(random.random_range(1..4), Ordering::Relaxed),
            // Dies in the middle of whatever it was doing.
            506..510 if faults => {
                deaths += u64::from(threads[random.random_range(0..2)].take().is_some());
            }
            // Comes back, with its old checkpoints or without.
            510..530 => {
                let i = random.random_range(0..2);
                if threads[i].is_none() {
                    if random.random_bool(0.3) {
                        let _ = std::fs::remove_dir_all(dir.path().join(i.to_string()));
                    }
                    threads[i] = Some(world.thread(i, dir.path()));
                }
            }
            _ => {
                let i = random.random_range(0..2);
                if let Some(thread) = &mut threads[i] {
                    let commits = world.metrics.commits.get();
                    let polling = thread.poll_once(world.now(), Duration::ZERO);
                    polling.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
                    // Behind a commit no transaction is open.
                    if world.metrics.commits.get() > commits && random.random_bool(0.05) {
                        restored::check(world.log.clone(), Arc::new(topology()), thread, world.now());
                    }
                }
            }
        }
    }
    let end_ms = world.end(&mut threads, dir.path());
    // One more restart: only committed state exists.
    for thread in threads.iter_mut().flatten() {
        thread.leave().unwrap();
        while thread.poll_once(world.now(), Duration::ZERO).unwrap() != Polling::Left {
            world.time_ms.fetch_add(1, Ordering::Relaxed);
        }
    }
    let log = world.log.as_ref();
    let seen = Seen::of(|topic| {
        let values = values_of(log, topic);
        values
            .map(|record| {
                let json = record.json();
                (record.key, json)
            })
            .collect()
    });
    assert!(seen.boards.len() == 2 && seen.boards.values().all(|items| !items.is_empty()), "{:?}", seen.boards);
    let released = seen.verdicts.values().filter(|verdict| *verdict == "released").count();
    assert!(released > 20, "seed {seed}: {released} of what was held went on its way");
    assert_eq!(seen, reference(log, end_ms), "seed {seed}");
    // A thread starts over after a lost answer, and where it comes back while the other one fences who it was.
    let starts = |topic: &str| {
        let of = |partition| log.bounds(&TopicPartition::new(topic, partition)).unwrap().0;
        (0..log.partitions(topic).unwrap()).filter(|partition| of(*partition) > 0).count()
    };
    for name in ["user-actions", "by-subject_id", "by-board"] {
        let changelog = format!("tally-{name}-changelog");
        assert_eq!(starts(&changelog), log.partitions(&changelog).unwrap() as usize, "{name}");
    }
    let hops = ["tally-user-actions-by-subject_id-repartition", "tally-by-subject_id-by-board-repartition"];
    assert!(hops.iter().all(|hop| starts(hop) > 0), "seed {seed}: hops keep what was processed");
    let snapshots = world.metrics.snapshots.get();
    assert!(snapshots > 100, "seed {seed}: {snapshots} snapshots");
    let (evictions, reads) = (world.metrics.state_evictions.get(), world.metrics.state_reads.get());
    let is_evicted = evictions > 1_000 && reads > 1_000;
    assert_eq!(is_evicted, evicts, "seed {seed}: {evictions} entries evicted, {reads} read again");
    let (rebuilds, lost) = (world.metrics.rebuilds.get(), world.lost_answers.load(Ordering::Relaxed));
    assert!((lost..=lost + deaths).contains(&rebuilds), "seed {seed}: {rebuilds} rebuilds, {lost} lost answers");
}

#[test]
fn without_faults_the_outputs_are_those_of_one_task() {
    run(1, false);
}

#[test]
fn with_aborts_lost_answers_and_deaths_the_outputs_are_the_same() {
    for seed in 2..14 {
        run(seed, true);
    }
}

/// A sibling that waits for an answer of the log keeps its checkpoints open, though the group has given its tasks away.
#[test]
fn a_task_that_a_sibling_still_has_does_not_keep_the_others_waiting() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let mut random = StdRng::seed_from_u64(1);
    let held = dir.path().join("0/generation-1/user-actions-3");
    let held = CheckpointSite { dir: held, boot_id: "boot".to_owned(), owner: "sibling".to_owned() };
    let (sibling, _) = Checkpoint::open(&held, &[]).unwrap();
    let mut thread = world.thread(0, dir.path());
    let committed = |partition| {
        let at = TopicPartition::new("user-actions", partition);
        world.log.committed("tally", &at).unwrap().map_or(0, |committed| committed.offset)
    };
    let mut poll_until = |thread: &mut StreamThread<Actions>, done: &dyn Fn() -> bool| {
        for i in 0.. {
            assert!(i < 5_000, "it never is");
            let (key, value) = event(&mut random, i);
            world.append(&key, value);
            thread.poll_once(world.now(), Duration::ZERO).unwrap();
            world.time_ms.fetch_add(20, Ordering::Relaxed);
            if done() {
                return;
            }
        }
    };
    poll_until(&mut thread, &|| (0..8).all(|partition| partition == 3 || committed(partition) > 0));
    assert!(committed(3) == 0 && !thread.is_working());
    drop(sibling);
    poll_until(&mut thread, &|| committed(3) > 0);
    assert!(thread.is_working());
}

/// The group does not assign their partitions again.
#[test]
fn a_thread_opens_the_tasks_that_the_log_did_not_let_it_open_before() {
    for failures in [1, 3] {
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        let (mut thread, mut random) = (world.thread(0, dir.path()), StdRng::seed_from_u64(1));
        for i in 0..40 {
            let (key, value) = event(&mut random, i);
            world.append(&key, value);
        }
        world.failures.store(failures, Ordering::Relaxed);
        let rests = (0..5_000).any(|_| {
            thread.poll_once(world.now(), Duration::ZERO).unwrap();
            world.time_ms.fetch_add(20, Ordering::Relaxed);
            thread.is_working() && world.at_rest()
        });
        assert!(rests && world.failures.load(Ordering::Relaxed) == 0, "{failures} failures");
    }
}

/// What a node looked at is not what it passed on; and what was rolled back is not counted twice.
#[test]
fn a_node_counts_what_it_passed_on_by_its_type() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let mut thread = world.thread(0, dir.path());
    let like = |id: u32| {
        format!(r#"{{"event_id":"e{id}","type":"like","actor_id":"u1","subject_id":"a:1","occurred_at":{NOW_MS}}}"#)
    };
    for value in [like(1), like(1), like(2), "garbage".to_owned()] {
        world.append("u1", value.into_bytes());
    }
    world.next_fault.store(1, Ordering::Relaxed);
    for _ in 0..5_000 {
        thread.poll_once(world.now(), Duration::ZERO).unwrap();
        world.time_ms.fetch_add(20, Ordering::Relaxed);
        if world.metrics.aborts.get() == 1 && world.at_rest() {
            break;
        }
    }
    assert!(world.metrics.aborts.get() == 1 && world.at_rest());
    let took = |node: &str| world.metrics.node_processed.with_label_values(&[node]).get();
    let passed_on = |node: &str, value: &str| world.metrics.node_forwarded.with_label_values(&[node, value]).get();
    assert_eq!([took("valid"), passed_on("valid", "event"), passed_on("valid", "verdict")], [4, 3, 0]);
    assert_eq!([took("fresh"), passed_on("fresh", "event"), passed_on("fresh", "verdict")], [3, 2, 1]);
    // The second like changes nothing.
    assert_eq!([passed_on("likes", "change"), passed_on("likes", "reaction")], [1, 1]);
    // Likes are not routed to the node that counts views. Its counter exists nevertheless.
    assert_eq!([took("checked"), took("likes"), took("views"), passed_on("views", "change")], [2, 1, 0, 0]);
    let families = world.metrics.node_processed.collect();
    let has = |node: &str| families[0].get_metric().iter().any(|metric| metric.get_label()[0].value() == node);
    assert!(["valid", "likes", "views", "totals"].into_iter().all(has));
    let seen = world.metrics.tasks.with_label_values(&["tally-0", "user-actions"]).get();
    assert_eq!(seen, 8);
}

/// Results that are a second late are not read for being fresh, and fewer commits cost less.
#[test]
fn a_thread_that_is_behind_commits_less_often_until_it_has_caught_up() {
    let commits_in_two_seconds = |late_ms: i64| {
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        let (mut thread, mut random) = (world.thread(0, dir.path()), StdRng::seed_from_u64(1));
        let mut poll = || {
            thread.poll_once(Now::both(world.now().wall_ms + late_ms), Duration::ZERO).unwrap();
            world.time_ms.fetch_add(20, Ordering::Relaxed);
        };
        let mut append = |i| {
            let (key, value) = event(&mut random, i);
            world.append(&key, value);
        };
        // Until its tasks are open.
        (0..20).for_each(|_| poll());
        let before = world.metrics.commits.get();
        for i in 0..100 {
            // More than a poll takes: it always finds something.
            (0..4).for_each(|n| append(4 * i + n));
            poll();
        }
        let commits = world.metrics.commits.get() - before;
        let polls = (1..5_000).find(|_| {
            poll();
            world.at_rest()
        });
        assert!(polls.is_some(), "{late_ms} ms late, it never rests");
        commits
    };
    let (in_time, late) = (commits_in_two_seconds(0), commits_in_two_seconds(1_000));
    assert!((30..=40).contains(&in_time), "{in_time} commits at an interval of 50 ms, polled every 20 ms");
    assert!((3..=5).contains(&late), "{late} commits at an interval of 500 ms");
}
