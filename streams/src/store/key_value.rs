//! A store of keys and values that stay until they are deleted.

use super::changelog::{ChangelogEntry, ChangelogWriter};
use super::checkpoint::{Checkpoint, CheckpointWriter};
use super::codec::{StoreKey, StoreValue};
use super::table::Table;
use super::{StateStore, StoreError};
use std::ops::Bound;
use std::sync::Arc;

/// What a store is called, and where it stands among the checkpoint's databases.
#[derive(Default)]
pub(super) struct StorePlace {
    pub name: String,
    pub index: usize,
}

impl StorePlace {
    pub fn new(name: &str, index: usize) -> Self {
        Self { name: name.to_owned(), index }
    }
}

/// Keys and values.
pub struct KeyValueStore<K: StoreKey, V: StoreValue> {
    place: StorePlace,
    table: Table<K, V>,
    /// Where entries may be that are not in memory; None once all are.
    behind: Option<Arc<Checkpoint>>,
    /// The last key that `hydrate` has loaded.
    hydrated: Option<Vec<u8>>,
    fault: Option<StoreError>,
    bytes: (Vec<u8>, Vec<u8>),
}

impl<K: StoreKey, V: StoreValue> Default for KeyValueStore<K, V> {
    fn default() -> Self {
        Self {
            place: StorePlace::default(),
            table: Table::default(),
            behind: None,
            hydrated: None,
            fault: None,
            bytes: Default::default(),
        }
    }
}

impl<K: StoreKey, V: StoreValue> KeyValueStore<K, V> {
    /// For [`super::super::topology::StoreSpec::make`].
    pub fn make() -> Box<dyn StateStore> {
        Box::new(Self::default())
    }

    /// The value of a key.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        self.fetch(key);
        self.table.get(key).flatten()
    }

    /// The value of a key, to be changed or removed in place.
    pub fn modify(&mut self, key: &K) -> &mut Option<V> {
        self.fetch(key);
        self.table.write(key)
    }

    /// Sets a value.
    pub fn put(&mut self, key: &K, value: V) {
        *self.modify(key) = Some(value);
    }

    /// Removes a key.
    pub fn delete(&mut self, key: &K) {
        *self.modify(key) = None;
    }

    /// Every entry that is in memory.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.table.iter()
    }

    /// Brings a key into memory if the checkpoint has it.
    fn fetch(&mut self, key: &K) {
        let Some(checkpoint) = &self.behind else { return };
        if self.table.get(key).is_some() {
            return;
        }
        self.bytes.0.clear();
        key.encode(&mut self.bytes.0);
        let found = checkpoint.get(self.place.index, &self.bytes.0).and_then(|found| match found {
            Some(bytes) => V::decode(&bytes).map(Some).ok_or_else(|| corrupt(&self.place.name, "a value")),
            None => Ok(None),
        });
        match found {
            Ok(Some(value)) => self.table.load(key.clone(), value),
            Ok(None) => {}
            Err(fault) => self.fault = Some(fault),
        }
    }
}

/// An entry whose bytes do not decode.
pub(super) fn corrupt(store: &str, detail: impl Into<String>) -> StoreError {
    StoreError::Corrupt { store: store.to_owned(), detail: detail.into() }
}

impl<K: StoreKey, V: StoreValue> StateStore for KeyValueStore<K, V> {
    fn open(&mut self, name: &str, index: usize, behind: Option<Arc<Checkpoint>>) -> Result<(), StoreError> {
        self.place = StorePlace::new(name, index);
        self.behind = behind;
        Ok(())
    }

    fn write_changes(&mut self, out: &mut ChangelogWriter) {
        let (key_bytes, value_bytes) = &mut self.bytes;
        out.begin(&self.place.name);
        for (key, value) in self.table.changes() {
            key_bytes.clear();
            key.encode(key_bytes);
            match value {
                Some(value) => {
                    value_bytes.clear();
                    value.encode(value_bytes);
                    out.put(key_bytes, value_bytes);
                }
                None => out.delete(key_bytes),
            }
        }
    }

    fn has_changes(&self) -> bool {
        self.table.has_changes()
    }

    fn commit(&mut self) {
        self.table.commit();
    }

    fn rollback(&mut self) {
        self.table.rollback();
    }

    fn restore(&mut self, entry: &ChangelogEntry<'_>) -> Result<(), StoreError> {
        let (key, value) = match entry {
            ChangelogEntry::Put { key, value } => (*key, Some(*value)),
            ChangelogEntry::Delete { key } => (*key, None),
            other => return Err(corrupt(&self.place.name, format!("a key-value store has no {other:?}"))),
        };
        let key = K::decode(key).ok_or_else(|| corrupt(&self.place.name, "a key"))?;
        let value =
            value.map(|value| V::decode(value).ok_or_else(|| corrupt(&self.place.name, "a value"))).transpose()?;
        *self.table.write(&key) = value;
        Ok(())
    }

    fn checkpoint(&self, out: &mut CheckpointWriter<'_>) -> Result<(), StoreError> {
        self.table.checkpoint_values(self.place.index, out)
    }

    fn checkpointed(&mut self) {
        self.table.checkpointed();
    }

    fn hydrate(&mut self, entries_max: usize) -> Result<bool, StoreError> {
        let Some(checkpoint) = &self.behind else { return Ok(false) };
        let after = self.hydrated.take();
        let after = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (table, name, mut last) = (&mut self.table, &self.place.name, None);
        let more = checkpoint.scan(self.place.index, after, entries_max, |key, value| {
            last = Some(key.to_vec());
            let key = K::decode(key).ok_or_else(|| corrupt(name, "a key"))?;
            table.load(key, V::decode(value).ok_or_else(|| corrupt(name, "a value"))?);
            Ok(())
        })?;
        self.hydrated = last;
        if !more {
            self.behind = None;
        }
        Ok(more)
    }

    fn take_fault(&mut self) -> Option<StoreError> {
        self.fault.take()
    }

    fn len(&self) -> usize {
        self.table.len()
    }
}
