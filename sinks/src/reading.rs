//! The topics' side of a sink: its consumer and partitions.

use crate::batch::Batch;
use crate::config::SinkConfig;
use crate::failure::SinkError;
use crate::metrics::Handles;
use crate::partition::SinkPartition;
use crate::progress_topic::ProgressTopic;
use crate::share::{Share, SinkTopic, topics_of};
use crate::target::{StoredPosition, Target};
use hashbrown::HashMap;
use std::time::Duration;
use tally_model::{PROGRESS_HEADER, PROGRESS_KEY_PREFIX, TRUST_MS, TaskProgress};
use tally_streams::log::{Consumer, Log, LogError, Now, Polled, Record, TopicPartition};

/// How long a sink that leaves its group waits for that, at most: this long, this many times.
const LEAVE_POLL: Duration = Duration::from_millis(50);
const LEAVE_POLLS: u32 = 40;

/// How long a mark may wait for a record before the log is queried whether that record can still arrive.
const PROOF_AFTER_MS: i64 = 200;

/// A consumer of a sink's share of its topics, and of the internal topic of the tasks' progress.
pub struct Reading {
    /// Those that are open: read from the positions of the target.
    pub partitions: Vec<SinkPartition>,
    index: HashMap<TopicPartition, usize, ahash::RandomState>,
    topics: Vec<SinkTopic>,
    progress: Option<ProgressTopic>,
    share: Share,
    consumer: Box<dyn Consumer>,
    /// By the monotonic clock.
    polled_at_ms: Option<i64>,
    /// Since when a mark waits for a record, by the monotonic clock.
    doubts_since_ms: Option<i64>,
    is_paused: bool,
}

/// What a poll brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The number of records and marks.
    Records(usize),
    /// No record, but marks that count now.
    Marks,
    /// No record; `moved` is whether a position moved anyway.
    Nothing { moved: bool },
    /// The share grew, or only the membership is new: open what is missing.
    Assigned,
    /// The group revokes these partitions of the driver: write the batch, unless they are lost already, and then
    /// [`Reading::release`] them.
    Revoked { partitions: Vec<u32>, lost: bool },
}

