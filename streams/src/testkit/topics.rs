//! Topics of a log: filled by hand, and read as a whole. Both panic where the log fails.

use crate::log::{AppendBatch, Log, OwnedRecord, Polled, TopicPartition, partition_of};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A log that has not answered after this time will not.
const PATIENCE: Duration = Duration::from_secs(60);

/// A record as it was read, with its own bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRecord {
    /// Its partition.
    pub partition: u32,
    /// Its place in the partition.
    pub offset: u64,
    /// When the log took it, in milliseconds since 1970.
    pub append_time_ms: i64,
    /// Empty where there is none.
    pub key: Vec<u8>,
    /// None is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl StoredRecord {
    /// The value as JSON; null where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.value.as_deref().unwrap_or_default()).unwrap_or_default()
    }
}

/// Appends records outside transactions, each to the partition of its key, and waits until they are durable.
///
/// # Panics
/// When the log refuses them.
pub fn append(log: &dyn Log, topic: &str, records: impl IntoIterator<Item = (String, Vec<u8>)>) {
    let partitions = log.partitions(topic).expect("the topic exists");
    let records = records.into_iter().map(|(key, value)| OwnedRecord {
        partition: partition_of(key.as_bytes(), partitions),
        key: Some(key.into_bytes().into()),
        value: Some(value.into()),
        headers: bytes::Bytes::new(),
    });
    let (sender, outcome) = mpsc::channel();
    let batch = AppendBatch { records: records.collect() };
    log.appender().expect("an appender").append(topic, batch, Box::new(move |appended| drop(sender.send(appended))));
    outcome.recv_timeout(PATIENCE).expect("the log answers").expect("the records are appended");
}

/// All that readers see of a topic at present, by partition and offset.
///
/// # Panics
/// When a record cannot be read, or does not come.
pub fn read_topic(log: &dyn Log, topic: &str) -> Vec<StoredRecord> {
    let mut stored = Vec::new();
    for partition in 0..log.partitions(topic).expect("the topic exists") {
        let at = TopicPartition::new(topic, partition);
        let (start, end) = log.bounds(&at).expect("the partition has bounds");
        let mut consumer = log.consumer("").expect("a consumer");
        consumer.assign(&at, start).expect("the partition can be read");
        let (mut next, begun) = (start, Instant::now());
        while next < end {
            assert!(begun.elapsed() < PATIENCE, "{at} ends at {next}, before {end}");
            let polled = consumer.poll(Duration::from_millis(100)).expect("records can be read");
            let Polled::Records { records, next_offset, .. } = polled else { continue };
            for record in records {
                let record = record.expect("a whole record");
                stored.push(StoredRecord {
                    partition,
                    offset: record.offset,
                    append_time_ms: record.append_time_ms,
                    key: record.key.unwrap_or_default().to_vec(),
                    value: record.value.map(<[u8]>::to_vec),
                    headers: record.headers.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
                });
            }
            next = next_offset;
        }
    }
    stored
}
