//! The sink's task: from the topics, through a batch, into the target.
//!
//! A state machine that [`SinkTask::poll_once`] moves: it has no clock, no thread and no randomness.

use crate::batch::Batch;
use crate::breaker::{Breaker, Permit, State};
use crate::config::SinkConfig;
use crate::failure::{Failure, SinkError};
use crate::metrics::{Handles, SinkMetrics};
use crate::origin;
use crate::partition::SinkPartition;
use crate::reading::{Intake, Read, Reading};
use crate::target::{StoredPosition, Target, TargetError};
use std::sync::Arc;
use std::time::Duration;
use tally_streams::log::{Lag, Log, Now};

/// Steps over control records move positions without a row; they can wait for company.
const EMPTY_STEP_LINGER_MS: i64 = 1_000;
/// A batch for a database waits this many times as long as the last write took, so that a busy sink writes fewer and
/// larger transactions: several records of a key become one row.
const WRITE_TIMES: i64 = 4;
/// The most times `linger` that it waits.
const LINGERS_MAX: i64 = 5;
/// How often the log is queried for its ends, for the metrics.
const LAG_EVERY_MS: i64 = 2_000;
/// How often old rows are looked for; sooner where there are more.
const EXPIRE_EVERY_MS: i64 = 60_000;
const EXPIRE_AGAIN_MS: i64 = 500;
/// How often the target is checked for losses.
const CHECK_EVERY_MS: i64 = 1_000;
/// A log whose broker has just come back may answer with less than it has: so often in a row it is queried again.
const MISFITS_MAX: u32 = 8;
/// How long a target may go without a write before its positions are looked at: a backup may have been restored.
const VERIFY_EVERY_MS: i64 = 10_000;

/// A sink at work.
pub struct SinkTask {
    config: SinkConfig,
    log: Arc<dyn Log>,
    target: Box<dyn Target>,
    metrics: Handles,
    topics: Vec<Arc<str>>,
    /// None before the start, and after a failure that only a new consumer can mend.
    reading: Option<Reading>,
    batch: Batch,
    /// When the batch's first record came.
    batch_since_ms: Option<i64>,
    /// When a position first moved without a record.
    empty_step_since_ms: Option<i64>,
    /// When the last write began, until the next step shows how long it took.
    writing_since_ms: Option<i64>,
    /// How long the last write took.
    write_ms: i64,
    breaker: Breaker,
    clock_lag: Lag,
    /// By the monotonic clock, like every `_ms` here.
    lag_at_ms: i64,
    expire_at_ms: i64,
    checked_at_ms: i64,
    /// When the target's positions were last known to be what this sink expects.
    verified_at_ms: i64,
    /// How often in a row the target had read more than there is.
    misfits: u32,
}

/// What a call of [`SinkTask::poll_once`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The number of records read.
    Read(usize),
    /// Wrote a batch; the number of its records.
    Wrote(usize),
    /// There was nothing to read.
    Idle,
    /// A failure: nothing is tried for this many milliseconds.
    Waiting(i64),
}

impl SinkTask {
    /// A sink that has not started. Its first step reads the positions from the target.
    pub fn new(config: SinkConfig, log: Arc<dyn Log>, target: Box<dyn Target>, metrics: &SinkMetrics) -> Self {
        let metrics = metrics.of(&config.name);
        let topics = config.topics.iter().map(|(topic, _)| topic.as_str().into()).collect();
        Self {
            config,
            log,
            target,
            metrics,
            topics,
            reading: None,
            batch: Batch::default(),
            batch_since_ms: None,
            empty_step_since_ms: None,
            writing_since_ms: None,
            write_ms: 0,
            breaker: Breaker::default(),
            clock_lag: Lag::default(),
            lag_at_ms: i64::MIN,
            expire_at_ms: i64::MIN,
            checked_at_ms: i64::MIN,
            verified_at_ms: i64::MIN,
            misfits: 0,
        }
    }

    /// The sink's name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Whether what the target has was read from this log as it is now. Ok also where the target does not answer: it is
    /// checked again when the sink starts.
    pub fn check_origin(&mut self) -> Result<(), SinkError> {
        if self.target.is_cache() {
            return Ok(());
        }
        let wrong = |cause, may_pass| SinkError::Origin { sink: self.config.name.clone(), cause, may_pass };
        match self.target.positions(&self.topics) {
            Err(error @ TargetError::Foreign { .. }) => Err(wrong(error.to_string(), false)),
            Err(_) => Ok(()),
            Ok(stored) => match origin::beyond(&*self.log, &stored) {
                Ok(Some(cause)) => Err(wrong(cause, true)),
                _ => Ok(()),
            },
        }
    }

