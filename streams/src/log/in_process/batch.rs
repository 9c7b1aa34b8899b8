//! One stored value: records of one partition that were committed together.
//!
//! ```text
//! crc      u32   CRC32C of the base offset (u64) and of everything after this field
//! format   u8    1
//! count    u32   records, at least 1
//! time     i64   append time of the first record, ms since 1970
//! span     u32   newest append time - time, ms
//! records  count times:
//!     time delta, key length + 1, value length + 1, header length   varints; 0 is "none" for key and value
//!     key, value, headers                                           headers as in `Headers`
//! ```
//! Integers are little-endian, varints unsigned LEB128. Record i has the offset base + i; the base is the value's key.
//! The base is part of the checksum, so that a value found under another's key is noticed.
//!
//! That is format 1, the form in which a commit stores records. Format 2 is a **block**: what merging and compaction
//! made of a run of batches ([`block`](super::block)). It covers the offsets from base to base + reach, and may lack some of
//! them.
//!
//! ```text
//! crc, format = 2, count    as above
//! time     i64   append time of the first record
//! span     u32   newest append time of everything that the block covers - time, ms
//! reach    u32   offsets covered, at least count
//! records  count times:
//!     offset delta    varint: how many offsets before this one have no record, since the record before or the base
//!     time delta      varint: append time - that of the record before, ms; the first record's is 0
//!     key length + 1, value length + 1, header length, key, value, headers    as above
//! ```
//!
//! Format 3 is a **packed block**: the same with compressed records ([`packing`](super::packing)).
//!
//! ```text
//! crc, format = 3, count, time, span, reach    as in format 2; the checksum is that of the compressed bytes
//! length   u32   bytes of the records, unpacked
//! records  those of format 2, as a zstd frame
//! ```

use super::varint::{self, VARINT_BYTES_MAX};
use crate::log::{Headers, LogError, Record};

/// Where the records of a batch begin.
const HEAD_BYTES: usize = 21;

/// Where the records of a block begin.
pub(super) const BLOCK_HEAD_BYTES: usize = HEAD_BYTES + 4;

/// A value is cut when it would grow beyond this; a single record may be larger. 64 pages of LMDB less their header.
pub(super) const BATCH_BYTES_MAX: usize = 64 * 4096 - 16;

/// The largest record: key, value and headers together.
pub(super) const RECORD_BYTES_MAX: usize = 64 << 20;

/// How records are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// As a commit stored them: without gaps.
    Batch = 1,
    /// As merging or compaction left them.
    Block = 2,
    /// A compressed block.
    Packed = 3,
}

/// The header of a batch or block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// How its records are stored.
    pub format: Format,
    /// Records in it.
    pub count: u32,
    /// Offsets that it covers.
    pub reach: u32,
    /// Append time of the first record, ms since 1970.
    pub time_ms: i64,
    /// How much newer the newest record is, ms. Of a block: the newest that there was in what it covers.
    pub span_ms: u32,
}

impl Head {
    /// Reads a head without checking the batch. None where the bytes cannot be one.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let (count, rest) = value.get(5..)?.split_first_chunk::<4>()?;
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let (span, rest) = rest.split_first_chunk::<4>()?;
        let count = u32::from_le_bytes(*count);
        let (format, reach) = match value[4] {
            1 => (Format::Batch, count),
            2 => (Format::Block, u32::from_le_bytes(*rest.first_chunk::<4>()?)),
            3 => (Format::Packed, u32::from_le_bytes(*rest.first_chunk::<4>()?)),
            _ => return None,
        };
        let (time_ms, span_ms) = (i64::from_le_bytes(*time), u32::from_le_bytes(*span));
        (count > 0 && reach >= count).then_some(Self { format, count, reach, time_ms, span_ms })
    }

    /// The offset after everything that is covered.
    pub fn end(&self, base: u64) -> u64 {
        base.saturating_add(u64::from(self.reach))
    }

    /// The newest append time in the batch, ms since 1970.
    pub fn newest_ms(&self) -> i64 {
        self.time_ms.saturating_add(i64::from(self.span_ms))
    }
}

