//! The handle of the embedded and of the memory log: reads go to the view, changes to the writer.

use std::sync::Arc;

use super::appender::EngineAppender;
use super::consumer::EngineConsumer;
use super::producer::EngineProducer;
use super::request::{Request, Submit, ask};
use super::view::View;
use crate::log::{
    Appender, CommittedOffset, Consumer, Log, LogError, Space, TopicPartition, TopicSpec, TransactionalProducer,
};

/// How a log reaches its writer.
pub(super) struct Handle {
    /// The view of readers.
    pub view: Arc<View>,
    /// Passes requests to the writer.
    pub submit: Arc<dyn Submit>,
}

/// A log whose writer runs in this process. Every such log is a [`Log`].
pub(super) trait InProcess: Send + Sync {
    /// Its handle.
    fn handle(&self) -> &Handle;
}

impl<L: InProcess> Log for L {
    fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), LogError> {
        ask(&*self.handle().submit, |reply| Request::Ensure(topics.to_vec(), reply))
    }

    fn refusals(&self, topics: &[TopicSpec]) -> Result<Vec<LogError>, LogError> {
        Ok(self.handle().view.registry().refusals(topics))
    }

    fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        Ok(self.handle().view.registry().topic(topic)?.partitions)
    }

    fn bounds(&self, partition: &TopicPartition) -> Result<(u64, u64), LogError> {
        self.handle().view.bounds(partition).map(|bounds| (bounds.start, bounds.end))
    }

    fn written_ends(&self, partitions: &[TopicPartition]) -> Result<Vec<u64>, LogError> {
        partitions.iter().map(|partition| self.handle().view.written_end(partition)).collect()
    }

    fn committed(&self, group: &str, partition: &TopicPartition) -> Result<Option<CommittedOffset>, LogError> {
        self.handle().view.committed(group, self.handle().view.registry().id(partition)?)
    }

    fn space(&self) -> Result<Option<Space>, LogError> {
        self.handle().view.storage.space()
    }

    fn stored_bytes(&self, partition: &TopicPartition) -> Result<Option<u64>, LogError> {
        let view = &self.handle().view;
        view.storage.stored_bytes(view.registry().id(partition)?).map(Some)
    }

    fn delete_records(&self, partition: &TopicPartition, before: u64) -> Result<(), LogError> {
        ask(&*self.handle().submit, |reply| Request::Delete(partition.clone(), before, reply))
    }

    fn consumer(&self, group: &str) -> Result<Box<dyn Consumer>, LogError> {
        Ok(Box::new(EngineConsumer::new(self.handle().view.clone(), group)))
    }

    fn producer(&self, transactional_id: &str) -> Result<Box<dyn TransactionalProducer>, LogError> {
        let holder = ask(&*self.handle().submit, |reply| Request::TakeOver(transactional_id.to_owned(), reply))?;
        Ok(Box::new(EngineProducer::new(self.handle().view.clone(), self.handle().submit.clone(), holder)))
    }

    fn appender(&self) -> Result<Arc<dyn Appender>, LogError> {
        Ok(Arc::new(EngineAppender::new(self.handle().view.clone(), self.handle().submit.clone())))
    }
}