    /// Takes a step: starts, reads for at most `timeout`, or writes. `jitter` is a random
    /// number from 0 to 1. Failures of the log and the target are waited out; nothing is ever passed over.
    pub fn poll_once(&mut self, now: Now, jitter: f64, timeout: Duration) -> Result<Step, SinkError> {
        let outcome = match self.breaker.permit(now) {
            Permit::Wait(wait_ms) => {
                self.attend();
                return Ok(Step::Waiting(wait_ms));
            }
            Permit::Probe => self.probe().and_then(|()| self.advance(now, timeout)),
            Permit::Go => self.advance(now, timeout),
        };
        let outcome = match outcome {
            Ok(step) => Ok(step),
            Err(failure) => self.give_way(failure).map(|cause| {
                self.metrics.errors.inc();
                let wait_ms = self.breaker.fail(now, jitter);
                tracing::warn!(sink = self.config.name, wait_ms, "{cause}");
                Step::Waiting(wait_ms)
            }),
        };
        self.metrics.breaker_state.set(self.breaker.state() as i64);
        outcome
    }

    /// Writes what has been read, whether or not it is due, and leaves the group: before a stop. What is not written
    /// is left to the next start.
    pub fn finish(&mut self, now: Now) {
        if self.breaker.is_failing() {
            tracing::warn!(sink = self.config.name, "the target fails; what was read last will be read again");
        } else if self.has_news()
            && let Err(failure) = self.write(now)
        {
            let cause = self.give_way(failure).unwrap_or_else(|error| error.to_string());
            tracing::warn!(sink = self.config.name, "the last batch was not written and will be read again: {cause}");
        }
        if let Some(mut reading) = self.reading.take()
            && let Err(error) = reading.leave()
        {
            tracing::warn!(sink = self.config.name, "others may wait for what this sink has read: {error}");
        }
        self.discard_batch();
    }

    /// Prepares for another attempt, and returns why one is needed.
    fn give_way(&mut self, failure: Failure) -> Result<String, SinkError> {
        match failure {
            Failure::Stop(error) => {
                // The next call meets the same record again.
                self.restart();
                Err(error)
            }
            Failure::Foreign(cause) => {
                self.restart();
                Err(SinkError::Origin { sink: self.config.name.clone(), cause, may_pass: false })
            }
            Failure::Refused { row, cause } => {
                self.restart();
                Err(SinkError::Row { sink: self.config.name.clone(), row, cause })
            }
            // The batch waits, and nothing more is read.
            Failure::Rewrite(cause) => Ok(cause),
            Failure::Restart(cause) => {
                self.restart();
                Ok(cause)
            }
            Failure::Rejoin(cause) => {
                self.restart();
                self.reading = None;
                Ok(cause)
            }
        }
    }

    /// Checks whether the target is back, before it gets a whole batch.
    fn probe(&mut self) -> Result<(), Failure> {
        self.target.probe()?;
        self.breaker.probed();
        Ok(())
    }

    /// Between two attempts: a member that does not poll holds up the others, and at last the group removes it. Not at
    /// once: to stop reading and to begin again costs more than a deadlock.
    fn attend(&mut self) {
        let is_long = self.breaker.state() == State::Open;
        let Some(reading) = self.reading.as_mut().filter(|_| is_long) else { return };
        match reading.attend() {
            Ok(Read::Revoked { partitions, .. }) => {
                // It cannot be written now: the next owner of these reads them again, and this sink the rest.
                self.restart();
                self.release(&partitions);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(sink = self.config.name, "log: {error}");
                // What it was about has an outcome when reading begins again.
                let _ = self.give_way(error.into());
            }
        }
    }

    fn advance(&mut self, now: Now, timeout: Duration) -> Result<Step, Failure> {
        if let Some(since_ms) = self.writing_since_ms.take() {
            self.write_ms = now.since_ms(since_ms);
        }
        self.open(now)?;
        if self.is_due(now) {
            return self.write(now);
        }
        self.expire(now)?;
        self.check(now)?;
        self.verify(now)?;
        let step = self.read(now, timeout)?;
        self.measure_lag(now);
        if self.batch_since_ms.is_none() {
            // With a batch at hand only a write proves that the target is back.
            self.breaker.succeed();
        }
        Ok(step)
    }

