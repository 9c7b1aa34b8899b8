//! A log whose brokers' clocks differ from those of everybody else: each partition of one topic has its own.

use std::sync::Arc;
use std::time::Duration;
use tally_streams::log::memory::MemoryLog;
use tally_streams::log::*;

/// How far the clock of a partition's broker is ahead when it takes the record at an offset, in milliseconds.
pub type Skew = fn(u32, u64) -> i64;

pub struct Brokers {
    pub inner: MemoryLog,
    pub topic: Arc<str>,
    pub skew: Skew,
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

impl Log for Brokers {
    fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), LogError> {
        self.inner.ensure_topics(topics)
    }
    fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        self.inner.partitions(topic)
    }
    fn bounds(&self, partition: &TopicPartition) -> Result<(u64, u64), LogError> {
        self.inner.bounds(partition)
    }
    fn committed(&self, group: &str, partition: &TopicPartition) -> Result<Option<CommittedOffset>, LogError> {
        self.inner.committed(group, partition)
    }
    fn delete_records(&self, partition: &TopicPartition, before: u64) -> Result<(), LogError> {
        self.inner.delete_records(partition, before)
    }
    fn consumer(&self, group: &str) -> Result<Box<dyn Consumer>, LogError> {
        let (inner, topic, skew) = (self.inner.consumer(group)?, self.topic.clone(), self.skew);
        Ok(Box::new(Reader { inner, topic, skew }))
    }
    fn producer(&self, id: &str) -> Result<Box<dyn TransactionalProducer>, LogError> {
        self.inner.producer(id)
    }
    fn appender(&self) -> Result<Arc<dyn Appender>, LogError> {
        self.inner.appender()
    }
}
