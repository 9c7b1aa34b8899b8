//! Runs a whole topology in a test: no log, no threads, no sleep.
//!
//! ```ignore
//! let mut driver = TopologyTestDriver::new(topology);
//! driver.pipe("u1", br#"{"event_id":"e1", …}"#, append_time_ms);
//! assert_eq!(driver.read("counters"), …);
//! ```

use crate::log::{Headers, Now, Record, TopicPartition, partition_of};
use crate::processor::Dataflow;
use crate::simulation::{Capture, Written};
use crate::store::{StateStore, StoreHandle};
use crate::task::{Task, TaskError, TaskSite};
use crate::topology::Topology;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// See the module. Every record is committed as soon as it is processed, unless [`TopologyTestDriver::hold`] sets
/// otherwise.
pub struct TopologyTestDriver<D: Dataflow> {
    topology: Arc<Topology<D>>,
    tasks: Vec<Vec<Task<D>>>,
    offsets: HashMap<TopicPartition, u64>,
    outputs: BTreeMap<String, VecDeque<Written>>,
    now_ms: i64,
    held: bool,
}

impl<D: Dataflow> TopologyTestDriver<D> {
    /// A topology that has never run.
    pub fn new(topology: Topology<D>) -> Self {
        let topology = Arc::new(topology);
        let site = TaskSite::in_memory(topology.clone(), "test");
        let tasks = |(index, subtopology): (usize, &Arc<crate::topology::Subtopology<D>>)| {
            (0..subtopology.partitions).map(|partition| Task::in_memory(&site, index, partition)).collect()
        };
        let tasks = topology.subtopologies.iter().enumerate().map(tasks).collect();
        Self { topology, tasks, offsets: HashMap::new(), outputs: BTreeMap::new(), now_ms: 0, held: false }
    }

    /// Pipes a record into the root topic: to its key's partition, as the log would append it at `append_time_ms`.
    pub fn pipe(&mut self, key: &str, value: &[u8], append_time_ms: i64) -> Result<(), TaskError> {
        let partitions = self.topology.subtopologies[0].partitions;
        self.pipe_to(partition_of(key.as_bytes(), partitions), Some(key.as_bytes()), value, &[], append_time_ms)
    }

    /// Pipes a record into a partition of the root topic, right or wrong.
    pub fn pipe_to(
        &mut self,
        partition: u32,
        key: Option<&[u8]>,
        value: &[u8],
        headers: &[(&str, &[u8])],
        append_time_ms: i64,
    ) -> Result<(), TaskError> {
        let mut encoded = Vec::new();
        Headers::encode(headers, &mut encoded);
        let offset = self.next_offset(&self.topology.root.clone(), partition);
        let record = Record { offset, append_time_ms, key, value: Some(value), headers: Headers::encoded(&encoded) };
        self.now_ms = self.now_ms.max(append_time_ms);
        let mut captured = Capture::default();
        self.tasks[0][partition as usize].process(&record, &mut captured)?;
        self.deliver(captured)?;
        if self.held { Ok(()) } else { self.commit() }
    }

    /// Time passes without records, at the wall and by the clock, which idle tasks keep a second behind.
    pub fn advance_wall(&mut self, now_ms: i64) -> Result<(), TaskError> {
        self.now_ms = self.now_ms.max(now_ms);
        for subtopology in 0..self.tasks.len() {
            for partition in 0..self.tasks[subtopology].len() {
                let mut captured = Capture::default();
                let task = &mut self.tasks[subtopology][partition];
                task.idle(Now::both(now_ms), &mut captured)?;
                task.punctuate_wall(Now::both(now_ms), &mut captured)?;
                self.deliver(captured)?;
            }
        }
        self.commit()
    }

    /// The clock of every root task moves to `clock_ms`.
    pub fn advance_clock(&mut self, clock_ms: i64) -> Result<(), TaskError> {
        self.advance_wall(clock_ms + 1_000)
    }

