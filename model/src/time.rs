//! External times are RFC 3339 or milliseconds since 1970; internal times are always milliseconds.

use jiff::SignedDuration;
use jiff::civil::DateTime;
use std::ops::RangeInclusive;

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
const MINUTE_MS: i64 = 60_000;
/// The first millisecond of the year 0, and the last one of 9999: what RFC 3339 can write.
const WRITTEN_MS: RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;
/// Whole seconds since 1970 have ten digits from 2001 to 2286. As milliseconds the same numbers lie in the spring of 1970.
pub const TIMES_IN_SECONDS: RangeInclusive<i64> = 1_000_000_000..=9_999_999_999;
/// The pattern of [`parse_ms`], without its checks of the calendar: days of a month and leap seconds. A pattern of
/// ECMA-262, for descriptions.
pub const TIME_PATTERN: &str = concat!(
    "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])",
    "[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\\.[0-9]+)?",
    "([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$",
);

/// RFC 3339 in UTC with milliseconds, like `2026-11-21T08:00:00.123Z`. Times before the year 0 and after 9999 are clamped.
pub fn format_ms(time_ms: i64) -> String {
    let time_ms = time_ms.clamp(*WRITTEN_MS.start(), *WRITTEN_MS.end());
    // Within that range the sum exists.
    let time = EPOCH.checked_add(SignedDuration::from_millis(time_ms)).unwrap_or(EPOCH);
    format!("{time:.3}Z")
}

/// Reads RFC 3339, section 5.6, and nothing else: any offset, `t` and `z` in either case, any number of digits of a
/// fraction. Fractions of a millisecond are truncated.
///
/// A leap second stands at the end of June or December, in UTC. It reads as the last millisecond before it, so it stays
/// in its minute and its day.
pub fn parse_ms(text: &str) -> Option<i64> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T' | b't', rest @ ..] = text.as_bytes() else { return None };
    let [h0, h1, b':', i0, i1, b':', s0, s1, rest @ ..] = rest else { return None };
    let (fraction_ms, rest) = fraction_ms(rest)?;
    let offset_minutes = offset_minutes(rest)?;
    let two = |tens: &u8, ones: &u8| number(&[*tens, *ones]);
    let (year, month, day) = (number(&[*y0, *y1, *y2, *y3])?, two(m0, m1)?, two(d0, d1)?);
    let (hour, minute, second) = (two(h0, h1)?, two(i0, i1)?, two(s0, s1)?);
    let small = |number: i64| i8::try_from(number).ok();
    let local = DateTime::new(
        i16::try_from(year).ok()?,
        small(month)?,
        small(day)?,
        small(hour)?,
        small(minute)?,
        small(second.min(59))?,
        0,
    );
    let utc_ms = local.ok()?.duration_since(EPOCH).as_millis();
    let utc_ms = i64::try_from(utc_ms).ok()? - offset_minutes * MINUTE_MS;
    match second {
        0..=59 => Some(utc_ms + fraction_ms),
        60 if ends_half_year(utc_ms) => Some(utc_ms + 999),
        _ => None,
    }
}

/// Whether a number of milliseconds since 1970 is one of seconds, in all probability.
pub fn looks_like_seconds(time_ms: i64) -> bool {
    TIMES_IN_SECONDS.contains(&time_ms)
}

/// Whether a time lies in the last minute of June or December.
fn ends_half_year(time_ms: i64) -> bool {
    let time = EPOCH.checked_add(SignedDuration::from_millis(time_ms));
    time.is_ok_and(|time| {
        (time.hour(), time.minute()) == (23, 59) && [(6, 30), (12, 31)].contains(&(time.month(), time.day()))
    })
}

/// The milliseconds of a fraction, and the text after it.
fn fraction_ms(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = text.strip_prefix(b".") else { return Some((0, text)) };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = rest.split_at(digits);
    let mut ms = *b"000";
    ms.iter_mut().zip(digits).for_each(|(place, digit)| *place = *digit);
    (!digits.is_empty()).then_some(())?;
    Some((number(&ms)?, rest))
}

