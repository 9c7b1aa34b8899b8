//! How much a topic holds.

use super::{Log, LogError, TopicPartition};

/// What all partitions of a topic hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicSize {
    /// Offsets from the oldest record to the newest: at least as many as there are records, since compaction and transactions
    /// leave gaps.
    pub offsets: u64,
    /// Bytes on the disk of this machine. None for a log that is elsewhere.
    pub bytes: Option<u64>,
}

impl TopicSize {
    /// Adds a partition.
    pub(super) fn add(&mut self, offsets: u64, bytes: Option<u64>) {
        self.offsets += offsets;
        if let Some(bytes) = bytes {
            *self.bytes.get_or_insert(0) += bytes;
        }
    }
}

/// What a topic holds; None where there is no such topic.
pub fn topic_size(log: &dyn Log, topic: &str) -> Result<Option<TopicSize>, LogError> {
    let partitions = match log.partitions(topic) {
        Ok(partitions) => partitions,
        Err(LogError::UnknownTopic(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut size = TopicSize::default();
    for partition in 0..partitions {
        let partition = TopicPartition::new(topic, partition);
        let (start, end) = log.bounds(&partition)?;
        size.add(end - start, log.stored_bytes(&partition)?);
    }
    Ok(Some(size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::memory::MemoryLog;
    use crate::log::{Cleanup, ProducerRecord, TopicSpec, system_clock};

    #[test]
    fn all_partitions_count_and_a_missing_topic_has_no_size() {
        let log = MemoryLog::new(system_clock());
        assert_eq!(topic_size(&log, "a").unwrap(), None);
        let spec = |name: &str| TopicSpec {
            name: name.to_owned(),
            partitions: 2,
            cleanup: Cleanup::Compact,
            retention: None,
            retention_bytes: None,
        };
        log.ensure_topics(&[spec("a"), spec("b")]).unwrap();
        assert_eq!(topic_size(&log, "a").unwrap(), Some(TopicSize { offsets: 0, bytes: Some(0) }));
        let mut producer = log.producer("id").unwrap();
        for partition in [0, 1, 1] {
            let (key, value) = (Some(&b"key"[..]), Some(&[7; 100][..]));
            producer.send(ProducerRecord { topic: "a", partition, key, value, headers: &[] }).unwrap();
        }
        producer.commit().unwrap();
        let size = topic_size(&log, "a").unwrap().unwrap();
        assert!(size.offsets >= 3 && size.bytes.unwrap() >= 300, "{size:?}");
        assert_eq!(topic_size(&log, "b").unwrap().unwrap().bytes, Some(0));
    }
}
