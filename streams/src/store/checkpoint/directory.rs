//! The directory of a run: the first key of each block and a filter of all keys. It is read when the run is opened, so that
//! no block is.
//!
//! Its bytes are the filter; the length (LEB128) and bytes of each first key; then the tail: the filter's bytes (u64 LE),
//! the number of blocks (u32 LE), of entries (u64 LE), and the number of LMDB's transaction that wrote the run (u64 LE).
//! They are cut into parts that are as long as a block, the last one with the whole tail. Each part is a value of the
//! checkpoint, with the checksum of a block: behind the last block of its run, under the numbers from [`DIRECTORY`] on.

use super::block::{BYTES_MAX, read_len, write_len};
use super::filter::Filter;
use super::first_keys::FirstKeys;

/// The number of a directory's first part, among those of blocks.
pub(super) const DIRECTORY: u32 = 1 << 31;
/// The bytes of the tail.
const TAIL: usize = 28;
/// The bytes of a part without the tail.
const PART: usize = BYTES_MAX - TAIL;

/// What stands at the end of the last part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tail {
    filter_bytes: u64,
    /// How many blocks the run has.
    pub blocks: u32,
    /// How many entries they have, deleted ones included.
    pub entries: u64,
    /// LMDB's transaction that wrote the run: a later run may get the number of one that is gone.
    pub transaction: u64,
}

impl Tail {
    /// Reads it from the last part.
    pub fn read(part: &[u8]) -> Option<Self> {
        let (_, tail) = part.split_last_chunk::<TAIL>()?;
        let (filter_bytes, tail) = tail.split_first_chunk::<8>()?;
        let (blocks, tail) = tail.split_first_chunk::<4>()?;
        let (entries, transaction) = tail.split_first_chunk::<8>()?;
        Some(Self {
            filter_bytes: u64::from_le_bytes(*filter_bytes),
            blocks: u32::from_le_bytes(*blocks),
            entries: u64::from_le_bytes(*entries),
            transaction: u64::from_le_bytes(transaction.try_into().ok()?),
        })
    }
}

/// Collects a directory while its run is written.
pub(super) struct DirectoryBuilder {
    filter: Filter,
    firsts: Vec<u8>,
    blocks: u32,
    entries: u64,
}

impl DirectoryBuilder {
    /// Of a run with at most so many entries; with more, its filter excludes fewer keys.
    pub fn new(entries_max: u64) -> Self {
        Self { filter: Filter::new(entries_max), firsts: Vec::new(), blocks: 0, entries: 0 }
    }

    /// The run has this key.
    pub fn add(&mut self, key: &[u8], is_first_of_block: bool) {
        self.filter.add(super::filter::hash(key));
        self.entries += 1;
        if is_first_of_block {
            write_len(key.len(), &mut self.firsts);
            self.firsts.extend_from_slice(key);
            self.blocks += 1;
        }
    }

    /// The parts, as a transaction writes them.
    pub fn finish(self, transaction: u64) -> impl Iterator<Item = Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.filter.size_bytes() + self.firsts.len());
        self.filter.encode(&mut bytes);
        let filter_bytes = bytes.len() as u64;
        bytes.extend_from_slice(&self.firsts);
        let (parts, mut at) = (bytes.len().div_ceil(PART), 0);
        std::iter::from_fn(move || {
            let part = bytes.get(at * PART..bytes.len().min((at + 1) * PART)).filter(|part| !part.is_empty())?;
            at += 1;
            let mut part = part.to_vec();
            if at == parts {
                part.extend_from_slice(&filter_bytes.to_le_bytes());
                part.extend_from_slice(&self.blocks.to_le_bytes());
                part.extend_from_slice(&self.entries.to_le_bytes());
                part.extend_from_slice(&transaction.to_le_bytes());
            }
            Some(part)
        })
    }
}

/// A directory that was read.
#[derive(Debug, PartialEq)]
pub(super) struct Directory {
    pub tail: Tail,
    pub filter: Filter,
    pub firsts: FirstKeys,
}

impl Directory {
    /// Reads all parts, one behind the other. None: these are no bytes of a directory.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let tail = Tail::read(bytes)?;
        let rest = bytes.get(..bytes.len() - TAIL)?;
        let (filter, mut rest) = rest.split_at_checked(usize::try_from(tail.filter_bytes).ok()?)?;
        let mut firsts = Vec::new();
        while !rest.is_empty() {
            let len = read_len(&mut rest)?;
            firsts.push(rest.split_off(..len)?);
        }
        (firsts.len() == tail.blocks as usize).then_some(())?;
        Some(Self { tail, filter: Filter::decode(filter)?, firsts: FirstKeys::new(firsts) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(keys: u32) -> Vec<Vec<u8>> {
        let mut builder = DirectoryBuilder::new(keys.into());
        (0..keys).for_each(|key| builder.add(&key.to_be_bytes(), key % 3 == 0));
        builder.finish(7).collect()
    }

    #[test]
    fn what_is_written_is_read_in_however_many_parts() {
        for keys in [1, 3, 20_000] {
            let parts = written(keys);
            assert_eq!(parts.len() > 1, keys == 20_000);
            assert!(parts.iter().all(|part| part.len() <= BYTES_MAX));
            let directory = Directory::read(&parts.concat()).unwrap();
            assert_eq!(Some(directory.tail), Tail::read(&parts[parts.len() - 1]));
            assert_eq!((directory.tail.entries, directory.tail.transaction), (keys.into(), 7));
            let firsts: Vec<_> = (0..keys).step_by(3).map(u32::to_be_bytes).collect();
            assert_eq!(directory.firsts, FirstKeys::new(firsts.iter().map(<[u8; 4]>::as_slice)));
            assert!((0..keys).all(|key| directory.filter.may_have(super::super::filter::hash(&key.to_be_bytes()))));
        }
    }

    #[test]
    fn damaged_bytes_are_read_without_a_panic() {
        let bytes = written(300).concat();
        for len in 0..bytes.len() {
            assert_eq!(Directory::read(&bytes[..len]), None, "{len}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x81;
            let _ = Directory::read(&damaged);
        }
    }
}