/// How far local time is ahead of UTC.
fn offset_minutes(text: &[u8]) -> Option<i64> {
    match text {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => {
            let (hours, minutes) = (number(&[*h0, *h1])?, number(&[*m0, *m1])?);
            let ahead = (hours <= 23 && minutes <= 59).then_some(hours * 60 + minutes)?;
            Some(if *sign == b'-' { -ahead } else { ahead })
        }
        _ => None,
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    digits.iter().try_fold(0, |number, byte| Some(number * 10 + digit(byte)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex::Regex;

    const EIGHT_MS: i64 = 1_795_248_000_000;

    #[test]
    fn every_form_of_rfc_3339_is_read() {
        let pattern = Regex::new(TIME_PATTERN).unwrap();
        for (text, expected) in [
            ("2026-11-21T08:00:00.123Z", EIGHT_MS + 123),
            ("2026-11-21T08:00:00Z", EIGHT_MS),
            ("2026-11-21t08:00:00z", EIGHT_MS),
            ("2026-11-21T08:00:00.1Z", EIGHT_MS + 100),
            ("2026-11-21T08:00:00.0009Z", EIGHT_MS),
            ("2026-11-21T09:00:00.1239+01:00", EIGHT_MS + 123),
            ("2026-11-21T08:00:00.1234567891Z", EIGHT_MS + 123),
            ("2026-11-21T08:00:00.123456789012345678901234567890Z", EIGHT_MS + 123),
            ("2026-11-21T08:00:00-00:00", EIGHT_MS),
            ("2026-11-21T08:00:00+00:00", EIGHT_MS),
            ("2026-11-20T12:30:00-19:30", EIGHT_MS),
            ("2026-11-22T07:59:00+23:59", EIGHT_MS),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000),
            // The examples of section 5.8.
            ("1985-04-12T23:20:50.52Z", 482_196_050_520),
            ("1996-12-19T16:39:57-08:00", 851_042_397_000),
            ("1990-12-31T23:59:60Z", 662_687_999_999),
            ("1990-12-31T15:59:60-08:00", 662_687_999_999),
            ("1937-01-01T12:00:27.87+00:20", -1_041_337_172_130),
            ("2016-06-30T23:59:60.5Z", 1_467_331_199_999),
            ("0000-01-01T00:00:00Z", *WRITTEN_MS.start()),
            ("9999-12-31T23:59:59.999Z", *WRITTEN_MS.end()),
            ("9999-12-31T23:59:59-00:01", 253_402_300_859_000),
        ] {
            assert_eq!(parse_ms(text), Some(expected), "{text}");
            assert!(pattern.is_match(text), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_it_is_refused() {
        let pattern = Regex::new(TIME_PATTERN).unwrap();
        let not_in_the_calendar = [
            "2026-02-29T00:00:00Z",
            "2026-11-31T00:00:00Z",
            "2026-11-21T08:00:60Z",
            "2026-11-21T23:59:60Z",
            "2026-12-31T23:59:60+01:00",
        ];
        for wrong in [
            "",
            "yesterday",
            "1795248000000",
            "2026-11-21",
            "20261130T03Z",
            "2026-11-30T03Z",
            "2026-11-30T03:00Z",
            "20261130T030000Z",
            "2026-11-21T08:00:00",
            "2026-11-21 08:00:00Z",
            "2026-11-21_08:00:00Z",
            " 2026-11-21T08:00:00Z",
            "2026-11-21T08:00:00Z ",
            "2026-11-21T08:00:00 Z",
            "2026-11-21T08:00:00ZZ",
            "2026-11-21T08:00:00UTC",
            "2026-11-21T08:00:00,5Z",
            "2026-11-21T08:00:00.Z",
            "2026-11-21T08:00:00.5,Z",
            "2026-11-21T08:00:00.-5Z",
            "2026-11-21T08:00:00+00",
            "2026-11-21T08:00:00+0000",
            "2026-11-21T08:00:00+1:00",
            "2026-11-21T08:00:00+24:00",
            "2026-11-21T08:00:00+00:60",
            "2026-11-21T08:00:00+00:00:00",
            "2026-11-21T08:00:00\u{2212}08:00",
            "2026-11-21T08:00:00Z[Asia/Tokyo]",
            "2026-11-21T08:00:00+09:00[Asia/Tokyo]",
            "2026-11-21T08:00:00Z[u-ca=hebrew]",
            "+002026-11-21T08:00:00Z",
            "-000001-11-21T08:00:00Z",
            "12026-11-21T08:00:00Z",
            "-026-11-21T08:00:00Z",
            "2026-W47-6T08:00:00Z",
            "2026-325T08:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-31T00:00:00Z",
            "2026-11-00T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T08:60:00Z",
            "2026-11-21T08:00:61Z",
            "2026-11-21T08:00:60Z",
            "2026-11-21T23:59:60Z",
            "2026-12-31T23:59:60+01:00",
            "2026-12-31T23:59:99Z",
            "٢٠٢٦-11-21T08:00:00Z",
            "2026-11-21T08:00:00\u{ff3a}",
        ] {
            assert_eq!(parse_ms(wrong), None, "{wrong}");
            assert_eq!(pattern.is_match(wrong), not_in_the_calendar.contains(&wrong), "{wrong}");
        }
    }

    #[test]
    fn times_are_written_to_the_millisecond_up_to_the_last_one_of_9999() {
        assert_eq!(format_ms(EIGHT_MS + 123), "2026-11-21T08:00:00.123Z");
        assert_eq!(format_ms(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(format_ms(-1), "1969-12-31T23:59:59.999Z");
        for (time_ms, text) in [
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (253_402_214_400_000, "9999-12-31T00:00:00.000Z"),
            (253_402_300_800_000, "9999-12-31T23:59:59.999Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
            (i64::MIN, "0000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(format_ms(time_ms), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(time_ms in WRITTEN_MS) {
            prop_assert_eq!(parse_ms(&format_ms(time_ms)), Some(time_ms));
        }

        /// A timestamp of jiff, within its own range, has the same meaning.
        #[test]
        fn agrees_with_the_calendar(time_ms in -62_167_219_200_000i64..253_402_207_200_000, offset in -1_439..=1_439i32) {
            let time = jiff::Timestamp::from_millisecond(time_ms).unwrap();
            let zone = jiff::tz::Offset::from_seconds(offset * 60).unwrap();
            let text = time.display_with_offset(zone).to_string();
            prop_assume!(!text.starts_with(['-', '+']));
            prop_assert_eq!(parse_ms(&text), Some(time_ms));
        }
    }
}
