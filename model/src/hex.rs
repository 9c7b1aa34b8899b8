//! Bytes as hexadecimal text.

/// Two lower-case digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|d| char::from_digit(d.into(), 16)).collect()
}

/// The bytes that `text` writes, in digits of either case; None unless it is exactly `N` of them.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() || pairs.len() != N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = (high? * 16 + low?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back_as_bytes() {
        let bytes = [0x00, 0x0f, 0xa0, 0xff];
        assert_eq!(hex(&bytes), "000fa0ff");
        assert_eq!(unhex("000fA0fF"), Some(bytes));
        assert_eq!(unhex(""), Some([]));
    }

    #[test]
    fn what_is_not_exactly_the_bytes_is_nothing() {
        for text in ["000fa0f", "000fa0", "000fa0ff00", "000fa0fg", "+00fa0ff", "000fa0é"] {
            assert_eq!(unhex::<4>(text), None, "{text}");
        }
    }
}
