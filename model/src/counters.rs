//! The values of the topics `counters` and `counter-windows`.

use crate::{MetricValue, WindowSpec};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;

/// A unique count is exact up to this, and an estimate above.
pub const UNIQUES_EXACT_MAX: i64 = 256;

/// All totals of a subject: the value of topic `counters`, key subject_id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// The subject.
    pub subject_id: String,
    /// Metric -> value. A metric that is missing has the value of nothing: 0, or null.
    pub counters: BTreeMap<String, MetricValue>,
    /// The metrics that changed since the previous record.
    pub changed: Vec<String>,
    /// The metrics among `counters` that are estimates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approximate: Vec<String>,
    /// The clock of the task that wrote it, milliseconds since 1970.
    pub as_of_ms: i64,
    /// generation << 48 | commit number: a greater one replaces a smaller one.
    pub version: i64,
}

/// A metric within a window: the value of topic `counter-windows`, key (subject_id, metric, window, window_start_ms).
#[derive(Clone, Debug, PartialEq)]
pub struct CounterWindow {
    /// The subject.
    pub subject_id: String,
    /// The metric.
    pub metric: String,
    /// The kind of window.
    pub window: WindowSpec,
    /// Milliseconds since 1970.
    pub window_start_ms: i64,
    /// The first millisecond behind the window.
    pub window_end_ms: i64,
    /// The value within the window.
    pub value: MetricValue,
    /// The value is an estimate.
    pub approximate: bool,
    /// The window no longer exists: it was a session, and another one has absorbed it. The value is null.
    pub deleted: bool,
    /// See [`Counters::version`].
    pub version: i64,
}

/// The JSON of [`CounterWindow`]. Tumbling windows have only their length, all others their kind and their end:
/// releases that know only the former stop at the latter.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    subject_id: Cow<'a, str>,
    #[serde(borrow)]
    metric: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window_ms: Option<i64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    window: Option<Cow<'a, str>>,
    window_start_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window_end_ms: Option<i64>,
    value: Cow<'a, MetricValue>,
    #[serde(default, skip_serializing_if = "is_false")]
    approximate: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    deleted: bool,
    version: i64,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Serialize for CounterWindow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let window_ms = self.window.tumbling_ms();
        let is_tumbling = window_ms.is_some();
        let written = Written {
            subject_id: Cow::Borrowed(&self.subject_id),
            metric: Cow::Borrowed(&self.metric),
            window_ms,
            window: (!is_tumbling).then(|| Cow::Owned(self.window.to_string())),
            window_start_ms: self.window_start_ms,
            window_end_ms: (!is_tumbling).then_some(self.window_end_ms),
            value: Cow::Borrowed(&self.value),
            approximate: self.approximate,
            deleted: self.deleted,
            version: self.version,
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CounterWindow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let window_start_ms = written.window_start_ms;
        let (window, window_end_ms) =
            window_of(written.window_ms, written.window.as_deref(), window_start_ms, written.window_end_ms)
                .map_err(D::Error::custom)?;
        Ok(Self {
            subject_id: written.subject_id.into_owned(),
            metric: written.metric.into_owned(),
            window,
            window_start_ms,
            window_end_ms,
            value: written.value.into_owned(),
            approximate: written.approximate,
            deleted: written.deleted,
            version: written.version,
        })
    }
}

/// A record of a window that does not have the fields of any kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowFieldsError {
    /// The text of the window is none.
    #[error(transparent)]
    Window(#[from] crate::WindowSpecError),
    /// Every window has a length or a kind.
    #[error("it needs either `window_ms`, or `window` and `window_end_ms`")]
    Fields,
}

/// The window and its end, from the fields of a record.
pub fn window_of(
    window_ms: Option<i64>,
    window: Option<&str>,
    window_start_ms: i64,
    window_end_ms: Option<i64>,
) -> Result<(WindowSpec, i64), WindowFieldsError> {
    match (window_ms, window, window_end_ms) {
        (Some(size_ms), None, None) => Ok((WindowSpec::Tumbling { size_ms }, window_start_ms.saturating_add(size_ms))),
        (None, Some(window), Some(window_end_ms)) => Ok((window.parse()?, window_end_ms)),
        _ => Err(WindowFieldsError::Fields),
    }
}

impl CounterWindow {
    /// The record's key.
    pub fn key(&self) -> Vec<u8> {
        let mut key = Vec::new();
        self.append_key(&mut key);
        key
    }

    /// Appends the record's key.
    pub(crate) fn append_key(&self, key: &mut Vec<u8>) {
        for part in [&self.subject_id, &self.metric] {
            key.extend_from_slice(part.as_bytes());
            key.push(0);
        }
        // Only a failing writer fails here, and a vector does not.
        _ = write!(key, "{}\0{}", self.window, self.window_start_ms);
    }
}
