//! Snapshots keep the changelog of a task short: all entries of its stores are written once more, some with each commit,
//! and then what lies before is deleted.
//!
//! A snapshot is fuzzy: each entry is a put of its value in the transaction that writes it, behind that transaction's own
//! changes. What lies before `first_offset`, the end of the changelog when the snapshot began, is not needed any more once
//! `snapshot_end` is committed, since replaying the rest restores every key:
//! - One that the snapshot came to gets its whole value from that put, whatever earlier deltas made of it, and then the
//!   later changes.
//! - One that was there at the beginning and that it did not come to was deleted meanwhile, or expired: by an entry behind
//!   `first_offset`. The snapshot also repeats up to where segments had expired.
//! - Any other key was made behind `first_offset`, and has all its changes there. Keys that were deleted before never occur.
//!
//! Positions count from the last record alone. So no range of keys has to be replaced as a whole, and the order of keys
//! does not matter: the pass goes through memory by place, and then through what the checkpoint has beside it
//! (`Entries::write_snapshot`). Either part reads an entry as the transaction that writes it has it.
//!
//! The pass is taken back with a transaction that is rolled back. Where the outcome of a transaction is unknown, its task
//! is dropped, and so is the snapshot: the next begins from the start. The puts of one that was left are harmless.

use super::envelope::SNAPSHOTS;
use super::{Task, TaskError};
use crate::log::{Log, TopicPartition};
use crate::processor::Dataflow;
use crate::store::ChangelogWriter;

/// The snapshot of a task, and what decides when the next begins.
#[derive(Default)]
pub(super) struct Snapshots {
    /// The bytes of the changelog as far as they were read or written since the task was opened.
    tail_bytes: u64,
    /// Whether that is all of it.
    is_tail_known: bool,
    /// What the open transaction adds.
    open_bytes: u64,
    /// At so many bytes the size of the state is compared again.
    compare_at_bytes: u64,
    /// As of the open transaction, and of the last commit. None: no snapshot is being written.
    open: Option<Snapshot>,
    committed: Option<Snapshot>,
}

#[derive(Clone, Copy)]
struct Snapshot {
    first_offset: u64,
    /// The bytes of the changelog from there on; None: unknown.
    bytes: Option<u64>,
    step_bytes: usize,
    /// The store that it is at.
    store: usize,
    /// `snapshot_end` is written.
    is_complete: bool,
}

impl Snapshots {
    /// Of a task whose changelog has so many bytes before what will be read of it; None: unknown.
    pub fn new(tail_bytes: Option<u64>) -> Self {
        Self { tail_bytes: tail_bytes.unwrap_or(0), is_tail_known: tail_bytes.is_some(), ..Self::default() }
    }

    /// A record of the changelog was written in the open transaction.
    pub fn written(&mut self, bytes: usize) {
        self.open_bytes += bytes as u64;
    }

    /// A record of the changelog was read.
    pub fn read(&mut self, bytes: usize) {
        self.tail_bytes += bytes as u64;
    }

    /// A complete snapshot was read, perhaps of an owner that had no time to delete what it replaces.
    pub fn read_end(&mut self, first_offset: u64) {
        let read = Snapshot { first_offset, bytes: None, step_bytes: 0, store: 0, is_complete: true };
        (self.open, self.committed) = (Some(read), Some(read));
    }

    pub fn commit(&mut self) {
        let written = std::mem::take(&mut self.open_bytes);
        self.tail_bytes += written;
        if let Some(Snapshot { bytes: Some(bytes), .. }) = &mut self.open {
            *bytes += written;
        }
        self.committed = self.open;
    }

    pub fn rollback(&mut self) {
        self.open_bytes = 0;
        self.open = self.committed;
    }

    /// The bytes of the whole changelog, as of the last commit.
    pub fn changelog_bytes(&self) -> Option<u64> {
        self.is_tail_known.then_some(self.tail_bytes)
    }
}

