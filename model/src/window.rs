//! Windows of time: their kinds and parameters.

use std::fmt;
use std::str::FromStr;

/// A kind of window and its parameters, in ms. Together they are part of every key: a tumbling window of half an hour
/// and a session of half an hour never meet.
///
/// Its text is canonical, and that of a tumbling window only its length: `3600000`, `hopping:3600000:300000`,
/// `session:1800000:43200000`, `sliding:10000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WindowSpec {
    /// Windows that follow each other: they start at multiples of their length.
    Tumbling {
        /// Length.
        size_ms: i64,
    },
    /// Windows that overlap: they start at multiples of `every_ms`.
    Hopping {
        /// Length.
        size_ms: i64,
        /// From one start to the next.
        every_ms: i64,
    },
    /// Windows that last from the first to the last of some events.
    Session {
        /// The longest time between two of them.
        gap_ms: i64,
        /// Sessions are cut at multiples of it.
        max_ms: i64,
    },
    /// Windows that end with each event.
    Sliding {
        /// Length.
        size_ms: i64,
    },
}

impl WindowSpec {
    /// The length of a tumbling window.
    pub fn tumbling_ms(self) -> Option<i64> {
        match self {
            Self::Tumbling { size_ms } => Some(size_ms),
            Self::Hopping { .. } | Self::Session { .. } | Self::Sliding { .. } => None,
        }
    }

    /// The length of all its windows; None for sessions, of which each has its own.
    pub fn size_ms(self) -> Option<i64> {
        match self {
            Self::Tumbling { size_ms } | Self::Hopping { size_ms, .. } | Self::Sliding { size_ms } => Some(size_ms),
            Self::Session { .. } => None,
        }
    }

    /// The longest that one of its windows can be.
    pub fn longest_ms(self) -> i64 {
        match self {
            Self::Tumbling { size_ms } | Self::Hopping { size_ms, .. } => size_ms,
            Self::Session { max_ms, .. } => max_ms,
            // Both ends belong to it.
            Self::Sliding { size_ms } => size_ms.saturating_add(1),
        }
    }

    /// The columns `window_ms` and `window_kind` of the table `counter_windows`: the length, 0 for sessions, which have
    /// no common one; and the text, empty for tumbling windows.
    pub fn columns(self) -> (i64, String) {
        let kind = self.tumbling_ms().map_or_else(|| self.to_string(), |_| String::new());
        (self.size_ms().unwrap_or(0), kind)
    }
}

impl fmt::Display for WindowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tumbling { size_ms } => write!(f, "{size_ms}"),
            Self::Hopping { size_ms, every_ms } => write!(f, "hopping:{size_ms}:{every_ms}"),
            Self::Session { gap_ms, max_ms } => write!(f, "session:{gap_ms}:{max_ms}"),
            Self::Sliding { size_ms } => write!(f, "sliding:{size_ms}"),
        }
    }
}

/// A text that is no window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no window: they are written like 3600000, hopping:3600000:300000, session:1800000:43200000, sliding:10000"
)]
pub struct WindowSpecError(String);

impl FromStr for WindowSpec {
    type Err = WindowSpecError;

    /// Takes only the canonical text.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = |text: &str| text.split(':').map(|part| part.parse::<i64>().ok()).collect::<Option<Vec<_>>>();
        let (kind, rest) = text.split_once(':').unwrap_or(("", text));
        let spec = match (kind, numbers(rest).as_deref()) {
            ("", Some(&[size_ms])) => Some(Self::Tumbling { size_ms }),
            ("hopping", Some(&[size_ms, every_ms])) => Some(Self::Hopping { size_ms, every_ms }),
            ("session", Some(&[gap_ms, max_ms])) => Some(Self::Session { gap_ms, max_ms }),
            ("sliding", Some(&[size_ms])) => Some(Self::Sliding { size_ms }),
            _ => None,
        };
        spec.filter(|spec| spec.to_string() == text).ok_or_else(|| WindowSpecError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_each_kind_is_what_it_has_always_been() {
        for (spec, text) in [
            (WindowSpec::Tumbling { size_ms: 3_600_000 }, "3600000"),
            (WindowSpec::Hopping { size_ms: 3_600_000, every_ms: 300_000 }, "hopping:3600000:300000"),
            (WindowSpec::Session { gap_ms: 1_800_000, max_ms: 43_200_000 }, "session:1800000:43200000"),
            (WindowSpec::Sliding { size_ms: 10_000 }, "sliding:10000"),
        ] {
            assert_eq!(spec.to_string(), text);
            assert_eq!(text.parse(), Ok(spec));
        }
        for text in
            ["", "1:2", ":1", "+1", "01", "hopping:1", "hopping:1:2:3", "session:1", "sliding:", "daily:1", "1h"]
        {
            assert!(text.parse::<WindowSpec>().is_err(), "{text}");
        }
    }
}
