//! How keys and values become bytes.

use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

/// A key of a store. Its bytes are at most 500 (LMDB takes 511).
pub trait StoreKey: Clone + Eq + Hash + Send + 'static {
    /// The map's hasher.
    type Hasher: BuildHasher + Default + Send;
    /// Appends its bytes.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads them back.
    fn decode(bytes: &[u8]) -> Option<Self>;
    /// The segment that it is forgotten with, where it stands in front of its bytes as u64 BE; None is never.
    fn segment(&self) -> Option<u64> {
        None
    }
}

/// A value of a store.
pub trait StoreValue: Clone + Send + 'static {
    /// Appends its bytes.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads them back.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// 128 bits of a seeded hash, as a key: two different things never share one in practice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hash128([u64; 2]);

impl Hash128 {
    /// XXH3 with the generation's secret seed. Parts are distinguished by their lengths.
    pub fn of(seed: u64, parts: &[&[u8]]) -> Self {
        // Keys are a few short ids: the stack holds nearly all of them.
        let mut buffer = [0u8; 320];
        let mut len = 0;
        let needed: usize = parts.iter().map(|part| part.len() + 2).sum();
        if needed > buffer.len() {
            let mut bytes = Vec::with_capacity(needed);
            for part in parts {
                bytes.extend_from_slice(&(part.len() as u16).to_le_bytes());
                bytes.extend_from_slice(part);
            }
            return Self::of_bytes(seed, &bytes);
        }
        for part in parts {
            buffer[len..len + 2].copy_from_slice(&(part.len() as u16).to_le_bytes());
            len += 2;
            buffer[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
        Self::of_bytes(seed, &buffer[..len])
    }

    fn of_bytes(seed: u64, bytes: &[u8]) -> Self {
        let hash = xxhash_rust::xxh3::xxh3_128_with_seed(bytes, seed);
        Self([(hash >> 64) as u64, hash as u64])
    }
}

impl Hash for Hash128 {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[1]);
    }
}

/// Takes the one number that it is given: [`Hash128`] is a hash already.
#[derive(Default)]
pub struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl StoreKey for Hash128 {
    type Hasher = BuildHasherDefault<Hashed>;

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|half| out.extend_from_slice(&half.to_be_bytes()));
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (high, low) = bytes.split_first_chunk::<8>()?;
        Some(Self([u64::from_be_bytes(*high), u64::from_be_bytes(low.try_into().ok()?)]))
    }
}

/// A hash within a segment of time: what is forgotten with that segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHash {
    /// The segment.
    pub segment: u64,
    /// Distinguishes keys, also without the segment.
    pub hash: Hash128,
}

impl Hash for SegmentHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl StoreKey for SegmentHash {
    type Hasher = BuildHasherDefault<Hashed>;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.segment.to_be_bytes());
        self.hash.encode(out);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (segment, hash) = bytes.split_first_chunk::<8>()?;
        Some(Self { segment: u64::from_be_bytes(*segment), hash: Hash128::decode(hash)? })
    }

    fn segment(&self) -> Option<u64> {
        Some(self.segment)
    }
}

impl StoreKey for Arc<str> {
    type Hasher = ahash::RandomState;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok().map(Into::into)
    }
}

impl StoreValue for () {
    fn encode(&self, _out: &mut Vec<u8>) {}

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.is_empty().then_some(())
    }
}

macro_rules! fixed_width_values {
    ($($t:ty),*) => {$(
        impl StoreValue for $t {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn decode(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(<$t>::from_le_bytes)
            }
        }
    )*};
}

fixed_width_values!(u32, u64, i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(Hash128::of(1, &[b"ab", b"c"]), Hash128::of(1, &[b"a", b"bc"]));
        assert_ne!(Hash128::of(1, &[b"ab"]), Hash128::of(2, &[b"ab"]));
        let long = [b'x'; 400];
        assert_ne!(Hash128::of(1, &[&long, b"y"]), Hash128::of(1, &[&long, b"z"]));
        assert_eq!(Hash128::of(1, &[&long, b"y"]), Hash128::of(1, &[&long, b"y"]));
    }

    #[test]
    fn a_hash_is_written_as_it_has_always_been() {
        let mut bytes = Vec::new();
        Hash128::of(7, &[b"u1", b"e1"]).encode(&mut bytes);
        assert_eq!(Hash128::decode(&bytes), Some(Hash128::of(7, &[b"u1", b"e1"])));
        assert_eq!(Hash128::decode(&bytes[1..]), None);
        // XXH3-128, seed 7, of "\x02\0u1\x02\0e1".
        assert_eq!(bytes, xxhash_rust::xxh3::xxh3_128_with_seed(b"\x02\0u1\x02\0e1", 7).to_be_bytes());
    }
}