/// Checks a stored value against its checksum. `Err` names the mistake.
pub(super) fn check(base: u64, value: &[u8]) -> Result<Head, &'static str> {
    let Some((crc, body)) = value.split_first_chunk::<4>() else {
        return Err("a batch is shorter than its head");
    };
    if checksum(base, body) != u32::from_le_bytes(*crc) {
        return Err("the checksum of a batch does not match");
    }
    Head::decode(value).ok_or("a batch is of a format that this version does not know")
}

/// The checksum of a value's bytes after the checksum.
pub(super) fn checksum(base: u64, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&base.to_le_bytes()), body)
}

/// Rejects a record that is too large for any batch.
pub(super) fn check_size(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[u8]) -> Result<(), LogError> {
    let bytes = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + headers.len();
    if bytes > RECORD_BYTES_MAX {
        return Err(LogError::Fatal(format!("a record of {bytes} bytes; at most {RECORD_BYTES_MAX} are taken")));
    }
    Ok(())
}

/// A batch that is being written. Its head is filled in last, in place.
pub(super) struct BatchBuilder {
    bytes: Vec<u8>,
    count: u32,
    span_ms: u32,
}

impl BatchBuilder {
    /// An empty batch with room for `capacity` bytes of records.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + capacity);
        bytes.resize(HEAD_BYTES, 0);
        Self { bytes, count: 0, span_ms: 0 }
    }

    /// Records so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes so far, the head included.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a record whose append time is `time_delta_ms` after the batch's. Key, value and headers together stay
    /// below [`RECORD_BYTES_MAX`].
    #[inline]
    pub fn push(&mut self, time_delta_ms: u32, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[u8]) {
        let mut lengths = [0; 4 * VARINT_BYTES_MAX];
        let mut at = varint::put(&mut lengths, time_delta_ms);
        at += varint::put(&mut lengths[at..], key.map_or(0, |k| k.len() as u32 + 1));
        at += varint::put(&mut lengths[at..], value.map_or(0, |v| v.len() as u32 + 1));
        at += varint::put(&mut lengths[at..], headers.len() as u32);
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        let more = at + key.len() + value.len() + headers.len();
        if self.bytes.capacity() - self.bytes.len() < more {
            // Exact for the first record, since many batches stay that small; then in large steps.
            let step = if self.count == 0 { 0 } else { 3 * self.bytes.len() };
            self.bytes.reserve_exact(more.max(step));
        }
        self.bytes.extend_from_slice(&lengths[..at]);
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(headers);
        self.count += 1;
        self.span_ms = self.span_ms.max(time_delta_ms);
    }

    /// What is stored, once sealed.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Puts the records of `other` behind its own.
    fn extend(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes[HEAD_BYTES..]);
        self.count += other.count;
        self.span_ms = self.span_ms.max(other.span_ms);
    }

    /// Fills in the head. From here on the batch is a stored value for the key `base`.
    pub fn seal(&mut self, base: u64, time_ms: i64) {
        debug_assert!(self.count > 0);
        self.bytes[4] = Format::Batch as u8;
        self.bytes[5..9].copy_from_slice(&self.count.to_le_bytes());
        self.bytes[9..17].copy_from_slice(&time_ms.to_le_bytes());
        self.bytes[17..HEAD_BYTES].copy_from_slice(&self.span_ms.to_le_bytes());
        let crc = checksum(base, &self.bytes[4..]);
        self.bytes[..4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Records for one partition, cut into batches of limited size.
#[derive(Default)]
pub(super) struct Batches {
    list: Vec<BatchBuilder>,
}

impl Batches {
    /// Adds a record; its append time will be the commit's.
    #[inline]
    pub fn push(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[u8]) {
        let bytes = 4 * VARINT_BYTES_MAX + key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + headers.len();
        match self.list.last_mut() {
            Some(last) if last.len_bytes() + bytes <= BATCH_BYTES_MAX => last.push(0, key, value, headers),
            _ => {
                let mut batch = BatchBuilder::with_capacity(bytes);
                batch.push(0, key, value, headers);
                self.list.push(batch);
            }
        }
    }

    /// Puts the records of `other` behind its own.
    pub fn append(&mut self, other: Self) {
        for batch in other.list {
            match self.list.last_mut() {
                Some(last) if last.len_bytes() + batch.len_bytes() <= BATCH_BYTES_MAX => last.extend(&batch),
                _ => self.list.push(batch),
            }
        }
    }

    /// Records in all batches.
    pub fn count(&self) -> u64 {
        self.list.iter().map(|batch| u64::from(batch.count())).sum()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The batches in order.
    pub fn iter(&self) -> impl Iterator<Item = &BatchBuilder> {
        self.list.iter()
    }

    /// The batches, to be sealed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut BatchBuilder> {
        self.list.iter_mut()
    }
}

/// A record as it is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stored<'a> {
    /// Its place in the partition.
    pub offset: u64,
    /// When the log took it, ms since 1970.
    pub append_time_ms: i64,
    /// None and empty differ.
    pub key: Option<&'a [u8]>,
    /// None and empty differ.
    pub value: Option<&'a [u8]>,
    /// Encoded, as in [`Headers`].
    pub headers: &'a [u8],
}

impl<'a> From<Stored<'a>> for Record<'a> {
    #[inline]
    fn from(stored: Stored<'a>) -> Self {
        let Stored { offset, append_time_ms, key, value, headers } = stored;
        Self { offset, append_time_ms, key, value, headers: Headers::encoded(headers) }
    }
}

