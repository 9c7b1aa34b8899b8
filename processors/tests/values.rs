//! Output topics hold values only: progress is in headers and in a topic of its own; and how a log gets there that an older
//! release has written.

use prometheus::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tally_model::{PROGRESS_HEADER, PROGRESS_KEY_PREFIX, ProgressMark, TaskProgress};
use tally_processors::{Actions, REGISTRY};
use tally_sinks::SINK_TYPES;
use tally_streams::log::memory::MemoryLog;
use tally_streams::log::*;
use tally_streams::runtime::{Limits, Polling, StreamMetrics, StreamThread};
use tally_streams::task::TaskSite;
use tally_streams::testkit::{StoredRecord, append, read_topic};
use tally_streams::topology::Topology;
use tally_testkit::{NOW_MS, SHIPPED_TOPOLOGY};

const PROGRESS: &str = "tally-progress";

fn topology() -> Topology<Actions> {
    Topology::load("topology.yaml", SHIPPED_TOPOLOGY, REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}"))
}

fn is_old_mark(record: &StoredRecord) -> bool {
    record.key.starts_with(PROGRESS_KEY_PREFIX)
}

/// The progress in the first header of a record, if it has one.
fn progress(record: &StoredRecord) -> Option<TaskProgress> {
    let (name, value) = record.headers.first()?;
    (name == PROGRESS_HEADER).then(|| TaskProgress::decode(value).unwrap())
}

struct World {
    log: Arc<MemoryLog>,
    time_ms: Arc<AtomicI64>,
    dir: tempfile::TempDir,
    outputs: BTreeSet<String>,
}

impl World {
    fn new() -> Self {
        let time_ms = Arc::new(AtomicI64::new(NOW_MS));
        let clock = time_ms.clone();
        let log = Arc::new(MemoryLog::new(Arc::new(move || clock.load(Ordering::Relaxed))));
        let topology = topology();
        log.ensure_topics(&topology.topic_specs()).unwrap();
        let outputs = topology.subtopologies.iter().flat_map(|subtopology| &subtopology.outputs);
        let outputs = outputs.map(|output| output.topic.to_string()).collect();
        Self { log, time_ms, dir: tempfile::tempdir().unwrap(), outputs }
    }

    fn now_ms(&self) -> i64 {
        self.time_ms.load(Ordering::Relaxed)
    }

    fn thread(&self, wire_version: u8, state_dir: Option<&Path>) -> StreamThread<Actions> {
        let state_dir = state_dir.map(Path::to_owned);
        let site = TaskSite { wire_version, state_dir, ..TaskSite::in_memory(Arc::new(topology()), "tally-0") };
        let limits = Limits {
            checkpoint_age: Duration::from_millis(500),
            purge_interval: Duration::from_millis(300),
            ..Limits::default()
        };
        let metrics = StreamMetrics::new(&Registry::new()).unwrap();
        StreamThread::new(self.log.clone(), site, limits, metrics).unwrap()
    }

