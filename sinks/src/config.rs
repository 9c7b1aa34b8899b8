//! What a sink has to do.

use std::time::Duration;
use tally_model::OutputType;

/// One sink of the topology.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkConfig {
    /// Its name in the topology; a label of its metrics.
    pub name: String,
    /// The consumer group of all processes that write to the same target: `<application>-sink-<name>`.
    pub group: String,
    /// This sink's name within the group: unique there, and the same after a restart.
    pub member: String,
    /// The topics it reads, each with the type of its values.
    pub topics: Vec<(String, OutputType)>,
    /// The internal topic in which tasks publish their progress, where there is one: `<application>-progress`.
    pub progress_topic: Option<String>,
    /// A batch is written when it holds this many records (a poll's worth may come on top) …
    pub records_max: usize,
    /// … or when its first record has waited this long. For a database it waits for 4 times as long as the last write
    /// took, if that is longer, and at most 5 times as long as this.
    pub linger: Duration,
}
