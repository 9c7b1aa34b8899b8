//! A block: entries of one run in the order of their keys, as one value of the checkpoint.
//!
//! Bytes: the entries; where each begins (u16 LE); how many there are (u16 LE). An entry is the length of its key
//! (LEB128), the key, then 0 for a deleted one, or the length of its value plus 1 (LEB128) and the value.

use std::ops::Range;

/// What a full block takes, with its checksum, at most: four pages of LMDB. An entry that is larger has a block alone.
pub(super) const BYTES_MAX: usize = 4 * 4096 - LMDB_PAGE_HEADER - super::CHECKSUM_BYTES;
const LMDB_PAGE_HEADER: usize = 16;

/// Collects the entries of a block.
#[derive(Default)]
pub(super) struct BlockBuilder {
    bytes: Vec<u8>,
    begins: Vec<u16>,
}

impl BlockBuilder {
    pub fn is_empty(&self) -> bool {
        self.begins.is_empty()
    }

    /// Whether one more entry of this size belongs into this block.
    pub fn has_room(&self, key: &[u8], value: Option<&[u8]>) -> bool {
        // Two lengths take 10 bytes at most.
        let entry = key.len() + value.map_or(0, <[u8]>::len) + 10 + 2;
        self.is_empty() || self.bytes.len() + 2 * self.begins.len() + 2 + entry <= BYTES_MAX
    }

    /// Adds an entry: there is room for it, and its key is above those before.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.begins.push(self.bytes.len() as u16);
        write_len(key.len(), &mut self.bytes);
        self.bytes.extend_from_slice(key);
        write_len(value.map_or(0, |value| value.len() + 1), &mut self.bytes);
        self.bytes.extend_from_slice(value.unwrap_or_default());
    }

    /// The block's bytes; empty again afterwards.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.clear();
        out.append(&mut self.bytes);
        self.begins.iter().for_each(|begin| out.extend_from_slice(&begin.to_le_bytes()));
        out.extend_from_slice(&(self.begins.len() as u16).to_le_bytes());
        self.begins.clear();
    }
}

/// A block that is read. Its bytes may be anything.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    entries: &'a [u8],
    begins: &'a [[u8; 2]],
}

impl<'a> Block<'a> {
    /// None: these are no bytes of a block.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (rest, count) = bytes.split_last_chunk::<2>()?;
        let count = usize::from(u16::from_le_bytes(*count));
        let (entries, begins) = rest.split_at_checked(rest.len().checked_sub(2 * count)?)?;
        (count > 0).then_some(Self { entries, begins: begins.as_chunks().0 })
    }

    pub fn len(self) -> usize {
        self.begins.len()
    }

    /// The entry at a place: its key, and its value or None for a deleted one. None: it cannot be read.
    pub fn entry(self, at: usize) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let (key, value) = self.ranges(at)?;
        Some((&self.entries[key], value.map(|value| &self.entries[value])))
    }

    /// Where in the block's bytes the entry at a place has its key and value.
    pub fn ranges(self, at: usize) -> Option<(Range<usize>, Option<Range<usize>>)> {
        let begin = usize::from(u16::from_le_bytes(*self.begins.get(at)?));
        let key = self.part(begin, 0)?;
        let value = self.part(key.end, 1);
        match self.entries.get(key.end)? {
            0 => Some((key, None)),
            _ => Some((key, Some(value?))),
        }
    }

    /// What stands behind a length, which counts `more` than there is.
    fn part(self, at: usize, more: usize) -> Option<Range<usize>> {
        let mut rest = self.entries.get(at..)?;
        let len = read_len(&mut rest)?.checked_sub(more)?;
        let begin = self.entries.len() - rest.len();
        (len <= rest.len()).then(|| begin..begin + len)
    }

    /// The place of the first key that is not below this one; the block's length if all are. None: an entry cannot be read.
    pub fn search(self, key: &[u8]) -> Option<usize> {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = (from + to) / 2;
            match self.key(middle)? < key {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        Some(from)
    }

    /// The key of the entry at a place. None: it cannot be read.
    fn key(self, at: usize) -> Option<&'a [u8]> {
        let begin = usize::from(u16::from_le_bytes(*self.begins.get(at)?));
        let mut rest = self.entries.get(begin..)?;
        let len = read_len(&mut rest)?;
        rest.get(..len)
    }
}

pub(super) fn write_len(mut len: usize, out: &mut Vec<u8>) {
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
}

/// Reads what [`write_len`] wrote.
#[inline]
pub(super) fn read_len(bytes: &mut &[u8]) -> Option<usize> {
    match bytes {
        // Nearly all.
        [len @ 0..0x80, rest @ ..] => {
            *bytes = rest;
            Some(usize::from(*len))
        }
        _ => read_long_len(bytes),
    }
}

fn read_long_len(bytes: &mut &[u8]) -> Option<usize> {
    let mut len = 0usize;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.split_off_first()?;
        len |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(len);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Entry = (Vec<u8>, Option<Vec<u8>>);

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
        prop::collection::btree_map(prop::collection::vec(any::<u8>(), 0..40), value, 1..60)
            .prop_map(|entries| entries.into_iter().collect())
    }

    fn block(entries: &[Entry]) -> Vec<u8> {
        let (mut builder, mut bytes) = (BlockBuilder::default(), Vec::new());
        for (key, value) in entries {
            assert!(builder.has_room(key, value.as_deref()));
            builder.push(key, value.as_deref());
        }
        builder.finish(&mut bytes);
        assert!(builder.is_empty() && bytes.len() <= BYTES_MAX);
        bytes
    }

    proptest! {
        #[test]
        fn what_is_written_is_found(entries in entries(), other in prop::collection::vec(any::<u8>(), 0..40)) {
            let bytes = block(&entries);
            let block = Block::read(&bytes).unwrap();
            prop_assert_eq!(block.len(), entries.len());
            for (at, (key, value)) in entries.iter().enumerate() {
                prop_assert_eq!(block.entry(at), Some((&key[..], value.as_deref())));
                prop_assert_eq!(block.search(key), Some(at));
            }
            prop_assert_eq!(block.search(&other), Some(entries.partition_point(|(key, _)| *key < other)));
        }

        #[test]
        fn damaged_bytes_are_read_without_a_panic(entries in entries(), cut in any::<usize>(), flips in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4)) {
            let mut bytes = block(&entries);
            for (at, bits) in flips {
                let at = at % bytes.len();
                bytes[at] ^= bits;
            }
            for bytes in [&bytes[..cut % bytes.len()], &bytes[..]] {
                let Some(block) = Block::read(bytes) else { continue };
                prop_assert!((0..=block.len()).filter_map(|at| block.entry(at)).count() <= block.len());
                block.search(b"key");
            }
        }
    }

    #[test]
    fn a_large_entry_has_a_block_alone() {
        let large = vec![7; 100_000];
        let mut builder = BlockBuilder::default();
        assert!(builder.has_room(b"a", Some(&large)));
        builder.push(b"a", Some(&large));
        assert!(!builder.has_room(b"b", None));
        let mut bytes = Vec::new();
        builder.finish(&mut bytes);
        assert_eq!(Block::read(&bytes).unwrap().entry(0), Some((&b"a"[..], Some(&large[..]))));
    }

    #[test]
    fn the_bytes_are_what_they_have_always_been() {
        let entries = [(b"a".to_vec(), Some(b"12".to_vec())), (b"b".to_vec(), None), (b"c".to_vec(), Some(vec![]))];
        assert_eq!(block(&entries), b"\x01a\x0312\x01b\0\x01c\x01\0\0\x05\0\x08\0\x03\0");
    }
}
