//! Moves of a root task's clock without a record.
//!
//! A task that has read everything moves its clock with the wall clock, so that windows close without traffic. The
//! moment depends on the clocks of processes and brokers, and on when the task ran. So that a replay makes the same
//! decisions, the moves are written to the topic `<application>-idle`, in the partition of the task: the offset of the
//! source before which the clock has moved, and the clock from there. A replay of the source repeats the moves at their
//! offsets, and moves the clock by itself only after the last of them.
//!
//! What matters is the clock with which a record is processed. So a move waits for the record that follows, and is written
//! in the transaction of that one; later moves before the same record take its place. A task without records writes
//! nothing. Until the record comes, the clock is in the task's position in the changelog: a task that is opened takes it
//! from there.

use super::{Position, Task, TaskError};
use crate::log::{Consumer, Log, LogError, Polled, ProducerRecord, Record, TopicPartition, TransactionalProducer};
use crate::processor::Dataflow;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// The first byte of every record.
const FORMAT: u8 = 1;
/// How long the log may take for the next batch of recorded moves.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many offsets before the end of the topic the search for its newest moves begins.
const TAIL: u64 = 16;

/// A record of the topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClockMove {
    /// The generation of the task that wrote it.
    pub generation: u16,
    /// Partition of the root topic.
    pub partition: u32,
    /// The clock moves before the record at this offset.
    pub next_offset: u64,
    /// The new time, in milliseconds since 1970.
    pub clock_ms: i64,
    /// The clock is set, also backwards: an operator has confirmed that it was ahead. Otherwise it only rises.
    pub is_set: bool,
}

impl ClockMove {
    /// The record's value.
    pub fn encode(&self) -> Vec<u8> {
        // Only a failing writer fails here, and a vector does not.
        postcard::to_extend(self, vec![FORMAT]).unwrap_or_default()
    }

    /// Reads what [`ClockMove::encode`] wrote.
    pub fn decode(value: &[u8]) -> Result<Self, String> {
        match value.split_first() {
            Some((&FORMAT, body)) => postcard::from_bytes(body).map_err(|e| format!("damaged move of the clock: {e}")),
            Some((format, _)) => Err(format!("a move of the clock in format {format}: run a newer tally")),
            None => Err("an empty record".to_owned()),
        }
    }

    /// Decodes a record of the partition at `at`.
    pub fn read(at: &TopicPartition, record: &Record<'_>) -> Result<Self, TaskError> {
        Self::decode(record.value.unwrap_or_default())
            .map_err(|reason| TaskError::Halt { address: format!("{at}@{}", record.offset), reason })
    }

    /// Whether it comes after what a task at this position has done.
    fn is_beyond(&self, position: &Position) -> bool {
        (self.next_offset, self.clock_ms) > (position.input_next, position.clock_ms)
    }
}

/// The moves of a root task's clock, and their topic.
pub(super) struct Moves {
    topic: Arc<str>,
    /// Moves in the open transaction.
    made: Vec<ClockMove>,
    /// Of an earlier transaction, before a record that has not come yet.
    waiting: Option<ClockMove>,
    recorded: Option<Recorded>,
}

/// Recorded moves, while a task repeats them.
pub(super) struct Recorded {
    consumer: Box<dyn Consumer>,
    at: TopicPartition,
    next: u64,
    /// The topic's end when the task was opened: later records were written by the task itself.
    end: u64,
    ahead: VecDeque<ClockMove>,
    /// In the open transaction.
    repeated: Vec<ClockMove>,
}

impl Moves {
    pub fn new(topic: Arc<str>) -> Self {
        Self { topic, made: Vec::new(), waiting: None, recorded: None }
    }

    /// Starts to repeat the recorded moves.
    pub fn repeat(&mut self, recorded: Recorded) {
        self.recorded = Some(recorded);
    }

    /// The next recorded move that comes before this offset.
    fn due(&mut self, offset: u64) -> Result<Option<ClockMove>, TaskError> {
        let Some(recorded) = &mut self.recorded else { return Ok(None) };
        recorded.fill()?;
        let due = recorded.ahead.pop_front_if(|next| next.next_offset <= offset);
        recorded.repeated.extend(due.clone());
        Ok(due)
    }

    /// Whether recorded moves are left.
    fn is_repeating(&mut self) -> Result<bool, TaskError> {
        let Some(recorded) = &mut self.recorded else { return Ok(false) };
        recorded.fill()?;
        Ok(!recorded.ahead.is_empty())
    }

    fn make(&mut self, made: ClockMove) {
        // Several of one transaction before the same record are one.
        let is_same = |last: &&mut ClockMove| last.next_offset == made.next_offset && !last.is_set && !made.is_set;
        match self.made.last_mut().filter(is_same) {
            Some(last) => last.clock_ms = made.clock_ms,
            None => self.made.push(made),
        }
    }

