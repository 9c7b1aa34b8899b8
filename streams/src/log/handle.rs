//! What the embedded and the memory log have in common: everything but how requests reach the writer.

use std::sync::Arc;

use super::appender::EngineAppender;
use super::consumer::EngineConsumer;
use super::producer::EngineProducer;
use super::request::{Request, Submit, ask};
use super::view::View;
use super::{Appender, CommittedOffset, Consumer, Log, LogError, TopicPartition, TopicSpec, TransactionalProducer};

/// A log whose writer is elsewhere.
pub(super) struct Handle {
    /// What readers see.
    pub view: Arc<View>,
    /// The way to the writer.
    pub submit: Arc<dyn Submit>,
}

impl Log for Handle {
    fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), LogError> {
        ask(&*self.submit, |reply| Request::Ensure(topics.to_vec(), reply))
    }

    fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        Ok(self.view.registry().topic(topic)?.partitions)
    }

    fn bounds(&self, partition: &TopicPartition) -> Result<(u64, u64), LogError> {
        self.view.bounds(partition).map(|bounds| (bounds.start, bounds.end))
    }

    fn written_ends(&self, partitions: &[TopicPartition]) -> Result<Vec<u64>, LogError> {
        partitions.iter().map(|partition| self.view.written_end(partition)).collect()
    }

    fn committed(&self, group: &str, partition: &TopicPartition) -> Result<Option<CommittedOffset>, LogError> {
        self.view.committed(group, self.view.registry().id(partition)?)
    }

    fn delete_records(&self, partition: &TopicPartition, before: u64) -> Result<(), LogError> {
        ask(&*self.submit, |reply| Request::Delete(partition.clone(), before, reply))
    }

    fn consumer(&self, group: &str) -> Result<Box<dyn Consumer>, LogError> {
        Ok(Box::new(EngineConsumer::new(self.view.clone(), group)))
    }

    fn producer(&self, transactional_id: &str) -> Result<Box<dyn TransactionalProducer>, LogError> {
        let holder = ask(&*self.submit, |reply| Request::TakeOver(transactional_id.to_owned(), reply))?;
        Ok(Box::new(EngineProducer::new(self.view.clone(), self.submit.clone(), holder)))
    }

    fn appender(&self) -> Result<Arc<dyn Appender>, LogError> {
        Ok(Arc::new(EngineAppender::new(self.view.clone(), self.submit.clone())))
    }
}

/// Makes a type with a field `handle` a log.
macro_rules! log_by_handle {
    ($log:ty) => {
        impl $crate::log::Log for $log {
            fn ensure_topics(&self, topics: &[$crate::log::TopicSpec]) -> Result<(), $crate::log::LogError> {
                self.handle.ensure_topics(topics)
            }

            fn partitions(&self, topic: &str) -> Result<u32, $crate::log::LogError> {
                self.handle.partitions(topic)
            }

            fn bounds(&self, partition: &$crate::log::TopicPartition) -> Result<(u64, u64), $crate::log::LogError> {
                self.handle.bounds(partition)
            }

            fn written_ends(
                &self,
                partitions: &[$crate::log::TopicPartition],
            ) -> Result<Vec<u64>, $crate::log::LogError> {
                self.handle.written_ends(partitions)
            }

            fn committed(
                &self,
                group: &str,
                partition: &$crate::log::TopicPartition,
            ) -> Result<Option<$crate::log::CommittedOffset>, $crate::log::LogError> {
                self.handle.committed(group, partition)
            }

            fn delete_records(
                &self,
                partition: &$crate::log::TopicPartition,
                before: u64,
            ) -> Result<(), $crate::log::LogError> {
                self.handle.delete_records(partition, before)
            }

            fn consumer(&self, group: &str) -> Result<Box<dyn $crate::log::Consumer>, $crate::log::LogError> {
                self.handle.consumer(group)
            }

            fn producer(
                &self,
                transactional_id: &str,
            ) -> Result<Box<dyn $crate::log::TransactionalProducer>, $crate::log::LogError> {
                self.handle.producer(transactional_id)
            }

            fn appender(&self) -> Result<std::sync::Arc<dyn $crate::log::Appender>, $crate::log::LogError> {
                self.handle.appender()
            }
        }
    };
}

pub(super) use log_by_handle;
