//! Times in a test file: relative to its start, or absolute.

use std::time::Duration;
use tally_model::{format_ms, looks_like_seconds, parse_ms};
use tally_streams::topology::{ConfigDuration, Report, Value, Yaml, parse_duration};

/// Where cases begin unless the file has a `start`: at midnight, so that hours and days begin there.
pub const START: &str = "2026-01-01T00:00:00Z";

const FORMS: &str =
    "a time such as +5s or -10m (from the start of the case), 2026-01-01T00:00:05Z, or milliseconds since 1970";

/// Reads a time, in milliseconds since 1970.
pub fn moment(yaml: &Yaml, start_ms: i64, report: &mut Report<'_>) -> Option<i64> {
    let parsed = match &yaml.value {
        Value::Integer(number) => i64::try_from(*number).ok().filter(|ms| *ms >= 0 && !looks_like_seconds(*ms)),
        Value::String(text) => relative(text, start_ms).or_else(|| parse_ms(text)),
        _ => None,
    };
    if parsed.is_none() {
        report.add(yaml.span, format!("expected {FORMS}, found {}", yaml.value), None);
    }
    parsed
}

/// Reads `+5s` or `-10m`.
pub fn relative(text: &str, start_ms: i64) -> Option<i64> {
    let (sign, rest) = match text.strip_prefix('+') {
        Some(rest) => (1, rest),
        None => (-1, text.strip_prefix('-')?),
    };
    let ms = i64::try_from(parse_duration(rest).ok()?.as_millis()).ok()?;
    start_ms.checked_add(sign * ms)
}

/// The time as [`relative`] reads it.
pub fn shown(time_ms: i64, start_ms: i64) -> String {
    let distance = Duration::from_millis(time_ms.abs_diff(start_ms));
    let sign = if time_ms < start_ms { '-' } else { '+' };
    format!("{sign}{}", ConfigDuration(distance))
}

/// The default start, in milliseconds since 1970.
pub fn default_start_ms() -> i64 {
    let start_ms = parse_ms(START);
    debug_assert!(start_ms.is_some_and(|ms| format_ms(ms).starts_with("2026-01-01T00:00:00")));
    start_ms.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_back() {
        let start_ms = default_start_ms();
        for text in ["+0s", "+5s", "-10m", "+1d 2h", "+1h 30m"] {
            assert_eq!(shown(relative(text, start_ms).unwrap(), start_ms), text);
        }
        assert_eq!(relative("5s", start_ms), None);
        assert_eq!(relative("+5", start_ms), None);
    }
}
