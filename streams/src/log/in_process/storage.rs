//! The storage behind the shared writer.
//!
//! One thread at a time calls `commit`; any thread calls the rest.

use super::batch::Head;
use super::packing::unpacked_len;
use crate::log::{LogError, Space};

/// A partition's number within the log, counted over all topics in the order of their creation.
pub(super) type PartitionId = u32;

/// One change. A commit applies many of them or none.
pub(super) enum Op<'a> {
    /// A new partition; numbers are assigned in order, without gaps.
    Create(PartitionId),
    /// Adds a stored value behind all others of its partition.
    Append {
        /// Which partition.
        partition: PartitionId,
        /// The first record's offset; greater than all before.
        base: u64,
        /// A sealed batch.
        value: &'a [u8],
    },
    /// Removes the batches that begin below `before`.
    Trim {
        /// Which partition.
        partition: PartitionId,
        /// An offset.
        before: u64,
    },
    /// Removes the batches that begin in a range of offsets, and puts blocks in their place.
    Replace {
        /// Which partition.
        partition: PartitionId,
        /// Where the first batch begins.
        from: u64,
        /// The offset after the last one.
        to: u64,
        /// Base offsets in the range, ascending, and sealed blocks.
        blocks: &'a [(u64, Vec<u8>)],
    },
    /// Sets a key of the log itself (not of a partition).
    Put {
        /// At most [`KEY_BYTES_MAX`].
        key: Vec<u8>,
        /// Any bytes.
        value: Vec<u8>,
    },
}

/// The longest key that every storage takes.
pub(super) const KEY_BYTES_MAX: usize = 500;

/// Whether it is durable is up to the storage.
pub(super) trait Storage: Send + Sync {
    /// Applies all of `ops` or none; for durable storage, they are durable when it returns.
    fn commit(&self, ops: &[Op<'_>]) -> Result<(), LogError>;
    /// Calls `each` with the batch that holds `from`, or else the next one, and those after it until it returns false.
    fn scan(&self, partition: PartitionId, from: u64, each: &mut dyn FnMut(u64, &[u8]) -> bool)
    -> Result<(), LogError>;
    /// Appends whole batches to `out` as frames ([`frames`]): the first that [`Storage::scan`] finds, then as many as fit
    /// `bytes_max` altogether once they are unpacked.
    fn read(&self, partition: PartitionId, from: u64, bytes_max: usize, out: &mut Vec<u8>) -> Result<(), LogError> {
        let mut taken = 0;
        self.scan(partition, from, &mut |base, value| {
            let is_first = taken == 0;
            taken += FRAME_BYTES + unpacked_len(value);
            let fits = is_first || taken <= bytes_max;
            if fits {
                push_frame(out, base, value);
            }
            fits
        })
    }
    /// Appends the base offsets and (unchecked) heads of at most `count_max` batches that [`Storage::scan`] finds.
    fn heads(
        &self,
        partition: PartitionId,
        from: u64,
        count_max: usize,
        out: &mut Vec<(u64, Head)>,
    ) -> Result<(), LogError> {
        let full = out.len() + count_max;
        self.scan(partition, from, &mut |base, value| {
            out.extend(Head::decode(value).map(|head| (base, head)));
            out.len() < full
        })
    }
    /// The base offsets of the first and the last batch; None without any.
    fn bounds(&self, partition: PartitionId) -> Result<Option<(u64, u64)>, LogError>;
    /// Bytes that a partition takes, with what is wasted around its batches.
    fn stored_bytes(&self, partition: PartitionId) -> Result<u64, LogError>;
    /// The space that the log takes on a disk. None for a log that is not on a disk.
    fn space(&self) -> Result<Option<Space>, LogError> {
        Ok(None)
    }
    /// Releases what readers of other processes had held when these ended.
    fn forget_readers(&self) -> Result<(), LogError> {
        Ok(())
    }
    /// What `Op::Put` set.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LogError>;
}

/// Whether a batch reaches `from`. One whose head cannot be read does, so that its damage is noticed.
pub(super) fn reaches(base: u64, value: &[u8], from: u64) -> bool {
    Head::decode(value).is_none_or(|head| head.end(base) > from)
}

const FRAME_BYTES: usize = 12;

/// Appends a frame: base offset, length, value.
pub(super) fn push_frame(out: &mut Vec<u8>, base: u64, value: &[u8]) {
    out.reserve(FRAME_BYTES + value.len());
    out.extend_from_slice(&base.to_le_bytes());
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.extend_from_slice(value);
}

/// Takes the frames in `bytes` apart: base offset and value.
pub(super) fn frames(bytes: &[u8]) -> Frames<'_> {
    Frames(bytes)
}

/// See [`frames`].
#[derive(Clone)]
pub(super) struct Frames<'a>(&'a [u8]);

impl<'a> Iterator for Frames<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (base, rest) = self.0.split_first_chunk::<8>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        self.0 = rest;
        Some((u64::from_le_bytes(*base), value))
    }
}

/// Bytes that a frame with this value takes.
pub(super) fn frame_len(value: &[u8]) -> usize {
    FRAME_BYTES + value.len()
}
