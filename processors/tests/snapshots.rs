//! Snapshots keep changelogs short: on the memory log, while a former owner deletes, in each wire version, and on a broker.
//! `threads.rs` has snapshots with all other faults.

use prometheus::Registry;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tally_processors::{Actions, REGISTRY};
use tally_sinks::SINK_TYPES;
use tally_streams::log::kafka::{KafkaLog, KafkaOptions};
use tally_streams::log::memory::MemoryLog;
use tally_streams::log::*;
use tally_streams::runtime::{Limits, Polling, StreamMetrics, StreamThread};
use tally_streams::task::{Task, TaskSite};
use tally_streams::testkit::{AlteredLog, ConsumerCall, append, read_topic};
use tally_streams::topology::Topology;
use tally_testkit::{NOW_MS, SHIPPED_TOPOLOGY, now_ms, service};

fn topology(application: &str) -> Arc<Topology<Actions>> {
    let named = format!("application: {application}\ntopic_prefix: {application}-");
    let text = SHIPPED_TOPOLOGY.replacen("application: tally", &named, 1);
    Arc::new(Topology::load("topology.yaml", &text, REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}")))
}

fn event(i: usize, occurred_at: i64) -> (String, Vec<u8>) {
    let (actor, kind) = (format!("u{}", i % 20), ["view", "like", "unlike", "share"][i % 4]);
    let value = format!(
        r#"{{"event_id":"e{i}","type":"{kind}","actor_id":"{actor}","subject_id":"article:{}","occurred_at":{occurred_at}}}"#,
        i % 9
    );
    (actor, value.into_bytes())
}

/// Snapshots all the time, in parts as small as they get.
fn always() -> Limits {
    Limits {
        checkpoint_age: Duration::from_millis(500),
        purge_interval: Duration::from_millis(300),
        snapshot_tail_bytes: 0,
        snapshot_step_bytes: 1,
        hydrate_entries: 3,
        ..Limits::default()
    }
}

struct World {
    log: Arc<dyn Log>,
    topology: Arc<Topology<Actions>>,
    time_ms: Arc<AtomicI64>,
    metrics: StreamMetrics,
    sent: usize,
}

impl World {
    fn new(alter: impl FnOnce(Arc<MemoryLog>) -> Arc<dyn Log>) -> Self {
        let time_ms = Arc::new(AtomicI64::new(NOW_MS));
        let clock = time_ms.clone();
        let log = alter(Arc::new(MemoryLog::new(Arc::new(move || clock.load(Ordering::Relaxed)))));
        let topology = topology("tally");
        log.ensure_topics(&topology.topic_specs()).unwrap();
        Self { log, topology, time_ms, metrics: StreamMetrics::new(&Registry::new()).unwrap(), sent: 0 }
    }

    fn now(&self) -> Now {
        Now::both(self.time_ms.load(Ordering::Relaxed))
    }

    fn thread(&self, wire_version: u8, limits: Limits, state_dir: Option<&Path>) -> StreamThread<Actions> {
        let state_dir = state_dir.map(Path::to_owned);
        let site = TaskSite { wire_version, state_dir, ..TaskSite::in_memory(self.topology.clone(), "tally-0") };
        StreamThread::new(self.log.clone(), site, limits, self.metrics.clone()).unwrap()
    }

    /// Sends events while a thread works, and lets it commit.
    fn pass(&mut self, thread: &mut StreamThread<Actions>, rounds: usize) {
        for _ in 0..rounds {
            append(&*self.log, &self.topology.root, (self.sent..self.sent + 7).map(|i| event(i, self.now().wall_ms)));
            self.sent += 7;
            for _ in 0..6 {
                thread.poll_once(self.now(), Duration::ZERO).unwrap();
                self.time_ms.fetch_add(20, Ordering::Relaxed);
            }
        }
    }

    fn leave(&self, mut thread: StreamThread<Actions>) {
        thread.leave().unwrap();
        while thread.poll_once(self.now(), Duration::ZERO).unwrap() != Polling::Left {
            self.time_ms.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// All changelogs, in the order of the subtopologies.
fn changelogs(topology: &Topology<Actions>) -> Vec<TopicPartition> {
    let partitions = topology.subtopologies.iter().flat_map(|subtopology| {
        (0..subtopology.partitions).map(|partition| TopicPartition::new(subtopology.changelog.clone(), partition))
    });
    partitions.collect()
}

type Entries = BTreeMap<(String, Vec<u8>), Vec<u8>>;

/// Every task as its changelog restores it, with a checkpoint or alone: its entries, its place, and how many records that
/// took.
fn restored(
    log: &Arc<dyn Log>,
    topology: &Arc<Topology<Actions>>,
    owner: &str,
    state_dir: Option<&Path>,
) -> Vec<(Entries, String, u64)> {
    let (siblings, state_dir) = ([owner.into(), "audit".into()].into(), state_dir.map(Path::to_owned));
    let site = TaskSite { siblings, state_dir, ..TaskSite::in_memory(topology.clone(), "audit") };
    let tasks = topology.subtopologies.iter().enumerate();
    let wanted: Vec<_> = tasks.flat_map(|(index, of)| (0..of.partitions).map(move |at| (index, at))).collect();
    let tasks = Task::take_over(&site, log, &wanted, Now::of_system()).unwrap();
    let of = |mut task: Task<Actions>| {
        while task.hydrate(usize::MAX).unwrap() {}
        (task.stored(), format!("{:?}", task.position()), task.restored_records())
    };
    tasks.into_iter().map(of).collect()
}

fn without_records(tasks: Vec<(Entries, String, u64)>) -> Vec<(Entries, String)> {
    tasks.into_iter().map(|(entries, position, _)| (entries, position)).collect()
}

#[test]
fn a_changelog_stays_short_however_long_it_is_written_to() {
    let mut world = World::new(|log| log);
    let limits = Limits { snapshot_tail_bytes: 40_000, snapshot_step_bytes: 500, ..always() };
    let mut thread = world.thread(3, limits, None);
    let at = TopicPartition::new("tally-by-subject_id-changelog", 0);
    let mut bytes_max = 0;
    for _ in 0..40 {
        world.pass(&mut thread, 40);
        let log = read_topic(&*world.log, &at.topic).into_iter().filter(|record| record.partition == at.partition);
        bytes_max = bytes_max.max(log.map(|record| record.value.unwrap_or_default().len()).sum::<usize>());
    }
    let (start, end) = world.log.bounds(&at).unwrap();
    let per_record = bytes_max as u64 / (end - start).max(1);
    assert!(bytes_max < 60_000 && end * per_record > 100_000, "{bytes_max} bytes at most, {start} to {end}");
    let known = world.metrics.changelog_bytes.with_label_values(&["tally-0", "by-subject_id"]).get();
    assert!(known > 0 && known < 8 * 60_000, "{known}");
    // One for each 40,000 bytes or so, and not more.
    let snapshots = world.metrics.snapshots.get();
    assert!((10..400).contains(&snapshots), "{snapshots} snapshots");
}

#[test]
fn a_log_of_an_older_release_has_no_snapshots_until_its_wire_version_is_raised() {
    let mut world = World::new(|log| log);
    let dir = tempfile::tempdir().unwrap();
    let whole = |world: &World| -> Vec<_> {
        let changelogs = changelogs(&world.topology).into_iter();
        changelogs.filter(|at| world.log.bounds(at).unwrap().0 == 0).collect()
    };
    let mut thread = world.thread(2, always(), Some(dir.path()));
    world.pass(&mut thread, 40);
    world.leave(thread);
    assert_eq!((world.metrics.snapshots.get(), whole(&world).len()), (0, 17));
    let before = without_records(restored(&world.log, &world.topology, "tally-0", None));
    let mut thread = world.thread(3, always(), Some(dir.path()));
    world.pass(&mut thread, 300);
    world.leave(thread);
    assert_eq!(whole(&world), []);
    assert_ne!(before, without_records(restored(&world.log, &world.topology, "tally-0", None)));
}

#[test]
fn a_former_owner_that_shortens_a_changelog_while_it_is_read_has_it_read_again() {
    let (deleted, is_late) = (Arc::<Mutex<Vec<(TopicPartition, u64)>>>::default(), Arc::new(AtomicBool::new(false)));
    let mut world = World::new(|log| {
        let (later, inner) = (deleted.clone(), log.clone());
        let delete = {
            let (deleted, is_late) = (deleted.clone(), is_late.clone());
            move |call| {
                if call == ConsumerCall::Poll && is_late.load(Ordering::Relaxed) {
                    deleted
                        .lock()
                        .unwrap()
                        .drain(..)
                        .for_each(|(at, before)| inner.delete_records(&at, before).unwrap());
                }
                Ok(())
            }
        };
        let altered = AlteredLog::new(log).consumer_calls(delete);
        let is_changelog = |at: &TopicPartition| at.topic.ends_with("-changelog");
        Arc::new(altered.deletions(move |at, before| {
            let is_kept = is_changelog(at);
            if is_kept {
                later.lock().unwrap().push((at.clone(), before));
            }
            !is_kept
        }))
    });
    let mut thread = world.thread(3, always(), None);
    world.pass(&mut thread, 200);
    world.leave(thread);
    let before = restored(&world.log, &world.topology, "tally-0", None);
    let late = deleted.lock().unwrap().len();
    assert!(late > 17, "{late}");
    is_late.store(true, Ordering::Relaxed);
    let after = restored(&world.log, &world.topology, "tally-0", None);
    assert!(deleted.lock().unwrap().is_empty());
    for ((.., all), (.., few)) in before.iter().zip(&after) {
        assert!(*few > 0 && few < all, "{few} of {all} records");
    }
    assert_eq!(without_records(before), without_records(after));
}

#[test]
fn on_a_broker_changelogs_and_hops_are_shortened_and_what_is_left_restores_all() {
    let Some(broker) = service("TALLY_TEST_KAFKA") else { return };
    let log: Arc<dyn Log> = Arc::new(KafkaLog::open(KafkaOptions::new(broker)).unwrap());
    let unique = format!("snapshots-{}-{}", std::process::id(), now_ms());
    let topology = topology(&unique);
    log.ensure_topics(&topology.topic_specs()).unwrap();
    let owner = format!("{unique}-0");
    let metrics = StreamMetrics::new(&Registry::new()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let site = TaskSite { state_dir: Some(dir.path().to_owned()), ..TaskSite::in_memory(topology.clone(), &owner) };
    let limits = Limits { snapshot_step_bytes: 200, ..always() };
    let mut thread = StreamThread::new(log.clone(), site, limits, metrics).unwrap();
    let hops = topology.subtopologies.iter().flat_map(|of| &of.hops);
    let hops = hops.flat_map(|hop| (0..hop.partitions).map(|at| TopicPartition::new(hop.topic.clone(), at)));
    let places: Vec<_> = changelogs(&topology).into_iter().chain(hops).collect();
    let (since, mut sent) = (Instant::now(), 0);
    while places.iter().any(|at| log.bounds(at).unwrap().0 == 0) {
        assert!(since.elapsed() < Duration::from_secs(180), "not all are shortened");
        append(&*log, &topology.root, (sent..sent + 40).map(|i| event(i, now_ms())));
        sent += 40;
        for _ in 0..20 {
            thread.poll_once(Now::of_system(), Duration::from_millis(20)).unwrap();
        }
    }
    thread.leave().unwrap();
    while thread.poll_once(Now::of_system(), Duration::from_millis(50)).unwrap() != Polling::Left {
        assert!(since.elapsed() < Duration::from_secs(180), "it does not leave");
    }
    drop(thread);
    let alone = restored(&log, &topology, &owner, None);
    // The last checkpoints were written by what had all in memory.
    let checkpointed = restored(&log, &topology, &owner, Some(dir.path()));
    assert!(checkpointed.iter().all(|(.., records)| *records == 0));
    let entries: usize = alone.iter().map(|(entries, ..)| entries.len()).sum();
    assert!(entries > 100, "{entries}");
    assert_eq!(without_records(alone), without_records(checkpointed));
}
