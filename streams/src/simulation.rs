//! A topology at work in memory, one step at a time: topics are lists, and the caller decides which task does what next.
//!
//! Every task has a transaction of its own, as if each had a thread to itself. So a commit of one task may come between
//! any two steps of another, and a crash may hit any of them. The caller passes the time; nothing here reads a clock.

use crate::log::{
    CommittedOffset, GroupMetadata, Headers, LogError, Now, ProducerRecord, Record, TopicPartition,
    TransactionalProducer, partition_of,
};
use crate::processor::Dataflow;
use crate::task::{Task, TaskError, TaskSite};
use crate::topology::Topology;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Between two commits passes more time than progress may wait: every commit reports progress to all destinations.
const COMMIT_STEP_MS: i64 = 10_000;

/// A record that a task wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Its partition.
    pub partition: u32,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Its headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Written {
    /// The value as JSON; null where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.value).unwrap_or_default()
    }
}

/// A task of a [`Simulation`]: its place among [`Simulation::tasks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId(usize);

impl TaskId {
    /// Its place, from 0.
    pub fn index(self) -> usize {
        self.0
    }
}

/// See the module.
pub struct Simulation<D: Dataflow> {
    site: TaskSite<D>,
    tasks: Vec<SimulatedTask<D>>,
    /// The readable records: those appended from outside, and those of committed transactions.
    topics: HashMap<TopicPartition, Vec<StoredRecord>>,
    /// Records of the file's topics, each with its topic, in the order of the commits.
    outputs: Vec<(String, Written)>,
    wall_ms: i64,
    /// A clock for durations; it moves with each commit.
    monotonic_ms: i64,
}

struct SimulatedTask<D: Dataflow> {
    task: Task<D>,
    subtopology: usize,
    partition: u32,
    source: TopicPartition,
    is_root: bool,
    /// What the open transaction has written.
    open: Capture,
}

struct StoredRecord {
    append_time_ms: i64,
    key: Option<Vec<u8>>,
    value: Vec<u8>,
    /// Encoded.
    headers: Vec<u8>,
}

impl<D: Dataflow> Simulation<D> {
    /// A topology that has never run, at a time of the wall clock.
    pub fn new(topology: Arc<Topology<D>>, wall_ms: i64) -> Self {
        Self::of_site(TaskSite::in_memory(topology, "simulation"), wall_ms)
    }

    /// The same with the secret of a log: what that signs is what the service wrote.
    pub fn with_secret(topology: Arc<Topology<D>>, wall_ms: i64, secret: [u8; 32]) -> Self {
        Self::of_site(TaskSite { secret, ..TaskSite::in_memory(topology, "simulation") }, wall_ms)
    }

    fn of_site(site: TaskSite<D>, wall_ms: i64) -> Self {
        let topology = site.topology.clone();
        let mut tasks = Vec::new();
        for (index, subtopology) in topology.subtopologies.iter().enumerate() {
            for partition in 0..subtopology.partitions {
                let task = Task::in_memory(&site, index, partition);
                let (source, is_root) = (task.source(), subtopology.upstream.is_none());
                let open = Capture::default();
                tasks.push(SimulatedTask { task, subtopology: index, partition, source, is_root, open });
            }
        }
        Self { site, tasks, topics: HashMap::new(), outputs: Vec::new(), wall_ms, monotonic_ms: 0 }
    }

    /// All tasks, in the order records flow.
    pub fn tasks(&self) -> impl Iterator<Item = TaskId> + use<D> {
        (0..self.tasks.len()).map(TaskId)
    }

    /// `<subtopology>/<partition>`.
    pub fn name(&self, task: TaskId) -> &str {
        self.tasks[task.0].task.name()
    }

    /// The secret of the control record, which signs what only the service itself may write.
    pub fn secret(&self) -> [u8; 32] {
        self.site.secret
    }

    /// Appends a record to the root topic, in the partition of its key. The wall clock moves to `append_time_ms`.
    pub fn append(&mut self, key: Option<&[u8]>, value: &[u8], headers: &[(&str, &[u8])], append_time_ms: i64) {
        let partitions = self.site.topology.subtopologies.first().map_or(1, |root| root.partitions);
        let partition = partition_of(key.unwrap_or_default(), partitions);
        self.append_to(partition, key, value, headers, append_time_ms);
    }

    /// The same in any partition.
    pub fn append_to(
        &mut self,
        partition: u32,
        key: Option<&[u8]>,
        value: &[u8],
        headers: &[(&str, &[u8])],
        append_time_ms: i64,
    ) {
        let at = TopicPartition::new(self.site.topology.root.clone(), partition);
        let mut encoded = Vec::new();
        Headers::encode(headers, &mut encoded);
        self.wall_ms = self.wall_ms.max(append_time_ms);
        let (key, value) = (key.map(<[u8]>::to_vec), value.to_vec());
        self.topics.entry(at).or_default().push(StoredRecord { append_time_ms, key, value, headers: encoded });
    }

    /// Moves the wall clock, never back. Clocks of tasks follow with [`Simulation::idle`].
    pub fn pass_to(&mut self, wall_ms: i64) {
        self.wall_ms = self.wall_ms.max(wall_ms);
    }

    /// Whether a task has records to read.
    pub fn is_ready(&self, task: TaskId) -> bool {
        let SimulatedTask { task, source, .. } = &self.tasks[task.0];
        task.position().input_next < self.topics.get(source).map_or(0, |records| records.len() as u64)
    }

