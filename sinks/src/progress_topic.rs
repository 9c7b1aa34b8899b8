//! The internal topic in which tasks publish their progress, as a sink reads it.

use std::collections::BTreeSet;
use std::sync::Arc;
use tally_streams::log::{Consumer, Log, LogError, TopicPartition};

/// Which partitions of the topic a sink reads: those with the numbers of the partitions that it has open, since a task
/// writes to the same number everywhere. No group divides them.
pub struct ProgressTopic {
    name: Arc<str>,
    partitions: u32,
    following: BTreeSet<u32>,
}

impl ProgressTopic {
    /// Nothing is read yet.
    pub fn new(log: &dyn Log, name: &str) -> Result<Self, LogError> {
        Ok(Self { name: name.into(), partitions: log.partitions(name)?, following: BTreeSet::new() })
    }

    /// Whether that is a partition of it.
    pub fn is(&self, partition: &TopicPartition) -> bool {
        partition.topic == self.name
    }

    /// Reads the partitions with these numbers from their start, and no others.
    pub fn follow(
        &mut self,
        log: &dyn Log,
        consumer: &mut dyn Consumer,
        numbers: BTreeSet<u32>,
    ) -> Result<(), LogError> {
        self.ignore(consumer);
        for number in numbers.into_iter().filter(|number| *number < self.partitions) {
            let partition = TopicPartition::new(self.name.clone(), number);
            consumer.assign(&partition, log.bounds(&partition)?.0)?;
            self.following.insert(number);
        }
        Ok(())
    }

    /// Reads nothing any more.
    pub fn ignore(&mut self, consumer: &mut dyn Consumer) {
        for number in std::mem::take(&mut self.following) {
            consumer.unassign(&TopicPartition::new(self.name.clone(), number));
        }
    }
}
