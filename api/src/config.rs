//! The parts of the topology that the API uses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tally_model::{Estimate, MetricValue, ValueType, WindowSpec, subject_kind};

/// Names and numbers of the topology.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiConfig {
    /// The root topic.
    pub input_topic: String,
    /// Its number of partitions.
    pub input_partitions: u32,
    /// The consumer group that reads it.
    pub group: String,
    /// The topic of totals, partitioned by subject.
    pub counters_topic: String,
    /// Its number of partitions.
    pub counters_partitions: u32,
    /// The topics that the database sink takes and that carry progress marks, `counters` among them. A receipt is
    /// applied when all of them have passed it.
    pub outputs: Vec<OutputTopic>,
    /// Every metric.
    pub metrics: Vec<Metric>,
    /// What actors switch on and off: the names of the toggles that the topic of reactions carries.
    pub toggles: Vec<String>,
    /// The toggle that the database owns, where the topology has it: its rows are the API's own.
    pub collects: Option<String>,
    /// The metrics that have windows of a kind.
    pub windows: BTreeMap<WindowSpec, Vec<String>>,
    /// The topic that has them, where the database takes it.
    pub windows_topic: Option<OutputTopic>,
    /// The topic of what actors have switched on, where the database takes it.
    pub reactions: Option<OutputTopic>,
    /// The boards, where the topology has any and the database takes them.
    pub rankings: Option<Rankings>,
    /// Whether the database takes dead letters.
    pub dead_letters: bool,
    /// The kinds of subjects that only callers with scope `admin` may read.
    pub private_kinds: PrivateKinds,
}

/// The kinds of subjects that only callers with scope `admin` may read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PrivateKinds(Arc<[String]>);

impl PrivateKinds {
    /// These kinds.
    pub fn new(kinds: impl IntoIterator<Item = String>) -> Self {
        Self(kinds.into_iter().collect())
    }

    /// Whether a subject is of one of them.
    pub(crate) fn contain(&self, subject_id: &str) -> bool {
        !self.0.is_empty() && self.0.iter().any(|kind| kind == subject_kind(subject_id))
    }
}

impl ApiConfig {
    /// The topic whose progress is the age of an answer about what was switched on. Rows of `collects` are at least as
    /// new: they are written before the log has their event.
    pub(crate) fn switched_topic(&self) -> Option<&OutputTopic> {
        self.reactions.as_ref().or_else(|| self.collects.as_ref().and_then(|_| self.outputs.first()))
    }
}

/// A metric of the topology.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// What its values are.
    pub value_type: ValueType,
    /// The value without any event.
    pub of_nothing: MetricValue,
    /// Whether it is computed for all time, and not in windows alone.
    pub totals: bool,
    /// Which of its values are estimates; None if all are exact.
    pub estimate: Option<Estimate>,
}

/// The boards of the topology.
#[derive(Clone, Debug, PartialEq)]
pub struct Rankings {
    /// The topic that has them.
    pub topic: OutputTopic,
    /// Whether the cache sink takes it as well.
    pub cached: bool,
    /// Their names, as far as the topology knows them. A board is named like its node; that of a group `node@group`.
    pub nodes: Vec<String>,
    /// How long the first page of a board, without a viewer, is reused for other requests. Zero: not at all.
    pub pages_for: Duration,
}

/// An output topic with progress marks.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputTopic {
    /// Its name.
    pub name: String,
    /// Its number of partitions.
    pub partitions: u32,
    /// Which root partitions its marks cover.
    pub marks: Marks,
}

/// Which root partitions the marks of an output partition cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// Partition p is written by the task of root partition p, and its marks cover that one: `reactions`, `verdicts`.
    Own,
    /// Marks of every partition cover all of them: `counters`, `counter-windows`, `rankings`.
    All,
}
