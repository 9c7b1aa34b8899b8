//! Faults of a log that threads meet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use tally_streams::log::*;
use tally_streams::testkit::ConsumerCall;

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

/// Consumers cannot be assigned a partition while there are `failures` left.
pub fn failing_assignments(failures: Arc<AtomicU32>) -> impl Fn(ConsumerCall) -> Result<(), LogError> {
    move |call| {
        let take = |left: u32| left.checked_sub(1);
        let fails =
            call == ConsumerCall::Assign && failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if fails { Err(LogError::Unavailable("injected".into())) } else { Ok(()) }
    }
}
