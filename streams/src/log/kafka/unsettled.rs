//! Records whose transaction has no outcome yet: they name the owner of the open transaction.

use super::super::{LogError, TopicPartition};
use super::context::Quiet;
use super::lookup::{Lookup, Which};
use super::native::Queue;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::ffi::CString;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Messages taken at once.
const BATCH: usize = 1024;

/// See [`Log::unsettled`](super::super::Log::unsettled).
pub(super) fn unsettled(lookup: &Lookup, of: &[TopicPartition]) -> Result<Vec<(TopicPartition, Vec<u8>)>, LogError> {
    let ends = lookup.offsets(of, Which::WrittenEnd)?;
    let settled = lookup.offsets(of, Which::CommittedEnd)?;
    let mut open: HashMap<&TopicPartition, u64> = HashMap::new();
    let mut list = TopicPartitionList::new();
    for ((at, end), from) in of.iter().zip(ends).zip(settled) {
        if from < end {
            open.insert(at, end);
            let offset = Offset::Offset(from as i64);
            list.add_partition_offset(&at.topic, at.partition as i32, offset).map_err(fatal)?;
        }
    }
    if open.is_empty() {
        return Ok(Vec::new());
    }
    let mut config = lookup.options.reader(false);
    config.set("fetch.wait.max.ms", "10");
    let client: Arc<BaseConsumer<Quiet>> = Arc::new(config.create_with_context(Quiet::default()).map_err(fatal)?);
    let mut queue = Queue::new(client.clone());
    for at in open.keys() {
        lookup.ask(|left| client.fetch_metadata(Some(&at.topic), left).map(drop))?;
        let name = CString::new(&*at.topic).map_err(|_| LogError::UnknownTopic(at.to_string()))?;
        queue.forward(&name, at.partition);
    }
    client.assign(&list).map_err(fatal)?;
    let deadline = Instant::now() + lookup.options.patience;
    let (mut found, mut messages) = (Vec::new(), Vec::new());
    while !open.is_empty() {
        if Instant::now() > deadline {
            return Err(lookup.options.unavailable("open transactions could not be read"));
        }
        messages.clear();
        queue.poll(Duration::from_millis(10), BATCH, &mut messages);
        for message in messages.iter().filter(|message| message.error().is_none()) {
            let topic = message.topic().to_string_lossy();
            if let Some(value) = message.value() {
                found.push((TopicPartition::new(&*topic, message.partition() as u32), value.to_vec()));
            }
        }
        // Only control records may be left, which the position skips.
        for element in client.position().map_err(fatal)?.elements() {
            let at = TopicPartition::new(element.topic(), element.partition() as u32);
            if let (Offset::Offset(position), Some(end)) = (element.offset(), open.get(&at))
                && position >= 0
                && position as u64 >= *end
            {
                open.remove(&at);
            }
        }
    }
    Ok(found)
}

fn fatal(error: rdkafka::error::KafkaError) -> LogError {
    LogError::Fatal(error.to_string())
}
