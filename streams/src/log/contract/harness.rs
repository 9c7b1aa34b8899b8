//! A log under test, and the steps that most behaviours are made of.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::log::{
    AppendBatch, AppendedOffsets, Cleanup, Consumer, Header, Headers, Log, LogError, OwnedRecord, Polled,
    ProducerRecord, Record, TopicPartition, TopicSpec,
};

/// How long a single poll waits.
const POLL: Duration = Duration::from_millis(20);
/// How long a broker may take to show readers what was committed.
const MARKERS: Duration = Duration::from_secs(2);

/// Makes a log for one behaviour.
pub type Factory<'a> = &'a dyn Fn() -> Harness;

/// A log to be tested.
pub struct Harness {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Sets the log's clock, ms since 1970; None where it cannot be set.
    pub set_clock: Option<Box<dyn Fn(i64)>>,
    /// Put before names of topics, groups and transactional ids: logs may be shared.
    pub prefix: String,
    /// After that long nothing will come any more.
    pub patience: Duration,
    /// Whatever must live as long as the log.
    pub keep: Box<dyn Any>,
}

/// A record that was read, with its own bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// See [`Record`].
    pub offset: u64,
    /// See [`Record`].
    pub append_time_ms: i64,
    /// See [`Record`].
    pub key: Option<Vec<u8>>,
    /// See [`Record`].
    pub value: Option<Vec<u8>>,
    /// See [`Record`].
    pub headers: Vec<(String, Vec<u8>)>,
}

impl From<Record<'_>> for Read {
    fn from(record: Record<'_>) -> Self {
        Self {
            offset: record.offset,
            append_time_ms: record.append_time_ms,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
        }
    }
}

impl Read {
    /// The value as text, for comparisons.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or(b"(none)")).into_owned()
    }
}

/// The values of records as text.
pub(super) fn texts(records: &[Read]) -> Vec<String> {
    records.iter().map(Read::text).collect()
}

/// A record with a value only.
pub(super) fn owned(partition: u32, value: &str) -> OwnedRecord {
    OwnedRecord { partition, key: None, value: Some(value.to_owned().into()), headers: bytes::Bytes::new() }
}

/// A record with a value only, for a producer.
pub(super) fn record<'a>(topic: &'a str, partition: u32, value: &'a str) -> ProducerRecord<'a> {
    ProducerRecord { topic, partition, key: None, value: Some(value.as_bytes()), headers: &[] }
}

/// Encoded headers.
pub(super) fn headers(list: &[Header<'_>]) -> bytes::Bytes {
    let mut bytes = Vec::new();
    Headers::encode(list, &mut bytes);
    bytes.into()
}

impl Harness {
    /// A name of its own for this run.
    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Creates a topic and returns its name.
    pub fn topic(&self, name: &str, partitions: u32) -> String {
        let name = self.name(name);
        let spec = TopicSpec {
            name: name.clone(),
            partitions,
            cleanup: Cleanup::Delete,
            retention: None,
            retention_bytes: None,
        };
        self.log.ensure_topics(&[spec]).expect("the topic is created");
        name
    }

    /// Appends and waits for the outcome.
    pub fn append(&self, topic: &str, records: Vec<OwnedRecord>) -> Result<AppendedOffsets, LogError> {
        let (sender, receiver) = mpsc::channel();
        let done = Box::new(move |outcome| sender.send(outcome).expect("the test waits"));
        let appender = self.log.appender().expect("an appender");
        appender.append(topic, AppendBatch { records }, done);
        receiver.recv_timeout(self.patience).expect("the append completes")
    }

    /// Appends values to a partition.
    pub fn fill(&self, at: &TopicPartition, values: &[&str]) {
        let records = values.iter().map(|value| owned(at.partition, value)).collect();
        self.append(&at.topic, records).expect("the append succeeds");
    }

    /// All that a partition holds at present.
    pub fn read_all(&self, at: &TopicPartition) -> Vec<Read> {
        let written = self.log.written_ends(std::slice::from_ref(at)).expect("the written end")[0];
        let since = Instant::now();
        let (start, mut end) = self.log.bounds(at).expect("the bounds");
        // A broker acknowledges a commit before readers see it. What an open transaction has written stays hidden.
        while end < written && since.elapsed() < MARKERS {
            end = self.log.bounds(at).expect("the bounds").1;
        }
        self.read_between(at, start, end)
    }

    /// What lies between two offsets, of which the second is at most the end.
    pub fn read_between(&self, at: &TopicPartition, from: u64, end: u64) -> Vec<Read> {
        let mut consumer = self.log.consumer("").expect("a consumer");
        consumer.assign(at, from).expect("the assignment");
        let mut all = Vec::new();
        self.until("the partition is read", || {
            all.extend(poll(&mut *consumer).into_iter().map(|(_, record)| record));
            consumer.position(at).is_some_and(|position| position >= end)
        });
        all.retain(|record| record.offset < end);
        all
    }

    /// Repeats a step until it reports success; panics after a time limit.
    pub fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let since = Instant::now();
        while !done() {
            assert!(since.elapsed() < self.patience, "not within {:?}: {what}", self.patience);
        }
    }
}

