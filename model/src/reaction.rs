//! The values of the topic `reactions`: whether an actor likes (follows, …) a subject.

use serde::{Deserialize, Serialize};

/// The state of one toggle: the value of topic `reactions`, key (actor_id, metric, subject_id).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reaction {
    /// The actor.
    pub actor_id: String,
    /// Which toggle: the name of its node, like `likes`.
    pub metric: String,
    /// The subject.
    pub subject_id: String,
    /// Whether the toggle is on.
    pub active: bool,
    /// The effective time of the event that brought this state, milliseconds since 1970.
    pub occurred_at_ms: i64,
    /// When the log took that event.
    pub appended_at_ms: i64,
    /// See [`crate::Counters::version`].
    pub version: i64,
}

impl Reaction {
    /// The record's key.
    pub fn key(&self) -> Vec<u8> {
        crate::join_key(&[&self.actor_id, &self.metric, &self.subject_id])
    }
}
