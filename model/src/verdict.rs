//! The values of the topic `verdicts`: events that were not counted, with the reason, and events that are held back.

use serde::{Deserialize, Serialize};

/// Why an event was not counted, or not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictKind {
    /// Counted before.
    Duplicate,
    /// Refused by a rate rule.
    Limited,
    /// Arrived too long after its time.
    Late,
    /// An invalid event, or one that a processor rejected: a dead letter.
    Dead,
    /// Held back by a rate rule until its window ends: not counted yet. [`VerdictKind::Limited`] or
    /// [`VerdictKind::Released`] follows.
    Held,
    /// No longer held back: the event was forwarded, which voids its earlier verdicts.
    Released,
}

impl VerdictKind {
    /// As written outside.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Limited => "limited",
            Self::Late => "late",
            Self::Dead => "dead",
            Self::Held => "held",
            Self::Released => "released",
        }
    }
}

/// One event that was not counted: the value of topic `verdicts`, key actor_id. The last one of a partition and offset is
/// what holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Partition of the event in `user-actions`.
    pub partition: u32,
    /// Offset of the event there.
    pub offset: u64,
    /// The request to the ingest API that sent it, hexadecimal; absent for events from other producers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The event's id; absent if it could not be parsed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// The actor; absent if it could not be parsed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor_id: Option<String>,
    /// The kind of verdict.
    pub verdict: VerdictKind,
    /// For people: the rule's name, or the error.
    pub reason: String,
    /// The node that decided.
    pub node: String,
    /// When the log took the event, milliseconds since 1970.
    pub appended_at_ms: i64,
    /// See [`crate::Counters::version`].
    pub version: i64,
}