    /// Processes a task's next record; nothing if there is none.
    pub fn process(&mut self, task: TaskId) -> Result<(), TaskError> {
        let SimulatedTask { task, source, open, .. } = &mut self.tasks[task.0];
        let offset = task.position().input_next;
        let Some(stored) = self.topics.get(source).and_then(|records| records.get(offset as usize)) else {
            return Ok(());
        };
        let StoredRecord { append_time_ms, key, value, headers } = stored;
        let (key, value, headers) = (key.as_deref(), Some(value.as_slice()), Headers::encoded(headers));
        task.process(&Record { offset, append_time_ms: *append_time_ms, key, value, headers }, open)
    }

    /// Whether a root task has read everything and its clock is behind the wall clock by more than the idle margin.
    pub fn is_idle_due(&self, task: TaskId) -> bool {
        let SimulatedTask { task: of_task, is_root, .. } = &self.tasks[task.0];
        let margin_ms = self.site.topology.settings.idle_margin.as_millis() as i64;
        *is_root && !self.is_ready(task) && of_task.position().clock_ms < self.wall_ms.saturating_sub(margin_ms)
    }

    /// Time passes without records for a task that has read everything.
    pub fn idle(&mut self, task: TaskId) -> Result<(), TaskError> {
        let now = self.now();
        let SimulatedTask { task, open, .. } = &mut self.tasks[task.0];
        task.idle(now, open)?;
        task.punctuate_wall(now, open)
    }

    /// Whether a task has something to commit.
    pub fn wants_commit(&self, task: TaskId) -> bool {
        let now = Now { monotonic_ms: self.monotonic_ms + COMMIT_STEP_MS, ..self.now() };
        self.tasks[task.0].task.wants_commit(now)
    }

    /// Commits a task's transaction: what it wrote can be read.
    pub fn commit(&mut self, task: TaskId) -> Result<(), TaskError> {
        self.monotonic_ms += COMMIT_STEP_MS;
        let now = self.now();
        let SimulatedTask { task, open, .. } = &mut self.tasks[task.0];
        task.prepare_commit(now, open)?;
        task.committed(now);
        for (topic, written) in std::mem::take(&mut open.records) {
            if self.site.topology.topics.contains_key(&topic) {
                self.outputs.push((topic.clone(), written.clone()));
            }
            let Written { partition, value, .. } = written;
            let at = TopicPartition::new(topic, partition);
            let stored = StoredRecord { append_time_ms: self.wall_ms, key: None, value, headers: Vec::new() };
            self.topics.entry(at).or_default().push(stored);
        }
        Ok(())
    }

    /// Until there is nothing left to do: every task reads what there is and commits, in the order records flow, and clocks
    /// follow the wall clock.
    pub fn settle(&mut self) -> Result<(), TaskError> {
        let mut has_committed = true;
        while std::mem::take(&mut has_committed) {
            self.process_all()?;
            for task in self.tasks() {
                if self.wants_commit(task) {
                    self.commit(task)?;
                    has_committed = true;
                }
                // Tasks behind it read on before they commit.
                self.process_all()?;
            }
        }
        Ok(())
    }

    fn process_all(&mut self) -> Result<(), TaskError> {
        for task in self.tasks() {
            while self.is_ready(task) {
                self.process(task)?;
            }
            if self.is_idle_due(task) {
                self.idle(task)?;
            }
        }
        Ok(())
    }

    /// A task's transaction is aborted: the task continues from its last commit.
    pub fn rollback(&mut self, task: TaskId) {
        let SimulatedTask { task, open, .. } = &mut self.tasks[task.0];
        task.rollback();
        open.records.clear();
    }

    /// A task's process ends without a commit, and another one restores the task from its changelog.
    pub fn crash(&mut self, task: TaskId) -> Result<(), TaskError> {
        let SimulatedTask { task, subtopology, partition, open, .. } = &mut self.tasks[task.0];
        let changelog = TopicPartition::new(task.subtopology().changelog.clone(), *partition);
        let records = self.topics.get(&changelog).into_iter().flatten().map(|record| record.value.as_slice());
        *task = Task::from_changelog(&self.site, *subtopology, *partition, records)?;
        open.records.clear();
        Ok(())
    }

    /// The committed records of the file's topics since the last call, each with its topic.
    pub fn take_outputs(&mut self) -> Vec<(String, Written)> {
        std::mem::take(&mut self.outputs)
    }

    /// How many entries each store has, in all its tasks together.
    pub fn store_entries(&mut self) -> BTreeMap<String, usize> {
        let mut entries = BTreeMap::new();
        for (store, count) in self.tasks.iter_mut().flat_map(|task| task.task.store_entries()) {
            *entries.entry(store).or_default() += count;
        }
        entries
    }

    fn now(&self) -> Now {
        Now { wall_ms: self.wall_ms, monotonic_ms: self.monotonic_ms }
    }
}

/// A producer that keeps what it is given.
#[derive(Default)]
pub(crate) struct Capture {
    /// Each with its topic.
    pub records: Vec<(String, Written)>,
}

impl TransactionalProducer for Capture {
    fn send(&mut self, record: ProducerRecord<'_>) -> Result<(), LogError> {
        let headers = record.headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec()));
        let written = Written {
            partition: record.partition,
            key: record.key.unwrap_or_default().to_vec(),
            value: record.value.unwrap_or_default().to_vec(),
            headers: headers.collect(),
        };
        self.records.push((record.topic.to_owned(), written));
        Ok(())
    }

    fn send_offsets(&mut self, _: &GroupMetadata, _: &[(TopicPartition, CommittedOffset)]) -> Result<(), LogError> {
        Ok(())
    }

    fn commit(&mut self) -> Result<(), LogError> {
        Ok(())
    }

    fn abort(&mut self) -> Result<(), LogError> {
        Ok(())
    }
}
