//! What a sink is asked to do.

use std::time::Duration;

/// What the records of a topic are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// All totals of a subject ([`tally_model::Counters`]).
    Counters,
    /// A metric within a window ([`tally_model::CounterWindow`]).
    CounterWindow,
    /// The state of a toggle ([`tally_model::Reaction`]).
    Reaction,
    /// A whole board ([`tally_model::Ranking`]).
    Ranking,
    /// An event that was not counted ([`tally_model::Verdict`]).
    Verdict,
    /// Any bytes: a dead letter, with headers that say where it came from and why.
    Raw,
}

impl ValueType {
    /// By its name in `topology.yaml`; None where a sink cannot take it.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "counters" => Self::Counters,
            "counter" => Self::CounterWindow,
            "reaction" => Self::Reaction,
            "ranking" => Self::Ranking,
            "verdict" => Self::Verdict,
            "raw" => Self::Raw,
            _ => return None,
        })
    }
}

/// What kind of target a sink writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SinkKind {
    /// [`crate::Database`].
    Database,
    /// [`tally_cache::MemoryCache`], or a Redis.
    Cache,
}

/// One sink of the topology.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkConfig {
    /// Its name in the topology; a label of its metrics.
    pub name: String,
    /// What it writes to.
    pub kind: SinkKind,
    /// The consumer group of all processes that write to the same target: `<application>-sink-<name>`.
    pub group: String,
    /// This sink's name within the group: nobody else's, and the same after a restart.
    pub member: String,
    /// The topics it reads, each with the type of its values.
    pub topics: Vec<(String, ValueType)>,
    /// The internal topic in which tasks say how far they are, where there is one: `<application>-progress`.
    pub progress_topic: Option<String>,
    /// A batch is written when it holds this many records (a poll's worth may come on top) …
    pub records_max: usize,
    /// … or when its first record has waited this long.
    pub linger: Duration,
}
