//! Append times of the events of a receipt: read from the log itself, since a receipt has no time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tally_streams::log::{Consumer, Log, LogError, Polled, TopicPartition};

/// How long the log may take to find a record.
const PATIENCE: Duration = Duration::from_millis(500);

/// Looks records up by offset. Rare and off the hot path: one consumer serves all.
pub struct AppendTimes {
    log: Arc<dyn Log>,
    topic: Arc<str>,
    consumer: Mutex<Option<Box<dyn Consumer>>>,
}

impl AppendTimes {
    /// Append times of the records of this topic.
    pub fn new(log: Arc<dyn Log>, topic: &str) -> Self {
        Self { log, topic: topic.into(), consumer: Mutex::new(None) }
    }

    /// The append time of a record, or of the next one if it was deleted; None if the log has neither. Blocks.
    pub fn find(&self, partition: u32, offset: u64) -> Result<Option<i64>, LogError> {
        let address = TopicPartition::new(self.topic.clone(), partition);
        let (start, end) = self.log.bounds(&address)?;
        if offset < start || offset >= end {
            return Ok(None);
        }
        let mut held = self.consumer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut consumer = match held.take() {
            Some(consumer) => consumer,
            None => self.log.consumer("receipts")?,
        };
        consumer.assign(&address, offset)?;
        let found = first_time(&mut *consumer);
        consumer.unassign(&address);
        // After a failure a new one is made.
        if found.is_ok() {
            *held = Some(consumer);
        }
        found
    }
}

fn first_time(consumer: &mut dyn Consumer) -> Result<Option<i64>, LogError> {
    match consumer.poll(PATIENCE)? {
        Polled::Records { mut records, .. } => records.next().transpose().map(|r| r.map(|r| r.append_time_ms)),
        Polled::Nothing | Polled::Assigned(_) | Polled::Revoked { .. } => Ok(None),
    }
}