impl<D: Dataflow> Task<D> {
    /// Its changelog.
    pub(super) fn changelog(&self) -> TopicPartition {
        TopicPartition::new(self.subtopology.changelog.clone(), self.partition)
    }

    /// The bytes of its changelog that are known to it: all of them unless an older release wrote the checkpoint.
    pub fn changelog_bytes(&self) -> u64 {
        self.snapshots.tail_bytes
    }

    /// Begins a snapshot if the changelog has more than `tail_bytes`, and twice as many as the snapshot will have; 0:
    /// always. With each commit it writes `step_bytes`, or as much as the commit does anyway. There is no open transaction.
    pub fn begin_snapshot(&mut self, log: &dyn Log, tail_bytes: u64, step_bytes: usize) -> Result<(), TaskError> {
        let is_possible = self.wire_version >= SNAPSHOTS && self.snapshots.committed.is_none();
        if !is_possible || !self.is_snapshot_due(tail_bytes) {
            return Ok(());
        }
        self.stores.iter_mut().for_each(|store| store.begin_snapshot());
        // All that was committed lies below, also where readers do not see it yet.
        let first_offset = log.written_ends(&[self.changelog()])?.first().copied().unwrap_or_default();
        let begun = Snapshot { first_offset, bytes: Some(0), step_bytes, store: 0, is_complete: false };
        (self.snapshots.open, self.snapshots.committed) = (Some(begun), Some(begun));
        Ok(())
    }

    fn is_snapshot_due(&mut self, tail_bytes: u64) -> bool {
        let Snapshots { tail_bytes: tail, is_tail_known, compare_at_bytes, .. } = self.snapshots;
        if tail_bytes == 0 || !is_tail_known {
            return true;
        }
        if tail <= tail_bytes.max(compare_at_bytes) {
            return false;
        }
        self.snapshots.compare_at_bytes = 2 * self.stores.iter_mut().map(|store| store.snapshot_bytes()).sum::<u64>();
        tail > self.snapshots.compare_at_bytes
    }

    /// Writes the snapshot's next part, behind the changes of the open transaction.
    pub(super) fn write_snapshot(&mut self, out: &mut ChangelogWriter) -> Result<(), TaskError> {
        let Some(snapshot) = self.snapshots.open.as_mut().filter(|snapshot| !snapshot.is_complete) else {
            return Ok(());
        };
        let end_bytes = out.len_bytes() + out.len_bytes().max(snapshot.step_bytes);
        while let Some(store) = self.stores.at(snapshot.store) {
            match store.write_snapshot(out, end_bytes) {
                Ok(true) => return Ok(()),
                Ok(false) => snapshot.store += 1,
                Err(fault) => return Err(self.checkpoint.distrust(fault)),
            }
        }
        out.snapshot_end(snapshot.first_offset);
        snapshot.is_complete = true;
        Ok(())
    }

    /// Deletes what a complete snapshot has replaced in the changelog; whether there was one. Only a snapshot whose end is
    /// committed counts. Every reader of the changelog can do without, so that it does not matter who is late to delete it.
    pub fn shorten_changelog(&mut self, log: &dyn Log) -> Result<bool, TaskError> {
        let Some(complete) = self.snapshots.committed.filter(|snapshot| snapshot.is_complete) else { return Ok(false) };
        log.delete_records(&self.changelog(), complete.first_offset)?;
        let Snapshots { tail_bytes, is_tail_known, .. } = self.snapshots;
        self.snapshots = Snapshots::new(complete.bytes.or(is_tail_known.then_some(tail_bytes)));
        Ok(true)
    }

    /// All entries of its stores: by store and key, as stored.
    #[cfg(feature = "testkit")]
    pub fn stored(&mut self) -> std::collections::BTreeMap<(String, Vec<u8>), Vec<u8>> {
        let stores = self.subtopology.stores.iter().zip(self.stores.iter_mut());
        let entries = stores.flat_map(|(spec, store)| {
            let entries = store.stored().into_iter();
            entries.map(|(key, value)| ((spec.name.clone(), key), value))
        });
        entries.collect()
    }
}
