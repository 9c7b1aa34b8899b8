//! Faults of a log that threads meet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tally_streams::log::*;

/// Its commits fail according to `next_fault`: 1 = aborted, 2 = uncertain and not done, 3 = uncertain and done.
pub struct FaultyProducer {
    pub inner: Box<dyn TransactionalProducer>,
    pub next_fault: Arc<AtomicU32>,
    pub lost_answers: Arc<AtomicU64>,
}

impl TransactionalProducer for FaultyProducer {
    fn send(&mut self, record: ProducerRecord<'_>) -> Result<(), LogError> {
        self.inner.send(record)
    }
    fn send_offsets(&mut self, g: &GroupMetadata, o: &[(TopicPartition, CommittedOffset)]) -> Result<(), LogError> {
        self.inner.send_offsets(g, o)
    }
    fn commit(&mut self) -> Result<(), LogError> {
        let fault = self.next_fault.swap(0, Ordering::Relaxed);
        if fault > 1 {
            self.lost_answers.fetch_add(1, Ordering::Relaxed);
        }
        match fault {
            1 => self.inner.abort().and(Err(LogError::Aborted("injected".into()))),
            2 => self.inner.abort().and(Err(LogError::Uncertain("injected, not done".into()))),
            3 => self.inner.commit().and(Err(LogError::Uncertain("injected, done".into()))),
            _ => self.inner.commit(),
        }
    }
    fn abort(&mut self) -> Result<(), LogError> {
        self.inner.abort()
    }
}

/// Cannot be assigned a partition while there are `failures` left.
pub struct FaultyConsumer {
    pub inner: Box<dyn Consumer>,
    pub failures: Arc<AtomicU32>,
}

impl Consumer for FaultyConsumer {
    fn subscribe(&mut self, driver: &str, member: &str) -> Result<(), LogError> {
        self.inner.subscribe(driver, member)
    }
    fn unsubscribe(&mut self) -> Result<(), LogError> {
        self.inner.unsubscribe()
    }
    fn assign(&mut self, partition: &TopicPartition, offset: u64) -> Result<(), LogError> {
        let fails =
            self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if fails { Err(LogError::Unavailable("injected".into())) } else { self.inner.assign(partition, offset) }
    }
    fn unassign(&mut self, partition: &TopicPartition) {
        self.inner.unassign(partition);
    }
    fn poll(&mut self, timeout: Duration) -> Result<Polled<'_>, LogError> {
        self.inner.poll(timeout)
    }
    fn position(&self, partition: &TopicPartition) -> Option<u64> {
        self.inner.position(partition)
    }
    fn group_metadata(&self) -> GroupMetadata {
        self.inner.group_metadata()
    }
}
