//! The parts of a store, as text for people.

use super::duration::ConfigDuration;
use std::fmt;
use std::time::Duration;

/// A part of a store, as [`StoreSpec::windows`](super::StoreSpec::windows) and the fingerprint have it: a kind of windows
/// (`hopping:3600000:1200000`), a window of a metric (`views/60 min`), a value (`n: count`), or anything else.
pub(super) struct StorePart<'a>(pub &'a str);

impl StorePart<'_> {
    /// Whether it is a value that is computed, and no window.
    pub fn is_value(&self) -> bool {
        self.0.contains(": ")
    }

    /// What it is.
    pub fn what(&self) -> &'static str {
        if self.is_value() { "value" } else { "window" }
    }

    fn shown(&self) -> Option<String> {
        let text = |ms: u64| ConfigDuration(Duration::from_millis(ms));
        if let Some((metric, minutes)) = self.0.split_once('/') {
            let minutes: u64 = minutes.strip_suffix(" min")?.parse().ok()?;
            return Some(format!("{} ({metric})", text(minutes.checked_mul(60_000)?)));
        }
        let (kind, lengths) = self.0.split_once(':').unwrap_or(("", self.0));
        let lengths = lengths.split(':').map(|length| length.parse().ok()).collect::<Option<Vec<u64>>>()?;
        Some(match (kind, lengths.as_slice()) {
            ("", &[size]) => text(size).to_string(),
            ("hopping", &[size, every]) => format!("hopping {} every {}", text(size), text(every)),
            ("session", &[gap, max]) => format!("session {} max {}", text(gap), text(max)),
            ("sliding", &[size]) => format!("sliding {}", text(size)),
            _ => return None,
        })
    }
}

impl fmt::Display for StorePart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shown() {
            Some(shown) => f.write_str(&shown),
            None => f.write_str(self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_have_durations_and_values_are_no_windows() {
        for (part, what, shown) in [
            ("3600000", "window", "1h"),
            ("hopping:3600000:1200000", "window", "hopping 1h every 20m"),
            ("session:1800000:43200000", "window", "session 30m max 12h"),
            ("sliding:10000", "window", "sliding 10s"),
            ("views/1440 min", "window", "1d (views)"),
            ("worst: max", "value", "worst: max"),
            ("revenue: sum (scale 2)", "value", "revenue: sum (scale 2)"),
            ("1h", "window", "1h"),
            ("late_after", "window", "late_after"),
            ("other:1:2", "window", "other:1:2"),
        ] {
            let part = StorePart(part);
            assert_eq!((part.what(), part.to_string().as_str()), (what, shown));
        }
    }
}
