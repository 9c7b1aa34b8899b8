//! The readers' view of the log. Only the writer changes it, in one step, after a commit is durable.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use super::group::Groups;
use super::keys;
use super::registry::Registry;
use super::storage::{PartitionId, Storage};
use crate::log::{CommittedOffset, LogError, TopicPartition};

/// The oldest offset kept and the offset after the last committed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Rises before records are removed, so that a reader never takes removed records for a gap.
    pub start: u64,
    /// Rises after records are durable.
    pub end: u64,
}

/// Changes as a whole: under the lock, all of a transaction is visible or nothing.
pub(super) struct Published {
    /// Which topics exist.
    pub registry: Arc<Registry>,
    /// By partition number.
    bounds: Vec<Bounds>,
    /// Partitions whose readers see no further than this offset, whatever is written. For tests only.
    held: HashMap<PartitionId, u64>,
    /// Committed offsets of groups, by storage key, as far as they were read or written. The storage may already have a
    /// commit under way; until it is published, its keys have their former values here.
    offsets: HashMap<Vec<u8>, Option<CommittedOffset>>,
}

/// Shared by the log, its consumers and producers.
pub(super) struct View {
    /// Holds the records.
    pub storage: Box<dyn Storage>,
    published: RwLock<Published>,
    groups: Mutex<Groups>,
    changes: Changes,
}

impl View {
    /// The state as recovered.
    pub fn new(storage: Box<dyn Storage>, registry: Registry, bounds: Vec<Bounds>) -> Self {
        let (held, offsets) = (HashMap::new(), HashMap::new());
        let published = Published { registry: registry.into(), bounds, held, offsets };
        Self { storage, published: published.into(), groups: Mutex::default(), changes: Changes::default() }
    }

    /// For reading; hold it shortly.
    pub fn published(&self) -> RwLockReadGuard<'_, Published> {
        self.published.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the writer.
    pub fn published_mut(&self) -> RwLockWriteGuard<'_, Published> {
        self.published.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Group coordination.
    pub fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes waiting readers.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Which topics exist.
    pub fn registry(&self) -> Arc<Registry> {
        self.published().registry.clone()
    }

    /// A partition's bounds, as readers see them.
    pub fn bounds(&self, at: &TopicPartition) -> Result<Bounds, LogError> {
        let published = self.published();
        Ok(published.bounds(published.registry.id(at)?))
    }

    /// The offset after everything that is written.
    pub fn written_end(&self, at: &TopicPartition) -> Result<u64, LogError> {
        let published = self.published();
        let id = published.registry.id(at)?;
        Ok(published.bounds[id as usize].end)
    }

    /// Hides new records of a partition from readers, or shows all of them again.
    pub fn hold(&self, at: &TopicPartition, is_held: bool) -> Result<(), LogError> {
        let mut published = self.published_mut();
        let id = published.registry.id(at)?;
        if is_held {
            let end = published.bounds[id as usize].end;
            published.held.entry(id).or_insert(end);
        } else {
            published.held.remove(&id);
        }
        drop(published);
        self.changes.raise();
        Ok(())
    }

    /// The committed offset of a group.
    pub fn committed(&self, group: &str, partition: PartitionId) -> Result<Option<CommittedOffset>, LogError> {
        let key = keys::offset(group, partition);
        if let Some(known) = self.published().offsets.get(&key) {
            return Ok(known.clone());
        }
        let mut published = self.published_mut();
        published.load_offset(&*self.storage, &key)?;
        Ok(published.offsets.get(&key).cloned().flatten())
    }
}

impl Published {
    /// A partition's bounds, as readers see them.
    pub fn bounds(&self, id: PartitionId) -> Bounds {
        let bounds = self.bounds[id as usize];
        match self.held.get(&id) {
            Some(end) => Bounds { end: bounds.end.min((*end).max(bounds.start)), ..bounds },
            None => bounds,
        }
    }

    /// The writer's: what a partition's bounds are from now on.
    pub fn set_bounds(&mut self, id: PartitionId, bounds: Bounds) {
        self.bounds[id as usize] = bounds;
    }

    /// The writer's: what lies below goes.
    pub fn raise_start(&mut self, id: PartitionId, start: u64) {
        self.bounds[id as usize].start = start;
    }

    /// For the writer: sets the number of partitions; the new ones are empty.
    pub fn grow(&mut self, partitions: PartitionId) {
        self.bounds.resize(partitions as usize, Bounds { start: 0, end: 0 });
    }

    /// Loads the present value of `key` before a commit changes it.
    pub fn load_offset(&mut self, storage: &dyn Storage, key: &[u8]) -> Result<(), LogError> {
        if !self.offsets.contains_key(key) {
            let value = storage.get(key)?.map(|value| keys::decode_offset(key, &value)).transpose()?;
            self.offsets.insert(key.to_vec(), value);
        }
        Ok(())
    }

    /// Publishes what a commit has set.
    pub fn set_offset(&mut self, key: Vec<u8>, committed: CommittedOffset) {
        self.offsets.insert(key, Some(committed));
    }
}

/// A counter to wait on.
#[derive(Default)]
pub(super) struct Changes {
    count: Mutex<u64>,
    more: Condvar,
}

impl Changes {
    /// The present count: take it before looking, and wait for another one after.
    pub fn count(&self) -> u64 {
        *self.lock()
    }

    /// Signals a change.
    pub fn raise(&self) {
        *self.lock() += 1;
        self.more.notify_all();
    }

    /// Waits until the count is not `seen` any more. False when the time is over.
    pub fn wait(&self, seen: u64, until: Deadline) -> bool {
        let mut count = self.lock();
        while *count == seen {
            let Some(left) = until.left() else {
                return false;
            };
            count = self.more.wait_timeout(count, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When waiting ends.
#[derive(Clone, Copy)]
pub(super) enum Deadline {
    /// Without waiting.
    Now,
    /// At some time; None is never.
    At(Option<Instant>),
}

impl Deadline {
    /// The deadline after `timeout`.
    pub fn after(timeout: Duration) -> Self {
        if timeout.is_zero() { Self::Now } else { Self::At(Instant::now().checked_add(timeout)) }
    }

    fn left(self) -> Option<Duration> {
        match self {
            Self::Now => None,
            Self::At(None) => Some(Duration::from_secs(3600)),
            Self::At(Some(at)) => at.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()),
        }
    }
}
