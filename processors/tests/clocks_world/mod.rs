//! A log, a stream thread, and three clocks: the process's wall clock, its monotonic one, and those of the brokers.

mod brokers;

use brokers::{Skew, brokers};
use prometheus::Registry;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tally_processors::{Actions, REGISTRY};
use tally_sinks::SINK_TYPES;
use tally_streams::log::memory::MemoryLog;
use tally_streams::log::*;
use tally_streams::runtime::{Limits, StreamMetrics, StreamThread};
use tally_streams::task::{ConfirmedTime, TaskSite};
use tally_streams::testkit::{AlteredLog, StoredRecord, append, read_topic};
use tally_streams::topology::Topology;
use tally_testkit::{NOW_MS, SHIPPED_TOPOLOGY};

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

    pub fn set(&self, ms: i64) {
        self.0.store(ms, Ordering::Relaxed);
    }

    pub fn step(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

pub struct World {
    /// As the process reads it.
    pub log: Arc<AlteredLog>,
    /// The same without skew.
    inner: Arc<MemoryLog>,
    skew: Skew,
    pub wall: Hand,
    pub monotonic: Hand,
    pub broker: Hand,
    pub metrics: StreamMetrics,
    /// What an operator has confirmed.
    pub confirmed: Vec<ConfirmedTime>,
    text: String,
    topology: Arc<Topology<Actions>>,
    events: AtomicI64,
}

impl World {
    /// All clocks are right.
    pub fn new() -> Self {
        Self::with(|_, _| 0)
    }

    /// With brokers whose clocks are ahead by this.
    pub fn with(skew: Skew) -> Self {
        Self::of(SHIPPED_TOPOLOGY, skew)
    }

    /// With a topology of its own.
    pub fn of(text: &str, skew: Skew) -> Self {
        let topology = Topology::load("topology.yaml", text, REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}"));
        let (wall, monotonic, broker) = (Hand::at(NOW_MS), Hand::at(0), Hand::at(NOW_MS));
        let clock = broker.clone();
        let inner = Arc::new(MemoryLog::new(Arc::new(move || clock.ms())));
        let log = Arc::new(brokers(inner.clone(), topology.root.clone(), skew));
        log.ensure_topics(&topology.topic_specs()).unwrap();
        let (metrics, events) = (StreamMetrics::new(&Registry::new()).unwrap(), AtomicI64::new(0));
        let (confirmed, topology) = (Vec::new(), Arc::new(topology));
        let text = text.to_owned();
        Self { log, inner, skew, wall, monotonic, broker, metrics, confirmed, text, topology, events }
    }

    pub fn thread(&self) -> StreamThread<Actions> {
        let confirmed_times = self.confirmed.clone().into();
        let site = TaskSite { confirmed_times, ..TaskSite::in_memory(self.topology.clone(), "tally-0") };
        StreamThread::new(self.log.clone(), site, Limits::default(), self.metrics.clone()).unwrap()
    }

    pub fn now(&self) -> Now {
        Now { wall_ms: self.wall.ms(), monotonic_ms: self.monotonic.ms() }
    }

    /// Time passes on all clocks.
    pub fn pass(&self, ms: i64) {
        [&self.wall, &self.monotonic, &self.broker].into_iter().for_each(|clock| clock.step(ms));
    }

    /// That many steps of 10 ms, with a wall clock that is not checked.
    pub fn run(&self, thread: &mut StreamThread<Actions>, steps: usize) {
        for _ in 0..steps {
            thread.poll_once(self.now(), Duration::ZERO).unwrap();
            self.pass(10);
        }
    }

    /// The clocks of the process, judged.
    pub fn judged(&self) -> WallClock {
        let (wall, monotonic) = (self.wall.clone(), self.monotonic.clone());
        let time = move || Now { wall_ms: wall.ms(), monotonic_ms: monotonic.ms() };
        WallClock::new(Arc::new(time), WallLimits::default())
    }

    /// The same by judged clocks.
    pub fn run_judged(&self, thread: &mut StreamThread<Actions>, judged: &WallClock, steps: usize) {
        for _ in 0..steps {
            thread.poll_once(judged.read(), Duration::ZERO).unwrap();
            self.pass(10);
        }
    }

    /// An actor likes a subject now.
    pub fn like(&self, actor: &str, subject: &str) {
        self.event("like", actor, subject, self.broker.ms());
    }

    /// An event with that time.
    pub fn event(&self, kind: &str, actor: &str, subject: &str, at_ms: i64) {
        let number = self.events.fetch_add(1, Ordering::Relaxed);
        self.send(number, kind, actor, subject, at_ms);
    }

    /// The same event as one before has its number.
    pub fn send(&self, number: i64, kind: &str, actor: &str, subject: &str, at_ms: i64) {
        let json = format!(
            r#"{{"event_id":"e{number}","type":"{kind}","actor_id":"{actor}","subject_id":"{subject}","occurred_at":{at_ms}}}"#
        );
        self.append(actor, json.into_bytes());
    }

    /// An actor sends this.
    pub fn append(&self, actor: &str, json: Vec<u8>) {
        append(&*self.log, &self.topology.root, [(actor.to_owned(), json)]);
    }

    /// Another world with the same events, taken by the same brokers at the same times, and with these moves of the clock.
    /// Its process has a clock of its own.
    pub fn again(&self, with_moves: bool) -> Self {
        let moves = if with_moves { self.moves() } else { Vec::new() };
        self.replayed(self.read_raw(&self.topology.root), &moves)
    }

    /// The recorded moves of the clock.
    pub fn moves(&self) -> Vec<StoredRecord> {
        self.read_raw(&self.topology.idle_topic())
    }

    /// Another world with these events and moves.
    pub fn replayed(&self, mut events: Vec<StoredRecord>, moves: &[StoredRecord]) -> Self {
        let again = Self { confirmed: self.confirmed.clone(), ..Self::of(&self.text, self.skew) };
        events.sort_by_key(|record| (record.append_time_ms, record.partition, record.offset));
        for event in events {
            again.broker.set(event.append_time_ms);
            again.append(std::str::from_utf8(&event.key).unwrap(), event.value.unwrap());
        }
        let topic = self.topology.idle_topic();
        let mut producer = again.log.producer("copy").unwrap();
        for clock_move in moves {
            let (partition, value) = (clock_move.partition, clock_move.value.as_deref());
            let record = ProducerRecord { topic: &topic, partition, key: None, value, headers: &[] };
            producer.send(record).unwrap();
            producer.commit().unwrap();
        }
        again
    }

    pub fn idle_topic(&self) -> String {
        self.topology.idle_topic()
    }

    /// That many actors whose events go to this partition.
    pub fn actors_of(&self, partition: u32, count: usize) -> Vec<String> {
        let actors = (0..).map(|i| format!("u{i}"));
        let here = actors.filter(|actor| partition_of(actor.as_bytes(), self.partitions()) == partition);
        here.take(count).collect()
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
        for record in self.read(topic) {
            newest.insert(record.key, serde_json::from_slice(&record.value.unwrap()).unwrap());
        }
        newest
    }

    /// Every record of a topic but progress marks.
    pub fn read(&self, topic: &str) -> Vec<StoredRecord> {
        self.read_raw(topic).into_iter().filter(|record| record.key.first() != Some(&0)).collect()
    }

    /// Every record of a topic.
    pub fn read_raw(&self, topic: &str) -> Vec<StoredRecord> {
        read_topic(&*self.inner, topic)
    }
}