    /// What the open transaction records of a task that has read up to `input_next`, and what waits for a record after it.
    fn settle(&self, input_next: u64) -> (Vec<&ClockMove>, Option<&ClockMove>) {
        let is_replaced = |waiting: &&ClockMove| {
            let first = self.made.first();
            first.is_some_and(|first| first.next_offset == waiting.next_offset && !first.is_set)
        };
        let waiting = self.waiting.as_ref().filter(|waiting| !is_replaced(waiting));
        let mut moves: Vec<_> = waiting.into_iter().chain(&self.made).collect();
        let last = moves.pop_if(|last| last.next_offset == input_next && !last.is_set);
        (moves, last)
    }

    pub fn send(&self, input_next: u64, producer: &mut dyn TransactionalProducer) -> Result<(), TaskError> {
        for made in self.settle(input_next).0 {
            let value = made.encode();
            let record = ProducerRecord {
                topic: &self.topic,
                partition: made.partition,
                key: None,
                value: Some(&value),
                headers: &[],
            };
            producer.send(record)?;
        }
        Ok(())
    }

    pub fn committed(&mut self, input_next: u64) {
        self.waiting = self.settle(input_next).1.cloned();
        self.made.clear();
        if let Some(recorded) = &mut self.recorded {
            recorded.repeated.clear();
            if recorded.is_done() {
                self.recorded = None;
            }
        }
    }

    pub fn rollback(&mut self) {
        self.made.clear();
        if let Some(Recorded { ahead, repeated, .. }) = &mut self.recorded {
            repeated.drain(..).rev().for_each(|one| ahead.push_front(one));
        }
    }
}

impl Recorded {
    /// The part of the topic after a position, if there is one.
    fn find(log: &dyn Log, at: TopicPartition, position: &Position) -> Result<Option<Self>, TaskError> {
        let (start, end) = log.bounds(&at)?;
        let (ahead, repeated) = (VecDeque::new(), Vec::new());
        let mut recorded = Self { consumer: log.consumer("")?, at, next: end, end, ahead, repeated };
        let mut back = TAIL;
        loop {
            let from = end.saturating_sub(back).max(start);
            recorded.consumer.assign(&recorded.at, from)?;
            (recorded.next, recorded.ahead) = (from, VecDeque::new());
            recorded.fill()?;
            if from == start || recorded.ahead.front().is_some_and(|first| !first.is_beyond(position)) {
                break;
            }
            back = back.saturating_mul(8);
        }
        while recorded.ahead.pop_front_if(|first| !first.is_beyond(position)).is_some() {
            recorded.fill()?;
        }
        Ok((!recorded.is_done()).then_some(recorded))
    }

    fn is_done(&self) -> bool {
        self.ahead.is_empty() && self.next >= self.end
    }

    /// Reads on if nothing is buffered.
    fn fill(&mut self) -> Result<(), TaskError> {
        while self.ahead.is_empty() && self.next < self.end {
            let Polled::Records { records, next_offset, .. } = self.consumer.poll(PATIENCE)? else {
                let reason = format!("{}@{}: nothing came for {} s", self.at, self.next, PATIENCE.as_secs());
                return Err(LogError::Unavailable(reason).into());
            };
            for record in records {
                let record = record?;
                if record.offset < self.end {
                    self.ahead.push_back(ClockMove::read(&self.at, &record)?);
                }
            }
            self.next = next_offset;
        }
        Ok(())
    }
}

impl<D: Dataflow> Task<D> {
    /// The partition in which its moves are recorded; None behind a hop.
    pub(super) fn moves_at(&self) -> Option<TopicPartition> {
        self.subtopology.upstream.is_none().then(|| TopicPartition::new(self.moves.topic.clone(), self.partition))
    }

    /// Repeats what was recorded before this offset, and sets the clock where that was confirmed.
    pub(super) fn repeat_moves(
        &mut self,
        offset: u64,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        while let Some(ClockMove { clock_ms, next_offset, is_set, .. }) = self.moves.due(offset)? {
            if is_set {
                self.confirmed.was_repeated(next_offset);
                self.set_clock(clock_ms);
            }
            self.advance_clock(clock_ms, producer)?;
        }
        while let Some((next_offset, clock_ms)) = self.confirmed.due(offset) {
            let made = ClockMove { is_set: true, ..self.clock_move(next_offset, clock_ms) };
            self.moves.make(made);
            self.set_clock(clock_ms);
        }
        Ok(())
    }

    /// A move may have been waiting when its former owner stopped. Where the clock comes from a record, this one changes
    /// nothing.
    fn wait_with_clock(&mut self) {
        let Position { input_next: next_offset, clock_ms, .. } = self.position;
        self.moves.waiting = Some(self.clock_move(next_offset, clock_ms));
    }

    fn clock_move(&self, next_offset: u64, clock_ms: i64) -> ClockMove {
        let (generation, partition) = (self.generation, self.partition);
        ClockMove { generation, partition, next_offset, clock_ms, is_set: false }
    }

