//! State in memory has a budget: restoring keeps to it, a damaged checkpoint behind it is noticed, and a disk that takes no
//! checkpoints stops the intake at it. `threads.rs` has eviction with all other faults.

use prometheus::Registry;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tally_processors::{Actions, REGISTRY};
use tally_sinks::SINK_TYPES;
use tally_streams::log::memory::MemoryLog;
use tally_streams::log::*;
use tally_streams::runtime::{Limits, Polling, StreamMetrics, StreamThread};
use tally_streams::task::{StateMemory, Task, TaskSite};
use tally_streams::testkit::append;
use tally_streams::topology::Topology;
use tally_testkit::{NOW_MS, SHIPPED_TOPOLOGY};

fn event(i: usize, occurred_at: i64) -> (String, Vec<u8>) {
    let (actor, kind) = (format!("u{}", i % 5_000), ["view", "like", "unlike", "share"][i % 4]);
    let value = format!(
        r#"{{"event_id":"e{i}","type":"{kind}","actor_id":"{actor}","subject_id":"article:{}","occurred_at":{occurred_at}}}"#,
        i % 3_000
    );
    (actor, value.into_bytes())
}

struct World {
    log: Arc<MemoryLog>,
    topology: Arc<Topology<Actions>>,
    time_ms: Arc<AtomicI64>,
    metrics: StreamMetrics,
    sent: usize,
}

impl World {
    fn new() -> Self {
        let time_ms = Arc::new(AtomicI64::new(NOW_MS));
        let clock = time_ms.clone();
        let log = Arc::new(MemoryLog::new(Arc::new(move || clock.load(Ordering::Relaxed))));
        let topology = Topology::load("topology.yaml", SHIPPED_TOPOLOGY, REGISTRY, SINK_TYPES);
        let topology = Arc::new(topology.unwrap_or_else(|e| panic!("{e}")));
        log.ensure_topics(&topology.topic_specs()).unwrap();
        Self { log, topology, time_ms, metrics: StreamMetrics::new(&Registry::new()).unwrap(), sent: 0 }
    }

    fn now(&self) -> Now {
        Now::both(self.time_ms.load(Ordering::Relaxed))
    }

    fn site(&self, owner: &str, state_dir: Option<&Path>, memory: Arc<StateMemory>) -> TaskSite<Actions> {
        let state_dir = state_dir.map(Path::to_owned);
        let siblings = ["tally-0".into(), owner.into()].into();
        TaskSite { state_dir, memory, siblings, ..TaskSite::in_memory(self.topology.clone(), owner) }
    }

    fn thread(&self, state_dir: Option<&Path>, memory: Arc<StateMemory>) -> StreamThread<Actions> {
        let limits = Limits { checkpoint_age: Duration::from_millis(500), ..Limits::default() };
        let site = self.site("tally-0", state_dir, memory);
        StreamThread::new(self.log.clone(), site, limits, self.metrics.clone()).unwrap()
    }

    fn append(&mut self, events: usize) {
        let now_ms = self.now().wall_ms;
        append(&*self.log, &self.topology.root, (self.sent..self.sent + events).map(|i| event(i, now_ms)));
        self.sent += events;
    }

    fn poll(&self, thread: &mut StreamThread<Actions>, times: usize) {
        for _ in 0..times {
            thread.poll_once(self.now(), Duration::ZERO).unwrap();
            self.time_ms.fetch_add(20, Ordering::Relaxed);
        }
    }

    /// How many records of the root topic are committed.
    fn counted(&self) -> u64 {
        let of = |at: TopicPartition| self.log.committed("tally", &at).unwrap().map_or(0, |committed| committed.offset);
        (0..8).map(|partition| of(TopicPartition::new("user-actions", partition))).sum()
    }

    /// Polls until all is counted.
    fn finish(&self, thread: &mut StreamThread<Actions>) {
        for _ in 0..5_000 {
            self.poll(thread, 1);
            if self.counted() == self.sent as u64 {
                return self.poll(thread, 100);
            }
        }
        panic!("{} of {} are counted", self.counted(), self.sent);
    }

