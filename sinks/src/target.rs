//! Where a sink writes to.

use crate::batch::Batch;
use std::sync::Arc;
use tally_model::{OutputType, Roots};
use tally_streams::log::TopicPartition;

/// A store of rows and, with them, of the positions up to which they are complete.
///
/// Guarantees of every target (`tests/targets.rs`):
/// - A write takes effect as a whole, rows and positions, or not at all.
/// - No row is replaced by one of a smaller version.
/// - A position, and the progress stored with it, changes only if it still is what the writer expects: at an equal
///   position, a writer that was overtaken reverts no progress.
pub trait Target: Send {
    /// The positions stored for the partitions of these topics.
    fn positions(&mut self, topics: &[Arc<str>]) -> Result<Vec<StoredPosition>, TargetError>;

    /// Called at the start: until each of these partitions has reached the offset, what is read from here is older than
    /// what the log held when the sink started. Only a target that starts empty cares.
    fn begin(&mut self, goals: &[(TopicPartition, u64)]) {
        let _ = goals;
    }

    /// Called before the records of a partition up to this offset are offered, and when reading begins there. Only a target
    /// that chooses its records has to know: see [`Target::takes`].
    fn reaching(&mut self, partition: &TopicPartition, next_offset: u64) {
        let _ = (partition, next_offset);
    }

    /// Whether the target takes a record of this type and key. One that it does not take is passed over unread.
    fn takes(&mut self, output: OutputType, key: &[u8]) -> bool {
        let _ = (output, key);
        true
    }

    /// Called where the log has lost records that were not read, or is another log: drops all rows and positions, so that
    /// the topics are read again from their starts. False where rows are kept.
    fn forget(&mut self) -> bool {
        false
    }

    /// Writes rows and positions. After [`TargetError::Unavailable`] the same batch may be written again.
    fn write(&mut self, batch: &Batch) -> Result<(), TargetError>;

    /// Called about every second, whether or not there is something to write: is all that the positions claim still
    /// there? Only a target that can lose what it has while it is written to has to look.
    fn check(&mut self) -> Result<(), TargetError> {
        Ok(())
    }

    /// Whether it answers, at little cost: called before a batch is written again after several failures.
    fn probe(&mut self) -> Result<(), TargetError> {
        Ok(())
    }

    /// Whether several processes write to it: then each reads its share of the partitions. Otherwise each has a target
    /// of its own, and reads all of them.
    fn is_shared(&self) -> bool {
        true
    }

    /// Whether all of it may go at any time, and comes back from the topics: then it is filled again where it stands
    /// beyond a topic's end. Other targets are left alone.
    fn is_cache(&self) -> bool {
        false
    }

    /// Drops some of what is too old to be kept, at most a slice of each table.
    fn expire(&mut self, now_ms: i64) -> Result<Expired, TargetError> {
        let _ = now_ms;
        Ok(Expired::default())
    }
}

/// What a call of [`Target::expire`] has dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// How many rows of each table.
    pub rows: Vec<(&'static str, u64)>,
    /// There is more of it.
    pub more: bool,
}

/// What distinguishes the views that two writers of a target have of a partition: a position, and what is claimed there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Everything below is contained.
    pub next_offset: u64,
    /// [`Roots::revision`] of how far the input is contained.
    pub revision: i64,
}

impl StoredPosition {
    /// What has to be found there for a step from here.
    pub fn standing(&self) -> Standing {
        Standing { next_offset: self.next_offset, revision: self.roots.revision() }
    }
}

/// How far a topic partition is contained in a target.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPosition {
    /// A partition of an output topic.
    pub partition: TopicPartition,
    /// Everything below is contained.
    pub next_offset: u64,
    /// How far the input is contained.
    pub roots: Roots,
    /// The greatest version among what is contained.
    pub version: i64,
}

/// What can go wrong with a target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It cannot be written to now: try again.
    #[error("{0}")]
    Unavailable(String),
    /// It no longer has what its positions claimed, and claims it no more. Read the positions again.
    #[error("{0}")]
    Lost(String),
    /// It will never take this row as it is: a person must look at it.
    #[error("{row}: {cause}")]
    Refused {
        /// Its table and key.
        row: String,
        /// Why, and what to do.
        cause: String,
    },
    /// Its rows were read from another log. Nothing was written.
    #[error(
        "the database belongs to log {theirs}, and this is log {ours}: give each log a database of its own with \
         --database, or restore the log that it belongs to; if that one is gone for good, empty the database \
         (docs/operations.md, \"Log mismatch\")"
    )]
    Foreign {
        /// The log that they were read from.
        theirs: String,
        /// The writer's.
        ours: String,
    },
    /// Another writer has moved this position: another sink on the same target, or a reset. Nothing was written.
    /// Read the positions again.
    #[error("{partition}: another writer moved the position from {} to {}", shown(.expected), shown(.found))]
    Moved {
        /// Partition of the position.
        partition: TopicPartition,
        /// What the writer expected; None is no position.
        expected: Option<Standing>,
        /// The stored state.
        found: Option<Standing>,
    },
}

fn shown(standing: &Option<Standing>) -> String {
    match standing {
        Some(Standing { next_offset, revision }) => format!("{next_offset} (marks: revision {revision})"),
        None => "none".into(),
    }
}