    /// Moves the clock without a record, and records that.
    pub(super) fn move_clock(
        &mut self,
        clock_ms: i64,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        let next_offset = self.position.input_next;
        self.repeat_moves(next_offset, producer)?;
        if self.moves.is_repeating()? || clock_ms <= self.position.clock_ms {
            return Ok(());
        }
        self.moves.make(self.clock_move(next_offset, clock_ms));
        self.advance_clock(clock_ms, producer)
    }
}

/// Prepares tasks that were opened to repeat what their topic has beyond them. That is rare: only a replay finds any.
pub(super) fn prepare<'a, D: Dataflow>(
    log: &dyn Log,
    tasks: impl Iterator<Item = &'a mut Task<D>>,
) -> Result<(), TaskError> {
    let mut roots: Vec<_> = tasks.filter_map(|task| Some((task.moves_at()?, task))).collect();
    if roots.is_empty() {
        return Ok(());
    }
    let places: Vec<_> = roots.iter().map(|(at, _)| at.clone()).collect();
    let newest = newest(log, &places)?;
    for ((at, task), newest) in roots.iter_mut().zip(newest) {
        let next_offset = task.position.input_next;
        let is_at = task.confirmed.is_at(next_offset);
        task.confirmed.begin(next_offset, is_at && was_set(log, at, next_offset)?);
        let Position { input_next, clock_ms, .. } = task.position;
        let (is_behind, is_known) = match newest {
            Newest::Nothing => (false, false),
            Newest::Move(newest) => {
                (newest.is_beyond(&task.position), (newest.next_offset, newest.clock_ms) == (input_next, clock_ms))
            }
            Newest::FurtherBack => (true, false),
        };
        let recorded = if is_behind { Recorded::find(log, at.clone(), &task.position)? } else { None };
        match recorded {
            Some(recorded) => {
                tracing::info!(task = task.name(), "repeats recorded moves of its clock");
                task.moves.repeat(recorded);
            }
            None if task.position.clock_ms > i64::MIN && !is_known => task.wait_with_clock(),
            None => {}
        }
    }
    Ok(())
}

/// Whether the clock was set at this offset of the source.
fn was_set(log: &dyn Log, at: &TopicPartition, next_offset: u64) -> Result<bool, TaskError> {
    let before = Position { input_next: next_offset, clock_ms: i64::MIN, upstream: Vec::new(), outputs: Vec::new() };
    let Some(mut recorded) = Recorded::find(log, at.clone(), &before)? else { return Ok(false) };
    while let Some(one) = recorded.ahead.pop_front() {
        if one.is_set && one.next_offset == next_offset {
            return Ok(true);
        }
        recorded.fill()?;
    }
    Ok(false)
}

/// The last record of a partition.
enum Newest {
    Nothing,
    Move(ClockMove),
    /// The move is before the last offsets.
    FurtherBack,
}

fn newest(log: &dyn Log, places: &[TopicPartition]) -> Result<Vec<Newest>, TaskError> {
    let mut consumer = log.consumer("")?;
    let (mut found, mut ends) = (Vec::new(), Vec::new());
    for at in places {
        let (start, end) = log.bounds(at)?;
        let from = end.saturating_sub(TAIL).max(start);
        if start < end {
            consumer.assign(at, from)?;
        }
        found.push(if from == start { Newest::Nothing } else { Newest::FurtherBack });
        ends.push((from, end));
    }
    while ends.iter().any(|(next, end)| next < end) {
        let Polled::Records { from, records, next_offset } = consumer.poll(PATIENCE)? else {
            let reason = format!("the ends of {} partitions gave nothing for {} s", places.len(), PATIENCE.as_secs());
            return Err(LogError::Unavailable(reason).into());
        };
        let Some(index) = places.iter().position(|at| at == from) else { continue };
        for record in records {
            let record = record?;
            if record.offset < ends[index].1 {
                found[index] = Newest::Move(ClockMove::read(&places[index], &record)?);
            }
        }
        ends[index].0 = next_offset;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_what_they_have_always_been() {
        let idle =
            ClockMove { generation: 1, partition: 3, next_offset: 300, clock_ms: 1_795_248_000_000, is_set: false };
        let golden = b"\x01\x01\x03\xac\x02\x80\xb0\xf4\xd1\xbfh\x00";
        assert_eq!(idle.encode(), golden, "{:02x?}", idle.encode());
        assert_eq!(ClockMove::decode(golden), Ok(idle.clone()));
        let set = ClockMove { is_set: true, ..idle };
        assert_eq!(ClockMove::decode(&set.encode()), Ok(set));
        assert!(ClockMove::decode(b"\x02\x01").unwrap_err().contains("run a newer tally"));
        assert!(ClockMove::decode(b"\x01\x01").is_err() && ClockMove::decode(b"").is_err());
    }
}
