//! A store of values that are due at a time each: [`DueStore::take_due`] returns those that are due by the clock, the
//! earliest first.
//!
//! Of their order only the earliest are in memory ([`Timeline`]).

use super::changelog::ChangelogEntry;
use super::checkpoint::{Checkpoint, CheckpointWriter};
use super::codec::{StoreKey, StoreValue};
use super::entries::Entries;
use super::kind::StoreKind;
use super::timeline::Timeline;
use super::{StateStore, StoreError};
use std::sync::Arc;

/// A value and when it is due.
#[derive(Clone)]
pub(super) struct Due<V> {
    due_ms: i64,
    value: V,
}

impl<V: StoreValue> StoreValue for Due<V> {
    /// The time (i64 LE), then the value.
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.due_ms.to_le_bytes());
        self.value.encode(out);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (due, value) = bytes.split_first_chunk::<8>()?;
        Some(Self { due_ms: i64::from_le_bytes(*due), value: V::decode(value)? })
    }
}

/// See the module. Keys must have the order of their stored bytes.
pub struct DueStore<K: StoreKey + Ord, V: StoreValue> {
    entries: Entries<K, Due<V>>,
    timeline: Timeline<K>,
}

impl<K: StoreKey + Ord, V: StoreValue> Default for DueStore<K, V> {
    fn default() -> Self {
        Self { entries: Entries::default(), timeline: Timeline::default() }
    }
}

impl<K: StoreKey + Ord, V: StoreValue> DueStore<K, V> {
    /// For [`super::super::topology::StoreSpec::make`].
    pub fn make() -> Box<dyn StateStore> {
        Box::new(Self::default())
    }

    /// The value of a key.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|due| &due.value)
    }

    /// Sets a value, and when it is due.
    pub fn put(&mut self, key: &K, due_ms: i64, value: V) {
        self.replace(key, Some(Due { due_ms, value }));
    }

    fn replace(&mut self, key: &K, due: Option<Due<V>>) {
        let to_ms = due_ms(due.as_ref());
        let before = std::mem::replace(self.entries.write(key), due);
        self.timeline.change(key, due_ms(before.as_ref()), to_ms);
    }

    /// When the earliest value is due, if that is at or before the clock. None also if it cannot be read: see
    /// [`StateStore::take_fault`].
    pub fn next_due_ms(&mut self, clock_ms: i64) -> Option<i64> {
        self.first_due(clock_ms).map(|(due_ms, _)| due_ms)
    }

    fn first_due(&mut self, clock_ms: i64) -> Option<(i64, K)> {
        match self.timeline.first_due(clock_ms) {
            Ok(first) => first.cloned(),
            Err(fault) => {
                self.entries.fail(fault);
                None
            }
        }
    }

    /// Removes the value that is due earliest, if that is at or before the clock; returns when it was due, and the value.
    /// None also if it cannot be read: see [`StateStore::take_fault`].
    pub fn take_due(&mut self, clock_ms: i64) -> Option<(i64, V)> {
        let (place_ms, key) = self.first_due(clock_ms)?;
        let found = self.entries.find(&key);
        if due_ms(self.entries.at(found, &key)) != Some(place_ms) {
            let fault = self.entries.corrupt("the time of a value");
            self.entries.fail(fault);
            return None;
        }
        let due = self.entries.write_at(found, &key).take()?;
        self.timeline.change(&key, Some(place_ms), None);
        Some((place_ms, due.value))
    }
}

fn due_ms<V>(due: Option<&Due<V>>) -> Option<i64> {
    due.map(|due| due.due_ms)
}

impl<K: StoreKey + Ord, V: StoreValue> StoreKind for DueStore<K, V> {
    type Key = K;
    type Entry = Due<V>;

    fn entries(&self) -> &Entries<K, Due<V>> {
        &self.entries
    }

    fn entries_mut(&mut self) -> &mut Entries<K, Due<V>> {
        &mut self.entries
    }

    fn open_entries(&mut self, name: &str, index: usize, behind: Option<Arc<Checkpoint>>) -> Result<(), StoreError> {
        self.entries.open(name, index, behind.clone())?;
        if !self.timeline.open(name, index, behind)? {
            // Once, after an upgrade: the next checkpoint has all places.
            self.entries.hydrate(usize::MAX)?;
            for (key, due) in self.entries.table.iter() {
                self.timeline.change(key, None, Some(due.due_ms));
            }
        }
        Ok(())
    }

    fn replay(&mut self, entry: &ChangelogEntry<'_>) -> Result<(), StoreError> {
        let (key, due) = self.entries.read_value(entry)?;
        self.replace(&key, due);
        Ok(())
    }

    fn undo(&mut self) {
        for (key, before, now) in self.entries.table.differences() {
            self.timeline.change(key, due_ms(now), due_ms(before));
        }
        self.entries.rollback();
    }

    fn write_checkpoint(&self, out: &mut CheckpointWriter<'_>) -> Result<(), StoreError> {
        self.entries.checkpoint(out)?;
        self.timeline.checkpoint(out)
    }

    fn checkpoint_written(&mut self, checkpoint: &Arc<Checkpoint>) {
        self.entries.checkpointed();
        if let Err(fault) = self.timeline.checkpointed(checkpoint) {
            self.entries.fail(fault);
        }
    }

    fn order_bytes(&self) -> usize {
        self.timeline.memory_bytes()
    }
}

#[cfg(test)]
#[path = "due_tests.rs"]
mod tests;
