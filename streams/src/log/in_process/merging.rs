//! Merging: small batches that the commits to a partition left behind each other become large blocks.
//!
//! Each commit stores a batch per partition, and small ones waste the space of pages and of their heads. The batches of a
//! partition are merged once, in order, when enough of them have settled to fill a block. The last batch is never
//! touched: a start takes the next offset and the log's time from it.

use super::batch::Head;
use super::keys::Blocks;
use super::partition::PartitionState;
use super::rewriting::{Readable, Rewrite, Run, Unreadable};
use super::storage::PartitionId;
use super::writer::Writer;
use crate::log::LogError;

/// What merging a slice of a partition comes to.
struct Merged {
    id: PartitionId,
    rewrites: Vec<Rewrite>,
    /// Everything below is merged.
    below: u64,
    /// Bytes of the batches that were read, unpacked.
    read_bytes: usize,
    /// Bytes of the batches that are merged now; those that were large enough stay as they are.
    merged_bytes: u64,
    /// Bytes that are stored for them.
    stored_bytes: u64,
    /// The slice ended because it was long enough.
    more: bool,
    unreadable: Option<Unreadable>,
}

impl Writer {
    /// Merges a slice of what has settled. True where there is more.
    pub(super) fn merge(&mut self, now_ms: i64) -> Result<bool, LogError> {
        let settled_ms = now_ms.saturating_sub(self.upkeep.options.settle_ms);
        let mut left = self.upkeep.options.slice_bytes;
        let mut slices = Vec::new();
        let mut more = false;
        for id in self.upkeep.in_turn(self.partitions.len()) {
            let state = &self.partitions[id as usize];
            if state.is_unreadable || state.recent_bytes < state.merge_at_bytes {
                continue;
            }
            if left == 0 {
                (self.upkeep.turn, more) = (id, true);
                break;
            }
            // What is left may be too little for a block.
            let slice_bytes = left.max(2 * self.upkeep.options.block_bytes);
            let merged = self.merge_partition(id, settled_ms, slice_bytes)?;
            left = left.saturating_sub(merged.read_bytes);
            more |= merged.more;
            slices.push(merged);
        }
        self.store_merged(slices)?;
        Ok(more)
    }

    fn merge_partition(&self, id: PartitionId, settled_ms: i64, slice_bytes: usize) -> Result<Merged, LogError> {
        let (state, options) = (&self.partitions[id as usize], &self.upkeep.options);
        let mut merged = Merged::new(id, state.blocks.merged);
        let mut run: Option<Run> = None;
        self.view.storage.scan(id, state.blocks.merged.max(state.start), &mut |base, value| {
            let is_young = |head: Head| head.end(base) >= state.next || head.newest_ms() >= settled_ms;
            if Head::decode(value).is_some_and(is_young) {
                return false;
            }
            merged.more = merged.read_bytes >= slice_bytes;
            if merged.more {
                return false;
            }
            let mut add = || -> Result<(), Unreadable> {
                let batch = Readable::new(base, value)?;
                if let Some(full) = run.take_if(|run| run.len_bytes() + batch.value.len() > options.block_bytes) {
                    merged.take(full);
                }
                let run = run.get_or_insert_with(|| Run::new(base, options.block_bytes));
                merged.read_bytes += batch.value.len();
                // Records that were deleted go with it.
                run.add(&batch, |record| record.offset >= state.start)
            };
            merged.unreadable = add().err();
            merged.unreadable.is_none()
        })?;
        // A slice that consists of one run makes progress in any case.
        let is_stuck = merged.more && merged.below == state.blocks.merged;
        if let Some(run) = run.filter(|run| is_stuck || run.is_long(options.tail_bytes_min)) {
            merged.take(run);
        }
        Ok(merged)
    }

    fn store_merged(&mut self, slices: Vec<Merged>) -> Result<(), LogError> {
        let mut ops = Vec::new();
        for merged in &slices {
            ops.extend(merged.rewrites.iter().map(|rewrite| rewrite.op(merged.id)));
            let (old, new) = (self.partitions[merged.id as usize].blocks, merged.blocks(&self.partitions));
            if new != old {
                ops.push(new.put(merged.id));
            }
        }
        if !ops.is_empty() {
            self.view.storage.commit(&ops)?;
        }
        for merged in slices {
            if let Some(unreadable) = merged.unreadable {
                self.leave(merged.id, unreadable);
            }
            let blocks = merged.blocks(&self.partitions);
            let state = &mut self.partitions[merged.id as usize];
            state.blocks = blocks;
            merged.rewrites.iter().for_each(|rewrite| state.was_rewritten(rewrite.from));
            state.recent_bytes = state.recent_bytes.saturating_sub(merged.merged_bytes);
            if !merged.more {
                // It makes no sense to look again before there is more.
                let block_bytes = self.upkeep.options.block_bytes as u64;
                state.merge_at_bytes = block_bytes.max(state.recent_bytes + block_bytes / 8);
            }
        }
        Ok(())
    }
}

impl Merged {
    fn new(id: PartitionId, below: u64) -> Self {
        let (rewrites, unreadable) = (Vec::new(), None);
        Self { id, rewrites, below, read_bytes: 0, merged_bytes: 0, stored_bytes: 0, more: false, unreadable }
    }

    fn take(&mut self, run: Run) {
        let read_bytes = run.read_bytes();
        self.below = run.end();
        self.merged_bytes += read_bytes;
        match run.finish() {
            Some(rewrite) => {
                self.stored_bytes += rewrite.bytes();
                self.rewrites.push(rewrite);
            }
            None => self.stored_bytes += read_bytes,
        }
    }

    fn blocks(&self, partitions: &[PartitionState]) -> Blocks {
        let state = &partitions[self.id as usize];
        let added = if state.is_compacted { self.stored_bytes } else { 0 };
        Blocks { merged: self.below, dirty_bytes: state.blocks.dirty_bytes + added, ..state.blocks }
    }
}
