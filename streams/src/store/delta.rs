//! A store of values of which little changes at a time: its changelog holds what changed of a value, not all of it. Where
//! keys belong to segments of time ([`StoreKey::segment`]), whole segments expire.

use super::changelog::{ChangelogEntry, ChangelogWriter};
use super::codec::{StoreKey, StoreValue};
use super::entries::Entries;
use super::kind::StoreKind;
use super::{StateStore, StoreError};

/// A value that can express what changed of it.
pub trait Deltas: StoreValue + Default {
    /// Appends what [`Deltas::apply`] turns `before` into this value with; nothing if they are equal. A value that was
    /// removed and made again in one transaction may lack what it was before.
    ///
    /// It holds new values, not additions: applied again, or to a value that has it already, it changes nothing.
    fn delta(&self, before: &Self, out: &mut Vec<u8>);
    /// Applies a delta; false if it is invalid. The value may lack what came before the delta: a put that restores it all
    /// follows then.
    fn apply(&mut self, delta: &[u8]) -> bool;
}

/// See the module.
pub struct DeltaStore<K: StoreKey, V: Deltas> {
    entries: Entries<K, V>,
}

impl<K: StoreKey, V: Deltas> Default for DeltaStore<K, V> {
    fn default() -> Self {
        Self { entries: Entries::default() }
    }
}

impl<K: StoreKey, V: Deltas> DeltaStore<K, V> {
    /// For [`super::super::topology::StoreSpec::make`].
    pub fn make() -> Box<dyn StateStore> {
        Box::new(Self::default())
    }

    /// The value of a key, unless it has expired.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    /// The value of a key, to be changed or removed in place; None if its segment has expired.
    pub fn modify(&mut self, key: &K) -> Option<&mut Option<V>> {
        if self.entries.has_expired(key) { None } else { Some(self.entries.write(key)) }
    }

    /// Drops the segments before this one.
    pub fn expire(&mut self, segment: u64) {
        self.entries.expire(segment);
    }
}

impl<K: StoreKey, V: Deltas> StoreKind for DeltaStore<K, V> {
    type Key = K;
    type Entry = V;

    fn entries(&self) -> &Entries<K, V> {
        &self.entries
    }

    fn entries_mut(&mut self) -> &mut Entries<K, V> {
        &mut self.entries
    }

    fn write_entries(&self, out: &mut ChangelogWriter) {
        let (mut delta, nothing) = (Vec::new(), V::default());
        for (key, before, now) in self.entries.table.differences() {
            let stored_key = |out: &mut Vec<u8>| key.encode(out);
            match (before, now) {
                (None, None) => {}
                (Some(_), None) => out.delete(stored_key),
                (_, Some(now)) => {
                    delta.clear();
                    now.delta(before.unwrap_or(&nothing), &mut delta);
                    if !delta.is_empty() || before.is_none() {
                        out.delta_bytes(stored_key, &delta);
                    }
                }
            }
        }
    }

    fn replay(&mut self, entry: &ChangelogEntry<'_>) -> Result<(), StoreError> {
        match entry {
            ChangelogEntry::Delta { key, items } => {
                let key = K::decode(key).ok_or_else(|| self.entries.corrupt("a key"))?;
                let applied = self.entries.write(&key).get_or_insert_default().apply(items);
                if applied { Ok(()) } else { Err(self.entries.corrupt("a delta")) }
            }
            ChangelogEntry::DropSegments { before } => {
                self.entries.expire(*before);
                Ok(())
            }
            entry => self.entries.replay_value(entry),
        }
    }
}

#[cfg(test)]
#[path = "delta_tests.rs"]
mod tests;
