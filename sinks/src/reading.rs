//! The topics' side of a sink: its consumer and partitions.

use crate::batch::Batch;
use crate::config::SinkConfig;
use crate::metrics::Handles;
use crate::partition::{SinkPartition, TRUST_MS};
use crate::runner::SinkError;
use crate::target::StoredPosition;
use hashbrown::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tally_model::PROGRESS_KEY_PREFIX;
use tally_streams::log::{Consumer, Log, LogError, Polled, Record, TopicPartition};

/// A consumer of all partitions of a sink's topics.
pub struct Reading {
    pub partitions: Vec<SinkPartition>,
    index: HashMap<TopicPartition, usize, ahash::RandomState>,
    consumer: Box<dyn Consumer>,
    polled_at_ms: Option<i64>,
}

/// What a poll brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Records and marks.
    pub records: usize,
    /// Whether a position moved.
    pub moved: bool,
}

/// Why a poll brought nothing.
pub enum ReadError {
    /// What was read in this poll must be dropped and read again.
    Log(LogError),
    /// The sink cannot go on.
    Sink(SinkError),
}

impl From<LogError> for ReadError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl Reading {
    /// Assigns every partition where `stored` says, or at the topic's start.
    pub fn open(
        log: &dyn Log,
        config: &SinkConfig,
        stored: Vec<StoredPosition>,
        metrics: &Handles,
    ) -> Result<Self, LogError> {
        let mut stored: HashMap<_, _> = stored.into_iter().map(|s| (s.partition.clone(), s)).collect();
        let mut consumer = log.consumer(&format!("sink-{}", config.name))?;
        let mut partitions = Vec::new();
        for (topic, value_type) in &config.topics {
            let topic = Arc::<str>::from(topic.as_str());
            for number in 0..log.partitions(&topic)? {
                let address = TopicPartition::new(topic.clone(), number);
                let bounds = log.bounds(&address)?;
                let stored = stored.remove(&address);
                let partition = SinkPartition::new(address, *value_type, stored, bounds, metrics);
                consumer.assign(&partition.address, partition.position)?;
                partitions.push(partition);
            }
        }
        let index = partitions.iter().enumerate().map(|(i, p)| (p.address.clone(), i)).collect();
        Ok(Self { partitions, index, consumer, polled_at_ms: None })
    }

    /// Reads what comes within `timeout` into the batch.
    pub fn poll(
        &mut self,
        log: &dyn Log,
        sink: &str,
        batch: &mut Batch,
        now_ms: i64,
        timeout: Duration,
    ) -> Result<Read, ReadError> {
        let away_ms = self.polled_at_ms.replace(now_ms).map_or(0, |polled_at_ms| now_ms - polled_at_ms);
        if away_ms > TRUST_MS {
            self.distrust(log)?;
        }
        match self.consumer.poll(timeout)? {
            Polled::Records { from, records, next_offset } => {
                let Some(index) = self.index.get(from) else { return Ok(Read { records: 0, moved: false }) };
                let partition = &mut self.partitions[*index];
                let mut count = 0;
                for record in records {
                    take(log, sink, partition, batch, &record?, now_ms)?;
                    count += 1;
                }
                partition.records.inc_by(count as u64);
                return Ok(Read { records: count, moved: partition.step_to(next_offset) });
            }
            Polled::Nothing | Polled::Assigned(_) | Polled::Revoked { .. } => {}
        }
        // Control records have no other way to be seen than by a position that moved.
        let mut moved = false;
        for partition in &mut self.partitions {
            moved |= self.consumer.position(&partition.address).is_some_and(|at| partition.step_to(at));
        }
        Ok(Read { records: 0, moved })
    }

    /// From now on everything is written whole that lies in the topics: see [`TRUST_MS`].
    pub fn distrust(&mut self, log: &dyn Log) -> Result<(), LogError> {
        for partition in &mut self.partitions {
            partition.distrust(log.bounds(&partition.address)?.1);
        }
        Ok(())
    }
}

fn take(
    log: &dyn Log,
    sink: &str,
    partition: &mut SinkPartition,
    batch: &mut Batch,
    record: &Record<'_>,
    now_ms: i64,
) -> Result<(), ReadError> {
    let result = if record.key.is_some_and(|key| key.starts_with(PROGRESS_KEY_PREFIX)) {
        batch.add_mark();
        serde_json::from_slice(record.value.unwrap_or_default())
            .map(|mark| partition.mark(mark))
            .map_err(|e| format!("progress mark: {e}"))
    } else {
        if partition.is_behind(record.append_time_ms, now_ms) {
            partition.distrust(log.bounds(&partition.address)?.1);
        }
        let whole = partition.is_whole(record.offset);
        batch
            .add(&partition.address, partition.value_type, record, whole)
            .map(|version| partition.version = partition.version.max(version))
            .map_err(|e| e.to_string())
    };
    result.map_err(|cause| {
        ReadError::Sink(SinkError::Record {
            sink: sink.to_owned(),
            partition: partition.address.clone(),
            offset: record.offset,
            expected: partition.value_type,
            cause,
        })
    })
}
