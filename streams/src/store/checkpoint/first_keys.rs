//! The first keys of a run's blocks, in memory: they tell which block may have a key.

use super::runs::prefix;

/// See the module. Keys of a store often begin alike (`article:`, the bytes of a segment): what all of them begin with is
/// compared once, and the 8 bytes behind it decide nearly every step of a search, without a look at the keys.
#[derive(Debug, Default, PartialEq)]
pub(super) struct FirstKeys {
    /// The keys, one after the other, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// How many bytes all keys begin with, and what each has behind them.
    shared: usize,
    heads: Vec<u64>,
}

impl FirstKeys {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Keys in ascending order.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for key in keys {
            bytes.extend_from_slice(key);
            ends.push(bytes.len());
        }
        bytes.shrink_to_fit();
        ends.shrink_to_fit();
        let mut keys = Self { bytes, ends, shared: 0, heads: Vec::new() };
        if let Some(last) = keys.len().checked_sub(1) {
            keys.shared = keys.key(0).iter().zip(keys.key(last)).take_while(|(a, b)| a == b).count();
        }
        keys.heads = (0..keys.len()).map(|at| prefix(keys.key(at).get(keys.shared..).unwrap_or_default())).collect();
        keys
    }

    fn key(&self, at: usize) -> &[u8] {
        let begin = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[begin..self.ends[at]]
    }

    /// The last block whose first key is not above this one; None where all are.
    pub fn block_of(&self, key: &[u8]) -> Option<usize> {
        let shared = self.bytes.get(..self.shared)?;
        let Some(rest) = key.strip_prefix(shared) else {
            return if key < shared { None } else { self.len().checked_sub(1) };
        };
        let head = prefix(rest);
        let from = self.heads.partition_point(|other| *other < head);
        let equal = self.heads[from..].iter().take_while(|other| **other == head).count();
        let (mut low, mut high) = (from, from + equal);
        while low < high {
            let middle = (low + high) / 2;
            match self.key(middle) <= key {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low.checked_sub(1)
    }

    pub fn size_bytes(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<usize>() + self.heads.len() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_block_of_a_key_is_the_last_that_begins_at_or_below_it(
            shared in prop::collection::vec(any::<u8>(), 0..12),
            keys in prop::collection::btree_set(prop::collection::vec(0..3u8, 0..20), 1..60),
            others in prop::collection::vec((any::<bool>(), prop::collection::vec(0..4u8, 0..24)), 1..60),
        ) {
            let with_shared = |key: &[u8]| [&shared[..], key].concat();
            let keys: Vec<_> = keys.iter().map(|key| with_shared(key)).collect();
            let firsts = FirstKeys::new(keys.iter().map(Vec::as_slice));
            prop_assert_eq!(firsts.len(), keys.len());
            for (is_alike, other) in others {
                let other = if is_alike { with_shared(&other) } else { other };
                prop_assert_eq!(firsts.block_of(&other), keys.partition_point(|key| *key <= other).checked_sub(1));
            }
            for (at, key) in keys.iter().enumerate() {
                prop_assert_eq!(firsts.block_of(key), Some(at));
            }
        }
    }

    #[test]
    fn without_blocks_no_key_has_one() {
        assert_eq!(FirstKeys::new([]).block_of(b"a"), None);
    }
}
