//! The types of values on the edges of a topology.

use tally_model::OutputType;

/// A type of values on edges. What the runtime calls an edge type is its place in [`EdgeType::NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeType {
    /// Records of the root topic.
    Raw,
    /// Valid events.
    Event,
    /// Changes of metrics.
    Change,
    /// States of toggles.
    Reaction,
    /// All totals of subjects.
    Counters,
    /// Metrics within windows.
    CounterWindow,
    /// Events that were not counted.
    Verdict,
    /// Whole boards.
    Ranking,
    /// Boards of one partition, sent to the merge of all partitions.
    Top,
}

impl EdgeType {
    /// The name of each type, in the order of the variants.
    pub const NAMES: &'static [&'static str] = &[
        OutputType::Raw.name(),
        "event",
        "change",
        OutputType::Reaction.name(),
        OutputType::Counters.name(),
        OutputType::CounterWindow.name(),
        OutputType::Verdict.name(),
        OutputType::Ranking.name(),
        "top",
    ];

    /// Its name in `topology.yaml`.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// The names of the types that a topic can hold.
pub const TOPIC_TYPES: &[&str] = &[
    EdgeType::Raw.name(),
    EdgeType::Event.name(),
    EdgeType::Change.name(),
    EdgeType::Reaction.name(),
    EdgeType::Counters.name(),
    EdgeType::CounterWindow.name(),
    EdgeType::Verdict.name(),
    EdgeType::Ranking.name(),
];
