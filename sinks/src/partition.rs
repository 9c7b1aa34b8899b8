//! What a sink knows of one partition that it reads.

use crate::batch::Move;
use crate::config::ValueType;
use crate::metrics::Handles;
use crate::target::StoredPosition;
use prometheus::{IntCounter, IntGauge};
use tally_model::ProgressMark;
use tally_model::Roots;
use tally_streams::log::TopicPartition;

/// Compaction leaves records alone that are younger than this.
///
/// Records of `counters` hold all totals and name those that changed since the record before. A reader that lags
/// behind compaction may find that record gone, and with it the names of what it changed. So everything that lay in
/// the topic when the reader may have been further behind than this is written whole.
pub const TRUST_MS: i64 = 60_000;

/// A partition of an output topic on its way into the target.
pub struct SinkPartition {
    pub address: TopicPartition,
    pub value_type: ValueType,
    /// Everything below is in the batch or in the target.
    pub position: u64,
    /// The greatest version among what is in the batch or in the target.
    pub version: i64,
    /// Records read of the topic.
    pub records: IntCounter,
    /// Records not in the target yet.
    pub lag: IntGauge,
    /// The position in the target.
    stored: Option<u64>,
    /// The topic's start when reading began.
    origin: u64,
    roots: Roots,
    /// Whether the roots differ from the target's.
    marked: bool,
    /// Records below are written whole.
    whole_below: u64,
    /// Whether the last record read was too old to trust the next.
    behind: bool,
}

impl SinkPartition {
    /// A partition with what the target has of it, and the log's bounds.
    pub fn new(
        address: TopicPartition,
        value_type: ValueType,
        stored: Option<StoredPosition>,
        (start, end): (u64, u64),
        metrics: &Handles,
    ) -> Self {
        let mut partition = Self {
            value_type,
            position: stored.as_ref().map_or(start, |s| s.next_offset),
            version: stored.as_ref().map_or(0, |s| s.version),
            records: metrics.records(&address.topic),
            lag: metrics.lag_records(&address.topic, address.partition),
            stored: stored.as_ref().map(|s| s.next_offset),
            origin: start,
            roots: stored.map(|s| s.roots).unwrap_or_default(),
            marked: false,
            whole_below: end,
            behind: false,
            address,
        };
        if partition.position < start || partition.position > end {
            let (at, address) = (partition.position, &partition.address);
            tracing::warn!("{address}: position {at} is outside {start}..={end}: reading goes on at {start}");
            metrics.position_resets.inc();
            if partition.position > end {
                // This is another log: what the target has was not taken from it.
                partition.roots = Roots::default();
                partition.version = 0;
                partition.marked = true;
            }
            partition.position = start;
        }
        partition
    }

    /// Takes a mark in.
    pub fn mark(&mut self, mark: ProgressMark) {
        self.version = self.version.max(mark.version);
        self.roots.apply(mark);
        self.marked = true;
    }

    /// Moves on; says whether that is further than before.
    pub fn step_to(&mut self, position: u64) -> bool {
        let further = position > self.position;
        self.position = self.position.max(position);
        further
    }

    /// From now on writes everything whole that lies in the topic, which ends at `end`.
    pub fn distrust(&mut self, end: u64) {
        self.whole_below = self.whole_below.max(end);
    }

    /// Whether a record shows that this reader lags behind, or the one before did.
    pub fn is_behind(&mut self, append_time_ms: i64, now_ms: i64) -> bool {
        let old = now_ms - append_time_ms > TRUST_MS;
        std::mem::replace(&mut self.behind, old) || old
    }

    /// Whether the record at this offset is written whole.
    pub fn is_whole(&self, offset: u64) -> bool {
        offset < self.whole_below
    }

    /// What the target has to reach to know all that the log held when reading began.
    pub fn goal(&self) -> Option<(TopicPartition, u64)> {
        (self.position < self.whole_below).then(|| (self.address.clone(), self.whole_below))
    }

    /// The step that the target has to take, if any.
    pub fn pending(&self) -> Option<Move> {
        let moved = self.position != self.written_to();
        (moved || self.marked).then(|| Move {
            partition: self.address.clone(),
            expected: self.stored,
            next_offset: self.position,
            roots: self.roots.clone(),
            version: self.version,
        })
    }

    /// The target has taken the step.
    pub fn written(&mut self) {
        if self.marked || self.position != self.written_to() {
            self.stored = Some(self.position);
            self.marked = false;
        }
    }

    /// What the target has to have stored; None is no position.
    pub fn stored(&self) -> Option<u64> {
        self.stored
    }

    /// The position in the target.
    pub fn written_to(&self) -> u64 {
        self.stored.unwrap_or(self.origin)
    }

    /// The clock of what is in the target; None where no mark was seen.
    pub fn clock_ms(&self) -> Option<i64> {
        // A task that has read nothing yet has no clock.
        self.roots.merged().iter().map(|root| root.clock_ms).filter(|clock_ms| *clock_ms > i64::MIN).min()
    }
}
