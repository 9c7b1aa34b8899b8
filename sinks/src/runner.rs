//! The sink's task: from the topics, through a batch, into the target.
//!
//! A state machine that [`SinkTask::poll_once`] moves: no clock, no thread and no chance inside.

use crate::backoff::Backoff;
use crate::batch::Batch;
use crate::config::SinkConfig;
use crate::metrics::{Handles, SinkMetrics};
use crate::partition::SinkPartition;
use crate::reading::{ReadError, Reading};
use crate::target::{Target, TargetError};
use std::sync::Arc;
use std::time::Duration;
use tally_streams::log::{Log, LogError, TopicPartition};

/// Steps over control records move positions without a row; they can wait for company.
const EMPTY_STEP_LINGER_MS: i64 = 1_000;
/// How often the log is asked for its ends, for the metrics.
const LAG_EVERY_MS: i64 = 2_000;
/// How often old rows are looked for; sooner where there are more.
const EXPIRE_EVERY_MS: i64 = 60_000;
const EXPIRE_AGAIN_MS: i64 = 500;
/// How often the target is asked whether it still has what it had.
const CHECK_EVERY_MS: i64 = 1_000;

/// A sink at work.
pub struct SinkTask {
    config: SinkConfig,
    log: Arc<dyn Log>,
    target: Box<dyn Target>,
    metrics: Handles,
    /// None before the start, and after a failure of the log: then everything starts from the target's positions.
    reading: Option<Reading>,
    batch: Batch,
    /// When the batch's first record came.
    batch_since_ms: Option<i64>,
    /// When a position first moved without a record.
    empty_step_since_ms: Option<i64>,
    backoff: Backoff,
    lag_at_ms: i64,
    expire_at_ms: i64,
    checked_at_ms: i64,
}

/// What a call of [`SinkTask::poll_once`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read that many records.
    Read(usize),
    /// Wrote a batch of that many records.
    Wrote(usize),
    /// There was nothing to read.
    Idle,
    /// Something failed: nothing will be tried for that many milliseconds.
    Waiting(i64),
}

/// What stops a sink for good.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// A record that only another program can have written, or damage. Passing over it would lose what it says.
    #[error(
        "sink `{sink}`: {partition}: offset {offset}: cannot be read as {expected:?}: {cause}. \
         Only tally writes this topic: find out who else did; then replay into a new topic, or move the sink past it"
    )]
    Record {
        /// The sink's name.
        sink: String,
        /// Where the record lies.
        partition: TopicPartition,
        /// Where the record lies.
        offset: u64,
        /// What it should have been.
        expected: crate::ValueType,
        /// Why it cannot be read.
        cause: String,
    },
}

/// Why a step did not get done.
enum Failure {
    /// For good.
    Stop(SinkError),
    /// The log failed, or the positions are not what they were: start again from the target's positions.
    Restart(String),
    /// The target failed: write the same batch again.
    Rewrite(String),
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Self::Restart(format!("log: {error}"))
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Log(error) => error.into(),
            ReadError::Sink(error) => Self::Stop(error),
        }
    }
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Moved { .. } | TargetError::Lost(_) => Self::Restart(error.to_string()),
            TargetError::Unavailable(_) => Self::Rewrite(error.to_string()),
        }
    }
}

impl SinkTask {
    /// A sink that has not started. Its first step reads the positions from the target.
    pub fn new(config: SinkConfig, log: Arc<dyn Log>, target: Box<dyn Target>, metrics: &SinkMetrics) -> Self {
        let metrics = metrics.of(&config.name);
        Self {
            config,
            log,
            target,
            metrics,
            reading: None,
            batch: Batch::default(),
            batch_since_ms: None,
            empty_step_since_ms: None,
            backoff: Backoff::default(),
            lag_at_ms: i64::MIN,
            expire_at_ms: i64::MIN,
            checked_at_ms: i64::MIN,
        }
    }

    /// The sink's name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Takes a step: starts, reads for at most `timeout`, or writes. `now_ms` is the time since 1970, `jitter` a random
    /// number from 0 to 1. Failures of the log and the target are waited out; nothing is ever passed over.
    pub fn poll_once(&mut self, now_ms: i64, jitter: f64, timeout: Duration) -> Result<Step, SinkError> {
        let wait_ms = self.backoff.remaining_ms(now_ms);
        if wait_ms > 0 {
            return Ok(Step::Waiting(wait_ms));
        }
        let cause = match self.advance(now_ms, timeout) {
            Ok(step) => return Ok(step),
            Err(Failure::Stop(error)) => {
                // Whoever calls again meets the same record again.
                self.restart();
                return Err(error);
            }
            Err(Failure::Rewrite(cause)) => cause,
            Err(Failure::Restart(cause)) => {
                self.restart();
                cause
            }
        };
        self.metrics.errors.inc();
        let wait_ms = self.backoff.fail(now_ms, jitter);
        tracing::warn!(sink = self.config.name, wait_ms, "{cause}");
        Ok(Step::Waiting(wait_ms))
    }

    /// Writes what has been read, whether or not it is due: before a stop. A failure leaves it to the next start.
    pub fn finish(&mut self, now_ms: i64) {
        let written = if self.batch_since_ms.is_some() { self.write(now_ms).map(drop) } else { Ok(()) };
        if let Err(Failure::Rewrite(cause) | Failure::Restart(cause)) = written {
            tracing::warn!(sink = self.config.name, "the last batch was not written and will be read again: {cause}");
        }
    }

