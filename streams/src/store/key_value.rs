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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::lives::Lives;
    use std::sync::Arc;

    #[test]
    fn what_is_not_in_memory_yet_is_read_from_the_newest_checkpoint() {
        let key = |n: u32| -> Arc<str> { n.to_string().into() };
        let mut lives = Lives::<KeyValueStore<Arc<str>, u32>>::new();
        (0..40).for_each(|n| lives.store.put(&key(n), n));
        lives.commit();
        lives.checkpoint();
        lives.restart();
        lives.store.delete(&key(0));
        // Enough checkpoints for the runs of the start to be merged.
        for n in 1..20 {
            lives.store.put(&key(n), 100 + n);
            lives.commit();
            lives.checkpoint();
            assert_eq!(lives.store.get(&key(0)), None, "deleted, checkpoint {n}");
            assert_eq!(lives.store.get(&key(n + 19)), Some(&(n + 19)), "unchanged, checkpoint {n}");
        }
        while lives.store.hydrate(3).unwrap() {}
        assert_eq!(lives.store.take_fault(), None);
        for n in 0..40 {
            let expected = (n > 0).then(|| if n < 20 { 100 + n } else { n });
            assert_eq!(lives.store.get(&key(n)).copied(), expected, "{n}");
        }
    }
}
