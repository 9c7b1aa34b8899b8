//! Unsigned LEB128, at most 5 bytes: small numbers take one byte.

/// The longest encoding.
pub(super) const VARINT_BYTES_MAX: usize = 5;

/// Writes `n` at the start of `out` and returns how many bytes it took.
#[inline]
pub(super) fn put(out: &mut [u8], mut n: u32) -> usize {
    let mut at = 0;
    while n >= 0x80 {
        out[at] = n as u8 | 0x80;
        n >>= 7;
        at += 1;
    }
    out[at] = n as u8;
    at + 1
}

/// Takes a number off the front of `bytes`; None where it is cut short or too long.
#[inline]
pub(super) fn take(bytes: &mut &[u8]) -> Option<u32> {
    let (&first, rest) = bytes.split_first()?;
    *bytes = rest;
    if first < 0x80 {
        return Some(u32::from(first));
    }
    let mut n = u64::from(first & 0x7f);
    for i in 1..VARINT_BYTES_MAX {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return u32::try_from(n).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_comes_back(n in prop_oneof![0..300u32, any::<u32>()], tail in any::<u8>()) {
            let mut bytes = [tail; VARINT_BYTES_MAX + 1];
            let len = put(&mut bytes, n);
            let mut rest = &bytes[..=len];
            prop_assert_eq!(take(&mut rest), Some(n));
            prop_assert_eq!(rest, &[tail][..]);
        }
    }

    #[test]
    fn damage_is_not_a_number() {
        assert_eq!(take(&mut &[][..]), None);
        assert_eq!(take(&mut &[0x80][..]), None);
        assert_eq!(take(&mut &[0xff, 0xff, 0xff, 0xff, 0x7f][..]), None, "more than 32 bits");
        assert_eq!(take(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00][..]), None, "more than 5 bytes");
    }
}
