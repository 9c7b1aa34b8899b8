//! The weights of decay, computed with integers only, so that they are equal on every machine.

use std::sync::Arc;

/// Weights have this many binary places.
pub(super) const FRACTION_BITS: u32 = 32;
/// Binary places of the computation.
const WORKING_BITS: u32 = 62;
/// Binary places of the exponent. Those that are left out would change a weight by less than 2^-48 of it.
const EXPONENT_BITS: u32 = 48;

/// Per minute of a half-life 2^(minute / half-life), from 1 up to 2, in units of 2^-[`FRACTION_BITS`], cut off.
///
/// With the exponent in binary, 0.b1 b2 b3 …, the power is the product of 2^(1/2), 2^(1/4), 2^(1/8), … where there is a
/// one: and each of these is the square root of the one before.
pub(super) fn weights(half_life_minutes: u64) -> Arc<[u64]> {
    let mut root: u128 = 2 << WORKING_BITS;
    let roots: Vec<u128> = (0..EXPONENT_BITS)
        .map(|_| {
            // At most 63 bits, so 125 under the root.
            root = (root << WORKING_BITS).isqrt();
            root
        })
        .collect();
    let weight = |minute: u64| {
        let (mut rest, mut power) = (minute, 1u128 << WORKING_BITS);
        for root in &roots {
            rest *= 2;
            if rest >= half_life_minutes {
                rest -= half_life_minutes;
                power = (power * root) >> WORKING_BITS;
            }
        }
        (power >> (WORKING_BITS - FRACTION_BITS)) as u64
    };
    (0..half_life_minutes).map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: u64 = 1 << FRACTION_BITS;

    #[test]
    fn an_hour_is_what_it_has_always_been() {
        let weights = weights(60);
        // 2^32 times 1, 2^(1/60), 2^(1/4), 2^(1/2), 2^(59/60); computed with 40 digits.
        let golden =
            [(0, 4_294_967_296), (1, 4_344_872_412), (15, 5_107_605_667), (30, 6_074_000_999), (59, 8_491_270_778)];
        for (minute, weight) in golden {
            assert_eq!(weights[minute], weight, "minute {minute}");
        }
        assert_eq!(weights.len(), 60);
    }

    #[test]
    fn they_are_powers_of_two_as_near_as_their_places_allow() {
        for half_life in [1, 2, 7, 360, 44_640] {
            let weights = weights(half_life);
            for (minute, weight) in weights.iter().enumerate() {
                let power = (minute as f64 / half_life as f64).exp2() * ONE as f64;
                assert!((*weight as f64 - power).abs() <= 1.01, "minute {minute} of {half_life}: {weight}, {power}");
            }
            assert!(weights.is_sorted() && weights[0] == ONE && weights.last().is_some_and(|last| *last < 2 * ONE));
        }
    }
}