    /// Joins, and opens what is not open of its share, at the positions of the target.
    fn open(&mut self, now: Now) -> Result<(), Failure> {
        let reading = match &mut self.reading {
            Some(reading) => reading,
            None => self.reading.insert(Reading::join(&*self.log, &self.config, self.target.is_shared())?),
        };
        if !reading.is_incomplete() {
            return Ok(());
        }
        let stored = self.target.positions(&self.topics).map_err(|e| match e {
            TargetError::Foreign { .. } => e.into(),
            e => Failure::Restart(e.to_string()),
        })?;
        let beyond = if self.target.is_cache() { None } else { origin::beyond(&*self.log, &stored)? };
        if let Some(cause) = beyond {
            self.misfits += 1;
            return Err(if self.misfits < MISFITS_MAX { Failure::Restart(cause) } else { Failure::Foreign(cause) });
        }
        self.misfits = 0;
        reading.open(&*self.log, stored, &self.metrics)?;
        if reading.partitions.iter().any(SinkPartition::was_reset) && self.target.forget() {
            reading.close();
            reading.open(&*self.log, Vec::new(), &self.metrics)?;
        }
        for partition in &reading.partitions {
            self.target.reaching(&partition.address, partition.position);
        }
        self.verified_at_ms = now.monotonic_ms;
        let goals: Vec<_> = reading.partitions.iter().filter_map(SinkPartition::goal).collect();
        self.target.begin(&goals);
        if reading.partitions.iter().any(|partition| partition.pending().is_some()) && !self.has_news() {
            // A position was reset: what the target claims is wrong until it knows.
            self.batch_since_ms = Some(now.monotonic_ms.saturating_sub(self.linger_ms()));
        }
        Ok(())
    }

    fn linger_ms(&self) -> i64 {
        self.config.linger.as_millis() as i64
    }

    /// How long the first record of a batch waits for others.
    fn batch_linger_ms(&self) -> i64 {
        let (linger_ms, busy_ms) = (self.linger_ms(), self.write_ms * WRITE_TIMES);
        if self.target.is_cache() { linger_ms } else { busy_ms.clamp(linger_ms, linger_ms * LINGERS_MAX) }
    }

    fn is_due(&self, now: Now) -> bool {
        let passed = |since: Option<i64>, linger_ms| since.is_some_and(|since_ms| now.since_ms(since_ms) >= linger_ms);
        self.batch.records() >= self.config.records_max
            || passed(self.batch_since_ms, self.batch_linger_ms())
            || passed(self.empty_step_since_ms, self.linger_ms().max(EMPTY_STEP_LINGER_MS))
    }

    fn read(&mut self, now: Now, timeout: Duration) -> Result<Step, Failure> {
        let linger_ms = self.batch_linger_ms();
        let Some(reading) = &mut self.reading else { return Ok(Step::Idle) };
        let linger_left_ms = |since: i64| (linger_ms - now.since_ms(since)).max(0) as u64;
        let timeout = match self.batch_since_ms {
            Some(since) => timeout.min(Duration::from_millis(linger_left_ms(since))),
            None => timeout,
        };
        let log = &*self.log;
        let mut intake =
            Intake { log, sink: &self.config.name, target: &mut *self.target, batch: &mut self.batch, now };
        match reading.poll(&mut intake, timeout)? {
            Read::Records(records) => {
                self.batch_since_ms.get_or_insert(now.monotonic_ms);
                return Ok(Step::Read(records));
            }
            Read::Marks => {
                self.batch_since_ms.get_or_insert(now.monotonic_ms);
            }
            Read::Nothing { moved: true } => {
                self.empty_step_since_ms.get_or_insert(now.monotonic_ms);
            }
            Read::Nothing { moved: false } | Read::Assigned => {}
            Read::Revoked { partitions, lost } => self.revoke(&partitions, lost, now)?,
        }
        Ok(Step::Idle)
    }

    /// Writes what is at hand, so that the next owner of these partitions goes on after it, and lets them go.
    fn revoke(&mut self, partitions: &[u32], lost: bool, now: Now) -> Result<(), Failure> {
        let written = match lost {
            // Another member has them already. The batch cannot be divided: the rest is read again.
            true => {
                self.restart();
                Ok(())
            }
            false if self.has_news() => self.write(now).map(drop),
            false => Ok(()),
        };
        // They are not ours any more, whatever came of it.
        self.release(partitions);
        written.map_err(|failure| match failure {
            // The batch has rows that another member writes now.
            Failure::Rewrite(cause) => Failure::Restart(cause),
            other => other,
        })
    }