/// The records of a batch or block that was checked, and is not packed.
pub(super) struct BatchRecords<'a> {
    rest: &'a [u8],
    /// The next record's, or of a block: the least that it can have.
    offset: u64,
    left: u32,
    /// What the next record's time is relative to.
    time_ms: i64,
    format: Format,
}

impl<'a> BatchRecords<'a> {
    /// `head` is that of `value`.
    pub fn new(base: u64, head: Head, value: &'a [u8]) -> Self {
        let begin = match head.format {
            Format::Batch => HEAD_BYTES,
            Format::Block | Format::Packed => BLOCK_HEAD_BYTES,
        };
        let rest = value.get(begin..).unwrap_or_default();
        Self { rest, offset: base, left: head.count, time_ms: head.time_ms, format: head.format }
    }

    #[inline]
    fn decode(&mut self) -> Option<Stored<'a>> {
        let mut rest = self.rest;
        let offset = match self.format {
            Format::Batch => self.offset,
            Format::Block => self.offset.checked_add(u64::from(varint::take(&mut rest)?))?,
            Format::Packed => return None,
        };
        let append_time_ms = self.time_ms.saturating_add(i64::from(varint::take(&mut rest)?));
        let key = varint::take(&mut rest)?;
        let value = varint::take(&mut rest)?;
        let headers = varint::take(&mut rest)?;
        let mut part = |len_plus_1: u32| -> Option<Option<&'a [u8]>> {
            let Some(len) = len_plus_1.checked_sub(1) else {
                return Some(None);
            };
            let (bytes, tail) = rest.split_at_checked(len as usize)?;
            rest = tail;
            Some(Some(bytes))
        };
        let (key, value) = (part(key)?, part(value)?);
        let (headers, rest) = rest.split_at_checked(headers as usize)?;
        self.rest = rest;
        self.offset = offset + 1;
        if self.format == Format::Block {
            self.time_ms = append_time_ms;
        }
        Some(Stored { offset, append_time_ms, key, value, headers })
    }
}

impl<'a> Iterator for BatchRecords<'a> {
    /// `Err` is the offset that cannot be read; nothing comes after it.
    type Item = Result<Stored<'a>, u64>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let record = self.decode().ok_or(self.offset);
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
pub(super) mod tests;
