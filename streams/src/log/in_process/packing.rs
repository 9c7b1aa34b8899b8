//! Packing: blocks are stored compressed where that saves enough. The format is in [`batch`](super::batch).
//!
//! Only merging and compaction pack. What a commit stores stays as it is, so that nothing waits for the compression.

use std::borrow::Cow;

use super::batch::{BLOCK_HEAD_BYTES, Format, Head, RECORD_BYTES_MAX, check, checksum};

/// Where the compressed records of a packed block begin.
const PACKED_HEAD_BYTES: usize = BLOCK_HEAD_BYTES + 4;

/// Of zstd, which makes events 5 times smaller. lz4 makes them 3.5 times smaller; zlib, and zstd at level 6, are as small or a
/// tenth smaller, and take 4 to 10 times as long.
const LEVEL: i32 = 1;

/// The most bytes that the records of a block take: a single record and its lengths, or less.
const UNPACKED_BYTES_MAX: usize = RECORD_BYTES_MAX + 4_096;

/// A sealed block as it is stored: packed if that saves at least an eighth, or else as it is.
pub(super) fn pack(base: u64, block: Vec<u8>) -> Vec<u8> {
    let (head, records) = block.split_at(BLOCK_HEAD_BYTES);
    let Ok(compressed) = zstd::bulk::compress(records, LEVEL) else { return block };
    if PACKED_HEAD_BYTES + compressed.len() > block.len() / 8 * 7 {
        return block;
    }
    let mut packed = Vec::with_capacity(PACKED_HEAD_BYTES + compressed.len());
    packed.extend_from_slice(head);
    packed[4] = Format::Packed as u8;
    packed.extend_from_slice(&(records.len() as u32).to_le_bytes());
    packed.extend_from_slice(&compressed);
    let crc = checksum(base, &packed[4..]);
    packed[..4].copy_from_slice(&crc.to_le_bytes());
    packed
}

/// Bytes that a stored value takes once it is unpacked, by its unchecked head.
pub(super) fn unpacked_len(value: &[u8]) -> usize {
    records_len(value).map_or(value.len(), |len| BLOCK_HEAD_BYTES + len)
}

/// The length of the records in a packed block; None of anything else.
fn records_len(value: &[u8]) -> Option<usize> {
    let is_packed = *value.get(4)? == Format::Packed as u8;
    let len = value.get(BLOCK_HEAD_BYTES..)?.first_chunk::<4>()?;
    is_packed.then(|| (u32::from_le_bytes(*len) as usize).min(UNPACKED_BYTES_MAX))
}

/// Checks a stored value, and unpacks it. What it returns is not packed; its checksum means nothing any more. `Err` names
/// the mistake.
pub(super) fn unpacked(base: u64, value: &[u8]) -> Result<(Head, Cow<'_, [u8]>), &'static str> {
    let head = check(base, value)?;
    if head.format != Format::Packed {
        return Ok((head, Cow::Borrowed(value)));
    }
    let block = records_len(value).and_then(|len| {
        let mut block = vec![0; BLOCK_HEAD_BYTES + len];
        let (head, records) = block.split_at_mut(BLOCK_HEAD_BYTES);
        head.copy_from_slice(&value[..BLOCK_HEAD_BYTES]);
        head[4] = Format::Block as u8;
        let unpacked = zstd::bulk::decompress_to_buffer(&value[PACKED_HEAD_BYTES..], records).ok()?;
        (unpacked == len).then_some(block)
    });
    let block = block.ok_or("a block cannot be unpacked although the checksum matches")?;
    Ok((Head { format: Format::Block, ..head }, Cow::Owned(block)))
}

#[cfg(test)]
#[path = "packing_tests.rs"]
mod tests;
