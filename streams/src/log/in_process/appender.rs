//! The appender of the embedded and the memory log.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::batch::{self, Batches};
use super::registry::Topic;
use super::request::{self, PartitionWrites, Reply, Request, Submit};
use super::view::View;
use crate::log::{AppendBatch, Appender, Completion, LogError};

/// The overhead of a request in the queue, in bytes.
const REQUEST_BYTES: usize = 256;

/// See [`Appender`]. Records are encoded on the caller's thread.
pub(super) struct EngineAppender {
    view: Arc<View>,
    submit: Arc<dyn Submit>,
}

impl EngineAppender {
    /// An appender to a log.
    pub fn new(view: Arc<View>, submit: Arc<dyn Submit>) -> Self {
        Self { view, submit }
    }

    fn encode(&self, topic: &str, records: AppendBatch) -> Result<(Arc<Topic>, PartitionWrites), LogError> {
        let topic = self.view.registry().topic(topic)?.clone();
        let mut writes: BTreeMap<u32, Batches> = BTreeMap::new();
        for record in &records.records {
            topic.id(record.partition)?;
            batch::check_size(record.key.as_deref(), record.value.as_deref(), &record.headers)?;
            let batches = writes.entry(record.partition).or_default();
            batches.push(record.key.as_deref(), record.value.as_deref(), &record.headers);
        }
        Ok((topic, writes.into_iter().collect()))
    }
}

impl Appender for EngineAppender {
    fn append(&self, topic: &str, records: AppendBatch, done: Completion) {
        let bytes = REQUEST_BYTES + records.len_bytes();
        // Admitted before the work of encoding: an overloaded log rejects cheaply.
        if let Err(error) = self.submit.admit(bytes) {
            return done(Err(error));
        }
        let reply = Reply::new(done);
        match self.encode(topic, records) {
            Ok((topic, writes)) => {
                self.submit.submit(Request::Append(request::Append { topic, writes, bytes, reply }));
            }
            Err(error) => {
                self.submit.release(bytes);
                reply.send(Err(error));
            }
        }
    }
}
