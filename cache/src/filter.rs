//! The subjects that may exist: a Bloom filter (Bloom 1970), whose hashes derive from two (Kirsch, Mitzenmacher 2006).
//!
//! It never misses a subject that was inserted; it may report others as inserted: 1 in 100 at 7,000,000 subjects, 1 in 4 at
//! 20,000,000. Nothing is ever removed.

use std::sync::atomic::{AtomicU64, Ordering};
use xxhash_rust::xxh3::xxh3_128;

/// 8 MiB.
const WORDS: usize = 1 << 20;
/// Bits of a subject.
const BITS: u64 = 5;

pub(crate) struct Filter(Box<[AtomicU64]>);

impl Filter {
    pub fn new() -> Self {
        Self((0..WORDS).map(|_| AtomicU64::new(0)).collect())
    }

    /// A reader that sees a position published afterwards sees this as well.
    pub fn insert(&self, id: &str) {
        for (word, bit) in places(id) {
            // Most subjects were inserted before.
            if self.0[word].load(Ordering::Relaxed) & bit == 0 {
                self.0[word].fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    pub fn may_have(&self, id: &str) -> bool {
        places(id).all(|(word, bit)| self.0[word].load(Ordering::Relaxed) & bit != 0)
    }
}

fn places(id: &str) -> impl Iterator<Item = (usize, u64)> {
    let hash = xxh3_128(id.as_bytes());
    let (first, step) = (hash as u64, (hash >> 64) as u64 | 1);
    (0..BITS).map(move |n| {
        let place = first.wrapping_add(n.wrapping_mul(step));
        ((place >> 6) as usize % WORDS, 1 << (place & 63))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_that_came_is_denied_and_few_of_the_others_are_taken_for_one() {
        let filter = Filter::new();
        assert!(!filter.may_have("article:0"));
        (0..200_000).for_each(|n| filter.insert(&format!("article:{n}")));
        assert!((0..200_000).all(|n| filter.may_have(&format!("article:{n}"))));
        let wrong = (0..100_000).filter(|n| filter.may_have(&format!("user:{n}"))).count();
        assert!(wrong < 100, "{wrong} of 100000");
    }
}
