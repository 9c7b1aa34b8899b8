//! The tasks of a topology with hops between them that a test delivers one by one, commits, and takes back.

use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;
use tally_processors::{Actions, REGISTRY};
use tally_sinks::SINK_TYPES;
use tally_streams::log::{
    CommittedOffset, GroupMetadata, Headers, LogError, Now, ProducerRecord, Record, TopicPartition,
    TransactionalProducer,
};
use tally_streams::task::{Task, TaskSite};
use tally_streams::topology::Topology;

/// Partitions of the root topic, and of the hop.
pub const PARTITIONS: usize = 2;

/// What a task reads next, in the order of its partition.
#[derive(Clone)]
enum Input {
    Event { value: Vec<u8>, append_ms: i64 },
    Idle { clock_ms: i64 },
    Hop(Vec<u8>),
}

struct Reader {
    task: Task<Actions>,
    inputs: Vec<Input>,
    /// The next one to process, and as of the last commit.
    next: usize,
    committed: usize,
    /// What the open transaction wrote.
    open: Vec<(String, u32, Vec<u8>)>,
}

/// See the module. Every subtopology but the root's is behind the one before it.
pub struct World {
    /// By subtopology and partition.
    tasks: Vec<Vec<Reader>>,
    /// By subtopology, writer and destination, what was committed and not delivered yet.
    hops: Vec<Vec<Vec<VecDeque<Vec<u8>>>>>,
    /// By topic, the values that were committed.
    pub written: Vec<(String, Value)>,
    now_ms: i64,
}

impl World {
    pub fn new(text: &str) -> Self {
        let topology = Topology::load("test.yaml", text, REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}"));
        let topology = Arc::new(topology);
        let site = TaskSite::in_memory(topology.clone(), "test");
        let readers = |subtopology| {
            let reader = |partition| Reader {
                task: Task::in_memory(&site, subtopology, partition),
                inputs: Vec::new(),
                next: 0,
                committed: 0,
                open: Vec::new(),
            };
            (0..PARTITIONS as u32).map(reader).collect::<Vec<_>>()
        };
        let levels = topology.subtopologies.len();
        let hops = vec![vec![vec![VecDeque::new(); PARTITIONS]; PARTITIONS]; levels];
        Self { tasks: (0..levels).map(readers).collect(), hops, written: Vec::new(), now_ms: 0 }
    }

    /// How many subtopologies there are.
    pub fn levels(&self) -> usize {
        self.tasks.len()
    }

    /// Appends an event to a partition of the root topic.
    pub fn append(&mut self, partition: usize, value: Vec<u8>, append_ms: i64) {
        self.tasks[0][partition].inputs.push(Input::Event { value, append_ms });
    }

    /// A partition of the root topic is idle, and its clock goes on.
    pub fn idle(&mut self, partition: usize, clock_ms: i64) {
        self.tasks[0][partition].inputs.push(Input::Idle { clock_ms });
    }

    /// Processes the next input of a root task; whether there was one.
    pub fn process_root(&mut self, partition: usize) -> bool {
        process(&mut self.tasks[0][partition])
    }

    /// Delivers and processes the next hop of a writer to a reader behind it; whether there was one.
    pub fn deliver(&mut self, level: usize, writer: usize, reader: usize) -> bool {
        let to = &mut self.tasks[level][reader];
        // What was taken back is read again first: the order of a partition stands.
        if to.next == to.inputs.len() {
            let Some(value) = self.hops[level - 1][writer][reader].pop_front() else { return false };
            to.inputs.push(Input::Hop(value));
        }
        process(to)
    }

    /// Commits a task: its hops can be delivered. Whether it has more to do.
    pub fn commit(&mut self, level: usize, partition: usize) -> bool {
        self.now_ms += 10_000;
        for (topic, destination, value) in commit(&mut self.tasks[level][partition], self.now_ms) {
            if topic.ends_with("-repartition") {
                self.hops[level][partition][destination as usize].push_back(value);
            } else if let Ok(value) = serde_json::from_slice(&value)
                && ["counters", "windows"].contains(&topic.as_str())
            {
                self.written.push((topic, value));
            }
        }
        self.tasks[level][partition].task.wants_commit(Now::both(self.now_ms))
    }

    pub fn rollback(&mut self, level: usize, partition: usize) {
        rollback(&mut self.tasks[level][partition]);
    }

    /// Everything is processed, delivered and committed.
    pub fn finish(&mut self) {
        for partition in 0..PARTITIONS {
            while self.process_root(partition) {}
            self.commit(0, partition);
        }
        for level in 1..self.levels() {
            for reader in 0..PARTITIONS {
                for writer in 0..PARTITIONS {
                    while self.deliver(level, writer, reader) {}
                }
                while self.commit(level, reader) {}
            }
        }
    }

    /// How many records came too late, by node and window.
    pub fn late(&mut self) -> std::collections::BTreeMap<(String, String), u64> {
        let mut late = std::collections::BTreeMap::new();
        for (node, window, count) in self.tasks.iter_mut().flatten().flat_map(|reader| reader.task.take_late()) {
            *late.entry((node.to_string(), window.to_string())).or_default() += count;
        }
        late
    }

    /// How many records counted for others.
    pub fn over_limit(&mut self) -> u64 {
        self.tasks.iter_mut().flatten().flat_map(|reader| reader.task.take_over_limit().into_values()).sum()
    }
}

fn process(reader: &mut Reader) -> bool {
    let Some(input) = reader.inputs.get(reader.next).cloned() else { return false };
    let offset = reader.next as u64;
    reader.next += 1;
    let mut captured = Capture::default();
    match input {
        Input::Idle { clock_ms } => reader.task.idle(Now::both(clock_ms + 1_000), &mut captured),
        Input::Event { value, append_ms } => {
            let (key, headers) = (actor_of(&value), Headers::encoded(&[]));
            let key = Some(key.as_bytes());
            let record = Record { offset, append_time_ms: append_ms, key, value: Some(&value), headers };
            reader.task.process(&record, &mut captured)
        }
        Input::Hop(value) => {
            let headers = Headers::encoded(&[]);
            let record = Record { offset, append_time_ms: 0, key: None, value: Some(&value), headers };
            reader.task.process(&record, &mut captured)
        }
    }
    .unwrap();
    reader.open.append(&mut captured.0);
    true
}

fn actor_of(value: &[u8]) -> String {
    let event: Value = serde_json::from_slice(value).unwrap();
    event["actor_id"].as_str().unwrap().to_owned()
}

fn commit(reader: &mut Reader, now_ms: i64) -> Vec<(String, u32, Vec<u8>)> {
    let now = Now::both(now_ms);
    if !reader.task.wants_commit(now) {
        return Vec::new();
    }
    let mut captured = Capture::default();
    reader.task.prepare_commit(now, &mut captured).unwrap();
    reader.task.committed(now);
    reader.committed = reader.next;
    let mut written = std::mem::take(&mut reader.open);
    written.append(&mut captured.0);
    written
}

fn rollback(reader: &mut Reader) {
    reader.task.rollback();
    reader.next = reader.committed;
    reader.open.clear();
}

/// A producer that keeps what it is given: topic, partition and value.
#[derive(Default)]
struct Capture(Vec<(String, u32, Vec<u8>)>);

impl TransactionalProducer for Capture {
    fn send(&mut self, record: ProducerRecord<'_>) -> Result<(), LogError> {
        self.0.push((record.topic.to_owned(), record.partition, record.value.unwrap_or_default().to_vec()));
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
