//! State stores: a working set in maps, a checkpoint in LMDB behind it, the changelog as the source of truth.
//!
//! An entry is checkpointed, committed, or of the open transaction. [`StateStore::rollback`] undoes the open transaction
//! exactly; [`StateStore::write_changes`] writes it to the changelog; [`StateStore::commit`] ends it. A checkpoint is only
//! ever written between transactions, and so are entries evicted from memory ([`StateStore::evict`]).
//!
//! `entries.rs` holds the map, the checkpoint and the segments of every store; `kind.rs` makes each kind a [`StateStore`].

mod accumulator;
mod changelog;
mod checkpoint;
mod codec;
mod delta;
mod due;
mod entries;
mod key_value;
mod kind;
#[cfg(test)]
mod layout_tests;
#[cfg(test)]
#[path = "lives_tests.rs"]
mod lives;
mod order;
mod places;
mod rank;
mod ranked;
mod slots;
#[cfg(test)]
mod snapshot_tests;
mod table;
mod timeline;
mod window;

pub use accumulator::{Accumulator, AccumulatorStore};
pub use changelog::{ChangelogEntry, ChangelogReader, ChangelogWriter};
pub use checkpoint::{Checkpoint, CheckpointMeta, CheckpointSite, CheckpointWriter};
pub use codec::{Hash128, SegmentHash, StoreKey, StoreValue};
pub use delta::{DeltaStore, Deltas};
pub use due::DueStore;
pub use key_value::KeyValueStore;
pub use rank::{Rank, Ranked, RankedKey};
pub use ranked::RankedStore;
pub use window::WindowStore;

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

/// A store that cannot be used: its task is rebuilt from the changelog.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// The checkpoint's files cannot be read or written.
    #[error("checkpoint: {0}")]
    Checkpoint(String),
    /// The disk does not take the checkpoint: it is full or read-only. The checkpoint on it is intact.
    #[error("checkpoint: {0}")]
    Unwritten(String),
    /// Another thread of this process has opened the checkpoint in this directory.
    #[error("another thread has checkpoint {0} open")]
    InUse(String),
    /// Bytes that do not decode.
    #[error("damaged entry in store `{store}`: {detail}")]
    Corrupt {
        /// The store's name.
        store: String,
        /// The cause.
        detail: String,
    },
}

/// What a task needs of every store.
pub trait StateStore: Any + Send {
    /// Sets the store's name, its place among the checkpoint's databases, and the checkpoint to read through to; None
    /// where that is empty.
    fn open(&mut self, name: &str, index: usize, behind: Option<Arc<Checkpoint>>) -> Result<(), StoreError>;
    /// Writes what the open transaction changed.
    fn write_changes(&mut self, out: &mut ChangelogWriter);
    /// Whether the open transaction changed anything.
    fn has_changes(&self) -> bool;
    /// Ends the open transaction: its changes are kept.
    fn commit(&mut self);
    /// Undoes the open transaction.
    fn rollback(&mut self);
    /// Begins a pass over all entries, from their first one. There is no open transaction.
    fn begin_snapshot(&mut self);
    /// Goes on with the pass until `out` has `end_bytes`; true where there may be more. Each entry is written as its value
    /// in the open transaction, so it belongs behind what [`StateStore::write_changes`] writes. A rollback takes the pass
    /// back, too. After an error the transaction must not be committed.
    fn write_snapshot(&mut self, out: &mut ChangelogWriter, end_bytes: usize) -> Result<bool, StoreError>;
    /// How many bytes all entries take in a snapshot, from a sample.
    fn snapshot_bytes(&self) -> u64;
    /// All entries, keys and values as stored.
    #[cfg(any(test, feature = "testkit"))]
    fn stored(&self) -> std::collections::BTreeMap<Vec<u8>, Vec<u8>>;
    /// Applies an entry of the changelog, in the open transaction.
    fn restore(&mut self, entry: &ChangelogEntry<'_>) -> Result<(), StoreError>;
    /// Writes what was committed since the last checkpoint. There is no open transaction.
    fn checkpoint(&self, out: &mut CheckpointWriter<'_>) -> Result<(), StoreError>;
    /// Marks what [`StateStore::checkpoint`] wrote last to this checkpoint as written. Only called if the write succeeded,
    /// and before any further change.
    fn checkpointed(&mut self, checkpoint: &Arc<Checkpoint>);
    /// How much memory it takes, about, in bytes.
    fn memory_bytes(&mut self) -> usize;
    /// How much of that is subject to [`StateStore::evict`], in bytes.
    fn evictable_bytes(&mut self) -> usize;
    /// Removes entries that the task's checkpoint has from memory, those that were written longest ago first, until the rest
    /// takes `bytes_max` or none is left; returns how many. They are read through from then on. There is no open transaction.
    fn evict(&mut self, checkpoint: &Arc<Checkpoint>, bytes_max: usize) -> Result<usize, StoreError>;
    /// How many entries were read from the checkpoint, each because it was needed, since the last call.
    fn take_reads(&mut self) -> u64;
    /// Loads up to `entries_max` from the checkpoint into memory; false when all is there, or some were evicted.
    fn hydrate(&mut self, entries_max: usize) -> Result<bool, StoreError>;
    /// The latest fault of reading through to the checkpoint. The next call returns None.
    fn take_fault(&mut self) -> Option<StoreError>;
    /// How many entries are in memory.
    fn len(&self) -> usize;
    /// Whether there are no entries.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The place of a store of type `S` among those of its task.
pub struct StoreHandle<S> {
    index: usize,
    store: PhantomData<fn() -> S>,
}

impl<S> StoreHandle<S> {
    pub(crate) fn at(index: usize) -> Self {
        Self { index, store: PhantomData }
    }
}

impl<S> Clone for StoreHandle<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for StoreHandle<S> {}

/// The stores of a task, in the order of its subtopology's specs.
#[derive(Default)]
pub struct Stores {
    stores: Vec<Box<dyn StateStore>>,
}

impl Stores {
    pub(crate) fn new(stores: Vec<Box<dyn StateStore>>) -> Self {
        Self { stores }
    }

    /// The store behind a handle.
    ///
    /// # Panics
    /// If the node type did not declare the store, or declared it with another type: a mistake that the first test of the
    /// node type finds.
    pub fn get<S: StateStore>(&mut self, handle: StoreHandle<S>) -> &mut S {
        let store = self.stores.get_mut(handle.index).and_then(|store| {
            let store: &mut dyn Any = store.as_mut();
            store.downcast_mut()
        });
        store.expect("a processor uses only stores that its blueprint declares, with their types")
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Box<dyn StateStore>> {
        self.stores.iter_mut()
    }

    pub(crate) fn at(&mut self, index: usize) -> Option<&mut Box<dyn StateStore>> {
        self.stores.get_mut(index)
    }
}
