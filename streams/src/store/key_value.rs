//! A store of keys and values that stay until they are deleted.

use super::StateStore;
use super::codec::{StoreKey, StoreValue};
use super::entries::Entries;
use super::kind::StoreKind;

/// Keys and values.
pub struct KeyValueStore<K: StoreKey, V: StoreValue> {
    entries: Entries<K, V>,
}

impl<K: StoreKey, V: StoreValue> Default for KeyValueStore<K, V> {
    fn default() -> Self {
        Self { entries: Entries::default() }
    }
}

impl<K: StoreKey, V: StoreValue> KeyValueStore<K, V> {
    /// For [`super::super::topology::StoreSpec::make`].
    pub fn make() -> Box<dyn StateStore> {
        Box::new(Self::default())
    }

    /// The value of a key.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    /// The value of a key, to be changed or removed in place.
    pub fn modify(&mut self, key: &K) -> &mut Option<V> {
        self.entries.write(key)
    }

    /// Sets a value.
    pub fn put(&mut self, key: &K, value: V) {
        *self.modify(key) = Some(value);
    }

    /// Removes a key.
    pub fn delete(&mut self, key: &K) {
        *self.modify(key) = None;
    }
}

impl<K: StoreKey, V: StoreValue> StoreKind for KeyValueStore<K, V> {
    type Key = K;
    type Entry = V;

    fn entries(&self) -> &Entries<K, V> {
        &self.entries
    }

    fn entries_mut(&mut self) -> &mut Entries<K, V> {
        &mut self.entries
    }
}
