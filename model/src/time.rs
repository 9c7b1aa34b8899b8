//! Times outside are RFC 3339 or milliseconds since 1970; inside they are always milliseconds.

use jiff::Timestamp;

/// RFC 3339 in UTC with milliseconds, like `2026-11-21T08:00:00.123Z`. Times that no calendar holds are clamped.
pub fn format_ms(time_ms: i64) -> String {
    let time = Timestamp::from_millisecond(time_ms);
    let time = time.unwrap_or(if time_ms < 0 { Timestamp::MIN } else { Timestamp::MAX });
    format!("{time:.3}")
}

/// Reads RFC 3339 (any offset; finer than milliseconds is cut off).
pub fn parse_ms(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        assert_eq!(parse_ms("2026-11-21T08:00:00.123Z"), Some(1_795_248_000_123));
        assert_eq!(parse_ms("2026-11-21T09:00:00.1239+01:00"), Some(1_795_248_000_123));
        assert_eq!(format_ms(1_795_248_000_123), "2026-11-21T08:00:00.123Z");
        for wrong in ["", "yesterday", "2026-11-21", "2026-13-01T00:00:00Z"] {
            assert_eq!(parse_ms(wrong), None, "{wrong}");
        }
        assert!(format_ms(i64::MIN).starts_with('-'));
    }
}
