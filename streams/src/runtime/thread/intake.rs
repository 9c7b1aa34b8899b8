//! Intake of records, and waiting for those whose append time lies ahead.

use super::StreamThread;
use crate::log::{Polled, Readiness, TopicPartition};
use crate::processor::Dataflow;
use crate::task::TaskError;
use std::time::Duration;

/// The result of a poll of the consumer, after its records were processed.
pub(super) enum Taken {
    Nothing,
    Records,
    Assigned(Vec<u32>),
    Revoked { partitions: Vec<u32>, lost: bool },
}

/// A record whose append time lies ahead.
struct Ahead {
    source: TopicPartition,
    offset: u64,
    append_time_ms: i64,
}

impl<D: Dataflow> StreamThread<D> {
    /// Whether a transaction can begin, or goes on: not while the producer is being replaced.
    pub(super) fn can_begin(&mut self) -> Result<bool, TaskError> {
        let readiness = self.producer.as_mut().map_or(Ok(Readiness::Ready), |producer| producer.readiness())?;
        if readiness == Readiness::Renewed {
            self.metrics.replacements.inc();
        }
        Ok(readiness != Readiness::Waiting)
    }

    /// Reads on where the next record does not lie ahead any more.
    pub(super) fn go_on(&mut self, latest_ms: i64) -> Result<(), TaskError> {
        for (source, _) in self.ahead.extract_if(.., |_, append_time_ms| *append_time_ms <= latest_ms) {
            if let Some(task) = self.tasks.get(&source).filter(|_| !self.is_held) {
                self.consumer.assign(&source, task.position().input_next)?;
            }
        }
        Ok(())
    }

    /// Polls, and runs the records of one batch through their task, up to one that lies ahead.
    pub(super) fn take_in(&mut self, wait: Duration, latest_ms: i64) -> Result<Taken, TaskError> {
        let (taken, ahead) = self.take_until(wait, latest_ms)?;
        if let Some(Ahead { source, offset, append_time_ms }) = ahead {
            let by_s = append_time_ms.saturating_sub(latest_ms) / 1_000;
            tracing::error!(
                %source, offset, append_time_ms, by_s,
                "the append time of a record lies ahead of this clock, beyond --clock-jump, and is waited for: look at the \
                 clocks of the brokers and of this machine"
            );
            self.consumer.unassign(&source);
            self.ahead.insert(source, append_time_ms);
        }
        Ok(taken)
    }

    fn take_until(&mut self, wait: Duration, latest_ms: i64) -> Result<(Taken, Option<Ahead>), TaskError> {
        let (from, records, next_offset) = match self.consumer.poll(wait)? {
            Polled::Records { from, records, next_offset } => (from, records, next_offset),
            Polled::Nothing => return Ok((Taken::Nothing, None)),
            Polled::Assigned(partitions) => return Ok((Taken::Assigned(partitions), None)),
            Polled::Revoked { partitions, lost } => return Ok((Taken::Revoked { partitions, lost }, None)),
        };
        let (Some(task), Some(producer)) = (self.tasks.get_mut(from), self.producer.as_mut()) else {
            return Ok((Taken::Records, None));
        };
        let mut last_ms = i64::MAX;
        for record in records {
            let record = record?;
            last_ms = record.append_time_ms;
            if let Some(append_time_ms) = task.time_of(&record).filter(|time_ms| *time_ms > latest_ms) {
                let ahead = Ahead { source: task.source(), offset: record.offset, append_time_ms };
                return Ok((Taken::Records, Some(ahead)));
            }
            task.process(&record, producer.as_mut())?;
        }
        task.skip_to(next_offset);
        self.read_up_to_ms = self.read_up_to_ms.min(last_ms);
        Ok((Taken::Records, None))
    }
}
