//! Recovery from a log whose time was ahead: from some offset on, an operator has confirmed what time it is.
//!
//! The confirmation is in the control record, so that a replay makes the same decisions. At that offset the task's
//! clock is set, even backwards. Records that the log had taken before the confirmation count as taken at that time at
//! the latest. Ids may have been dropped while the clock was ahead, so an event that happened before the confirmation
//! and arrives after it is late if its id may be one of them.

use crate::processor::Forgotten;
use serde::{Deserialize, Serialize};

/// What an operator has confirmed of one partition of the root topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmedTime {
    /// Partition of the root topic.
    pub partition: u32,
    /// Up to here records were processed when it was confirmed.
    pub from_offset: u64,
    /// And up to here the log had taken them.
    pub until_offset: u64,
    /// The time then, milliseconds since 1970.
    pub clock_ms: i64,
    /// The time of the log before.
    pub log_ms: i64,
}

/// What concerns one task.
#[derive(Default)]
pub(super) struct Confirmed {
    /// In the order of their confirmation.
    times: Vec<ConfirmedTime>,
    /// How many of them the clock has been set to, and as of the last commit.
    done: usize,
    committed: usize,
}

impl Confirmed {
    pub fn new(all: &[ConfirmedTime], partition: u32) -> Self {
        let times = all.iter().filter(|time| time.partition == partition).cloned().collect();
        Self { times, ..Self::default() }
    }

    /// Whether a clock was confirmed at exactly this offset: then only the record of moves shows whether the clock was
    /// set.
    pub fn is_at(&self, next_offset: u64) -> bool {
        self.times.iter().any(|time| time.from_offset == next_offset)
    }

    /// The task stands here, and the clock was set at this offset, or was not.
    pub fn begin(&mut self, next_offset: u64, was_set: bool) {
        let is_done =
            |time: &&ConfirmedTime| time.from_offset < next_offset || was_set && time.from_offset == next_offset;
        self.done = self.times.iter().take_while(is_done).count();
        self.committed = self.done;
    }

    /// The next time that comes before the record at this offset, with its own offset.
    pub fn due(&mut self, offset: u64) -> Option<(u64, i64)> {
        let time = self.times.get(self.done).filter(|time| time.from_offset <= offset)?;
        self.done += 1;
        Some((time.from_offset, time.clock_ms))
    }

    /// The clock was set at this offset because a run before has done so.
    pub fn was_repeated(&mut self, offset: u64) {
        if self.times.get(self.done).is_some_and(|time| time.from_offset <= offset) {
            self.done += 1;
        }
    }

    /// When the log has taken a record.
    pub fn append_time_ms(&self, offset: u64, append_time_ms: i64) -> i64 {
        let holds = |time: &&ConfirmedTime| (time.from_offset..time.until_offset).contains(&offset);
        let latest_ms = self.times.iter().filter(holds).map(|time| time.clock_ms).min();
        latest_ms.map_or(append_time_ms, |latest_ms| latest_ms.min(append_time_ms))
    }

    /// Which ids may have been forgotten when the record at this offset comes.
    pub fn forgotten(&self, offset: u64) -> Option<Forgotten> {
        let before = self.times.iter().filter(|time| time.from_offset <= offset);
        let before = before.map(|time| Forgotten { before_ms: time.clock_ms, clock_ms: time.log_ms });
        before
            .reduce(|a, b| Forgotten { before_ms: a.before_ms.max(b.before_ms), clock_ms: a.clock_ms.max(b.clock_ms) })
    }

    pub fn commit(&mut self) {
        self.committed = self.done;
    }

    pub fn rollback(&mut self) {
        self.done = self.committed;
    }
}
