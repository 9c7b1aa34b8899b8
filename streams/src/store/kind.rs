//! The kinds of stores: each has [`Entries`], and they differ in format and derived data.

use super::changelog::{ChangelogEntry, ChangelogWriter};
use super::checkpoint::{Checkpoint, CheckpointWriter};
use super::codec::StoreKey;
use super::entries::{Entries, Entry};
use super::{StateStore, StoreError};
use std::sync::Arc;

/// A kind of store. Every kind is a [`StateStore`].
pub(super) trait StoreKind: Send + 'static {
    /// The key of an entry.
    type Key: StoreKey;
    /// The value of a key.
    type Entry: Entry<Self::Key>;

    /// The entries.
    fn entries(&self) -> &Entries<Self::Key, Self::Entry>;

    /// The entries.
    fn entries_mut(&mut self) -> &mut Entries<Self::Key, Self::Entry>;

    /// See [`StateStore::open`].
    fn open_entries(&mut self, name: &str, index: usize, behind: Option<Arc<Checkpoint>>) -> Result<(), StoreError> {
        self.entries_mut().open(name, index, behind)
    }

    /// Writes the changed entries to the changelog.
    fn write_entries(&self, out: &mut ChangelogWriter) {
        self.entries().write_values(out);
    }

    /// Applies what [`StoreKind::write_entries`] wrote, and dropped segments where the kind has them. In every kind a put
    /// replaces the value: snapshots consist of them.
    fn replay(&mut self, entry: &ChangelogEntry<'_>) -> Result<(), StoreError> {
        self.entries_mut().replay_value(entry)
    }

    /// Runs after the entries have been committed.
    fn committed(&mut self) {}

    /// Undoes the open transaction.
    fn undo(&mut self) {
        self.entries_mut().rollback();
    }

    /// See [`StateStore::checkpoint`].
    fn write_checkpoint(&self, out: &mut CheckpointWriter<'_>) -> Result<(), StoreError> {
        self.entries().checkpoint(out)
    }

    /// See [`StateStore::checkpointed`].
    fn checkpoint_written(&mut self, _checkpoint: &Arc<Checkpoint>) {
        self.entries_mut().checkpointed();
    }

    /// How much memory it takes beside the entries, about, in bytes. None of it can be evicted.
    fn order_bytes(&self) -> usize {
        0
    }
}

impl<S: StoreKind> StateStore for S {
    fn open(&mut self, name: &str, index: usize, behind: Option<Arc<Checkpoint>>) -> Result<(), StoreError> {
        self.open_entries(name, index, behind)
    }

    fn write_changes(&mut self, out: &mut ChangelogWriter) {
        self.entries().begin_changes(out);
        self.write_entries(out);
    }

    fn has_changes(&self) -> bool {
        self.entries().has_changes()
    }

    fn commit(&mut self) {
        self.entries_mut().commit();
        self.committed();
    }

    fn rollback(&mut self) {
        self.undo();
    }

    fn restore(&mut self, entry: &ChangelogEntry<'_>) -> Result<(), StoreError> {
        self.replay(entry)
    }

    fn begin_snapshot(&mut self) {
        self.entries_mut().begin_snapshot();
    }

    fn write_snapshot(&mut self, out: &mut ChangelogWriter, end_bytes: usize) -> Result<bool, StoreError> {
        self.entries_mut().write_snapshot(out, end_bytes)
    }

    fn snapshot_bytes(&self) -> u64 {
        self.entries().snapshot_bytes()
    }

    #[cfg(any(test, feature = "testkit"))]
    fn stored(&self) -> std::collections::BTreeMap<Vec<u8>, Vec<u8>> {
        self.entries().stored()
    }

    fn checkpoint(&self, out: &mut CheckpointWriter<'_>) -> Result<(), StoreError> {
        self.write_checkpoint(out)
    }

    fn checkpointed(&mut self, checkpoint: &Arc<Checkpoint>) {
        self.checkpoint_written(checkpoint);
    }

    fn hydrate(&mut self, entries_max: usize) -> Result<bool, StoreError> {
        self.entries_mut().hydrate(entries_max)
    }

    fn memory_bytes(&mut self) -> usize {
        self.entries_mut().memory_bytes() + self.order_bytes()
    }

    fn evictable_bytes(&mut self) -> usize {
        self.entries_mut().memory_bytes()
    }

    fn evict(&mut self, checkpoint: &Arc<Checkpoint>, bytes_max: usize) -> Result<usize, StoreError> {
        self.entries_mut().evict(checkpoint, bytes_max)
    }

    fn take_reads(&mut self) -> u64 {
        self.entries_mut().take_reads()
    }

    fn take_fault(&mut self) -> Option<StoreError> {
        self.entries_mut().take_fault()
    }

    fn len(&self) -> usize {
        self.entries().table.len()
    }
}