    /// Lets a thread work for a while, and leave.
    fn run(&self, mut thread: StreamThread<Actions>, ms: i64) {
        self.pass(&mut thread, ms);
        thread.leave().unwrap();
        while thread.poll_once(Now::both(self.now_ms()), Duration::ZERO).unwrap() != Polling::Left {
            self.time_ms.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn pass(&self, thread: &mut StreamThread<Actions>, ms: i64) {
        let until_ms = self.now_ms() + ms;
        while self.now_ms() < until_ms {
            thread.poll_once(Now::both(self.now_ms()), Duration::ZERO).unwrap();
            self.time_ms.fetch_add(10, Ordering::Relaxed);
        }
    }

    fn append(&self, actor: &str, value: String) {
        append(&*self.log, "user-actions", [(actor.to_owned(), value.into_bytes())]);
    }

    /// Events `first` to `last`: likes and views of a few, repeats, and something that is no event.
    fn events(&self, first: usize, last: usize) {
        for i in first..last {
            let (actor, kind) = (format!("u{}", i % 7), ["like", "view", "unlike"][i % 3]);
            let (id, subject, occurred_at) = (i - i % 2, format!("article:{}", i % 5), self.now_ms());
            self.append(
                &actor,
                format!(
                    r#"{{"event_id":"e{id}","type":"{kind}","actor_id":"{actor}","subject_id":"{subject}","occurred_at":{occurred_at}}}"#
                ),
            );
        }
        self.append("u1", "garbage".to_owned());
    }

    fn read(&self, topic: &str) -> Vec<StoredRecord> {
        read_topic(&*self.log, topic)
    }

    /// The newest of every task in the internal topic.
    fn told(&self) -> BTreeMap<String, TaskProgress> {
        let mut newest = BTreeMap::<String, TaskProgress>::new();
        for record in self.read(PROGRESS) {
            let progress = TaskProgress::decode(&record.value.unwrap()).unwrap();
            assert_eq!(progress.task.as_bytes(), record.key);
            assert!(progress.task.ends_with(&format!("/{}", record.partition)));
            assert!(newest.get(&progress.task).is_none_or(|before| before.commit < progress.commit));
            newest.insert(progress.task.clone(), progress);
        }
        newest
    }

    /// The commit of the last record that each partition of each topic with a version in its values has.
    fn last_commits(&self) -> BTreeMap<(String, u32), u64> {
        let mut last = BTreeMap::new();
        for topic in self.outputs.iter().filter(|topic| *topic != "dead-letters") {
            for record in self.read(topic).iter().filter(|record| !is_old_mark(record)) {
                let version = record.json()["version"].as_i64().expect("a version");
                last.insert((topic.clone(), record.partition), (version & ((1 << 48) - 1)) as u64);
            }
        }
        last
    }

    /// Each task reports the correct last commit per topic.
    fn check_told(&self) {
        let last = self.last_commits();
        let mut named = 0;
        for progress in self.told().into_values() {
            let partition: u32 = progress.task.rsplit_once('/').unwrap().1.parse().unwrap();
            for output in progress.outputs.iter().filter(|output| output.topic != "dead-letters") {
                let written = last.get(&(output.topic.clone(), partition)).copied().unwrap_or(0);
                assert_eq!(output.commit, written, "{} of {}", output.topic, progress.task);
                named += usize::from(output.commit > 0);
            }
        }
        assert!(named > 5, "{named}");
    }
}

#[test]
fn output_topics_hold_values_only() {
    let world = World::new();
    let mut thread = world.thread(2, None);
    for round in 0..8 {
        world.events(round * 40, round * 40 + 40);
        world.pass(&mut thread, 300);
    }
    world.run(thread, 20_000);
    assert!(world.outputs.len() >= 6, "{:?}", world.outputs);
    for topic in &world.outputs {
        let records = world.read(topic);
        assert!(!records.is_empty(), "{topic}");
        // By partition, the commits whose last record was read.
        let mut ended = BTreeMap::<u32, u64>::new();
        for record in &records {
            assert!(!is_old_mark(record), "{topic}: {record:?}");
            assert!(record.headers.iter().filter(|(name, _)| name == PROGRESS_HEADER).count() <= 1);
            let progress = progress(record);
            if topic != "dead-letters" {
                let version = record.json()["version"].as_i64().expect("a version");
                let commit = (version & ((1 << 48) - 1)) as u64;
                assert!(ended.get(&record.partition).is_none_or(|ended| *ended < commit), "{topic}: behind the last");
                if let Some(progress) = &progress {
                    assert_eq!((progress.commit, progress.version()), (commit, version));
                }
            }
            if let Some(progress) = progress {
                assert!(progress.outputs.is_empty() && progress.task.ends_with(&format!("/{}", record.partition)));
                ended.insert(record.partition, progress.commit);
            }
        }
        if topic == "dead-letters" {
            // One partition for all tasks: their progress would cover records of other tasks too.
            assert!(records.iter().all(|record| progress(record).is_none()));
            continue;
        }
        // The last record of a partition is the last of its commit.
        for partition in records.iter().map(|record| record.partition).collect::<BTreeSet<_>>() {
            let last = records.iter().rfind(|record| record.partition == partition).unwrap();
            assert!(progress(last).is_some(), "{topic}/{partition}: {last:?}");
        }
    }
    world.check_told();
    let told = world.told();
    assert_eq!(told.len(), 8 + 8 + 1, "every task, however little it wrote");
    for progress in told.values() {
        for root in &progress.roots {
            let at = TopicPartition::new("user-actions", root.partition);
            assert_eq!(root.next_offset, world.log.bounds(&at).unwrap().1, "{}", progress.task);
        }
    }
}

#[test]
fn the_internal_topic_stays_small_and_keeps_the_newest_of_every_task() {
    let world = World::new();
    let mut thread = world.thread(2, None);
    world.events(0, 40);
    world.pass(&mut thread, 120_000);
    let records = world.read(PROGRESS).len();
    assert!(records < 17 * 12, "{records} records after two minutes of a record every 5 s and task");
    assert_eq!(world.told().len(), 17);
    // A transaction that was left open there: nothing that readers see is deleted.
    (0..8).for_each(|partition| world.log.hold(&TopicPartition::new(PROGRESS, partition)).unwrap());
    world.pass(&mut thread, 60_000);
    assert_eq!(world.told().len(), 17);
}

#[test]
fn what_a_task_knows_of_its_outputs_survives_restarts() {
    let world = World::new();
    let dir = world.dir.path().to_owned();
    world.events(0, 60);
    world.run(world.thread(2, Some(&dir)), 20_000);
    world.check_told();
    let before = world.last_commits();
    // With its checkpoints, without them, and from the changelog alone; nothing is written meanwhile.
    for state in [Some(dir.as_path()), None] {
        world.run(world.thread(2, state), 20_000);
        world.check_told();
    }
    assert_eq!(world.last_commits(), before);
    world.events(60, 120);
    world.run(world.thread(2, Some(&dir)), 20_000);
    world.check_told();
    assert_ne!(world.last_commits(), before);
}

/// Everything in the output topics that is no value, as topic and key; with whether it is a tombstone.
fn old_marks(world: &World) -> BTreeMap<(String, u32, Vec<u8>), Vec<bool>> {
    let mut marks = BTreeMap::<_, Vec<bool>>::new();
    for topic in &world.outputs {
        for record in world.read(topic).into_iter().filter(is_old_mark) {
            marks.entry((topic.clone(), record.partition, record.key)).or_default().push(record.value.is_none());
        }
    }
    marks
}

#[test]
fn a_log_of_an_older_release_is_written_as_before_until_its_wire_version_is_raised() {
    let world = World::new();
    let dir = world.dir.path().to_owned();
    // Twice: a newer program, and after going back the same again.
    for round in 0..2 {
        world.events(round * 60, round * 60 + 60);
        world.run(world.thread(1, Some(&dir)), 6_000);
        assert!(world.read(PROGRESS).is_empty());
        let outputs = world.outputs.iter();
        let records: Vec<_> = outputs.flat_map(|topic| world.read(topic)).collect();
        assert!(records.iter().all(|record| progress(record).is_none() && record.value.is_some()));
    }
    let before = old_marks(&world);
    assert!(before.len() > 20 && before.values().flatten().all(|is_tombstone| !is_tombstone));
    // Raised: each key of a mark in a compacted topic gets one tombstone, and no mark is written any more.
    world.events(120, 180);
    world.run(world.thread(2, Some(&dir)), 6_000);
    let raised = old_marks(&world);
    let is_compacted = |topic: &str| !["verdicts", "dead-letters"].contains(&topic);
    for ((topic, partition, key), marks) in &raised {
        let marks_before = before.get(&(topic.clone(), *partition, key.clone())).map_or(0, Vec::len);
        let tombstones = usize::from(is_compacted(topic));
        assert_eq!(marks.len(), marks_before + tombstones, "{topic}/{partition}");
        assert_eq!(marks.last(), Some(&is_compacted(topic)), "{topic}/{partition}");
    }
    assert_eq!(world.told().len(), 17);
    // Commits of the old wire version were not recorded: the reported numbers must not be too small.
    let last = world.last_commits();
    for progress in world.told().into_values() {
        let partition: u32 = progress.task.rsplit_once('/').unwrap().1.parse().unwrap();
        for output in progress.outputs.iter().filter(|output| output.topic != "dead-letters") {
            assert!(output.commit >= last.get(&(output.topic.clone(), partition)).copied().unwrap_or(0));
            assert!(output.commit <= progress.commit);
        }
    }
    // Once, whatever the task comes back from.
    for state in [Some(dir.as_path()), None] {
        world.run(world.thread(2, state), 6_000);
        assert_eq!(old_marks(&world), raised);
    }
}

#[test]
fn marks_of_both_forms_are_of_the_same_task_and_commits() {
    let world = World::new();
    let dir = world.dir.path().to_owned();
    world.events(0, 60);
    world.run(world.thread(1, Some(&dir)), 1_000);
    let newest = |world: &World| {
        let marks = world.read("counters").into_iter().filter(|record| is_old_mark(record) && record.value.is_some());
        let mark = |record: StoredRecord| serde_json::from_slice::<ProgressMark>(&record.value.unwrap()).unwrap();
        marks.map(mark).map(|mark| (mark.task, mark.version)).collect::<BTreeMap<_, _>>()
    };
    let old = newest(&world);
    world.run(world.thread(2, Some(&dir)), 6_000);
    let told = world.told();
    assert!(old.len() == 8 && old.iter().all(|(task, version)| told[task].version() > *version));
}
