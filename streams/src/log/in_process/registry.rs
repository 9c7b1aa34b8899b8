//! Which topics exist, and which numbers their partitions have.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keys;
use super::storage::PartitionId;
use crate::log::{Cleanup, LogError, TopicPartition, TopicSpec};

/// Format 1 lacks `retention_bytes`. A log with format 2 may hold blocks, and one with format 3 packed blocks. Releases that
/// know only older formats cannot read these: they refuse the topics, and so the log.
const FORMAT: u8 = 3;

/// Why a log is refused.
const NEWER: &str = "the log was written by a newer release of tally, and this one cannot read it: run that release, or \
                     restore a backup from before the upgrade";

/// A topic that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// The number of its partition 0; the others follow.
    pub first: PartitionId,
    /// How many partitions.
    pub partitions: u32,
    /// How records are deleted.
    pub cleanup: Cleanup,
    /// How long records are kept at least.
    pub retention: Option<Duration>,
    /// How many bytes they may take.
    pub retention_bytes: Option<u64>,
}

impl Topic {
    /// The number of one of its partitions.
    pub fn id(&self, partition: u32) -> Result<PartitionId, LogError> {
        if partition < self.partitions {
            return Ok(self.first + partition);
        }
        let Self { name, partitions, .. } = self;
        Err(LogError::UnknownTopic(format!("{name}/{partition} (the topic has {partitions} partitions)")))
    }

    /// Bytes that each partition may take.
    pub fn partition_bytes(&self) -> Option<u64> {
        let bytes = self.retention_bytes.filter(|_| self.cleanup != Cleanup::Compact);
        bytes.map(|bytes| bytes / u64::from(self.partitions.max(1)))
    }

    /// Age in ms after which batches may be removed.
    pub fn retention_ms(&self) -> Option<i64> {
        match self.cleanup {
            Cleanup::Compact => None,
            Cleanup::Delete | Cleanup::CompactAndDelete => {
                self.retention.map(|kept| i64::try_from(kept.as_millis()).unwrap_or(i64::MAX))
            }
        }
    }
}

/// All topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Registry {
    topics: BTreeMap<Arc<str>, Arc<Topic>>,
    partitions: u32,
}

impl Registry {
    /// Partitions of all topics.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// A topic by name.
    pub fn topic(&self, name: &str) -> Result<&Arc<Topic>, LogError> {
        self.topics.get(name).ok_or_else(|| LogError::UnknownTopic(name.to_owned()))
    }

    /// A partition's number.
    pub fn id(&self, at: &TopicPartition) -> Result<PartitionId, LogError> {
        self.topic(&at.topic)?.id(at.partition)
    }

    /// What [`Registry::with`] refuses of `specs`: all of it.
    pub fn refusals(&self, specs: &[TopicSpec]) -> Vec<LogError> {
        specs.iter().filter_map(|spec| self.known(spec).err()).collect()
    }

    /// The topic of a spec, if it exists.
    fn known(&self, spec: &TopicSpec) -> Result<Option<&Arc<Topic>>, LogError> {
        check(spec)?;
        let topic = self.topics.get(spec.name.as_str());
        topic.map(|topic| verify(topic, spec).map(|()| topic)).transpose()
    }

    /// The registry that also has `specs`. Another retention is taken over; other differences are refused.
    pub fn with(&self, specs: &[TopicSpec]) -> Result<Self, LogError> {
        let mut new = self.clone();
        for spec in specs {
            let name: Arc<str> = spec.name.as_str().into();
            let topic = match new.known(spec)? {
                Some(topic) => {
                    let TopicSpec { retention, retention_bytes, .. } = *spec;
                    Topic { retention, retention_bytes, ..Topic::clone(topic) }
                }
                None => new.add(spec)?,
            };
            new.topics.insert(name, topic.into());
        }
        Ok(new)
    }

    fn add(&mut self, spec: &TopicSpec) -> Result<Topic, LogError> {
        let TopicSpec { ref name, partitions, cleanup, retention, retention_bytes } = *spec;
        let (name, first): (Arc<str>, _) = (name.as_str().into(), self.partitions);
        let all = first.checked_add(partitions);
        self.partitions =
            all.ok_or_else(|| mismatch(&name, "would bring the log's partitions beyond 32 bits".into()))?;
        Ok(Topic { name, first, partitions, cleanup, retention, retention_bytes })
    }

