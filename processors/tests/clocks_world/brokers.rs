//! A log whose brokers' clocks differ from all other clocks: each partition of one topic has its own.

use std::sync::Arc;
use std::time::Duration;
use tally_streams::log::*;
use tally_streams::testkit::AlteredLog;

/// How far the clock of a partition's broker is ahead when it takes the record at an offset, in milliseconds.
pub type Skew = fn(u32, u64) -> i64;

/// Puts such brokers between a log and its readers.
pub fn brokers(inner: Arc<dyn Log>, topic: Arc<str>, skew: Skew) -> AlteredLog {
    AlteredLog::new(inner).consumers(move |inner| Box::new(Reader { inner, topic: topic.clone(), skew }))
}

struct Reader {
    inner: Box<dyn Consumer>,
    topic: Arc<str>,
    skew: Skew,
}

impl Consumer for Reader {
    fn subscribe(&mut self, driver: &str, member: &str) -> Result<(), LogError> {
        self.inner.subscribe(driver, member)
    }
    fn unsubscribe(&mut self) -> Result<(), LogError> {
        self.inner.unsubscribe()
    }
    fn assign(&mut self, partition: &TopicPartition, offset: u64) -> Result<(), LogError> {
        self.inner.assign(partition, offset)
    }
    fn unassign(&mut self, partition: &TopicPartition) {
        self.inner.unassign(partition);
    }
    fn poll(&mut self, timeout: Duration) -> Result<Polled<'_>, LogError> {
        let (topic, skew) = (&self.topic, self.skew);
        Ok(match self.inner.poll(timeout)? {
            Polled::Records { from, records, next_offset } if from.topic == *topic => {
                let partition = from.partition;
                let skewed = records.map(move |record| {
                    let record = record?;
                    let append_time_ms = record.append_time_ms + skew(partition, record.offset);
                    Ok(Record { append_time_ms, ..record })
                });
                Polled::Records { from, records: Box::new(skewed), next_offset }
            }
            other => other,
        })
    }
    fn position(&self, partition: &TopicPartition) -> Option<u64> {
        self.inner.position(partition)
    }
    fn group_metadata(&self) -> GroupMetadata {
        self.inner.group_metadata()
    }
}
