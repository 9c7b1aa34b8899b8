//! The parts of a store that decide its content.

use super::duration::ConfigDuration;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A part of a store that decides its content. The fingerprint has its [text](StorePart::written); `Display` is for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum StorePart {
    /// Windows that follow each other: `3600000`.
    Tumbling {
        /// Length.
        size_ms: u64,
    },
    /// Windows that overlap: `hopping:3600000:1200000`.
    Hopping {
        /// Length.
        size_ms: u64,
        /// From one start to the next.
        every_ms: u64,
    },
    /// Windows with gaps between them: `session:1800000:43200000`.
    Session {
        /// The longest time between two events of one.
        gap_ms: u64,
        /// Where sessions are cut.
        max_ms: u64,
    },
    /// Windows that end with each event: `sliding:10000`.
    Sliding {
        /// Length.
        size_ms: u64,
    },
    /// Windows of a metric, in a store of several metrics: `views/60 min`.
    OfMetric {
        /// The metric.
        metric: String,
        /// Length.
        minutes: u64,
    },
    /// A value that is computed: `n: count`.
    Value {
        /// Its name.
        name: String,
        /// What computes it.
        function: String,
    },
    /// Any other rule, such as `late_after`.
    Rule(String),
}

impl StorePart {
    /// The text in the fingerprint. It identifies the part, and must not change.
    pub fn written(&self) -> String {
        match self {
            Self::Tumbling { size_ms } => size_ms.to_string(),
            Self::Hopping { size_ms, every_ms } => format!("hopping:{size_ms}:{every_ms}"),
            Self::Session { gap_ms, max_ms } => format!("session:{gap_ms}:{max_ms}"),
            Self::Sliding { size_ms } => format!("sliding:{size_ms}"),
            Self::OfMetric { metric, minutes } => format!("{metric}/{minutes} min"),
            Self::Value { name, function } => format!("{name}: {function}"),
            Self::Rule(rule) => rule.clone(),
        }
    }

    /// What it is.
    pub(super) fn what(&self) -> &'static str {
        if matches!(self, Self::Value { .. }) { "value" } else { "window" }
    }

    fn read(text: &str) -> Option<Self> {
        if let Some((name, function)) = text.split_once(": ") {
            return Some(Self::Value { name: name.to_owned(), function: function.to_owned() });
        }
        if let Some((metric, minutes)) = text.split_once('/') {
            let minutes = minutes.strip_suffix(" min")?.parse().ok()?;
            return Some(Self::OfMetric { metric: metric.to_owned(), minutes });
        }
        let (kind, lengths) = text.split_once(':').unwrap_or(("", text));
        let lengths = lengths.split(':').map(|length| length.parse().ok()).collect::<Option<Vec<u64>>>()?;
        match (kind, lengths.as_slice()) {
            ("", &[size_ms]) => Some(Self::Tumbling { size_ms }),
            ("hopping", &[size_ms, every_ms]) => Some(Self::Hopping { size_ms, every_ms }),
            ("session", &[gap_ms, max_ms]) => Some(Self::Session { gap_ms, max_ms }),
            ("sliding", &[size_ms]) => Some(Self::Sliding { size_ms }),
            _ => None,
        }
    }
}

impl From<String> for StorePart {
    fn from(text: String) -> Self {
        // What another release wrote differently stays as it is: fingerprints are compared.
        Self::read(&text).filter(|part| part.written() == text).unwrap_or(Self::Rule(text))
    }
}

impl From<StorePart> for String {
    fn from(part: StorePart) -> Self {
        part.written()
    }
}

impl fmt::Display for StorePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |ms: u64| ConfigDuration(Duration::from_millis(ms));
        match self {
            Self::Tumbling { size_ms } => text(*size_ms).fmt(f),
            Self::Hopping { size_ms, every_ms } => write!(f, "hopping {} every {}", text(*size_ms), text(*every_ms)),
            Self::Session { gap_ms, max_ms } => write!(f, "session {} max {}", text(*gap_ms), text(*max_ms)),
            Self::Sliding { size_ms } => write!(f, "sliding {}", text(*size_ms)),
            Self::OfMetric { metric, minutes } => write!(f, "{} ({metric})", text(minutes.saturating_mul(60_000))),
            Self::Value { .. } | Self::Rule(_) => f.write_str(&self.written()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_have_durations_and_values_are_no_windows() {
        for (text, what, shown) in [
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
            ("0060000", "window", "0060000"),
            ("views/060 min", "window", "views/060 min"),
        ] {
            let part = StorePart::from(text.to_owned());
            assert_eq!((part.what(), part.to_string().as_str()), (what, shown));
            assert_eq!(part.written(), text);
        }
    }
}
