//! The log's own keys and their values: topics, starts of partitions, committed offsets.
//!
//! Every value begins with the CRC32C (u32, little-endian) of its key and of what follows.
//!
//! ```text
//! "topics"                        format u8 = 1, postcard of the topics in the order of their creation
//! "start" partition u32 BE        start u64, newest append time of what was removed i64
//! "offset" partition u32 BE group  offset u64, metadata
//! "blocks" partition u32 BE        merged u64, clean u64, dirty bytes u64
//! ```

use super::storage::{KEY_BYTES_MAX, Op, PartitionId};
use crate::log::{CommittedOffset, LogError};

/// The key of the registry of topics.
pub(super) const TOPICS: &[u8] = b"topics";

const OFFSET: &[u8] = b"offset";

/// The longest group name.
pub(super) const GROUP_BYTES_MAX: usize = KEY_BYTES_MAX - OFFSET.len() - 4;

/// The key of a partition's start.
pub(super) fn start(partition: PartitionId) -> Vec<u8> {
    [b"start".as_slice(), &partition.to_be_bytes()].concat()
}

/// The key of what a group has committed for a partition.
pub(super) fn offset(group: &str, partition: PartitionId) -> Vec<u8> {
    [OFFSET, &partition.to_be_bytes(), group.as_bytes()].concat()
}

/// Puts the checksum before a value.
pub(super) fn seal(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut value = checksum(key, body).to_le_bytes().to_vec();
    value.extend_from_slice(body);
    value
}

/// Checks a value and takes the checksum off.
pub(super) fn open<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], LogError> {
    match value.split_first_chunk::<4>() {
        Some((crc, body)) if u32::from_le_bytes(*crc) == checksum(key, body) => Ok(body),
        _ => Err(corrupt(key, "the checksum does not match")),
    }
}

/// Damage at a key.
pub(super) fn corrupt(key: &[u8], detail: &str) -> LogError {
    LogError::Corrupt { address: format!("key {}", key.escape_ascii()), detail: detail.to_owned() }
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), body)
}

/// The start of a partition, below which older batches may still exist, and a lower bound of its records' append times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// The oldest offset kept.
    pub offset: u64,
    /// Append time, ms since 1970.
    pub time_ms: i64,
}

impl Start {
    /// The value under [`start`].
    pub fn encode(&self, key: &[u8]) -> Vec<u8> {
        seal(key, &[self.offset.to_le_bytes(), self.time_ms.to_le_bytes()].concat())
    }

    /// Reads what [`Start::encode`] wrote.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, LogError> {
        let body = open(key, value)?;
        let parts = body.split_first_chunk::<8>().and_then(|(a, b)| Some((a, b.first_chunk::<8>()?)));
        let (offset, time) = parts.ok_or_else(|| corrupt(key, "too short"))?;
        Ok(Self { offset: u64::from_le_bytes(*offset), time_ms: i64::from_le_bytes(*time) })
    }
}

/// The key of [`Blocks`].
pub(super) fn blocks(partition: PartitionId) -> Vec<u8> {
    [b"blocks".as_slice(), &partition.to_be_bytes()].concat()
}

/// How far the upkeep of a partition has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Blocks {
    /// Batches below are merged.
    pub merged: u64,
    /// Below, each key has at most one record, if the topic is compacted.
    pub clean: u64,
    /// Bytes of the batches between the two.
    pub dirty_bytes: u64,
}

impl Blocks {
    /// The change that stores it.
    pub fn put(&self, partition: PartitionId) -> Op<'static> {
        let (key, parts) = (blocks(partition), [self.merged, self.clean, self.dirty_bytes]);
        let value = seal(&key, &parts.map(u64::to_le_bytes).concat());
        Op::Put { key, value }
    }

    /// Reads what [`Blocks::put`] stored.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, LogError> {
        let (parts, _) = open(key, value)?.as_chunks::<8>();
        match parts {
            [merged, clean, dirty_bytes, ..] => {
                let [merged, clean, dirty_bytes] = [merged, clean, dirty_bytes].map(|part| u64::from_le_bytes(*part));
                Ok(Self { merged, clean, dirty_bytes })
            }
            _ => Err(corrupt(key, "too short")),
        }
    }
}

/// The value under [`offset`].
pub(super) fn encode_offset(key: &[u8], committed: &CommittedOffset) -> Vec<u8> {
    seal(key, &[committed.offset.to_le_bytes().as_slice(), committed.metadata.as_bytes()].concat())
}

/// Reads what [`encode_offset`] wrote.
pub(super) fn decode_offset(key: &[u8], value: &[u8]) -> Result<CommittedOffset, LogError> {
    let body = open(key, value)?;
    let (offset, metadata) = body.split_first_chunk::<8>().ok_or_else(|| corrupt(key, "too short"))?;
    let metadata = String::from_utf8(metadata.to_vec()).map_err(|e| corrupt(key, &e.to_string()))?;
    Ok(CommittedOffset { offset: u64::from_le_bytes(*offset), metadata })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What has been written once must stay readable.
    #[test]
    fn values_are_as_they_always_were() {
        let key = offset("likes", 7);
        assert_eq!(key, b"offset\x00\x00\x00\x07likes");
        let committed = CommittedOffset { offset: 300, metadata: "me".into() };
        let golden = b"\x4b\xc3\x44\xb9\x2c\x01\x00\x00\x00\x00\x00\x00me";
        assert_eq!(encode_offset(&key, &committed), golden);
        assert_eq!(decode_offset(&key, golden), Ok(committed));

        let key = start(258);
        assert_eq!(key, b"start\x00\x00\x01\x02");
        let at = Start { offset: 5, time_ms: -1 };
        let golden = b"\xa2\xcd\x63\xa6\x05\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(at.encode(&key), golden);
        assert_eq!(Start::decode(&key, golden), Ok(at));

        let at = Blocks { merged: 300, clean: 2, dirty_bytes: 65_536 };
        let Op::Put { key, value } = at.put(258) else { panic!("a key is put") };
        assert_eq!(key, b"blocks\x00\x00\x01\x02");
        let golden = b"\x7e\x85\x16\xdc\x2c\x01\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00";
        assert_eq!(value, golden);
        assert_eq!(Blocks::decode(&key, golden), Ok(at));
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let key = offset("likes", 7);
        let value = encode_offset(&key, &CommittedOffset { offset: 300, metadata: "me".into() });
        for bit in 0..value.len() * 8 {
            let mut damaged = value.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode_offset(&key, &damaged), Err(LogError::Corrupt { .. })), "bit {bit}");
        }
        assert!(decode_offset(&offset("likes", 8), &value).is_err(), "another key's value");
    }
}