    fn release(&mut self, partitions: &[u32]) {
        if let Some(reading) = &mut self.reading {
            reading.release(partitions, &self.metrics);
        }
    }

    fn has_news(&self) -> bool {
        self.batch_since_ms.is_some() || self.empty_step_since_ms.is_some()
    }

    /// A backup that was restored while there was nothing to write.
    fn verify(&mut self, now: Now) -> Result<(), Failure> {
        let is_recent = now.since_ms(self.verified_at_ms) < VERIFY_EVERY_MS;
        let Some(reading) = self.reading.as_ref().filter(|_| !is_recent && !self.has_news()) else { return Ok(()) };
        let stored = self.target.positions(&self.topics)?;
        self.verified_at_ms = now.monotonic_ms;
        for partition in &reading.partitions {
            let found = stored.iter().find(|stored| stored.partition == partition.address);
            let found = found.map(StoredPosition::standing);
            if found != partition.stored() {
                let (partition, expected) = (partition.address.clone(), partition.stored());
                return Err(TargetError::Moved { partition, expected, found }.into());
            }
        }
        Ok(())
    }

    fn write(&mut self, now: Now) -> Result<Step, Failure> {
        let Some(reading) = &mut self.reading else { return Ok(Step::Idle) };
        self.batch.positions.clear();
        self.batch.positions.extend(reading.partitions.iter().filter_map(SinkPartition::pending));
        let timer = self.metrics.write_seconds.start_timer();
        if let Err(error) = self.target.write(&self.batch) {
            timer.stop_and_discard();
            return Err(error.into());
        }
        timer.observe_duration();
        self.metrics.batches.inc();
        self.writing_since_ms = Some(now.monotonic_ms);
        self.verified_at_ms = now.monotonic_ms;
        reading.partitions.iter_mut().for_each(SinkPartition::written);
        let records = self.batch.records();
        self.discard_batch();
        if self.breaker.succeed() {
            // While the target was away, records that this sink has not read may have been compacted.
            if let Some(reading) = &mut self.reading {
                reading.distrust(&*self.log)?;
            }
        }
        self.measure_lag(now);
        Ok(Step::Wrote(records))
    }

    /// Everything is read again from the positions of the target.
    fn restart(&mut self) {
        self.reading.iter_mut().for_each(Reading::close);
        self.discard_batch();
    }

    fn discard_batch(&mut self) {
        self.batch.clear();
        self.batch_since_ms = None;
        self.empty_step_since_ms = None;
    }

    fn measure_lag(&mut self, now: Now) {
        let Some(reading) = &self.reading else { return };
        if now.since_ms(self.lag_at_ms) < LAG_EVERY_MS {
            return;
        }
        self.lag_at_ms = now.monotonic_ms;
        // If the log does not respond, reading reports it.
        let Ok(ends) = reading.ends(&*self.log) else { return };
        for (partition, end) in reading.partitions.iter().zip(ends) {
            partition.lag.set(end.saturating_sub(partition.written_to()) as i64);
        }
        let clock_ms = reading.partitions.iter().filter_map(SinkPartition::clock_ms).min();
        if let Some(clock_ms) = clock_ms {
            self.metrics.clock_lag_seconds.set(self.clock_lag.clock_ms(clock_ms, now) as f64 / 1_000.0);
        }
    }

    fn check(&mut self, now: Now) -> Result<(), Failure> {
        if now.since_ms(self.checked_at_ms) < CHECK_EVERY_MS {
            return Ok(());
        }
        self.checked_at_ms = now.monotonic_ms;
        Ok(self.target.check()?)
    }

    fn expire(&mut self, now: Now) -> Result<(), Failure> {
        if now.monotonic_ms < self.expire_at_ms {
            return Ok(());
        }
        let expired = self.target.expire(now.wall_ms)?;
        expired.rows.iter().for_each(|(table, rows)| self.metrics.expired_rows(table).inc_by(*rows));
        self.expire_at_ms = now.monotonic_ms + if expired.more { EXPIRE_AGAIN_MS } else { EXPIRE_EVERY_MS };
        Ok(())
    }
}
