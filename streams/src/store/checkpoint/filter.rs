//! A filter of a run's keys: it may answer that a run has a key that it lacks, but never the other way round.
//!
//! A split block Bloom filter: a key sets one bit in each of the eight words of one block of 32 bytes, so a query reads one
//! cache line. Source: Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom Filters" (2007), with the hash
//! functions of Apache Parquet's filter. A key that no run has queries the filters of all of them, and each may be wrong:
//! so they have 16 bits per key, with which about 1 in 800 queries is.

use xxhash_rust::xxh3::xxh3_64;

const BITS_PER_KEY: u64 = 16;
const WORDS: usize = 8;
const BLOCK_BYTES: usize = WORDS * size_of::<u32>();
/// Odd numbers: each chooses one bit of a word by the lower half of the hash.
const SALTS: [u32; WORDS] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(align(32))]
struct Words([u32; WORDS]);

/// See the module.
#[derive(Debug, PartialEq)]
pub(super) struct Filter {
    blocks: Box<[Words]>,
}

/// The hash of a key, for [`Filter::add`] and [`Filter::may_have`].
pub(super) fn hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

impl Filter {
    /// For up to so many keys.
    pub fn new(keys: u64) -> Self {
        let blocks = keys.saturating_mul(BITS_PER_KEY).div_ceil(8 * BLOCK_BYTES as u64).clamp(1, u32::MAX.into());
        Self { blocks: vec![Words::default(); blocks as usize].into() }
    }

    /// Adds the key of a hash.
    pub fn add(&mut self, hash: u64) {
        let at = self.block_of(hash);
        let bits = bits(hash);
        self.blocks[at].0.iter_mut().zip(bits).for_each(|(word, bit)| *word |= bit);
    }

    /// Whether the key of a hash may have been added.
    pub fn may_have(&self, hash: u64) -> bool {
        let words = &self.blocks[self.block_of(hash)].0;
        // One branch, which is nearly always taken: so the processor asks many filters at once for their cache lines.
        words.iter().zip(bits(hash)).fold(0, |missing, (word, bit)| missing | bit & !word) == 0
    }

    fn block_of(&self, hash: u64) -> usize {
        (((hash >> 32) * self.blocks.len() as u64) >> 32) as usize
    }

    pub fn size_bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    /// Appends its bytes: the words (u32 LE).
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.blocks.iter().flat_map(|block| block.0).for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
    }

    /// Reads what [`Filter::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<4>();
        let (blocks, more) = words.as_chunks::<WORDS>();
        let is_whole = !blocks.is_empty() && rest.is_empty() && more.is_empty();
        is_whole.then(|| Self { blocks: blocks.iter().map(|words| Words(words.map(u32::from_le_bytes))).collect() })
    }
}

fn bits(hash: u64) -> [u32; WORDS] {
    SALTS.map(|salt| 1 << ((hash as u32).wrapping_mul(salt) >> 27))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_few_others_are() {
        for keys in [1, 7, 1_000, 100_000u64] {
            let mut filter = Filter::new(keys);
            (0..keys).for_each(|key| filter.add(hash(&key.to_le_bytes())));
            let mut bytes = Vec::new();
            filter.encode(&mut bytes);
            assert_eq!(bytes.len(), filter.size_bytes());
            let filter = Filter::decode(&bytes).unwrap();
            assert!((0..keys).all(|key| filter.may_have(hash(&key.to_le_bytes()))), "{keys}");
            let wrong = (0..100_000u64).filter(|other| filter.may_have(hash(&(keys + other).to_le_bytes()))).count();
            assert!(wrong < 300, "{wrong} of 100,000 with {keys} keys");
        }
        assert_eq!(Filter::decode(&[]), None);
        assert_eq!(Filter::decode(&[0; 33]), None);
    }

    #[test]
    fn the_bytes_are_what_they_have_always_been() {
        let (mut filter, mut bytes) = (Filter::new(1), Vec::new());
        filter.add(hash(b"key"));
        filter.encode(&mut bytes);
        let expected = b"\x00@\x00\x00\x00\x00 \x00\x00\x00\x00 \x00\x00\x01\x00\x00\x00\x80\x00\x00\x00\x00\x01\x04\x00\x00\x00\x00\x00 \x00";
        assert_eq!(bytes, expected);
    }
}