    fn advance(&mut self, now_ms: i64, timeout: Duration) -> Result<Step, Failure> {
        if self.reading.is_none() {
            self.start(now_ms)?;
        }
        if self.is_due(now_ms) {
            return self.write(now_ms);
        }
        self.expire(now_ms)?;
        self.check(now_ms)?;
        let step = self.read(now_ms, timeout)?;
        self.measure_lag(now_ms)?;
        if self.batch_since_ms.is_none() {
            // With a batch at hand only a write proves that the target is back.
            self.backoff.succeed();
        }
        Ok(step)
    }

    fn start(&mut self, now_ms: i64) -> Result<(), Failure> {
        self.discard_batch();
        let topics: Vec<Arc<str>> = self.config.topics.iter().map(|(topic, _)| topic.as_str().into()).collect();
        let stored = self.target.positions(&topics).map_err(|e| Failure::Restart(e.to_string()))?;
        let reading = Reading::open(&*self.log, &self.config, stored, &self.metrics)?;
        let goals: Vec<_> = reading.partitions.iter().filter_map(SinkPartition::goal).collect();
        self.target.begin(&goals);
        if reading.partitions.iter().any(|partition| partition.pending().is_some()) {
            // A position was reset: what the target claims is wrong until it knows.
            self.batch_since_ms = Some(now_ms.saturating_sub(self.linger_ms()));
        }
        self.reading = Some(reading);
        Ok(())
    }

    fn linger_ms(&self) -> i64 {
        self.config.linger.as_millis() as i64
    }

    fn is_due(&self, now_ms: i64) -> bool {
        // A clock that was set back must not make anybody wait.
        let passed = |since: Option<i64>, linger_ms| since.is_some_and(|t| now_ms < t || now_ms - t >= linger_ms);
        self.batch.records() >= self.config.records_max
            || passed(self.batch_since_ms, self.linger_ms())
            || passed(self.empty_step_since_ms, self.linger_ms().max(EMPTY_STEP_LINGER_MS))
    }

    fn read(&mut self, now_ms: i64, timeout: Duration) -> Result<Step, Failure> {
        let Some(reading) = &mut self.reading else { return Ok(Step::Idle) };
        let linger_left_ms = |since: i64| (self.config.linger.as_millis() as i64 - (now_ms - since)).max(0) as u64;
        let timeout = match self.batch_since_ms {
            Some(since) => timeout.min(Duration::from_millis(linger_left_ms(since))),
            None => timeout,
        };
        let read = reading.poll(&*self.log, &self.config.name, &mut self.batch, now_ms, timeout)?;
        if read.records > 0 {
            self.batch_since_ms.get_or_insert(now_ms);
        } else if read.moved {
            self.empty_step_since_ms.get_or_insert(now_ms);
        }
        Ok(if read.records > 0 { Step::Read(read.records) } else { Step::Idle })
    }

    fn write(&mut self, now_ms: i64) -> Result<Step, Failure> {
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
        reading.partitions.iter_mut().for_each(SinkPartition::written);
        let records = self.batch.records();
        self.discard_batch();
        if self.backoff.succeed() {
            // While the target was away, records that this sink has not read may have been compacted.
            if let Some(reading) = &mut self.reading {
                reading.distrust(&*self.log)?;
            }
        }
        self.measure_lag(now_ms)?;
        Ok(Step::Wrote(records))
    }

    fn restart(&mut self) {
        self.reading = None;
        self.discard_batch();
    }

    fn discard_batch(&mut self) {
        self.batch.clear();
        self.batch_since_ms = None;
        self.empty_step_since_ms = None;
    }

    fn measure_lag(&mut self, now_ms: i64) -> Result<(), Failure> {
        let Some(reading) = &self.reading else { return Ok(()) };
        if now_ms >= self.lag_at_ms && now_ms.saturating_sub(self.lag_at_ms) < LAG_EVERY_MS {
            return Ok(());
        }
        self.lag_at_ms = now_ms;
        for partition in &reading.partitions {
            let end = self.log.bounds(&partition.address)?.1;
            partition.lag.set(end.saturating_sub(partition.written_to()) as i64);
        }
        let clock_ms = reading.partitions.iter().filter_map(SinkPartition::clock_ms).min();
        if let Some(clock_ms) = clock_ms {
            self.metrics.clock_lag_seconds.set(now_ms.saturating_sub(clock_ms).max(0) as f64 / 1_000.0);
        }
        Ok(())
    }

    fn check(&mut self, now_ms: i64) -> Result<(), Failure> {
        if now_ms >= self.checked_at_ms && now_ms.saturating_sub(self.checked_at_ms) < CHECK_EVERY_MS {
            return Ok(());
        }
        self.checked_at_ms = now_ms;
        Ok(self.target.check()?)
    }

    fn expire(&mut self, now_ms: i64) -> Result<(), Failure> {
        if now_ms < self.expire_at_ms {
            return Ok(());
        }
        let more = self.target.expire(now_ms)?;
        self.expire_at_ms = now_ms + if more { EXPIRE_AGAIN_MS } else { EXPIRE_EVERY_MS };
        Ok(())
    }
}
