//! A log, a stream thread, and three clocks: the process's wall clock, its monotonic one, and those of the brokers.

use prometheus::Registry;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tally_processors::{Actions, REGISTRY, SINK_TYPES};
use tally_streams::log::memory::MemoryLog;
use tally_streams::log::*;
use tally_streams::runtime::{Limits, StreamMetrics, StreamThread};
use tally_streams::task::{TaskSite, WIRE_VERSIONS};
use tally_streams::topology::Topology;

pub const NOON: i64 = 1_795_248_000_000;
const SHIPPED: &str = include_str!("../../../topology.yaml");

/// A clock that a test sets.
#[derive(Clone)]
pub struct Hand(Arc<AtomicI64>);

impl Hand {
    fn at(ms: i64) -> Self {
        Self(Arc::new(AtomicI64::new(ms)))
    }

    pub fn ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn step(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

pub struct World {
    pub log: Arc<MemoryLog>,
    pub wall: Hand,
    pub monotonic: Hand,
    pub broker: Hand,
    pub metrics: StreamMetrics,
    topology: Arc<Topology<Actions>>,
    events: AtomicI64,
}

impl World {
    pub fn new() -> Self {
        let topology = Topology::load("topology.yaml", SHIPPED, REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}"));
        let (wall, monotonic, broker) = (Hand::at(NOON), Hand::at(0), Hand::at(NOON));
        let clock = broker.clone();
        let log = Arc::new(MemoryLog::new(Arc::new(move || clock.ms())));
        log.ensure_topics(&topology.topic_specs()).unwrap();
        let (metrics, events) = (StreamMetrics::new(&Registry::new()).unwrap(), AtomicI64::new(0));
        Self { log, wall, monotonic, broker, metrics, topology: Arc::new(topology), events }
    }

    pub fn thread(&self) -> StreamThread<Actions> {
        let site = TaskSite {
            topology: self.topology.clone(),
            generation: 1,
            wire_version: *WIRE_VERSIONS.end(),
            hash_seed: 7,
            secret: [7; 32],
            owner: "tally-0".into(),
            siblings: ["tally-0".into()].into(),
            state_dir: None,
            boot_id: "boot".to_owned(),
        };
        StreamThread::new(self.log.clone(), site, Limits::default(), self.metrics.clone()).unwrap()
    }

    pub fn now(&self) -> Now {
        Now { wall_ms: self.wall.ms(), monotonic_ms: self.monotonic.ms() }
    }

    /// Time passes on all clocks.
    pub fn pass(&self, ms: i64) {
        [&self.wall, &self.monotonic, &self.broker].into_iter().for_each(|clock| clock.step(ms));
    }

    /// That many steps of 10 ms.
    pub fn run(&self, thread: &mut StreamThread<Actions>, steps: usize) {
        for _ in 0..steps {
            thread.poll_once(self.now(), Duration::ZERO).unwrap();
            self.pass(10);
        }
    }

    /// Somebody likes something now, by the broker's clock.
    pub fn like(&self, actor: &str, subject: &str) {
        let number = self.events.fetch_add(1, Ordering::Relaxed);
        let at_ms = self.broker.ms();
        let json = format!(
            r#"{{"event_id":"e{number}","type":"like","actor_id":"{actor}","subject_id":"{subject}","occurred_at":{at_ms}}}"#
        );
        let record = OwnedRecord {
            partition: partition_of(actor.as_bytes(), self.partitions()),
            key: Some(actor.as_bytes().to_vec().into()),
            value: Some(json.into_bytes().into()),
            headers: bytes::Bytes::new(),
        };
        let done = Arc::new(Mutex::new(None));
        let outcome = done.clone();
        let batch = AppendBatch { records: vec![record] };
        let appended = Box::new(move |appended| *outcome.lock().unwrap() = Some(appended));
        self.log.appender().unwrap().append(&self.topology.root, batch, appended);
        assert!(matches!(*done.lock().unwrap(), Some(Ok(_))));
    }

    pub fn partitions(&self) -> u32 {
        self.topology.subtopologies[0].partitions
    }

    /// The newest total.
    pub fn likes(&self, subject: &str) -> i64 {
        let totals = self.newest("counters");
        totals.get(subject.as_bytes()).map_or(0, |total| total["counters"]["likes"].as_i64().unwrap_or(0))
    }

    /// The newest value of each key.
    pub fn newest(&self, topic: &str) -> BTreeMap<Vec<u8>, serde_json::Value> {
        let mut newest = BTreeMap::new();
        for (.., key, value) in self.read(topic) {
            newest.insert(key, serde_json::from_slice(&value).unwrap());
        }
        newest
    }

    /// Partition, offset, append time, key and value of every record of a topic but progress marks.
    pub fn read(&self, topic: &str) -> Vec<(u32, u64, i64, Vec<u8>, Vec<u8>)> {
        let mut all = Vec::new();
        for partition in 0..self.log.partitions(topic).unwrap() {
            let at = TopicPartition::new(topic, partition);
            let (mut next, end) = self.log.bounds(&at).unwrap();
            let mut consumer = self.log.consumer("").unwrap();
            consumer.assign(&at, next).unwrap();
            while next < end {
                let Polled::Records { records, next_offset, .. } = consumer.poll(Duration::from_secs(5)).unwrap() else {
                    panic!("{at} ends early");
                };
                for record in records.map(Result::unwrap) {
                    let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
                    if key.first() != Some(&0) {
                        all.push((partition, record.offset, record.append_time_ms, key.to_vec(), value.to_vec()));
                    }
                }
                next = next_offset;
            }
        }
        all
    }
}
