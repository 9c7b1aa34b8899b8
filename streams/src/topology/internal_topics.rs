//! The topics that a log must have for a topology.

use super::Topology;
use super::cut::{control, idle, progress};
use crate::log::{Cleanup, TopicSpec};
use crate::processor::Dataflow;

impl<D: Dataflow> Topology<D> {
    /// The internal topic of the tasks' progress: the key is a task's name, the partition its number.
    pub fn progress_topic(&self) -> String {
        progress(&self.settings.application)
    }

    /// All topics to ensure: those of the file by name, then repartition topics, changelogs, moves of clocks, progress
    /// and the control topic.
    ///
    /// Internal topics have no retention: the runtime itself deletes records that it no longer needs.
    pub fn topic_specs(&self) -> Vec<TopicSpec> {
        let internal = |name: &str, partitions| TopicSpec {
            name: name.to_owned(),
            partitions,
            cleanup: Cleanup::Delete,
            retention: None,
            retention_bytes: None,
        };
        let mut specs: Vec<TopicSpec> = self.topics.values().map(|topic| topic.spec.clone()).collect();
        let hops = self.subtopologies.iter().flat_map(|subtopology| &subtopology.hops);
        specs.extend(hops.map(|hop| internal(&hop.topic, hop.partitions)));
        specs.extend(self.subtopologies.iter().map(|from| internal(&from.changelog, from.partitions)));
        // As long as its source: a replay of that needs it.
        let root = &self.topics[&*self.root].spec;
        specs.push(TopicSpec { retention: root.retention, ..internal(&self.idle_topic(), root.partitions) });
        // Compacted, and the runtime deletes replaced records: readers start from its beginning.
        let partitions = self.subtopologies.first().map_or(1, |root| root.partitions);
        specs.push(TopicSpec { cleanup: Cleanup::CompactAndDelete, ..internal(&self.progress_topic(), partitions) });
        specs.push(TopicSpec { cleanup: Cleanup::Compact, ..internal(&control(&self.settings.application), 1) });
        specs
    }

    /// The topic of moves of the root tasks' clocks that no record has made.
    pub fn idle_topic(&self) -> String {
        idle(&self.settings.application)
    }
}
