//! The state of one partition that a sink reads.

use crate::batch::Move;
use crate::metrics::Handles;
use crate::target::{Standing, StoredPosition};
use prometheus::{IntCounter, IntGauge};
use tally_model::{Containment, OutputType, ProgressMark, Roots, TaskProgress};
use tally_streams::log::TopicPartition;

/// A partition of an output topic, as this sink reads it.
pub struct SinkPartition {
    pub address: TopicPartition,
    pub output: OutputType,
    /// Everything below is in the batch or in the target.
    pub position: u64,
    /// The greatest version among what is in the batch or in the target.
    pub version: i64,
    /// Records read of the topic.
    pub records: IntCounter,
    /// Records not in the target yet.
    pub lag: IntGauge,
    /// What the target has.
    stored: Option<Standing>,
    /// The topic's start when reading began.
    origin: u64,
    /// How far the input is contained in what is in the batch or in the target.
    containment: Containment,
    /// Whether the roots differ from the target's.
    marked: bool,
    /// Whether the target's position was outside the topic.
    was_reset: bool,
    /// Records below are written whole.
    ///
    /// Records of `counters` hold all totals and name those that changed since the record before. A reader that lags
    /// behind compaction may find that record gone, and with it the names of what it changed. So everything that lay in
    /// the topic when the reader may have been further behind than [`tally_model::TRUST_MS`] is written whole.
    whole_below: u64,
    /// Whether the last record read was too old to trust the next.
    behind: bool,
}

impl SinkPartition {
    /// A partition with what the target has of it, the log's bounds, and where it ends for writers.
    pub fn new(
        address: TopicPartition,
        output: OutputType,
        stored: Option<StoredPosition>,
        (start, end): (u64, u64),
        written_end: u64,
        metrics: &Handles,
    ) -> Self {
        let mut partition = Self {
            output,
            position: stored.as_ref().map_or(start, |s| s.next_offset),
            version: stored.as_ref().map_or(0, |s| s.version),
            records: metrics.records(&address.topic),
            lag: metrics.lag_records(&address.topic, address.partition),
            stored: stored.as_ref().map(StoredPosition::standing),
            origin: start,
            containment: Containment::new(stored.map(|s| s.roots).unwrap_or_default(), written_end),
            marked: false,
            was_reset: false,
            whole_below: end,
            behind: false,
            address,
        };
        if partition.position < start || partition.position > end {
            let (at, address) = (partition.position, &partition.address);
            tracing::warn!("{address}: position {at} is outside {start}..={end}: reading continues at {start}");
            metrics.position_resets.inc();
            partition.was_reset = true;
            if partition.position > end {
                // This is another log: what the target has was not taken from it.
                partition.containment = Containment::new(Roots::default(), written_end);
                partition.version = 0;
                partition.marked = true;
            }
            partition.position = start;
        }
        partition
    }

    /// Whether the target's position was outside the topic, so that reading began at the topic's start.
    pub fn was_reset(&self) -> bool {
        self.was_reset
    }

    /// A mark was read in the partition.
    pub fn mark(&mut self, mark: ProgressMark) {
        self.containment.read(mark);
    }

    /// A mark was read in the internal topic.
    pub fn read_progress(&mut self, progress: &TaskProgress) {
        self.containment.read_progress(progress, &self.address.topic);
    }

    /// Whether a mark waits for reading to come further: [`Containment::waits`].
    pub fn waits(&self) -> bool {
        self.containment.waits()
    }

    /// Whether a mark waits for a proof, and for where the partition ends: [`Containment::doubts`].
    pub fn doubts(&self) -> bool {
        self.containment.doubts()
    }

    /// Where the partition ended for writers, queried after all marks of the internal topic that were read: [`Containment::prove`].
    pub fn prove(&mut self, written_end: u64) {
        self.containment.prove(written_end);
    }

    /// Takes the marks that count at the current position; returns whether there were any.
    pub fn settle(&mut self) -> bool {
        let settled = self.containment.settle(self.position);
        if settled {
            self.version = self.version.max(self.containment.roots().newest());
            self.marked = true;
        }
        settled
    }

    /// Moves on; whether that is further than before.
    pub fn step_to(&mut self, position: u64) -> bool {
        let further = position > self.position;
        self.position = self.position.max(position);
        further
    }

    /// From now on writes everything whole that lies in the topic, which ends at `end` for writers; until then no mark
    /// counts.
    pub fn distrust(&mut self, end: u64) {
        self.whole_below = self.whole_below.max(end);
        self.containment.distrust(end);
    }

    /// Whether a record shows that this reader lags behind, or the one before did.
    pub fn is_behind(&mut self, append_time_ms: i64, now_ms: i64) -> bool {
        let old = now_ms - append_time_ms > tally_model::TRUST_MS;
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
            roots: self.containment.roots().clone(),
            version: self.version,
        })
    }

    /// The target has taken the step.
    pub fn written(&mut self) {
        if self.marked || self.position != self.written_to() {
            let revision = self.containment.roots().revision();
            self.stored = Some(Standing { next_offset: self.position, revision });
            self.marked = false;
        }
    }

    /// What the target has to have stored; None is no position.
    pub fn stored(&self) -> Option<Standing> {
        self.stored
    }

    /// The position in the target.
    pub fn written_to(&self) -> u64 {
        self.stored.map_or(self.origin, |stored| stored.next_offset)
    }

    /// The clock of what is in the target; None where no mark was seen.
    pub fn clock_ms(&self) -> Option<i64> {
        // A task that has read nothing yet has no clock.
        self.containment.roots().merged().iter().map(|root| root.clock_ms).filter(|clock_ms| *clock_ms > i64::MIN).min()
    }
}