    /// From now on nothing is committed but by [`TopologyTestDriver::commit`].
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// Commits every task, in the order records flow.
    pub fn commit(&mut self) -> Result<(), TaskError> {
        self.now_ms += 10_000;
        for subtopology in 0..self.tasks.len() {
            for partition in 0..self.tasks[subtopology].len() {
                let task = &mut self.tasks[subtopology][partition];
                if task.wants_commit(Now::both(self.now_ms)) {
                    let mut captured = Capture::default();
                    task.prepare_commit(Now::both(self.now_ms), &mut captured)?;
                    task.committed(Now::both(self.now_ms));
                    self.deliver(captured)?;
                }
            }
        }
        Ok(())
    }

    /// Every task goes back to its last commit. What it wrote since then to outputs is not taken back.
    pub fn rollback(&mut self) {
        self.tasks.iter_mut().flatten().for_each(Task::rollback);
    }

    /// Takes what was written to a topic since the last call; progress marks are left out.
    pub fn read(&mut self, topic: &str) -> Vec<Written> {
        let written = self.outputs.remove(topic).unwrap_or_default();
        written.into_iter().filter(|record| record.key.first() != Some(&0)).collect()
    }

    /// Takes what was written to a topic since the last call, progress marks included.
    pub fn read_all(&mut self, topic: &str) -> Vec<Written> {
        self.outputs.remove(topic).unwrap_or_default().into()
    }

    /// A store, by the name of its subtopology, its partition and its own name.
    ///
    /// # Panics
    /// When there is none of that name and type.
    pub fn store<S: StateStore>(&mut self, subtopology: &str, partition: u32, store: &str) -> &mut S {
        let subtopologies = &self.topology.subtopologies;
        let place = subtopologies
            .iter()
            .position(|known| &*known.name == subtopology)
            .and_then(|at| Some((at, subtopologies[at].stores.iter().position(|known| known.name == store)?)));
        let (at, index) = place.expect("the topology has this store");
        self.tasks[at][partition as usize].stores().get(StoreHandle::at(index))
    }

    /// How many entries each store of a task has, by the name of its subtopology and its partition.
    ///
    /// # Panics
    /// When there is no such subtopology.
    pub fn stored(&mut self, subtopology: &str, partition: u32) -> Vec<(String, usize)> {
        let found = self.topology.subtopologies.iter().position(|known| &*known.name == subtopology);
        self.tasks[found.expect("the topology has this subtopology")][partition as usize].store_entries()
    }

    /// Takes how many records came too late for a window since the last call, by node and window.
    pub fn late(&mut self) -> BTreeMap<(String, String), u64> {
        let mut late = BTreeMap::new();
        for (node, window, count) in self.tasks.iter_mut().flatten().flat_map(Task::take_late) {
            *late.entry((node.to_string(), window.to_string())).or_default() += count;
        }
        late
    }

    /// Takes how many records counted for others since the last call, by node.
    pub fn over_limit(&mut self) -> BTreeMap<String, u64> {
        let mut over_limit = BTreeMap::new();
        for (node, count) in self.tasks.iter_mut().flatten().flat_map(Task::take_over_limit) {
            *over_limit.entry(node.to_string()).or_default() += count;
        }
        over_limit
    }

    /// The clock of a task.
    pub fn clock_ms(&self, subtopology: usize, partition: u32) -> i64 {
        self.tasks[subtopology][partition as usize].position().clock_ms
    }

    fn next_offset(&mut self, topic: &str, partition: u32) -> u64 {
        let next = self.offsets.entry(TopicPartition::new(topic, partition)).or_default();
        *next += 1;
        *next - 1
    }

    /// Brings what a task wrote to its readers: hops to their tasks, the rest to the outputs.
    fn deliver(&mut self, captured: Capture) -> Result<(), TaskError> {
        for (topic, written) in captured.records {
            let reader = self.topology.subtopologies.iter().position(|s| *s.source == *topic && s.upstream.is_some());
            let Some(reader) = reader else {
                self.outputs.entry(topic).or_default().push_back(written);
                continue;
            };
            let offset = self.next_offset(&topic, written.partition);
            let value = Some(written.value.as_slice());
            let record =
                Record { offset, append_time_ms: self.now_ms, key: None, value, headers: Headers::encoded(&[]) };
            let mut captured = Capture::default();
            self.tasks[reader][written.partition as usize].process(&record, &mut captured)?;
            self.deliver(captured)?;
        }
        Ok(())
    }
}
