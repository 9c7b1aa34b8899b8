//! Durations as people write them.

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::fmt;
use std::time::Duration;

/// A duration in a configuration: `50ms`, `5s`, `5m`, `24h`, `90d`, `1h 30m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigDuration(pub Duration);

/// Units and their milliseconds, longest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// What is accepted, for messages.
const FORMS: &str = "a duration such as 50ms, 5s, 5m, 24h, 90d or `1h 30m`";

/// About 292 years: its nanoseconds fit an i64.
const MILLIS_MAX: u64 = i64::MAX as u64 / 1_000_000;

/// Reads a duration: whole numbers with a unit, larger units first, each unit once. Zero is a duration.
///
/// The error describes the accepted form.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("expected {FORMS}, found `{text}`");
    let mut rest = text.trim();
    let mut units = UNITS.iter();
    let mut millis: u64 = 0;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        if number.is_empty() {
            return Err(bad());
        }
        // The iterator has only the units smaller than those before.
        let (_, unit_millis) = units.find(|(name, _)| *name == unit).ok_or_else(bad)?;
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*unit_millis));
        millis = (part.and_then(|part| millis.checked_add(part)))
            .filter(|millis| *millis <= MILLIS_MAX)
            .ok_or_else(|| format!("`{text}` is longer than a duration can be, about 292 years"))?;
        rest = tail.trim_start();
    }
    Ok(Duration::from_millis(millis))
}

impl ConfigDuration {
    /// Of so many milliseconds, at least 0.
    pub fn from_ms(ms: i64) -> Self {
        Self(Duration::from_millis(ms.unsigned_abs()))
    }

    /// For `#[serde(deserialize_with = "ConfigDuration::positive")]`, where zero makes no sense.
    pub fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Self::deserialize(deserializer)? {
            Self(Duration::ZERO) => Err(D::Error::custom("a duration of zero makes no sense here")),
            duration => Ok(duration),
        }
    }
}

impl fmt::Display for ConfigDuration {
    /// The one form of several that uses the largest units: 24h is `1d`. To the millisecond.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        let mut space = "";
        for (unit, unit_millis) in UNITS {
            let count = millis / u128::from(unit_millis);
            if count > 0 {
                write!(f, "{space}{count}{unit}")?;
                space = " ";
            }
            millis %= u128::from(unit_millis);
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for ConfigDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(DurationVisitor)
    }
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = ConfigDuration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FORMS)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ConfigDuration, E> {
        parse_duration(text).map(ConfigDuration).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> Option<u128> {
        parse_duration(text).ok().map(|duration| duration.as_millis())
    }

    #[test]
    fn every_accepted_form() {
        assert_eq!(millis("50ms"), Some(50));
        assert_eq!(millis("5s"), Some(5_000));
        assert_eq!(millis("5m"), Some(300_000));
        assert_eq!(millis("24h"), Some(86_400_000));
        assert_eq!(millis("90d"), Some(7_776_000_000));
        assert_eq!(millis("1h 30m"), Some(5_400_000));
        assert_eq!(millis(" 1h30m 5ms "), Some(5_400_005));
        assert_eq!(millis("0s"), Some(0));
    }

    #[test]
    fn everything_else_is_refused_with_the_accepted_forms() {
        for text in
            ["", " ", "5", "s", "5 s", "1.5h", "-5s", "+5s", "5sec", "5S", "5m 1h", "1h 1h", "5s,", "٣s", "1h x"]
        {
            let error = parse_duration(text).unwrap_err();
            assert_eq!(
                error,
                format!("expected a duration such as 50ms, 5s, 5m, 24h, 90d or `1h 30m`, found `{text}`")
            );
        }
    }

    #[test]
    fn too_long_is_an_error_not_a_wrap() {
        for text in ["18446744073709551615d", "99999999999999999999s", "9223372036855ms", "106751d 24h"] {
            assert!(parse_duration(text).unwrap_err().contains("longer than"), "{text}");
        }
        assert_eq!(millis("9223372036854ms"), Some(9_223_372_036_854));
    }

    #[test]
    fn what_is_displayed_is_read_back() {
        for text in ["0s", "50ms", "5s", "1d", "1h 30m", "3d 4h 5m 6s 7ms"] {
            assert_eq!(ConfigDuration(parse_duration(text).unwrap()).to_string(), text);
        }
    }
}