    /// The value under [`keys::TOPICS`].
    pub fn encode(&self) -> Result<Vec<u8>, LogError> {
        let mut topics: Vec<_> = self.topics.values().collect();
        topics.sort_by_key(|topic| topic.first);
        let stored: Vec<_> = topics.iter().map(|topic| (StoredTopic::of(topic), topic.retention_bytes)).collect();
        let body = postcard::to_extend(&stored, vec![FORMAT]);
        let body = body.map_err(|e| LogError::Fatal(format!("cannot encode the topics: {e}")))?;
        Ok(keys::seal(keys::TOPICS, &body))
    }

    /// Whether a value that can be read is of an older format than [`Registry::encode`] writes.
    pub fn is_old(value: &[u8]) -> bool {
        keys::open(keys::TOPICS, value).is_ok_and(|body| body.first().is_some_and(|format| *format < FORMAT))
    }

    /// Reads what [`Registry::encode`] wrote.
    pub fn decode(value: &[u8]) -> Result<Self, LogError> {
        let damaged = |detail: &str| keys::corrupt(keys::TOPICS, detail);
        let wrong = |e: postcard::Error| damaged(&e.to_string());
        let stored: Vec<(StoredTopic, Option<u64>)> = match keys::open(keys::TOPICS, value)?.split_first() {
            Some((1, body)) => {
                let topics: Vec<StoredTopic> = postcard::from_bytes(body).map_err(wrong)?;
                topics.into_iter().map(|topic| (topic, None)).collect()
            }
            Some((2 | &FORMAT, body)) => postcard::from_bytes(body).map_err(wrong)?,
            Some(_) => return Err(LogError::Fatal(NEWER.to_owned())),
            None => return Err(damaged("it is empty")),
        };
        let mut registry = Self::default();
        for (topic, retention_bytes) in stored {
            let cleanup = topic.cleanup().ok_or_else(|| damaged("an unknown cleanup"))?;
            let retention = topic.retention_ms.map(Duration::from_millis);
            let (name, partitions) = (topic.name, topic.partitions);
            let topic = registry.add(&TopicSpec { name, partitions, cleanup, retention, retention_bytes })?;
            registry.topics.insert(topic.name.clone(), topic.into());
        }
        Ok(registry)
    }
}

/// A topic as it is stored; the numbers of the partitions follow from the order of topics.
#[derive(Serialize, Deserialize)]
struct StoredTopic {
    name: String,
    partitions: u32,
    cleanup: u8,
    retention_ms: Option<u64>,
}

impl StoredTopic {
    fn of(topic: &Topic) -> Self {
        let cleanup = match topic.cleanup {
            Cleanup::Delete => 0,
            Cleanup::Compact => 1,
            Cleanup::CompactAndDelete => 2,
        };
        let retention_ms = topic.retention.map(|kept| u64::try_from(kept.as_millis()).unwrap_or(u64::MAX));
        Self { name: topic.name.to_string(), partitions: topic.partitions, cleanup, retention_ms }
    }

    fn cleanup(&self) -> Option<Cleanup> {
        // The numbers of `of`, whatever the order of `Cleanup::ALL`.
        [Cleanup::Delete, Cleanup::Compact, Cleanup::CompactAndDelete].get(usize::from(self.cleanup)).copied()
    }
}

fn mismatch(topic: &str, detail: String) -> LogError {
    LogError::Mismatch { topic: topic.to_owned(), detail }
}

/// Refuses what cannot be a topic anywhere.
fn check(spec: &TopicSpec) -> Result<(), LogError> {
    let legal = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    if !(1..=249).contains(&spec.name.len()) || !spec.name.bytes().all(legal) {
        return Err(mismatch(&spec.name, "has a name that is not 1 to 249 of A-Za-z0-9._-: choose another".into()));
    }
    if spec.partitions == 0 {
        return Err(mismatch(&spec.name, "is requested with 0 partitions: request at least 1".into()));
    }
    Ok(())
}

fn verify(topic: &Topic, spec: &TopicSpec) -> Result<(), LogError> {
    if topic.partitions != spec.partitions {
        let (has, wants) = (topic.partitions, spec.partitions);
        let detail = format!(
            "has {has} partitions and is requested with {wants}: request {has}, or use another topic \
             (a key's partition would change)"
        );
        return Err(mismatch(&spec.name, detail));
    }
    if topic.cleanup != spec.cleanup {
        let (has, wants) = (topic.cleanup, spec.cleanup);
        let detail =
            format!("has the cleanup `{has}` and is requested with `{wants}`: request `{has}`, or use another topic");
        return Err(mismatch(&spec.name, detail));
    }
    Ok(())
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
