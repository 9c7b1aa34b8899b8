//! A log between a test and the thing that it tests.

use crate::log::{
    Appender, CommittedOffset, Consumer, GroupMetadata, Log, LogError, Polled, TopicPartition, TopicSpec,
    TransactionalProducer,
};
use std::sync::Arc;
use std::time::Duration;

type Alter<T> = Box<dyn Fn(Box<T>) -> Box<T> + Send + Sync>;
type Permit = Box<dyn Fn(&TopicPartition, u64) -> bool + Send + Sync>;

/// A log whose consumers and producers a test replaces by its own, which mostly pass on what they are asked: to lose
/// answers, to skew times, to observe.
pub struct AlteredLog {
    inner: Arc<dyn Log>,
    consumers: Alter<dyn Consumer>,
    producers: Alter<dyn TransactionalProducer>,
    deletions: Permit,
}

impl AlteredLog {
    /// A log that is not altered yet.
    pub fn new(inner: Arc<dyn Log>) -> Self {
        let (consumers, producers) = (Box::new(|consumer| consumer), Box::new(|producer| producer));
        Self { inner, consumers, producers, deletions: Box::new(|_, _| true) }
    }

    /// The same with each new consumer replaced.
    pub fn consumers(self, alter: impl Fn(Box<dyn Consumer>) -> Box<dyn Consumer> + Send + Sync + 'static) -> Self {
        Self { consumers: Box::new(alter), ..self }
    }

    /// The same, where `before` runs before each call of a consumer, which fails with its error.
    pub fn consumer_calls(self, before: impl Fn(ConsumerCall) -> Result<(), LogError> + Send + Sync + 'static) -> Self {
        let before = Arc::new(before);
        self.consumers(move |inner| Box::new(CheckedConsumer { inner, before: before.clone() }))
    }

    /// The same with each new producer replaced.
    pub fn producers(
        self,
        alter: impl Fn(Box<dyn TransactionalProducer>) -> Box<dyn TransactionalProducer> + Send + Sync + 'static,
    ) -> Self {
        Self { producers: Box::new(alter), ..self }
    }

    /// The same, where records below an offset are only deleted if `permit` returns true.
    pub fn deletions(self, permit: impl Fn(&TopicPartition, u64) -> bool + Send + Sync + 'static) -> Self {
        Self { deletions: Box::new(permit), ..self }
    }
}

impl Log for AlteredLog {
    fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), LogError> {
        self.inner.ensure_topics(topics)
    }

    fn refusals(&self, topics: &[TopicSpec]) -> Result<Vec<LogError>, LogError> {
        self.inner.refusals(topics)
    }

    fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        self.inner.partitions(topic)
    }

    fn altered_topics(&self, topics: &[TopicSpec]) -> Result<Vec<(String, Option<u32>)>, LogError> {
        self.inner.altered_topics(topics)
    }

    fn bounds(&self, partition: &TopicPartition) -> Result<(u64, u64), LogError> {
        self.inner.bounds(partition)
    }

    fn ends(&self, partitions: &[TopicPartition]) -> Result<Vec<u64>, LogError> {
        self.inner.ends(partitions)
    }

    fn written_ends(&self, partitions: &[TopicPartition]) -> Result<Vec<u64>, LogError> {
        self.inner.written_ends(partitions)
    }

    fn unsettled(&self, partitions: &[TopicPartition]) -> Result<Vec<(TopicPartition, Vec<u8>)>, LogError> {
        self.inner.unsettled(partitions)
    }

    fn committed(&self, group: &str, partition: &TopicPartition) -> Result<Option<CommittedOffset>, LogError> {
        self.inner.committed(group, partition)
    }

    fn delete_records(&self, partition: &TopicPartition, before: u64) -> Result<(), LogError> {
        if (self.deletions)(partition, before) { self.inner.delete_records(partition, before) } else { Ok(()) }
    }

    fn consumer(&self, group: &str) -> Result<Box<dyn Consumer>, LogError> {
        self.inner.consumer(group).map(&self.consumers)
    }

    fn producer(&self, transactional_id: &str) -> Result<Box<dyn TransactionalProducer>, LogError> {
        self.inner.producer(transactional_id).map(&self.producers)
    }

    fn appender(&self) -> Result<Arc<dyn Appender>, LogError> {
        self.inner.appender()
    }
}

/// A call of a consumer that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerCall {
    /// [`Consumer::assign`]
    Assign,
    /// [`Consumer::poll`]
    Poll,
}

struct CheckedConsumer<F> {
    inner: Box<dyn Consumer>,
    before: Arc<F>,
}

impl<F: Fn(ConsumerCall) -> Result<(), LogError> + Send + Sync> Consumer for CheckedConsumer<F> {
    fn subscribe(&mut self, driver: &str, member: &str) -> Result<(), LogError> {
        self.inner.subscribe(driver, member)
    }

    fn unsubscribe(&mut self) -> Result<(), LogError> {
        self.inner.unsubscribe()
    }

    fn assign(&mut self, partition: &TopicPartition, offset: u64) -> Result<(), LogError> {
        (self.before)(ConsumerCall::Assign)?;
        self.inner.assign(partition, offset)
    }

    fn unassign(&mut self, partition: &TopicPartition) {
        self.inner.unassign(partition);
    }

    fn poll(&mut self, timeout: Duration) -> Result<Polled<'_>, LogError> {
        (self.before)(ConsumerCall::Poll)?;
        self.inner.poll(timeout)
    }

    fn position(&self, partition: &TopicPartition) -> Option<u64> {
        self.inner.position(partition)
    }

    fn group_metadata(&self) -> GroupMetadata {
        self.inner.group_metadata()
    }
}