/// Where the records of a poll go.
pub struct Intake<'a> {
    /// Where they come from.
    pub log: &'a dyn Log,
    /// The sink's name.
    pub sink: &'a str,
    /// Chooses its records.
    pub target: &'a mut dyn Target,
    /// Takes those that were chosen.
    pub batch: &'a mut Batch,
    /// The time of the poll.
    pub now: Now,
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
        let progress = config.progress_topic.as_deref().map(|topic| ProgressTopic::new(log, topic)).transpose()?;
        let (partitions, index) = (Vec::new(), HashMap::default());
        let (polled_at_ms, doubts_since_ms, is_paused) = (None, None, false);
        Ok(Self { partitions, index, topics, progress, share, consumer, polled_at_ms, doubts_since_ms, is_paused })
    }

    /// Whether a part of the share is not open.
    pub fn is_incomplete(&self) -> bool {
        let share: usize = self.topics.iter().map(|topic| self.share_of(topic).count()).sum();
        share != self.partitions.len()
    }

    fn share_of(&self, topic: &SinkTopic) -> impl Iterator<Item = u32> + use<'_> {
        (0..topic.partitions).filter(|partition| self.share.has(*partition))
    }

    /// Opens what is not open of its share, at the positions in `stored` or at the topic's start.
    pub fn open(&mut self, log: &dyn Log, stored: Vec<StoredPosition>, metrics: &Handles) -> Result<(), LogError> {
        let mut stored: HashMap<_, _> = stored.into_iter().map(|s| (s.partition.clone(), s)).collect();
        let addresses = self.topics.iter().flat_map(|topic| {
            let address = |partition| (TopicPartition::new(topic.name.clone(), partition), topic.output);
            self.share_of(topic).map(address)
        });
        let missing: Vec<_> = addresses.filter(|(address, _)| !self.index.contains_key(address)).collect();
        let addresses: Vec<_> = missing.iter().map(|(address, _)| address.clone()).collect();
        let written_ends = log.written_ends(&addresses)?;
        for ((address, output), written_end) in missing.into_iter().zip(written_ends) {
            let (bounds, stored) = (log.bounds(&address)?, stored.remove(&address));
            let partition = SinkPartition::new(address.clone(), output, stored, bounds, written_end, metrics);
            if !self.is_paused {
                self.consumer.assign(&address, partition.position)?;
            }
            self.index.insert(address, self.partitions.len());
            self.partitions.push(partition);
        }
        metrics.partitions.set(self.partitions.len() as i64);
        self.follow_progress(log)
    }

    /// Reads the internal topic from its start, in the partitions of what is open. It is small, and partitions that were
    /// opened just now have no mark yet.
    fn follow_progress(&mut self, log: &dyn Log) -> Result<(), LogError> {
        let Some(progress) = self.progress.as_mut().filter(|_| !self.is_paused) else { return Ok(()) };
        let numbers = self.partitions.iter().map(|partition| partition.address.partition).collect();
        progress.follow(log, self.consumer.as_mut(), numbers)
    }

    /// Closes everything, to open it again at the positions of the target. The membership stays.
    pub fn close(&mut self) {
        for partition in &self.partitions {
            self.consumer.unassign(&partition.address);
        }
        self.ignore_progress();
        self.partitions.clear();
        self.index.clear();
    }

    fn ignore_progress(&mut self) {
        self.progress.iter_mut().for_each(|progress| progress.ignore(self.consumer.as_mut()));
        self.doubts_since_ms = None;
    }

    /// Releases revoked partitions; the next poll reports that to the group.
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

    /// Stops reading while the target accepts nothing. The membership stays as long as the group is polled.
    fn pause(&mut self) {
        if !std::mem::replace(&mut self.is_paused, true) {
            self.partitions.iter().for_each(|partition| self.consumer.unassign(&partition.address));
            self.ignore_progress();
        }
    }

    /// Reads on after a pause, from where it was.
    fn resume(&mut self, log: &dyn Log) -> Result<(), LogError> {
        if self.is_paused {
            for partition in &self.partitions {
                self.consumer.assign(&partition.address, partition.position)?;
            }
            self.is_paused = false;
            self.follow_progress(log)?;
        }
        Ok(())
    }

    /// While reading is paused: keeps the membership, and receives assignments and revocations.
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
    pub fn poll(&mut self, intake: &mut Intake<'_>, timeout: Duration) -> Result<Read, ReadError> {
        match self.poll_consumer(intake, timeout) {
            // Replaced records are deleted there, also ahead of a slow reader.
            Err(ReadError::Log(LogError::OutOfRange { partition, .. }))
                if self.progress.as_ref().is_some_and(|progress| progress.is(&partition)) =>
            {
                self.follow_progress(intake.log)?;
                Ok(Read::Nothing { moved: false })
            }
            polled => polled,
        }
    }

    fn poll_consumer(&mut self, intake: &mut Intake<'_>, timeout: Duration) -> Result<Read, ReadError> {
        let (log, now) = (intake.log, intake.now);
        self.resume(log)?;
        let away_ms = self.polled_at_ms.replace(now.monotonic_ms).map_or(0, |polled_at_ms| now.since_ms(polled_at_ms));
        if away_ms > TRUST_MS {
            self.distrust(log)?;
        }
        let proved = self.prove(log, now);
        match self.consumer.poll(if proved { Duration::ZERO } else { timeout })? {
            Polled::Records { from, records, .. } if self.progress.as_ref().is_some_and(|p| p.is(from)) => {
                let moved = read_progress(intake.sink, &mut self.partitions, from, records)?;
                return Ok(if moved || proved { Read::Marks } else { Read::Nothing { moved: false } });
            }
            Polled::Records { from, records, next_offset } => {
                let Some(index) = self.index.get(from) else { return Ok(Read::Nothing { moved: false }) };
                let partition = &mut self.partitions[*index];
                let (mut count, mut end) = (0, None);
                intake.target.reaching(&partition.address, next_offset);
                for record in records {
                    intake.take(partition, &record?, &mut end)?;
                    count += 1;
                }
                partition.records.inc_by(count as u64);
                let moved = partition.step_to(next_offset);
                let settled = partition.settle() || proved;
                return Ok(match count {
                    0 if settled => Read::Marks,
                    0 => Read::Nothing { moved },
                    count => Read::Records(count),
                });
            }
            Polled::Assigned(partitions) => {
                self.share.give(&partitions);
                return Ok(Read::Assigned);
            }
            Polled::Revoked { partitions, lost } => return Ok(Read::Revoked { partitions, lost }),
            Polled::Nothing => {}
        }
        // Control records have no other way to be seen than by a position that moved.
        let (moved, settled) = self.step();
        Ok(if settled || proved { Read::Marks } else { Read::Nothing { moved } })
    }

    /// Steps to where the consumer is; whether a position moved, and whether marks count because of that.
    fn step(&mut self) -> (bool, bool) {
        let (mut moved, mut settled) = (false, false);
        for partition in &mut self.partitions {
            moved |= self.consumer.position(&partition.address).is_some_and(|at| partition.step_to(at));
            settled |= partition.settle();
        }
        (moved, settled)
    }

    /// Where marks have waited for a record for a while, queries whether there can be one; whether some count now.
    fn prove(&mut self, log: &dyn Log, now: Now) -> bool {
        // Other partitions may have records all the time; a partition without records advances only when there are none
        // at all.
        let settled = self.partitions.iter().any(SinkPartition::waits) && self.step().1;
        if !self.partitions.iter().any(SinkPartition::doubts) {
            self.doubts_since_ms = None;
            return settled;
        }
        if now.since_ms(*self.doubts_since_ms.get_or_insert(now.monotonic_ms)) < PROOF_AFTER_MS {
            return settled;
        }
        self.doubts_since_ms = None;
        let doubtful = || self.partitions.iter().enumerate().filter(|(_, partition)| partition.doubts());
        let addresses: Vec<_> = doubtful().map(|(_, partition)| partition.address.clone()).collect();
        let indices: Vec<_> = doubtful().map(|(index, _)| index).collect();
        // If the log does not respond, the next call queries it again.
        let Ok(ends) = log.written_ends(&addresses) else { return settled };
        indices.into_iter().zip(ends).for_each(|(index, end)| self.partitions[index].prove(end));
        self.step().1 || settled
    }

    /// From now on everything is written whole that lies in the topics: see [`TRUST_MS`].
    pub fn distrust(&mut self, log: &dyn Log) -> Result<(), LogError> {
        let addresses: Vec<_> = self.partitions.iter().map(|partition| partition.address.clone()).collect();
        let ends = log.written_ends(&addresses)?;
        self.partitions.iter_mut().zip(ends).for_each(|(partition, end)| partition.distrust(end));
        Ok(())
    }

    /// The log's ends, in the order of the partitions.
    pub fn ends(&self, log: &dyn Log) -> Result<Vec<u64>, LogError> {
        let addresses: Vec<_> = self.partitions.iter().map(|partition| partition.address.clone()).collect();
        log.ends(&addresses)
    }

    /// Leaves the group cleanly, so that other members need not wait for a time-out. Everything is written by now.
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