/// What one poll brings, with its partition. Rebalances are not expected here.
pub(super) fn poll(consumer: &mut dyn Consumer) -> Vec<(TopicPartition, Read)> {
    let (at, read, next) = match consumer.poll(POLL).expect("the poll succeeds") {
        Polled::Nothing => return Vec::new(),
        Polled::Records { from, records, next_offset } => {
            let read: Vec<Read> = records.map(|record| record.expect("the record is whole").into()).collect();
            (from.clone(), read, next_offset)
        }
        Polled::Assigned(partitions) => panic!("an unexpected assignment of {partitions:?}"),
        Polled::Revoked { partitions, .. } => panic!("an unexpected revocation of {partitions:?}"),
    };
    assert!(read.is_sorted_by(|a, b| a.offset < b.offset), "offsets ascend within a batch");
    assert!(read.iter().all(|record| record.offset < next), "reading goes on after the batch");
    assert_eq!(consumer.position(&at), Some(next));
    read.into_iter().map(|record| (at.clone(), record)).collect()
}

/// A member of a group that follows commands.
pub struct Member {
    /// Its consumer.
    pub consumer: Box<dyn Consumer>,
    /// What it was assigned and not revoked.
    pub owned: BTreeSet<u32>,
    /// What its last poll took from it.
    pub revoked: BTreeSet<u32>,
}

impl Member {
    /// A new member that asks for partitions of a topic.
    pub fn join(harness: &Harness, group: &str, driver: &str) -> Self {
        static MEMBERS: AtomicU32 = AtomicU32::new(0);
        let name = harness.name(&format!("member-{}", MEMBERS.fetch_add(1, Ordering::Relaxed)));
        let mut consumer = harness.log.consumer(group).expect("a consumer");
        consumer.subscribe(driver, &name).expect("the subscription");
        Self { consumer, owned: BTreeSet::new(), revoked: BTreeSet::new() }
    }

    /// Polls once. True when there was a rebalance.
    pub fn poll(&mut self) -> bool {
        self.revoked.clear();
        match self.consumer.poll(POLL).expect("the poll succeeds") {
            Polled::Assigned(partitions) => {
                for partition in partitions {
                    assert!(self.owned.insert(partition), "{partition} is assigned twice");
                }
                true
            }
            Polled::Revoked { partitions, .. } => {
                for partition in partitions {
                    assert!(self.owned.remove(&partition), "{partition} is revoked and was not assigned");
                    self.revoked.insert(partition);
                }
                true
            }
            Polled::Nothing => false,
            Polled::Records { .. } => panic!("nothing is assigned for reading"),
        }
    }
}
