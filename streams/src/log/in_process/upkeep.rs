//! Upkeep: what keeps a log small. Retention removes what is too old, merging joins small batches, compaction removes
//! what was replaced. All of it runs on the writer's thread, in slices, when no request waits.

use std::time::Duration;

use super::compaction::Pass;
use super::keys::Blocks;
use super::rewriting::Unreadable;
use super::storage::PartitionId;
use super::writer::Writer;
use crate::log::LogError;

/// How merging and compaction go about it. Times are those of the log: nothing settles or ages while nothing is
/// appended.
#[derive(Clone, Debug)]
pub struct UpkeepOptions {
    /// How often a thread looks for what is due.
    pub every: Duration,
    /// Batches younger than this are not merged, ms: most of their readers are still to come, and what lives shorter
    /// is not worth it.
    pub settle_ms: i64,
    /// Blocks that merging makes are at most this long before they are packed, unless they hold a single record.
    pub block_bytes: usize,
    /// What follows the last full block is merged if it would make a block of at least this length.
    pub tail_bytes_min: usize,
    /// Bytes of batches that one commit rewrites, about, unpacked.
    pub slice_bytes: usize,
    /// Compaction removes nothing younger than this, ms. Readers that are not further behind have missed nothing.
    pub margin_ms: i64,
    /// How long compaction keeps tombstones, ms.
    pub tombstones_ms: i64,
    /// A pass begins where at least this much was added to a partition since the last one, packed, and half of what that
    /// left. 0: where anything was added.
    pub dirty_bytes_min: u64,
    /// Between two passes over a partition, ms.
    pub interval_ms: i64,
    /// Keys that a pass remembers, about 50 bytes each; where there are more, several passes clean a partition.
    pub keys_max: usize,
}

impl Default for UpkeepOptions {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(1),
            settle_ms: 10_000,
            block_bytes: BLOCK_BYTES,
            tail_bytes_min: BLOCK_BYTES / 4 * 3,
            slice_bytes: 512 << 10,
            margin_ms: 180_000,
            tombstones_ms: 86_400_000,
            dirty_bytes_min: 64 << 10,
            interval_ms: 30_000,
            keys_max: 1 << 20,
        }
    }
}

impl UpkeepOptions {
    /// Everything that may be merged or compacted at all.
    pub fn thorough() -> Self {
        Self { settle_ms: 0, tail_bytes_min: 0, dirty_bytes_min: 0, interval_ms: i64::MAX, ..Self::default() }
    }
}

/// Smaller blocks waste what the last of their pages has left once they are packed, and larger ones make it dearer to read a
/// record (docs/operations.md has the figures). One that is not packed fills 16 pages of LMDB less the header of the first.
const BLOCK_BYTES: usize = 16 * 4096 - 16;

/// The state of merging and compaction.
#[derive(Default)]
pub(super) struct Upkeep {
    pub options: UpkeepOptions,
    /// The partition that merging looks at first.
    pub turn: PartitionId,
    pub pass: Option<Pass>,
}

impl Upkeep {
    /// The numbers of `partitions`, beginning with the one whose turn it is.
    pub fn in_turn(&self, partitions: usize) -> impl Iterator<Item = PartitionId> + use<> {
        let (turn, all) = (self.turn, partitions as PartitionId);
        (turn..all).chain(0..turn.min(all))
    }
}

impl Writer {
    /// A slice of what is due. True where there is more.
    pub(super) fn upkeep(&mut self) -> Result<bool, LogError> {
        self.view.storage.forget_readers()?;
        if self.sweep()? {
            return Ok(true);
        }
        // The log's time: a wall clock that is wrong makes nothing old.
        let now_ms = self.time_ms.min((self.clock)());
        // Neither waits until the other has nothing left, or has room.
        let merges = match self.merge(now_ms) {
            Err(LogError::Full(_)) => false,
            done => done?,
        };
        Ok(self.compact(now_ms)? || merges)
    }

    /// Everything that can be merged, then everything that can be compacted. All of it is looked at again, since an older
    /// release has not packed what it merged.
    pub(super) fn rewrite_all(&mut self) -> Result<(), LogError> {
        self.partitions.iter_mut().for_each(|state| state.blocks = Blocks::default());
        while self.merge(self.time_ms)? {}
        while self.compact(self.time_ms)? {}
        Ok(())
    }

    /// A partition has damage: it stays as it is from now on, and its readers report it.
    pub(super) fn leave(&mut self, id: PartitionId, Unreadable(at): Unreadable) {
        self.partitions[id as usize].is_unreadable = true;
        let registry = self.view.registry();
        let topic = registry.topics().find(|topic| (topic.first..topic.first + topic.partitions).contains(&id));
        if let Some(topic) = topic {
            let (topic, partition) = (&topic.name, id - topic.first);
            tracing::error!("{topic}/{partition} offset {at} is damaged: the partition is not merged or compacted");
        }
    }
}
