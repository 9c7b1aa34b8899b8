//! The log on Kafka, by librdkafka. Brokers of 4.0 and later.
//!
//! ```text
//! lookup     queries to the cluster          topics    creating and verifying
//! greeting   what listens at an address
//! consumer   reading, in batches             member    the group, on a client of its own
//! producer   transactions                    appender  the producer of the ingest API
//! standing   open transactions
//! native     what the wrapper of librdkafka lacks; the only `unsafe`
//! ```

mod appender;
mod consumer;
mod context;
mod greeting;
mod lookup;
mod member;
mod native;
mod options;
mod orphans;
mod producer;
mod standing;
mod topics;
mod unsettled;

use super::{Appender, CommittedOffset, Consumer, Log, LogError, TopicPartition, TopicSpec, TransactionalProducer};
use appender::KafkaAppender;
use consumer::KafkaConsumer;
use lookup::{Lookup, Which};
pub use options::{KafkaOptions, PropertyError};
use producer::KafkaProducer;
pub use standing::{OpenTransaction, open_transactions};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use topics::Topics;

/// A Kafka cluster as a log.
pub struct KafkaLog {
    lookup: Arc<Lookup>,
    topics: Topics,
    /// One producer serves all threads: what they send at the same time goes in one request.
    appender: Mutex<Option<Arc<KafkaAppender>>>,
}

impl KafkaLog {
    /// Connects. Fails where the cluster does not answer in time, or is too old. Permanent errors are
    /// [`LogError::Fatal`], and are detected early.
    pub fn open(options: KafkaOptions) -> Result<Self, LogError> {
        let deadline = Instant::now() + options.patience;
        if let Some(refusal) = greeting::refusal(&options) {
            return Err(LogError::Fatal(format!("Kafka at {}: {refusal}", options.brokers)));
        }
        let lookup = Arc::new(Lookup::new(options)?);
        lookup.meet(deadline)?;
        let topics = Topics::new(lookup.clone())?;
        topics.check_brokers()?;
        Ok(Self { lookup, topics, appender: Mutex::default() })
    }
}

impl Log for KafkaLog {
    fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), LogError> {
        self.topics.ensure(topics)
    }

    fn refusals(&self, topics: &[TopicSpec]) -> Result<Vec<LogError>, LogError> {
        self.topics.refusals(topics)
    }

    fn altered_topics(&self, topics: &[TopicSpec]) -> Result<Vec<(String, Option<u32>)>, LogError> {
        let mut altered = Vec::new();
        for topic in topics {
            let found = self.lookup.look_up(&topic.name)?;
            if found != Some(topic.partitions) {
                altered.push((topic.name.clone(), found));
            }
        }
        Ok(altered)
    }

    fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        self.lookup.partitions(topic)
    }

    fn bounds(&self, partition: &TopicPartition) -> Result<(u64, u64), LogError> {
        let of = std::slice::from_ref(partition);
        // The start first: it never passes the end, but may pass an end seen before it.
        let start = self.lookup.offsets(of, Which::Start)?[0];
        Ok((start, self.lookup.offsets(of, Which::CommittedEnd)?[0].max(start)))
    }

    fn ends(&self, partitions: &[TopicPartition]) -> Result<Vec<u64>, LogError> {
        self.lookup.offsets(partitions, Which::CommittedEnd)
    }

    fn written_ends(&self, partitions: &[TopicPartition]) -> Result<Vec<u64>, LogError> {
        self.lookup.offsets(partitions, Which::WrittenEnd)
    }

    fn unsettled(&self, partitions: &[TopicPartition]) -> Result<Vec<(TopicPartition, Vec<u8>)>, LogError> {
        unsettled::unsettled(&self.lookup, partitions)
    }

    fn committed(&self, group: &str, partition: &TopicPartition) -> Result<Option<CommittedOffset>, LogError> {
        self.lookup.committed(group, partition)
    }

    fn delete_records(&self, partition: &TopicPartition, before: u64) -> Result<(), LogError> {
        self.topics.delete_records(partition, before)
    }

    fn consumer(&self, group: &str) -> Result<Box<dyn Consumer>, LogError> {
        Ok(Box::new(KafkaConsumer::new(self.lookup.clone(), group)))
    }

    fn producer(&self, transactional_id: &str) -> Result<Box<dyn TransactionalProducer>, LogError> {
        Ok(Box::new(KafkaProducer::new(self.lookup.clone(), transactional_id)?))
    }

    fn appender(&self) -> Result<Arc<dyn Appender>, LogError> {
        let mut held = self.appender.lock().unwrap_or_else(PoisonError::into_inner);
        let appender = match held.take() {
            Some(appender) => appender,
            None => Arc::new(KafkaAppender::new(self.lookup.clone())?),
        };
        *held = Some(appender.clone());
        Ok(appender)
    }
}
