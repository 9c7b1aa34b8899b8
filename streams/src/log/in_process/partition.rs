//! The writer's state of one partition.

use super::batch::{self, Head};
use super::keys::{self, Blocks, Start};
use super::registry::Topic;
use super::storage::{PartitionId, Storage, frames};
use super::view::Bounds;
use crate::log::{Cleanup, LogError};

/// A partition as the writer sees it: ahead of the published state by at most the current commit.
pub(super) struct PartitionState {
    /// The oldest offset kept.
    pub start: u64,
    /// The next record's offset.
    pub next: u64,
    /// No record to come is older, ms since 1970.
    pub time_ms: i64,
    /// Age after which batches may be removed.
    pub retention_ms: Option<i64>,
    /// Bytes beyond which the oldest batches may be removed.
    pub retention_bytes: Option<u64>,
    /// The oldest stored batch, where that is known.
    pub oldest: Option<(u64, Head)>,
    /// There may be batches below the start that are still to be removed.
    pub debt: bool,
    /// Whether compaction removes records that were replaced.
    pub is_compacted: bool,
    /// How far merging and compaction have come.
    pub blocks: Blocks,
    /// Bytes appended since this process opened the log, and not merged.
    pub recent_bytes: u64,
    /// At how many of them merging looks again.
    pub merge_at_bytes: u64,
    /// No compaction before this time of the log, ms.
    pub compact_at_ms: i64,
    /// There is damage: nothing is merged or compacted.
    pub is_unreadable: bool,
}

impl Default for PartitionState {
    /// An empty partition.
    fn default() -> Self {
        Self {
            start: 0,
            next: 0,
            time_ms: i64::MIN,
            retention_ms: None,
            retention_bytes: None,
            oldest: None,
            debt: false,
            is_compacted: false,
            blocks: Blocks::default(),
            recent_bytes: 0,
            merge_at_bytes: 0,
            compact_at_ms: i64::MIN,
            is_unreadable: false,
        }
    }
}

impl PartitionState {
    /// Loads the stored state. The last batch is read and checked: the next offset follows from it.
    pub fn recover(storage: &dyn Storage, id: PartitionId, topic: &Topic) -> Result<Self, LogError> {
        let mut state = Self::default();
        state.follow(topic);
        let key = keys::start(id);
        if let Some(value) = storage.get(&key)? {
            let start = Start::decode(&key, &value)?;
            (state.start, state.next, state.time_ms) = (start.offset, start.offset, start.time_ms);
        }
        let key = keys::blocks(id);
        if let Some(value) = storage.get(&key)? {
            state.blocks = Blocks::decode(&key, &value)?;
        }
        if let Some((first, last)) = storage.bounds(id)? {
            let head = last_head(storage, id, last).map_err(|detail| match detail {
                Ok(detail) => LogError::Corrupt {
                    address: format!("{}/{} offset {last}", topic.name, id - topic.first),
                    detail: detail.to_owned(),
                },
                Err(error) => error,
            })?;
            state.next = state.next.max(head.end(last));
            state.time_ms = state.time_ms.max(head.newest_ms());
            state.debt = first < state.start;
        }
        Ok(state)
    }

    /// Takes over what the topic says about its records.
    pub fn follow(&mut self, topic: &Topic) {
        (self.retention_ms, self.retention_bytes) = (topic.retention_ms(), topic.partition_bytes());
        self.is_compacted = topic.cleanup != Cleanup::Delete;
    }

    /// Blocks replace the batches from there on.
    pub fn was_rewritten(&mut self, from: u64) {
        self.oldest = self.oldest.filter(|(base, _)| *base < from);
    }

    /// The bounds for readers.
    pub fn bounds(&self) -> Bounds {
        Bounds { start: self.start, end: self.next }
    }

    /// Its start as it is to be stored.
    pub fn stored_start(&self, offset: u64) -> Start {
        Start { offset, time_ms: self.time_ms }
    }
}

/// `Err(Ok(_))` is damage, `Err(Err(_))` anything else.
fn last_head(storage: &dyn Storage, id: PartitionId, base: u64) -> Result<Head, Result<&'static str, LogError>> {
    let mut buffer = Vec::new();
    storage.read(id, base, 1, &mut buffer).map_err(Err)?;
    let (found, value) = frames(&buffer).next().ok_or(Ok("the last batch vanished"))?;
    batch::check(found, value).map_err(Ok)
}
