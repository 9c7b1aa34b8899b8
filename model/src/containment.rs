//! When the progress that a task publishes is valid for a reader of one of its output partitions.
//!
//! **The invariant: while a partition's [`Roots`] hold a mark of a task as of a commit, everything that the task wrote to
//! the partition up to that commit is contained in what was read, or was replaced by something that is.**
//!
//! Three hazards threaten it, and each has its rule:
//!
//! - **Compaction.** A mark claims that all records before it are contained. Some of them may have been compacted, and
//!   their successors may follow later. Every record that was compacted when reading began, or while reading was far
//!   behind, has its successor below the end that the partition had then ([`Containment::distrust`]). Until reading has
//!   passed that end no mark counts; then the greatest one that was read counts.
//! - **Order between partitions.** A mark of the internal topic may become visible before the records of its own commit.
//!   It names the last commit that wrote to this partition, and counts once a mark of that commit or a later one was read
//!   here: the last record of each commit carries one.
//! - **Removed records.** Retention may have removed that record, or it was read before its mark could be trusted. Then
//!   the mark counts once reading has passed the partition's end for writers, open transactions included, queried after
//!   the mark was read ([`Containment::prove`]). The end for readers proves nothing: it may lie before the mark's own
//!   transaction.
//!
//! Marks merge by the greatest (generation, commit), so their order does not matter.

use crate::progress::{ProgressMark, TaskProgress};
use crate::roots::Roots;
use std::collections::BTreeMap;

/// Compaction keeps records that are younger than this, in milliseconds. A reader that is less far behind has missed
/// nothing.
pub const TRUST_MS: i64 = 60_000;

/// The known progress of one partition of an output topic. See the module.
#[derive(Clone, Debug, Default)]
pub struct Containment {
    roots: Roots,
    /// Before reading has passed this, marks prove nothing.
    trusted_from: u64,
    /// By task, the greatest mark that was read in the partition and does not count yet.
    read: BTreeMap<String, ProgressMark>,
    /// By task, the greatest mark of the internal topic that does not count yet, and the version of the task's last commit
    /// that wrote to this partition.
    published: BTreeMap<String, (ProgressMark, i64)>,
    proof: Option<Proof>,
}

/// Marks that count once reading has passed an end that was queried after the marks had been received.
#[derive(Clone, Debug)]
struct Proof {
    end: u64,
    marks: Vec<ProgressMark>,
}

impl Containment {
    /// For a reader that starts from these roots, in a partition whose end for writers is `end`.
    pub fn new(roots: Roots, end: u64) -> Self {
        Self { roots, trusted_from: end, ..Self::default() }
    }

    /// The marks that count.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Reading is, or was, so far behind that it may have missed compacted records: no mark counts before it has passed
    /// `end`, the partition's current end for writers.
    pub fn distrust(&mut self, end: u64) {
        self.trusted_from = self.trusted_from.max(end);
    }

    /// A mark was read in the partition itself, as a record or as the header of one. It counts once reading has passed
    /// it and the trusted end.
    pub fn read(&mut self, mark: ProgressMark) {
        match self.read.get_mut(&mark.task) {
            Some(known) if known.version > mark.version => {}
            Some(known) => *known = mark,
            None => drop(self.read.insert(mark.task.clone(), mark)),
        }
    }

    /// A mark was read in the internal topic. `topic` is that of this partition, which is the task's.
    pub fn read_progress(&mut self, progress: &TaskProgress, topic: &str) {
        let Some((mark, wrote)) = progress.of_topic(topic) else { return };
        let is_older = |known: Option<i64>| known.is_some_and(|known| known >= mark.version);
        let known = self.published.get(&mark.task).map(|(known, _)| known.version);
        if !is_older(known) && !is_older(self.roots.version_of(&mark.task)) {
            self.published.insert(mark.task.clone(), (mark, wrote));
        }
    }

    /// Whether a mark waits and no end was queried that would prove it: see [`Containment::prove`].
    pub fn doubts(&self) -> bool {
        self.proof.is_none() && !self.published.is_empty()
    }

    /// Whether a mark waits until more has been read.
    pub fn waits(&self) -> bool {
        !self.published.is_empty() || !self.read.is_empty()
    }

    /// Sets the partition's end for writers, queried after all marks of the internal topic that were read so far.
    pub fn prove(&mut self, end: u64) {
        let marks = self.published.values().map(|(mark, _)| mark.clone()).collect();
        self.proof = Some(Proof { end, marks });
    }

    /// Everything below `position` has been read: applies the marks that count now; returns whether that changed
    /// anything.
    pub fn settle(&mut self, position: u64) -> bool {
        if position < self.trusted_from {
            return false;
        }
        let mut changed = false;
        for mark in std::mem::take(&mut self.read).into_values() {
            changed |= self.roots.apply(mark);
        }
        if let Some(proof) = self.proof.take_if(|proof| position >= proof.end) {
            for mark in proof.marks {
                changed |= self.roots.apply(mark);
            }
        }
        let roots = &mut self.roots;
        self.published.retain(|task, (mark, wrote)| {
            let known = roots.version_of(task);
            if known.is_some_and(|known| known >= mark.version) {
                return false;
            }
            let nothing_was_written = *wrote & ((1 << 48) - 1) == 0;
            if !nothing_was_written && known.is_none_or(|known| known < *wrote) {
                return true;
            }
            changed |= roots.apply(mark.clone());
            false
        });
        changed
    }
}

#[cfg(test)]
#[path = "containment_tests.rs"]
mod tests;
