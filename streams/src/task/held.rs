//! The last record for an output partition, held back until it is known whether it is the last of its commit.

use crate::log::{Header, LogError, ProducerRecord, TransactionalProducer};
use crate::processor::OutputRecord;

/// The longest header. A task with more root partitions than fit reports progress only through the internal topic.
const HEADER_BYTES_MAX: usize = u16::MAX as usize;

/// Room for a record and the headers that it has already.
#[derive(Default)]
pub(super) struct Held {
    record: OutputRecord,
    headers: Vec<(String, Vec<u8>)>,
    is_full: bool,
}

impl Held {
    /// Stores a record, and leaves the former one's buffer in its place.
    pub fn put(&mut self, record: &mut OutputRecord, headers: &[Header<'_>]) {
        std::mem::swap(&mut self.record, record);
        self.headers.clear();
        self.headers.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())));
        self.is_full = true;
    }

    /// Sends the record, if there is one. `first` stands before its own headers: a reader trusts no other place.
    pub fn send(
        &mut self,
        topic: &str,
        partition: u32,
        first: Option<Header<'_>>,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), LogError> {
        if !std::mem::take(&mut self.is_full) {
            return Ok(());
        }
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        let first = first.filter(|(_, value)| value.len() <= HEADER_BYTES_MAX);
        let headers: Vec<Header<'_>> = first.into_iter().chain(own).collect();
        let (key, value) = (Some(self.record.key.as_slice()), Some(self.record.value.as_slice()));
        producer.send(ProducerRecord { topic, partition, key, value, headers: &headers })
    }

    /// Forgets the record.
    pub fn clear(&mut self) {
        self.is_full = false;
    }
}
