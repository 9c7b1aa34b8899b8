//! The requests to the writer, and its answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use super::batch::Batches;
use super::registry::Topic;
use super::storage::PartitionId;
use crate::log::{AppendedOffsets, CommittedOffset, GroupMetadata, LogError, TopicPartition, TopicSpec};

/// Passes requests to the writer, immediately or through a queue.
pub(super) trait Submit: Send + Sync {
    /// Submits a request; its reply is always sent.
    fn submit(&self, request: Request);
    /// Reserves room for that many bytes of appends; an error if the queue is full or closed.
    fn admit(&self, bytes: usize) -> Result<(), LogError>;
    /// Releases admitted bytes that were not submitted.
    fn release(&self, bytes: usize);
}

/// One request to the writer. Requests take effect in the order in which they were handed over.
pub(super) enum Request {
    /// Records without a transaction. Their bytes were admitted.
    Append(Append),
    /// A transaction.
    Transaction(Transaction),
    /// A producer takes over a transactional id.
    TakeOver(String, Reply<Arc<Holder>>),
    /// Create or verify topics.
    Ensure(Vec<TopicSpec>, Reply<()>),
    /// Forget records below an offset.
    Delete(TopicPartition, u64, Reply<()>),
}

impl Request {
    /// What it holds of the queue.
    pub fn admitted_bytes(&self) -> usize {
        match self {
            Self::Append(append) => append.bytes,
            _ => 0,
        }
    }

    /// Answers without having done anything.
    pub fn refuse(self, error: LogError) {
        match self {
            Self::Append(append) => append.reply.send(Err(error)),
            Self::Transaction(transaction) => transaction.reply.send(Err(error)),
            Self::TakeOver(_, reply) => reply.send(Err(error)),
            Self::Ensure(_, reply) | Self::Delete(_, _, reply) => reply.send(Err(error)),
        }
    }
}

/// Records by partition within a topic.
pub(super) type PartitionWrites = Vec<(u32, Batches)>;

/// See [`Request::Append`].
pub(super) struct Append {
    /// Its topic.
    pub topic: Arc<Topic>,
    /// Ascending by partition.
    pub writes: PartitionWrites,
    /// What was admitted.
    pub bytes: usize,
    /// The last offsets.
    pub reply: Reply<AppendedOffsets>,
}

/// See [`Request::Transaction`].
pub(super) struct Transaction {
    /// In whose name.
    pub holder: Arc<Holder>,
    /// Records by partition.
    pub writes: Vec<(PartitionId, Batches)>,
    /// Committed offsets by storage key.
    pub offsets: Vec<(Vec<u8>, CommittedOffset)>,
    /// The memberships under which the offsets are committed.
    pub memberships: Vec<GroupMetadata>,
    /// Called once it is done.
    pub reply: Reply<()>,
}

/// A producer as the holder of a transactional id.
pub(super) struct Holder {
    /// The transactional id.
    pub id: String,
    fenced: AtomicBool,
}

impl Holder {
    /// The present holder of `id`.
    pub fn new(id: String) -> Self {
        Self { id, fenced: AtomicBool::new(false) }
    }

    /// Marks the id as taken over by another producer.
    pub fn fence(&self) {
        self.fenced.store(true, Ordering::Release);
    }

    /// Fails if another producer holds the id.
    pub fn check(&self) -> Result<(), LogError> {
        if self.fenced.load(Ordering::Acquire) { Err(LogError::Fenced(self.id.clone())) } else { Ok(()) }
    }
}

/// Called exactly once: if the writer dies, dropping it delivers an error.
pub(super) struct Reply<T>(Option<Done<T>>);

type Done<T> = Box<dyn FnOnce(Result<T, LogError>) + Send>;

impl<T> Reply<T> {
    /// Calls `done` with the answer.
    pub fn new(done: impl FnOnce(Result<T, LogError>) + Send + 'static) -> Self {
        Self(Some(Box::new(done)))
    }

    /// Sends the answer.
    pub fn send(mut self, answer: Result<T, LogError>) {
        if let Some(done) = self.0.take() {
            done(answer);
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Err(LogError::Uncertain("the log stopped before it answered".into())));
        }
    }
}

/// Hands a request over and waits for the answer.
pub(super) fn ask<T: Send + 'static>(
    submit: &dyn Submit,
    request: impl FnOnce(Reply<T>) -> Request,
) -> Result<T, LogError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    submit.submit(request(Reply::new(move |answer| {
        // It is not received only if the caller is gone.
        let _ = sender.send(answer);
    })));
    match receiver.recv() {
        Ok(answer) => answer,
        Err(_) => Err(LogError::Uncertain("the log dropped a request".into())),
    }
}

/// An answer to be delivered without any lock held.
pub(super) enum Answer {
    /// To an append.
    Appended(Reply<AppendedOffsets>, Result<AppendedOffsets, LogError>),
    /// To a take-over.
    Held(Reply<Arc<Holder>>, Arc<Holder>),
    /// To anything else.
    Done(Reply<()>, Result<(), LogError>),
}

impl Answer {
    /// Calls the requester's callback.
    pub fn deliver(self) {
        match self {
            Self::Appended(reply, answer) => reply.send(answer),
            Self::Held(reply, holder) => reply.send(Ok(holder)),
            Self::Done(reply, answer) => reply.send(answer),
        }
    }
}