impl Intake<'_> {
    /// Takes a record into the batch, if the target wants it. `end` is the topic's since the records of this poll are here,
    /// once it was queried: what took the place of a record that is not among them lies below.
    fn take(
        &mut self,
        partition: &mut SinkPartition,
        record: &Record<'_>,
        end: &mut Option<u64>,
    ) -> Result<(), ReadError> {
        let result = if record.key.is_some_and(|key| key.starts_with(PROGRESS_KEY_PREFIX)) {
            self.batch.add_mark();
            match record.value.map(serde_json::from_slice) {
                Some(Ok(mark)) => {
                    partition.mark(mark);
                    Ok(())
                }
                Some(Err(error)) => Err(format!("progress mark: {error}")),
                // Its task writes none any more.
                None => Ok(()),
            }
        } else {
            if partition.is_behind(record.append_time_ms, self.now.wall_ms) {
                let written_end = match *end {
                    Some(written_end) => written_end,
                    None => {
                        let ends = self.log.written_ends(std::slice::from_ref(&partition.address))?;
                        ends.first().copied().unwrap_or_default()
                    }
                };
                *end = Some(written_end);
                partition.distrust(written_end);
            }
            self.add(partition, record).and_then(|()| read_header(partition, record))
        };
        result.map_err(|cause| {
            ReadError::Sink(SinkError::Record {
                sink: self.sink.to_owned(),
                partition: partition.address.clone(),
                offset: record.offset,
                expected: partition.output,
                cause,
            })
        })
    }

    fn add(&mut self, partition: &mut SinkPartition, record: &Record<'_>) -> Result<(), String> {
        if record.key.is_some_and(|key| !self.target.takes(partition.output, key)) {
            self.batch.add_mark();
            return Ok(());
        }
        let whole = partition.is_whole(record.offset);
        let version = self.batch.add(&partition.address, partition.output, record, whole).map_err(|e| e.to_string())?;
        partition.version = partition.version.max(version);
        Ok(())
    }
}

/// Takes in the progress that the last record of a commit carries.
fn read_header(partition: &mut SinkPartition, record: &Record<'_>) -> Result<(), String> {
    // It is the first one: a dead letter may have others from its producer, behind its own.
    let header = record.headers.iter().next().filter(|(name, _)| *name == PROGRESS_HEADER);
    if let Some((name, bytes)) = header {
        let progress = TaskProgress::decode(bytes).map_err(|e| format!("header `{name}`: {e}"))?;
        partition.mark(progress.mark());
    }
    Ok(())
}

/// Takes in records of the internal topic; whether something counts because of that.
fn read_progress<'a>(
    sink: &str,
    partitions: &mut [SinkPartition],
    from: &TopicPartition,
    records: impl Iterator<Item = Result<Record<'a>, LogError>>,
) -> Result<bool, ReadError> {
    for record in records {
        let record = record?;
        let Some(value) = record.value else { continue };
        let progress = TaskProgress::decode(value).map_err(|cause| {
            let (sink, partition, cause) = (sink.to_owned(), from.clone(), cause.to_string());
            ReadError::Sink(SinkError::Progress { sink, partition, offset: record.offset, cause })
        })?;
        // A task writes to the partitions that have its own number.
        let own = partitions.iter_mut().filter(|partition| partition.address.partition == from.partition);
        own.for_each(|partition| partition.read_progress(&progress));
    }
    let own = partitions.iter_mut().filter(|partition| partition.address.partition == from.partition);
    // Every one of them, not up to the first.
    Ok(own.filter_map(|partition| partition.settle().then_some(())).count() > 0)
}
