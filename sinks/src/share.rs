//! Which partitions are a sink's own.

use crate::config::SinkConfig;
use std::collections::BTreeSet;
use std::sync::Arc;
use tally_model::OutputType;
use tally_streams::log::{Log, LogError};

/// A topic of a sink.
pub struct SinkTopic {
    pub name: Arc<str>,
    pub output: OutputType,
    pub partitions: u32,
}

/// Which partitions of its topics a sink reads.
///
/// The group divides one topic, the driver: the sink's topic with the most partitions, the first of several. Who has
/// partition d of it has, of every topic, the partitions p with p % (the driver's number of partitions) = d. So every
/// partition has one reader, and all members agree on whose it is.
pub enum Share {
    /// All of them.
    All,
    /// The partitions that belong to the driver partitions of this member.
    Member { driver: Arc<str>, driver_partitions: u32, owned: BTreeSet<u32> },
}

impl Share {
    /// A member's, which has nothing yet. Everything where there is no topic at all.
    pub fn of_member(topics: &[SinkTopic]) -> Self {
        let most = topics.iter().map(|topic| topic.partitions).max();
        match topics.iter().find(|topic| Some(topic.partitions) == most) {
            Some(driver) => {
                let (name, driver_partitions) = (driver.name.clone(), driver.partitions.max(1));
                Self::Member { driver: name, driver_partitions, owned: BTreeSet::new() }
            }
            None => Self::All,
        }
    }

    /// Whether a partition of any of the topics is part of it.
    pub fn has(&self, partition: u32) -> bool {
        match self {
            Self::All => true,
            Self::Member { driver_partitions, owned, .. } => owned.contains(&(partition % driver_partitions)),
        }
    }

    /// Adds driver partitions that the group assigned.
    pub fn give(&mut self, driver_partitions: &[u32]) {
        if let Self::Member { owned, .. } = self {
            owned.extend(driver_partitions);
        }
    }

    /// Removes driver partitions that the group revoked.
    pub fn take(&mut self, driver_partitions: &[u32]) {
        if let Self::Member { owned, .. } = self {
            owned.retain(|partition| !driver_partitions.contains(partition));
        }
    }

    /// Whether a group gives and takes, and nothing is left of what it gave.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Member { owned, .. } if owned.is_empty())
    }
}

/// The topics of a sink, with their numbers of partitions.
pub fn topics_of(config: &SinkConfig, log: &dyn Log) -> Result<Vec<SinkTopic>, LogError> {
    let topic = |(name, output): &(String, OutputType)| {
        let partitions = log.partitions(name)?;
        Ok(SinkTopic { name: name.as_str().into(), output: *output, partitions })
    };
    config.topics.iter().map(topic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(partitions: &[u32]) -> Vec<SinkTopic> {
        let topic = |(i, partitions): (usize, &u32)| SinkTopic {
            name: format!("t{i}").into(),
            output: OutputType::Counters,
            partitions: *partitions,
        };
        partitions.iter().enumerate().map(topic).collect()
    }

    #[test]
    fn the_first_topic_with_the_most_partitions_drives() {
        let share = Share::of_member(&topics(&[1, 4, 2, 4]));
        assert!(matches!(&share, Share::Member { driver, driver_partitions: 4, .. } if **driver == *"t1"));
        assert!(matches!(Share::of_member(&[]), Share::All));
    }

    #[test]
    fn every_partition_of_every_topic_has_one_reader() {
        let topics = topics(&[1, 4, 3]);
        let mut members = [Share::of_member(&topics), Share::of_member(&topics), Share::of_member(&topics)];
        members[0].give(&[0, 3]);
        members[1].give(&[1]);
        members[2].give(&[2, 3]);
        members[2].take(&[3]);
        for topic in &topics {
            for partition in 0..topic.partitions {
                let readers = members.iter().filter(|share| share.has(partition)).count();
                assert_eq!(readers, 1, "{}/{partition}", topic.name);
            }
        }
        members[1].take(&[1]);
        assert!(members[1].is_empty() && !members[0].is_empty() && !Share::All.is_empty());
    }
}