    fn leave(&self, mut thread: StreamThread<Actions>) {
        thread.leave().unwrap();
        while thread.poll_once(self.now(), Duration::ZERO).unwrap() != Polling::Left {
            self.time_ms.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every task as it is restored.
    fn restored(&self, state_dir: Option<&Path>, memory: Arc<StateMemory>) -> Vec<Task<Actions>> {
        let tasks = self.topology.subtopologies.iter().enumerate();
        let wanted: Vec<_> = tasks.flat_map(|(index, of)| (0..of.partitions).map(move |at| (index, at))).collect();
        let log: Arc<dyn Log> = self.log.clone();
        Task::take_over(&self.site("audit", state_dir, memory), &log, &wanted, self.now()).unwrap()
    }

    /// What every task has, as its changelog alone restores it.
    fn state(&self) -> Vec<(Entries, String)> {
        contents(self.restored(None, StateMemory::unlimited()))
    }
}

type Entries = BTreeMap<(String, Vec<u8>), Vec<u8>>;

fn contents(tasks: Vec<Task<Actions>>) -> Vec<(Entries, String)> {
    let of = |mut task: Task<Actions>| (task.stored(), format!("{:?}", task.position()));
    tasks.into_iter().map(of).collect()
}

fn evictable_bytes(tasks: &mut [Task<Actions>]) -> usize {
    tasks.iter_mut().map(|task| task.memory_bytes().1).sum()
}

#[test]
fn a_restore_spills_what_memory_may_not_hold_into_checkpoints() {
    let mut world = World::new();
    let mut thread = world.thread(None, StateMemory::unlimited());
    for _ in 0..40 {
        world.append(2_000);
        world.finish(&mut thread);
    }
    world.leave(thread);
    let mut all = world.restored(None, StateMemory::unlimited());
    let needed = evictable_bytes(&mut all);
    let dir = tempfile::tempdir().unwrap();
    let budget = needed / 4;
    let mut tasks = world.restored(Some(dir.path()), StateMemory::new(budget));
    let taken = evictable_bytes(&mut tasks);
    assert!(taken < budget + budget / 4, "{taken} of {budget} bytes");
    assert_eq!(contents(tasks), contents(all));
    // And once more, from what was spilled: nearly nothing is left to be replayed.
    let records = |tasks: &[Task<Actions>]| tasks.iter().map(Task::restored_records).sum::<u64>();
    let (again, whole) =
        (world.restored(Some(dir.path()), StateMemory::new(budget)), world.restored(None, StateMemory::unlimited()));
    assert!(records(&again) < records(&whole) / 2, "{} of {} records", records(&again), records(&whole));
    assert_eq!(contents(again), contents(whole));
}

/// Flips a bit in the middle of every block that is not in a leaf of LMDB's.
fn damage_blocks(state_dir: &Path) -> usize {
    let mut damaged = 0;
    for task in std::fs::read_dir(state_dir.join("generation-1")).unwrap() {
        let path = task.unwrap().path().join("data.mdb");
        let mut bytes = std::fs::read(&path).unwrap();
        let (is_overflow, mut at) = (|page: &[u8]| page[10..12] == [4, 0], 0);
        while at < bytes.len() {
            let pages = match is_overflow(&bytes[at..]) {
                true => u32::from_ne_bytes(bytes[at + 12..at + 16].try_into().unwrap()) as usize,
                false => 1,
            };
            // Directories, which are read at once, are shorter.
            if pages == 4 {
                bytes[at + 6_000] ^= 1;
                damaged += 1;
            }
            at += pages.max(1) * 4_096;
        }
        std::fs::write(&path, bytes).unwrap();
    }
    damaged
}

#[test]
fn a_block_that_is_damaged_is_found_when_it_is_read_and_its_task_is_restored() {
    let mut world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let mut thread = world.thread(None, StateMemory::unlimited());
    world.append(24_000);
    world.finish(&mut thread);
    world.leave(thread);
    // Each task writes one checkpoint: no page of it is free.
    for mut task in world.restored(Some(dir.path()), StateMemory::unlimited()) {
        assert!(task.write_checkpoint(&*world.log, world.now()).unwrap());
        task.close();
    }
    let damaged = damage_blocks(dir.path());
    assert!(damaged > 20, "{damaged}");
    // Everything is read through. What was sent before is a repeat, and totals go on from where they were.
    let mut thread = world.thread(Some(dir.path()), StateMemory::new(0));
    world.poll(&mut thread, 1);
    world.sent = 12_000;
    world.append(16_000);
    world.sent += 12_000;
    world.finish(&mut thread);
    let (rebuilds, reads) = (world.metrics.rebuilds.get(), world.metrics.state_reads.get());
    assert!(rebuilds > 0 && reads > 1_000, "{rebuilds} rebuilds, {reads} reads");
    world.leave(thread);
    let mut control = World::new();
    let mut thread = control.thread(None, StateMemory::unlimited());
    control.append(24_000);
    control.finish(&mut thread);
    control.sent = 12_000;
    control.append(16_000);
    control.sent += 12_000;
    control.finish(&mut thread);
    let totals = |world: &World| -> Entries {
        let entries = world.state().into_iter().flat_map(|(entries, _)| entries);
        entries.filter(|((store, _), _)| store == "totals").collect()
    };
    let (found, expected) = (totals(&world), totals(&control));
    assert!(found.len() > 2_000 && found.len() == expected.len(), "{} and {}", found.len(), expected.len());
    let differing = found.iter().filter(|(key, value)| expected.get(*key) != Some(value)).count();
    assert_eq!(differing, 0, "of {}", found.len());
}

#[test]
fn at_the_budget_and_without_checkpoints_nothing_is_taken_in_until_the_disk_takes_them_again() {
    let mut world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    // No directory can be made there.
    std::fs::write(&state, "in the way").unwrap();
    let memory = StateMemory::new(2 << 20);
    let mut thread = world.thread(Some(&state), memory);
    // While memory lasts, counting goes on without checkpoints.
    world.append(1_000);
    world.finish(&mut thread);
    assert!(thread.is_working() && !thread.is_held());
    assert!(thread.tasks().all(|task| task.checkpoint_fault().is_some()));
    world.append(200_000);
    world.poll(&mut thread, 2_000);
    assert!(thread.is_held() && !thread.is_working());
    let counted = world.counted();
    assert!(counted > 1_000 && counted < 150_000, "{counted}");
    world.append(10);
    world.poll(&mut thread, 500);
    assert_eq!(world.counted(), counted, "nothing is taken in");
    std::fs::remove_file(&state).unwrap();
    world.finish(&mut thread);
    assert!(thread.is_working() && !thread.is_held());
    world.poll(&mut thread, 1_000);
    assert_eq!(world.metrics.rebuilds.get(), 0);
    assert!(world.metrics.state_evictions.get() > 1_000);
    let evictable: usize = thread.tasks().map(|task| task.memory_bytes().1).sum();
    assert!(evictable < 3 << 20, "{evictable}");
    world.leave(thread);
    let checkpointed = contents(world.restored(Some(&state), StateMemory::new(0)));
    assert!(checkpointed == world.state());
    let held: usize = checkpointed.iter().map(|(entries, _)| entries.len()).sum();
    assert!(held > 200_000, "{held}");
}
