//! Deletion of records: those below a requested start, and batches older, or more, than their topic keeps.
//!
//! The start of a partition rises first, durably and in what readers see; the batches below it go in slices.

use super::batch::Head;
use super::keys;
use super::storage::{Op, PartitionId};
use super::writer::{SLICE_BATCHES, Writer};
use crate::log::LogError;

/// Batch heads that are checked at once.
const STEP_BATCHES: usize = 64;

/// Of a partition that takes too much this many bytes are removed at a time.
const STEP_BYTES: u64 = 64 << 20;

/// The batches that can be removed from the front of a partition.
struct Slice {
    id: PartitionId,
    /// The partition's new start.
    start: u64,
    /// Batches that begin below go.
    before: u64,
    /// How many those are.
    count: usize,
    /// The oldest batch that stays, if there is one and it is known.
    oldest: Option<(u64, Head)>,
    /// The slice ended because it was long enough.
    more: bool,
}

impl Writer {
    /// Raises a partition's start and removes the first slice of what lies below.
    pub(super) fn delete_records(&mut self, id: PartitionId, before: u64) -> Result<(), LogError> {
        let state = &self.partitions[id as usize];
        let start = before.min(state.next);
        if start <= state.start {
            return Ok(());
        }
        loop {
            let slice = self.slice(id, start, i64::MIN, self.slice_batches)?;
            match self.remove(vec![slice]) {
                Err(LogError::Full(_)) if self.slice_batches > 1 => self.slice_batches = self.slice_batches.div_ceil(8),
                done => return done,
            }
        }
    }

    /// Removes a slice of the expired batches. Returns whether there are more.
    pub(super) fn sweep(&mut self) -> Result<bool, LogError> {
        let now = (self.clock)();
        let mut left = self.slice_batches;
        let mut slices = Vec::new();
        let mut more = false;
        for (id, state) in (0..).zip(&self.partitions) {
            let expired_ms = state.retention_ms.map_or(i64::MIN, |kept| now.saturating_sub(kept));
            let young = state.oldest.is_some_and(|(_, head)| head.newest_ms() >= expired_ms);
            let settled = state.retention_ms.is_none() || state.start == state.next || young;
            let start = match state.retention_bytes {
                Some(bytes) => self.start_within(id, bytes)?,
                None => state.start,
            };
            if settled && !state.debt && start == state.start {
                continue;
            }
            if left == 0 {
                more = true;
                break;
            }
            let slice = self.slice(id, start, expired_ms, left)?;
            left -= slice.count;
            more |= slice.more;
            slices.push(slice);
        }
        match self.remove(slices) {
            Err(LogError::Full(_)) if self.slice_batches > 1 => {
                self.slice_batches = self.slice_batches.div_ceil(8);
                Ok(true)
            }
            done => done.map(|()| more),
        }
    }

    /// Where a partition has to begin so that it takes no more than `bytes_max`: between batches, and before the last one.
    fn start_within(&self, id: PartitionId, bytes_max: u64) -> Result<u64, LogError> {
        let state = &self.partitions[id as usize];
        let mut excess = self.view.storage.stored_bytes(id)?.saturating_sub(bytes_max).min(STEP_BYTES);
        let mut start = state.start;
        if excess > 0 {
            self.view.storage.scan(id, state.start, &mut |base, value| {
                let end = Head::decode(value).map_or(base, |head| head.end(base));
                if excess == 0 || end >= state.next {
                    return false;
                }
                excess = excess.saturating_sub(value.len() as u64);
                start = start.max(end);
                true
            })?;
        }
        Ok(start)
    }

    /// Finds the batches that end at or below `start` or whose newest append time is before `expired_ms`.
    fn slice(&self, id: PartitionId, start: u64, expired_ms: i64, count_max: usize) -> Result<Slice, LogError> {
        let mut slice = Slice { id, start, before: 0, count: 0, oldest: None, more: false };
        let mut heads = Vec::with_capacity(STEP_BATCHES);
        while !slice.more {
            heads.clear();
            self.view.storage.heads(id, slice.before, STEP_BATCHES, &mut heads)?;
            for (base, head) in &heads {
                let end = head.end(*base);
                if end > slice.start && head.newest_ms() >= expired_ms {
                    slice.oldest = Some((*base, *head));
                    return Ok(slice);
                }
                slice.before = end;
                slice.start = slice.start.max(end);
                slice.count += 1;
            }
            if heads.is_empty() {
                return Ok(slice);
            }
            slice.more = slice.count >= count_max;
        }
        Ok(slice)
    }

    fn remove(&mut self, slices: Vec<Slice>) -> Result<(), LogError> {
        let mut ops = Vec::new();
        for slice in &slices {
            let state = &self.partitions[slice.id as usize];
            if slice.start > state.start {
                let key = keys::start(slice.id);
                let value = state.stored_start(slice.start).encode(&key);
                ops.push(Op::Put { key, value });
            }
            if slice.before > 0 {
                ops.push(Op::Trim { partition: slice.id, before: slice.before });
            }
        }
        if !ops.is_empty() {
            self.publish_starts(slices.iter().map(|slice| (slice.id, slice.start)));
            let done = self.view.storage.commit(&ops);
            if done.is_ok() {
                self.slice_batches = (self.slice_batches * 2).min(SLICE_BATCHES);
            } else {
                self.publish_starts(slices.iter().map(|s| (s.id, self.partitions[s.id as usize].start)));
                return done;
            }
        }
        for Slice { id, start, oldest, more, .. } in slices {
            let state = &mut self.partitions[id as usize];
            (state.start, state.oldest, state.debt) = (start, oldest, more);
        }
        Ok(())
    }

    fn publish_starts(&self, starts: impl Iterator<Item = (PartitionId, u64)>) {
        let mut published = self.view.published_mut();
        for (id, start) in starts {
            published.raise_start(id, start);
        }
    }
}
