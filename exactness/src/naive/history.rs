//! Topics read from a log: `user-actions` from the directory of an embedded log that no process has open, and any topic
//! of a log that is open.

use std::path::Path;
use std::time::Duration;
use tally_streams::log::embedded::{EmbeddedLog, EmbeddedOptions};
use tally_streams::log::{Log, Polled, TopicPartition};

const TOPIC: &str = "user-actions";

/// A record as stored.
pub struct LogRecord<'a> {
    /// Its partition.
    pub partition: u32,
    /// How many partitions the topic has.
    pub partitions: u32,
    /// Its place in the partition.
    pub offset: u64,
    /// When the log took it, in milliseconds since 1970.
    pub append_time_ms: i64,
    /// Empty where there is none.
    pub key: &'a [u8],
    /// Empty where there is none.
    pub value: &'a [u8],
    /// The number that the database gave it, in header `seq`.
    pub seq: Option<i64>,
}

/// Hands over every record, partition by partition, in the order of the offsets.
pub fn read_history(log_dir: &Path, each: impl FnMut(&LogRecord<'_>)) {
    let log =
        EmbeddedLog::open(log_dir, EmbeddedOptions::default()).expect("the log opens: no other process has it open");
    read_topic(&log, TOPIC, each);
}

/// The same of any topic of any log.
pub fn read_topic(log: &dyn Log, topic: &str, mut each: impl FnMut(&LogRecord<'_>)) {
    let partitions = log.partitions(topic).expect("the topic is there");
    for partition in 0..partitions {
        let address = TopicPartition::new(topic, partition);
        let (mut next, end) = log.bounds(&address).expect("the partition is there");
        let mut consumer = log.consumer("the-model").expect("a consumer");
        consumer.assign(&address, next).expect("the partition can be read");
        let mut time_ms = i64::MIN;
        while next < end {
            let Polled::Records { records, next_offset, .. } =
                consumer.poll(Duration::from_secs(10)).expect("records can be read")
            else {
                panic!("{address}: nothing at {next}, although the end is {end}");
            };
            for record in records {
                let record = record.expect("a whole record");
                assert!(record.append_time_ms >= time_ms, "{address}/{}: append times run backwards", record.offset);
                time_ms = record.append_time_ms;
                each(&LogRecord {
                    partition,
                    partitions,
                    offset: record.offset,
                    append_time_ms: record.append_time_ms,
                    key: record.key.unwrap_or_default(),
                    value: record.value.unwrap_or_default(),
                    seq: record.headers.get("seq").and_then(|seq| seq.try_into().ok()).map(i64::from_be_bytes),
                });
            }
            next = next_offset;
        }
    }
}
