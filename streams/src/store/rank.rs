//! What a ranked store needs of its values: where each stands, and when that changes by itself.

use super::codec::{StoreKey, StoreValue};
use std::sync::Arc;

/// A value with a score.
///
/// A score may change with every tick. What the store keeps in order is the rank: it stays the same until
/// [`Ranked::next_tick`], and scores follow from it at every tick until then.
pub trait Ranked: StoreValue + Default {
    /// The parameters of a score besides value and tick.
    type Rule: StoreValue + Copy + PartialEq;
    /// Its rank from a tick on; None if it has no place.
    fn rank(&self, rule: Self::Rule, tick: i64) -> Option<Rank>;
    /// The score of a rank at a tick; None if it has no place then. A greater rank never has a lower score.
    fn score(rank: Rank, rule: Self::Rule, tick: i64) -> Option<i128>;
    /// The first tick after `tick` at which its rank may change without a write; None if nothing of it counts at `tick` or
    /// later, so that the key can be removed.
    fn next_tick(&self, rule: Self::Rule, tick: i64) -> Option<i64>;
    /// Whether the score of a rank depends on the tick. If not, each rank has a score of its own.
    fn ages_each_tick(rule: Self::Rule) -> bool;
    /// Whether it equals a value that was never written.
    fn is_empty(&self) -> bool;
    /// Appends the difference that [`Ranked::apply`] turns `before` into this value with: the changelog holds it.
    fn difference(&self, before: &Self, items: &mut Vec<u64>);
    /// Applies a difference; false if it is invalid.
    fn apply(&mut self, items: &[u64]) -> bool;
}

/// A key of a ranked store. Each group of keys has an order of its own. Keys have the order of their stored bytes.
pub trait RankedKey: StoreKey + Ord {
    /// Its group: a text without NUL.
    fn group(&self) -> &str;
}

/// The group is the text before the first NUL; without a NUL, the empty name.
impl RankedKey for Arc<str> {
    fn group(&self) -> &str {
        self.split_once('\0').map_or("", |(group, _)| group)
    }
}

/// A number above 0, exactly: a mantissa whose upper bit is set, times a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    exponent: i64,
    /// The upper half first. Two words are aligned less strictly than one of 128 bits.
    mantissa: [u64; 2],
}

impl Rank {
    /// The stored bytes of a rank.
    const BYTES: usize = 24;

    /// `value * 2^exponent`; None if that is not above 0.
    pub fn new(value: i128, exponent: i64) -> Option<Self> {
        let value = u128::try_from(value).ok().filter(|value| *value > 0)?;
        let zeros = value.leading_zeros();
        let mantissa = value << zeros;
        let mantissa = [(mantissa >> 64) as u64, mantissa as u64];
        Some(Self { exponent: exponent.saturating_sub(zeros.into()), mantissa })
    }

    /// It divided by `2^exponent`, truncated.
    pub fn truncated(self, exponent: i64) -> i128 {
        let [high, low] = self.mantissa.map(u128::from);
        match exponent.saturating_sub(self.exponent) {
            ..=0 => i128::MAX,
            bits @ 1..128 => (((high << 64) | low) >> bits) as i128,
            _ => 0,
        }
    }

    /// Appends its bytes: those of greater ranks are lower.
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        let [high, low] = self.mantissa;
        for word in [self.exponent.wrapping_sub(i64::MIN) as u64, high, low] {
            out.extend_from_slice(&(!word).to_be_bytes());
        }
    }

    /// Reads what [`Rank::encode`] wrote, and returns what stands behind it.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (bytes, rest) = bytes.split_first_chunk::<{ Self::BYTES }>()?;
        let mut words = bytes.as_chunks().0.iter().map(|word| !u64::from_be_bytes(*word));
        let exponent = (words.next()? as i64).wrapping_add(i64::MIN);
        Some((Self { exponent, mantissa: [words.next()?, words.next()?] }, rest))
    }
}

/// The rank of a key, and the tick at which it may change by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Standing {
    pub rank: Option<Rank>,
    pub next_tick: Option<i64>,
}

impl Standing {
    pub const NOWHERE: Self = Self { rank: None, next_tick: None };

    pub fn of<V: Ranked>(value: Option<&V>, rule: V::Rule, tick: i64) -> Self {
        let counting = value.and_then(|value| Some((value, value.next_tick(rule, tick)?)));
        counting.map_or(Self::NOWHERE, |(value, next_tick)| Self {
            rank: value.rank(rule, tick),
            next_tick: Some(next_tick),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(rank: Rank) -> Vec<u8> {
        let mut bytes = Vec::new();
        rank.encode(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn ranks_are_numbers(a in 1..1i128 << 40, b in 1..1i128 << 40, more in prop::array::uniform2(0..80i64)) {
            let [x, y] = [(a, more[0]), (b, more[1])].map(|(value, exponent)| Rank::new(value, exponent).unwrap());
            prop_assert_eq!(x.cmp(&y), (a << more[0]).cmp(&(b << more[1])));
            prop_assert_eq!(bytes(x).cmp(&bytes(y)), y.cmp(&x));
            let stored = [&bytes(x)[..], b"k"].concat();
            prop_assert_eq!(Rank::decode(&stored), Some((x, &b"k"[..])));
            prop_assert_eq!(x.truncated(more[1]), (a << more[0]) >> more[1]);
            prop_assert_eq!(x.truncated(more[0]), a);
        }
    }

    #[test]
    fn the_least_and_the_greatest_are_exact() {
        assert_eq!([0, -1, i128::MIN].map(|value| Rank::new(value, 3)), [None; 3]);
        let greatest = Rank::new(i128::MAX, 3).unwrap();
        assert_eq!([3, 4, 129, 130].map(|exponent| greatest.truncated(exponent)), [i128::MAX, i128::MAX / 2, 1, 0]);
        assert_eq!([i64::MIN, i64::MAX].map(|exponent| greatest.truncated(exponent)), [i128::MAX, 0]);
    }
}
