//! The interface of a store that serves reads.

use crate::database::DatabaseError;
use std::sync::Arc;
use std::time::Instant;
use tally_cache::CachedCounters;
use tally_cache::redis::RedisFailure;
use tally_model::{Ranking, Receipt, RootPosition};
use tally_streams::log::TopicPartition;

/// A subject or a board, and the partition of the output topic that has its records.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The subject's id or the board's name.
    pub id: &'a str,
    /// Where its records are.
    pub partition: &'a TopicPartition,
}

/// How far the input is contained in what came from a partition of an output topic, ascending by root partition.
pub type Contained = Arc<[RootPosition]>;

/// A value as a store has it.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    /// The value.
    pub value: T,
    /// How far the input is contained in it. The value may be newer, never older.
    pub roots: Contained,
    /// Below which offset of its partition every record is contained; None where the store does not record that.
    pub next_offset: Option<u64>,
}

/// All totals of a subject.
pub type Totals = Arc<CachedCounters>;

/// A board; None where no task has written it.
pub type Board = Option<Arc<Ranking>>;

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The cache in this process.
    Memory,
    /// Redis.
    Redis,
    /// The database.
    Database,
    /// The last known value: no store answered.
    LastKnown,
}

/// A value that was read, and its source.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// The value.
    pub stored: Stored<T>,
    /// The store that had it.
    pub source: Source,
}

/// Why a store has no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Redis does not answer, or its content is not that of a sink.
    #[error(transparent)]
    Redis(#[from] RedisFailure),
    /// The database does not.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// A store that serves reads. It determines how far the input is contained before it reads the values.
pub trait ReadStore: Send + Sync {
    /// How far the input is contained in what came from each of these partitions, in their order; None where that
    /// cannot be trusted.
    fn progress(
        &self,
        partitions: &[&TopicPartition],
    ) -> impl Future<Output = Result<Vec<Option<Contained>>, StoreError>> + Send;

    /// The totals of subjects, in their order; None is a miss, never zero.
    fn totals(
        &self,
        subjects: &[Key<'_>],
    ) -> impl Future<Output = Result<Vec<Option<Stored<Totals>>>, StoreError>> + Send;

    /// A board as a whole; None is a miss.
    fn board(&self, board: Key<'_>) -> impl Future<Output = Result<Option<Stored<Board>>, StoreError>> + Send;

    /// Waits until these partitions contain what a receipt covers. True if another read is worthwhile: they do, or the
    /// store can no longer tell. False if the deadline passed first.
    fn wait(
        &self,
        partitions: &[&TopicPartition],
        receipt: &Receipt,
        deadline: Instant,
    ) -> impl Future<Output = bool> + Send;
}
