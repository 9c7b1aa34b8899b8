//! The topics that a log must have for a topology.

use super::Topology;
use super::cut::{control, idle};
use crate::log::{Cleanup, TopicSpec};
use crate::processor::Dataflow;

impl<D: Dataflow> Topology<D> {
    /// All topics to ensure: those of the file by name, then repartition topics, changelogs, moves of
    /// clocks and the control topic.
    ///
    /// Internal topics are kept for ever: the runtime itself deletes what it has no more use for.
    pub fn topic_specs(&self) -> Vec<TopicSpec> {
        let internal = |name: &str, partitions| TopicSpec {
            name: name.to_owned(),
            partitions,
            cleanup: Cleanup::Delete,
            retention: None,
        };
        let mut specs: Vec<TopicSpec> = self.topics.values().map(|topic| topic.spec.clone()).collect();
        let hops = self.subtopologies.iter().flat_map(|subtopology| &subtopology.hops);
        specs.extend(hops.map(|hop| internal(&hop.topic, hop.partitions)));
        specs.extend(self.subtopologies.iter().map(|from| internal(&from.changelog, from.partitions)));
        // As long as its source: a replay of that needs it.
        let root = &self.topics[&*self.root].spec;
        specs.push(TopicSpec { retention: root.retention, ..internal(&self.idle_topic(), root.partitions) });
        specs.push(TopicSpec { cleanup: Cleanup::Compact, ..internal(&control(&self.settings.application), 1) });
        specs
    }

    /// The topic of moves of the root tasks' clocks that no record has made.
    pub fn idle_topic(&self) -> String {
        idle(&self.settings.application)
    }
}
