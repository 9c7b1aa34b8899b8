//! The topics' side of a sink: its consumer and partitions.

use crate::batch::Batch;
use crate::config::SinkConfig;
use crate::failure::SinkError;
use crate::metrics::Handles;
use crate::partition::{SinkPartition, TRUST_MS};
use crate::share::{Share, SinkTopic, topics_of};
use crate::target::StoredPosition;
use hashbrown::HashMap;
use std::time::Duration;
use tally_model::PROGRESS_KEY_PREFIX;
use tally_streams::log::{Consumer, Log, LogError, Now, Polled, Record, TopicPartition};

/// How long a sink that leaves its group waits for that, at most: this long, this many times.
const LEAVE_POLL: Duration = Duration::from_millis(50);
const LEAVE_POLLS: u32 = 40;

/// A consumer of a sink's share of its topics.
pub struct Reading {
    /// Those that are open: read from where the target says.
    pub partitions: Vec<SinkPartition>,
    index: HashMap<TopicPartition, usize, ahash::RandomState>,
    topics: Vec<SinkTopic>,
    share: Share,
    consumer: Box<dyn Consumer>,
    /// By the monotonic clock.
    polled_at_ms: Option<i64>,
    is_paused: bool,
}

/// What a poll brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// That many records and marks.
    Records(usize),
    /// No record; whether a position moved all the same.
    Nothing { moved: bool },
    /// The share grew, or only the membership is new: open what is missing.
    Assigned,
    /// The group takes these partitions of the driver: write what is at hand, unless they are lost already, and then
    /// [`Reading::release`] them.
    Revoked { partitions: Vec<u32>, lost: bool },
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
    /// Joins the sink's group where its target is shared; otherwise takes every partition. Nothing is open yet.
    pub fn join(log: &dyn Log, config: &SinkConfig, is_shared: bool) -> Result<Self, LogError> {
        let topics = topics_of(config, log)?;
        let share = if is_shared { Share::of_member(&topics) } else { Share::All };
        let mut consumer = log.consumer(&config.group)?;
        if let Share::Member { driver, .. } = &share {
            consumer.subscribe(driver, &config.member)?;
        }
        let (partitions, index) = (Vec::new(), HashMap::default());
        Ok(Self { partitions, index, topics, share, consumer, polled_at_ms: None, is_paused: false })
    }

    /// Whether a part of the share is not open.
    pub fn is_incomplete(&self) -> bool {
        let share: usize = self.topics.iter().map(|topic| self.share_of(topic).count()).sum();
        share != self.partitions.len()
    }

    fn share_of(&self, topic: &SinkTopic) -> impl Iterator<Item = u32> + use<'_> {
        (0..topic.partitions).filter(|partition| self.share.has(*partition))
    }

    /// Opens what is not open of its share, where `stored` says or at the topic's start.
    pub fn open(&mut self, log: &dyn Log, stored: Vec<StoredPosition>, metrics: &Handles) -> Result<(), LogError> {
        let mut stored: HashMap<_, _> = stored.into_iter().map(|s| (s.partition.clone(), s)).collect();
        let addresses = self.topics.iter().flat_map(|topic| {
            let address = |partition| (TopicPartition::new(topic.name.clone(), partition), topic.value_type);
            self.share_of(topic).map(address)
        });
        let missing: Vec<_> = addresses.filter(|(address, _)| !self.index.contains_key(address)).collect();
        for (address, value_type) in missing {
            let bounds = log.bounds(&address)?;
            let partition = SinkPartition::new(address.clone(), value_type, stored.remove(&address), bounds, metrics);
            if !self.is_paused {
                self.consumer.assign(&address, partition.position)?;
            }
            self.index.insert(address, self.partitions.len());
            self.partitions.push(partition);
        }
        metrics.partitions.set(self.partitions.len() as i64);
        Ok(())
    }

    /// Closes everything, to open it again where the target says. The membership stays.
    pub fn close(&mut self) {
        for partition in &self.partitions {
            self.consumer.unassign(&partition.address);
        }
        self.partitions.clear();
        self.index.clear();
    }

    /// Lets go what the group has taken; the next poll tells it so.
    pub fn release(&mut self, driver_partitions: &[u32], metrics: &Handles) {
        self.share.take(driver_partitions);
        let (kept, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.partitions).into_iter().partition(|p| self.share.has(p.address.partition));
        for partition in gone {
            self.consumer.unassign(&partition.address);
            metrics.forget_lag(&partition.address.topic, partition.address.partition);
        }
        self.index = kept.iter().enumerate().map(|(i, p)| (p.address.clone(), i)).collect();
        self.partitions = kept;
        metrics.partitions.set(self.partitions.len() as i64);
    }

    /// Stops reading, for as long as the target takes nothing. The membership stays, as long as somebody polls.
    fn pause(&mut self) {
        if !std::mem::replace(&mut self.is_paused, true) {
            self.partitions.iter().for_each(|partition| self.consumer.unassign(&partition.address));
        }
    }

    /// Reads on after a pause, from where it was.
    fn resume(&mut self) -> Result<(), LogError> {
        if self.is_paused {
            for partition in &self.partitions {
                self.consumer.assign(&partition.address, partition.position)?;
            }
            self.is_paused = false;
        }
        Ok(())
    }

    /// While nothing is read: keeps the membership, and hears of what the group gives and takes.
    pub fn attend(&mut self) -> Result<Read, LogError> {
        if matches!(self.share, Share::All) {
            return Ok(Read::Nothing { moved: false });
        }
        self.pause();
        match self.consumer.poll(Duration::ZERO)? {
            Polled::Assigned(partitions) => {
                self.share.give(&partitions);
                Ok(Read::Assigned)
            }
            Polled::Revoked { partitions, lost } => Ok(Read::Revoked { partitions, lost }),
            // What was under way when reading stopped comes again: reading goes on from the positions.
            Polled::Records { .. } | Polled::Nothing => Ok(Read::Nothing { moved: false }),
        }
    }

    /// Reads what comes within `timeout` into the batch.
    pub fn poll(
        &mut self,
        log: &dyn Log,
        sink: &str,
        batch: &mut Batch,
        now: Now,
        timeout: Duration,
    ) -> Result<Read, ReadError> {
        self.resume()?;
        let away_ms = self.polled_at_ms.replace(now.monotonic_ms).map_or(0, |polled_at_ms| now.since_ms(polled_at_ms));
        if away_ms > TRUST_MS {
            self.distrust(log)?;
        }
        match self.consumer.poll(timeout)? {
            Polled::Records { from, records, next_offset } => {
                let Some(index) = self.index.get(from) else { return Ok(Read::Nothing { moved: false }) };
                let partition = &mut self.partitions[*index];
                let (mut count, mut end) = (0, None);
                for record in records {
                    take(log, sink, partition, batch, &record?, now, &mut end)?;
                    count += 1;
                }
                partition.records.inc_by(count as u64);
                let moved = partition.step_to(next_offset);
                return Ok(if count > 0 { Read::Records(count) } else { Read::Nothing { moved } });
            }
            Polled::Assigned(partitions) => {
                self.share.give(&partitions);
                return Ok(Read::Assigned);
            }
            Polled::Revoked { partitions, lost } => return Ok(Read::Revoked { partitions, lost }),
            Polled::Nothing => {}
        }
        // Control records have no other way to be seen than by a position that moved.
        let mut moved = false;
        for partition in &mut self.partitions {
            moved |= self.consumer.position(&partition.address).is_some_and(|at| partition.step_to(at));
        }
        Ok(Read::Nothing { moved })
    }

    /// From now on everything is written whole that lies in the topics: see [`TRUST_MS`].
    pub fn distrust(&mut self, log: &dyn Log) -> Result<(), LogError> {
        let ends = self.ends(log)?;
        self.partitions.iter_mut().zip(ends).for_each(|(partition, end)| partition.distrust(end));
        Ok(())
    }

    /// The log's ends, in the order of the partitions.
    pub fn ends(&self, log: &dyn Log) -> Result<Vec<u64>, LogError> {
        let addresses: Vec<_> = self.partitions.iter().map(|partition| partition.address.clone()).collect();
        log.ends(&addresses)
    }

    /// Leaves the group in good order, so that others need not wait for a time-out. Everything is written by now.
    pub fn leave(&mut self) -> Result<(), LogError> {
        if matches!(self.share, Share::All) {
            return Ok(());
        }
        self.consumer.unsubscribe()?;
        for _ in 0..LEAVE_POLLS {
            match self.consumer.poll(LEAVE_POLL)? {
                Polled::Revoked { partitions, .. } => self.share.take(&partitions),
                Polled::Assigned(partitions) => self.share.give(&partitions),
                Polled::Nothing if self.share.is_empty() => return Ok(()),
                Polled::Nothing | Polled::Records { .. } => {}
            }
        }
        Err(LogError::Unavailable("the group did not let this member go in time".into()))
    }
}

/// Takes a record into the batch. `end` is the topic's since the records of this poll are here, once it was asked for:
/// what took the place of a record that is not among them lies below.
fn take(
    log: &dyn Log,
    sink: &str,
    partition: &mut SinkPartition,
    batch: &mut Batch,
    record: &Record<'_>,
    now: Now,
    end: &mut Option<u64>,
) -> Result<(), ReadError> {
    let result = if record.key.is_some_and(|key| key.starts_with(PROGRESS_KEY_PREFIX)) {
        batch.add_mark();
        serde_json::from_slice(record.value.unwrap_or_default())
            .map(|mark| partition.mark(mark))
            .map_err(|e| format!("progress mark: {e}"))
    } else {
        if partition.is_behind(record.append_time_ms, now.wall_ms) {
            let asked = match *end {
                Some(asked) => asked,
                None => log.ends(std::slice::from_ref(&partition.address))?.first().copied().unwrap_or_default(),
            };
            *end = Some(asked);
            partition.distrust(asked);
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
