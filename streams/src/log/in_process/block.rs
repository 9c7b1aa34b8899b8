//! Blocks: what merging and compaction put in the place of a run of batches. The format is in [`batch`](super::batch).

use super::batch::{BLOCK_HEAD_BYTES, Format, Stored, checksum};
use super::varint::{self, VARINT_BYTES_MAX};

/// A block that is being written.
pub(super) struct BlockBuilder {
    base: u64,
    bytes: Vec<u8>,
    count: u32,
    /// Of the first record.
    time_ms: i64,
    newest_ms: i64,
    last_ms: i64,
    /// The offset after the last record.
    next: u64,
}

impl BlockBuilder {
    /// An empty block that covers offsets from `base` on.
    pub fn new(base: u64) -> Self {
        let (bytes, first_ms) = (vec![0; BLOCK_HEAD_BYTES], i64::MIN);
        Self { base, bytes, count: 0, time_ms: first_ms, newest_ms: first_ms, last_ms: first_ms, next: base }
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes so far, the head included.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that a record takes at most.
    pub fn record_bytes_max(record: &Stored<'_>) -> usize {
        let bytes = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        5 * VARINT_BYTES_MAX + bytes(record.key) + bytes(record.value) + record.headers.len()
    }

    /// Adds a record with a greater offset than those before. False if it cannot be in this block, since it is older than
    /// the record before (the log's time was set back), or too far from the first in time or from the last in offsets.
    pub fn push(&mut self, record: &Stored<'_>) -> bool {
        let (first_ms, last_ms) = match self.count {
            0 => (record.append_time_ms, record.append_time_ms),
            _ => (self.time_ms, self.last_ms),
        };
        let delta = |from: i64| u32::try_from(i128::from(record.append_time_ms) - i128::from(from)).ok();
        let gap = record.offset.checked_sub(self.next).and_then(|gap| u32::try_from(gap).ok());
        let reach = u32::try_from(record.offset - self.base);
        let (Some(time_delta), Some(_), Some(gap), Ok(_)) = (delta(last_ms), delta(first_ms), gap, reach) else {
            return false;
        };
        let mut lengths = [0; 5 * VARINT_BYTES_MAX];
        let mut at = varint::put(&mut lengths, gap);
        at += varint::put(&mut lengths[at..], time_delta);
        at += varint::put(&mut lengths[at..], record.key.map_or(0, |key| key.len() as u32 + 1));
        at += varint::put(&mut lengths[at..], record.value.map_or(0, |value| value.len() as u32 + 1));
        at += varint::put(&mut lengths[at..], record.headers.len() as u32);
        self.bytes.extend_from_slice(&lengths[..at]);
        self.bytes.extend_from_slice(record.key.unwrap_or_default());
        self.bytes.extend_from_slice(record.value.unwrap_or_default());
        self.bytes.extend_from_slice(record.headers);
        (self.time_ms, self.last_ms, self.next) = (first_ms, record.append_time_ms, record.offset + 1);
        self.newest_ms = self.newest_ms.max(record.append_time_ms);
        self.count += 1;
        true
    }

    /// The block as it is stored, and its key. It covers the offsets up to `end`, which is after its last record; where
    /// that is more than a head can say, the rest is a gap between blocks.
    pub fn seal(mut self, end: u64) -> (u64, Vec<u8>) {
        debug_assert!(self.count > 0 && end >= self.next);
        let span_ms = (self.newest_ms - self.time_ms) as u32;
        let reach = u32::try_from(end - self.base).unwrap_or(u32::MAX);
        self.bytes[4] = Format::Block as u8;
        self.bytes[5..9].copy_from_slice(&self.count.to_le_bytes());
        self.bytes[9..17].copy_from_slice(&self.time_ms.to_le_bytes());
        self.bytes[17..21].copy_from_slice(&span_ms.to_le_bytes());
        self.bytes[21..BLOCK_HEAD_BYTES].copy_from_slice(&reach.to_le_bytes());
        let crc = checksum(self.base, &self.bytes[4..]);
        self.bytes[..4].copy_from_slice(&crc.to_le_bytes());
        (self.base, self.bytes)
    }
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
