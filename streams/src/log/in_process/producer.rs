//! The transactional producer of the embedded and the memory log.

use std::sync::Arc;

use super::batch::{self, Batches};
use super::keys::{self, GROUP_BYTES_MAX};
use super::registry::Topic;
use super::request::{Holder, Request, Submit, Transaction, ask};
use super::view::View;
use crate::log::{
    CommittedOffset, GroupMetadata, Headers, LogError, ProducerRecord, TopicPartition, TransactionalProducer,
};

/// The longest metadata of a committed offset.
const METADATA_BYTES_MAX: usize = 4096;

/// See [`TransactionalProducer`]. Records are encoded as they come; an abort drops them.
pub(super) struct EngineProducer {
    view: Arc<View>,
    submit: Arc<dyn Submit>,
    holder: Arc<Holder>,
    topics: Vec<TopicWrites>,
    /// Which of `topics` the last record went to: the next one mostly goes there too.
    last: usize,
    offsets: Vec<(Vec<u8>, CommittedOffset)>,
    memberships: Vec<GroupMetadata>,
    /// Encoded headers of one record.
    headers: Vec<u8>,
}

/// The writes of the open transaction to a topic.
struct TopicWrites {
    topic: Arc<Topic>,
    partitions: Vec<Batches>,
}

impl EngineProducer {
    /// A producer that holds its id.
    pub fn new(view: Arc<View>, submit: Arc<dyn Submit>, holder: Arc<Holder>) -> Self {
        Self {
            view,
            submit,
            holder,
            topics: Vec::new(),
            last: 0,
            offsets: Vec::new(),
            memberships: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// The index of a topic in `topics`.
    fn topic(&mut self, name: &str) -> Result<usize, LogError> {
        if self.topics.get(self.last).is_some_and(|writes| *writes.topic.name == *name) {
            return Ok(self.last);
        }
        self.last = match self.topics.iter().position(|writes| *writes.topic.name == *name) {
            Some(at) => at,
            None => {
                let topic = self.view.registry().topic(name)?.clone();
                let partitions = (0..topic.partitions).map(|_| Batches::default()).collect();
                self.topics.push(TopicWrites { topic, partitions });
                self.topics.len() - 1
            }
        };
        Ok(self.last)
    }

    fn drop_open(&mut self) {
        for writes in self.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            *writes = Batches::default();
        }
        self.offsets.clear();
        self.memberships.clear();
    }
}

impl TransactionalProducer for EngineProducer {
    fn send(&mut self, record: ProducerRecord<'_>) -> Result<(), LogError> {
        self.holder.check()?;
        self.headers.clear();
        Headers::encode(record.headers, &mut self.headers);
        batch::check_size(record.key, record.value, &self.headers)?;
        let at = self.topic(record.topic)?;
        let TopicWrites { topic, partitions } = &mut self.topics[at];
        match partitions.get_mut(record.partition as usize) {
            Some(batches) => batches.push(record.key, record.value, &self.headers),
            None => return topic.id(record.partition).map(drop),
        }
        Ok(())
    }

    fn send_offsets(
        &mut self,
        group: &GroupMetadata,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Result<(), LogError> {
        self.holder.check()?;
        if group.group.len() > GROUP_BYTES_MAX {
            return Err(LogError::Fatal(format!(
                "group `{}`: at most {GROUP_BYTES_MAX} bytes are allowed",
                group.group
            )));
        }
        let registry = self.view.registry();
        let mut staged = Vec::with_capacity(offsets.len());
        for (at, committed) in offsets {
            let bytes = committed.metadata.len();
            if bytes > METADATA_BYTES_MAX {
                let most = METADATA_BYTES_MAX;
                return Err(LogError::Fatal(format!("{at}: {bytes} bytes of metadata; at most {most} are allowed")));
            }
            staged.push((keys::offset(&group.group, registry.id(at)?), committed.clone()));
        }
        self.offsets.extend(staged);
        if !self.memberships.contains(group) {
            self.memberships.push(group.clone());
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), LogError> {
        let mut writes = Vec::new();
        for TopicWrites { topic, partitions } in &mut self.topics {
            let written = (topic.first..).zip(partitions).filter(|(_, batches)| !batches.is_empty());
            writes.extend(written.map(|(id, batches)| (id, std::mem::take(batches))));
        }
        let offsets = std::mem::take(&mut self.offsets);
        let memberships = std::mem::take(&mut self.memberships);
        if writes.is_empty() && memberships.is_empty() {
            return Ok(());
        }
        let holder = self.holder.clone();
        ask(&*self.submit, |reply| Request::Transaction(Transaction { holder, writes, offsets, memberships, reply }))
    }

    fn abort(&mut self) -> Result<(), LogError> {
        self.drop_open();
        Ok(())
    }
}
