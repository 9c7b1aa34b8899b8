//! The values of the topics `counters` and `counter-windows`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A unique count is exact up to this, and an estimate above.
pub const UNIQUES_EXACT_MAX: i64 = 256;

/// All totals of a subject: the value of topic `counters`, key subject_id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// The subject.
    pub subject_id: String,
    /// Metric -> value. A metric that is missing is 0.
    pub counters: BTreeMap<String, i64>,
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

/// A metric within a window: the value of topic `counter-windows`, key (subject_id, metric, window_ms, window_start).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CounterWindow {
    /// The subject.
    pub subject_id: String,
    /// The metric.
    pub metric: String,
    /// The window's length.
    pub window_ms: i64,
    /// Milliseconds since 1970, a multiple of `window_ms`.
    pub window_start_ms: i64,
    /// The count within the window.
    pub value: i64,
    /// The value is an estimate.
    #[serde(default, skip_serializing_if = "is_false")]
    pub approximate: bool,
    /// See [`Counters::version`].
    pub version: i64,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl CounterWindow {
    /// The record's key.
    pub fn key(&self) -> Vec<u8> {
        let (length, start) = (self.window_ms.to_string(), self.window_start_ms.to_string());
        crate::join_key(&[&self.subject_id, &self.metric, &length, &start])
    }
}
