//! Quantiles from counts of buckets whose width grows with their values, as in HdrHistogram (Tene, 2012). All arithmetic
//! is on integers, so that every machine gives the same result.
//!
//! Numbers below 128 have a bucket each. From there on, each power of two is divided into 64 buckets, and a bucket stands
//! for its middle: the relative error is at most 1/128. Negative numbers mirror positive ones.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Buckets per power of two.
const STEPS_BITS: u32 = 6;
/// Numbers below have a bucket each.
const EXACT: u128 = 2 << STEPS_BITS;

/// A quantile that is asked for, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millionths(pub u32);

/// Numbers, counted by bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Buckets(pub BTreeMap<i16, u64>);

impl Buckets {
    /// The greatest relative error of a quantile, in millionths: 1/128.
    pub const ERROR_PPM: u32 = 7_813;

    /// Counts a number.
    pub fn add(&mut self, value: i128) {
        *self.0.entry(bucket_of(value)).or_default() += 1;
    }

    /// Adds the counts of other numbers.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            *self.0.entry(*bucket).or_default() += count;
        }
    }

    /// The smallest number that at least this part of all numbers do not exceed (nearest rank); None without
    /// numbers.
    pub fn quantile(&self, q: Millionths) -> Option<i128> {
        let count: u128 = self.0.values().map(|count| u128::from(*count)).sum();
        let rank = (count * u128::from(q.0)).div_ceil(1_000_000).max(1);
        let mut seen = 0;
        let at = |(bucket, count): (&i16, &u64)| {
            seen += u128::from(*count);
            (seen >= rank).then_some(*bucket)
        };
        self.0.iter().find_map(at).map(middle_of)
    }
}

/// The bucket of a number.
fn bucket_of(value: i128) -> i16 {
    let size = value.unsigned_abs();
    let bucket = match size {
        0..EXACT => size as i16,
        _ => {
            let octave = size.ilog2() - STEPS_BITS;
            // The highest bits of the number, without the first, which is always 1.
            let step = (size >> octave) as i16 - (1 << STEPS_BITS);
            EXACT as i16 + (octave as i16 - 1) * (1 << STEPS_BITS) + step
        }
    };
    if value < 0 { -bucket } else { bucket }
}

/// The number that a bucket stands for.
fn middle_of(bucket: i16) -> i128 {
    let place = bucket.unsigned_abs();
    if u128::from(place) < EXACT {
        return bucket.into();
    }
    let above = place - EXACT as u16;
    let (octave, step) = (u32::from(above >> STEPS_BITS) + 1, u128::from(above % (1 << STEPS_BITS)));
    // No number has a greater bucket.
    let octave = octave.min(u128::BITS - STEPS_BITS - 1);
    let middle = (((1 << STEPS_BITS) + step) << octave) + (1_u128 << (octave - 1));
    let middle = i128::try_from(middle).unwrap_or(i128::MAX);
    if bucket < 0 { -middle } else { middle }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: impl IntoIterator<Item = i128>) -> Buckets {
        let mut buckets = Buckets::default();
        values.into_iter().for_each(|value| buckets.add(value));
        buckets
    }

    #[test]
    fn buckets_are_what_they_have_always_been() {
        let values = [0, 1, 127, 128, 129, 130, 255, 256, 259, 260, 1_000, 86_400_000, -1, -300, i128::MAX, i128::MIN];
        let buckets = values.map(bucket_of);
        assert_eq!(buckets, [0, 1, 127, 128, 128, 129, 191, 192, 192, 193, 317, 1362, -1, -203, 7807, -7808]);
    }

    #[test]
    fn small_numbers_are_exact() {
        let buckets = of(1..=100);
        for (q, expected) in [(0, 1), (10_000, 1), (10_001, 2), (500_000, 50), (950_000, 95), (1_000_000, 100)] {
            assert_eq!(buckets.quantile(Millionths(q)), Some(expected), "{q}");
        }
        assert_eq!(Buckets::default().quantile(Millionths(500_000)), None);
        assert_eq!(of([-5, -3, 0]).quantile(Millionths(500_000)), Some(-3));
    }

    proptest! {
        #[test]
        fn the_error_is_at_most_a_128th_of_the_number_at_the_rank(
            values in prop::collection::vec(prop_oneof![-1_000i128..1_000, -(1i128 << 80)..(1i128 << 80)], 1..60),
            q in 0..=1_000_000u32,
        ) {
            let found = of(values.clone()).quantile(Millionths(q)).unwrap();
            let mut sorted = values;
            sorted.sort_unstable();
            let rank = (sorted.len() as u128 * u128::from(q)).div_ceil(1_000_000).max(1) as usize;
            let true_value = sorted[rank - 1];
            prop_assert!((found - true_value).unsigned_abs() * 128 <= true_value.unsigned_abs(), "{found} {true_value}");
        }

        #[test]
        fn counts_merge(
            a in prop::collection::vec(any::<i128>(), 0..30),
            b in prop::collection::vec(any::<i128>(), 0..30),
        ) {
            let mut merged = of(a.clone());
            merged.merge(&of(b.clone()));
            prop_assert_eq!(merged, of(a.into_iter().chain(b)));
        }
    }
}
