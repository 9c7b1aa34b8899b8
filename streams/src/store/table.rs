//! The map of every store, with its undo log.

use super::codec::StoreKey;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

/// A value, or None for a deleted key, and the transaction that wrote it last.
#[derive(Clone)]
struct Slot<V> {
    value: Option<V>,
    transaction: u32,
}

/// What a slot was before the open transaction touched it.
struct Undo<K, V> {
    key: K,
    before: Option<Slot<V>>,
}

/// A map whose entries are checkpointed, committed, or of the open transaction: each has the number of the transaction
/// that wrote it last, so that a commit costs nothing per entry.
pub(super) struct Table<K: StoreKey, V> {
    map: HashMap<K, Slot<V>, K::Hasher>,
    undo: Vec<Undo<K, V>>,
    /// Keys written since the last checkpoint; some may have been rolled back since.
    dirty: Vec<K>,
    /// The open transaction changed a value that the caller will take back itself.
    changed_in_place: bool,
    /// The open transaction. Entries of smaller numbers are committed.
    transaction: u32,
    /// Entries up to this number are checkpointed.
    checkpointed: u32,
}

impl<K: StoreKey, V: Clone> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            map: HashMap::default(),
            undo: Vec::new(),
            dirty: Vec::new(),
            changed_in_place: false,
            transaction: 1,
            checkpointed: 0,
        }
    }
}

impl<K: StoreKey, V: Clone> Table<K, V> {
    /// None: not in memory. `Some(None)`: known to be absent.
    pub fn get(&self, key: &K) -> Option<Option<&V>> {
        self.map.get(key).map(|slot| slot.value.as_ref())
    }

    /// Entries in memory.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Loads an entry of the checkpoint, unless the key is in memory.
    pub fn load(&mut self, key: K, value: V) {
        let transaction = self.checkpointed;
        self.map.entry(key).or_insert(Slot { value: Some(value), transaction });
    }

    /// The value, to be changed in the open transaction. The former value is kept once per key and transaction.
    pub fn write(&mut self, key: &K) -> &mut Option<V> {
        let (transaction, checkpointed) = (self.transaction, self.checkpointed);
        match self.map.entry(key.clone()) {
            Entry::Occupied(entry) => {
                let slot = entry.into_mut();
                if slot.transaction != transaction {
                    if slot.transaction <= checkpointed {
                        self.dirty.push(key.clone());
                    }
                    self.undo.push(Undo { key: key.clone(), before: Some(slot.clone()) });
                    slot.transaction = transaction;
                }
                &mut slot.value
            }
            Entry::Vacant(entry) => {
                self.dirty.push(key.clone());
                self.undo.push(Undo { key: key.clone(), before: None });
                &mut entry.insert(Slot { value: None, transaction }).value
            }
        }
    }

    /// Changes a value without a copy of it for [`Table::rollback`]: the caller takes the change back through
    /// [`Table::get_mut`] before. Begins with a default value where the key has none. `change` returns whether it changed
    /// anything; only then the value is returned.
    pub fn change_in_place(&mut self, key: &K, change: impl FnOnce(&mut V) -> bool) -> Option<&V>
    where
        V: Default,
    {
        let (transaction, checkpointed) = (self.transaction, self.checkpointed);
        let slot = self.map.entry(key.clone()).or_insert(Slot { value: None, transaction: checkpointed });
        let value = slot.value.get_or_insert_default();
        if !change(value) {
            return None;
        }
        if slot.transaction <= checkpointed {
            self.dirty.push(key.clone());
        }
        slot.transaction = transaction;
        self.changed_in_place = true;
        Some(value)
    }

    /// The value of a key in memory, to take back what [`Table::change_in_place`] did.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.map.get_mut(key)?.value.as_mut()
    }

    /// What the open transaction changed by [`Table::write`], in the order of first change.
    pub fn changes(&self) -> impl Iterator<Item = (&K, Option<&V>)> {
        self.undo.iter().map(|undo| (&undo.key, self.get(&undo.key).flatten()))
    }

    /// What the open transaction changed: key, what it was, what it is.
    pub fn differences(&self) -> impl Iterator<Item = (&K, Option<&V>, Option<&V>)> {
        self.undo.iter().map(|undo| {
            let before = undo.before.as_ref().and_then(|slot| slot.value.as_ref());
            (&undo.key, before, self.get(&undo.key).flatten())
        })
    }

    /// Every value in memory.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.map.iter().filter_map(|(key, slot)| Some((key, slot.value.as_ref()?)))
    }

    pub fn has_changes(&self) -> bool {
        !self.undo.is_empty() || self.changed_in_place
    }

    pub fn commit(&mut self) {
        self.undo.clear();
        self.end_transaction();
    }

    pub fn rollback(&mut self) {
        for Undo { key, before } in self.undo.drain(..) {
            match before {
                Some(slot) => self.map.insert(key, slot),
                None => self.map.remove(&key),
            };
        }
        // Values that were changed in place keep the number of this transaction: the next one has to be another.
        self.end_transaction();
    }

    fn end_transaction(&mut self) {
        self.transaction += 1;
        self.changed_in_place = false;
    }

    /// Passes on what was committed since the last checkpoint, sorted by `stored_key`.
    pub fn checkpoint<E>(
        &self,
        stored_key: impl Fn(&K, Option<&V>) -> Vec<u8>,
        mut write: impl FnMut(&[u8], Option<&V>) -> Result<(), E>,
    ) -> Result<(), E> {
        let dirty = self.dirty.iter().filter_map(|key| {
            let slot = self.map.get(key)?;
            (slot.transaction > self.checkpointed).then(|| (stored_key(key, slot.value.as_ref()), slot.value.as_ref()))
        });
        let mut sorted: Vec<_> = dirty.collect();
        sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (key, value) in sorted {
            write(&key, value)?;
        }
        Ok(())
    }

    /// What was passed on last is checkpointed. Nothing was changed in between.
    pub fn checkpointed(&mut self) {
        for key in self.dirty.drain(..) {
            if self.map.get(&key).is_some_and(|slot| slot.value.is_none()) {
                self.map.remove(&key);
            }
        }
        self.checkpointed = self.transaction - 1;
    }

    /// Removes entries from memory without a trace: they have expired, and the checkpoint drops them by range.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        self.map.retain(|key, slot| slot.value.as_ref().is_none_or(|value| keep(key, value)));
        if self.map.capacity() > 1024 && self.map.len() < self.map.capacity() / 4 {
            self.map.shrink_to(self.map.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, i64),
        Delete(u8),
        Commit,
        Rollback,
        /// Whether it fails after the first entry.
        Checkpoint(bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..8u8, any::<i64>()).prop_map(|(k, v)| Step::Put(k, v)),
            2 => (0..8u8).prop_map(Step::Delete),
            1 => Just(Step::Commit),
            1 => Just(Step::Rollback),
            1 => any::<bool>().prop_map(Step::Checkpoint),
        ]
    }

    proptest! {
        #[test]
        fn a_rolled_back_transaction_never_was_and_checkpoints_miss_nothing(
            steps in prop::collection::vec(step(), 0..80)
        ) {
            let mut table: Table<Arc<str>, i64> = Table::default();
            let (mut open, mut committed) = (BTreeMap::new(), BTreeMap::new());
            let mut disk: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Put(k, v) => {
                        let key: Arc<str> = k.to_string().into();
                        *table.write(&key) = Some(v);
                        open.insert(key, v);
                    }
                    Step::Delete(k) => {
                        let key: Arc<str> = k.to_string().into();
                        *table.write(&key) = None;
                        open.remove(&key);
                    }
                    Step::Commit => {
                        table.commit();
                        committed = open.clone();
                    }
                    Step::Rollback | Step::Checkpoint(_) => {
                        table.rollback();
                        open = committed.clone();
                    }
                }
                if let Step::Checkpoint(fails) = step {
                    let mut left = if fails { 1 } else { usize::MAX };
                    let mut written = disk.clone();
                    let write = |key: &[u8], value: Option<&i64>| -> Result<(), ()> {
                        left = left.checked_sub(1).ok_or(())?;
                        match value {
                            Some(value) => written.insert(key.to_vec(), *value),
                            None => written.remove(key),
                        };
                        Ok(())
                    };
                    if table.checkpoint(|key, _| key.as_bytes().to_vec(), write).is_err() {
                        // The disk is full: nothing of it is written, and the next one has it all.
                        continue;
                    }
                    table.checkpointed();
                    disk = written;
                    let on_disk: Vec<_> = disk.iter().map(|(k, v)| (k.clone(), *v)).collect();
                    let expected: Vec<_> = committed.iter().map(|(k, v)| (k.as_bytes().to_vec(), *v)).collect();
                    prop_assert_eq!(on_disk, expected);
                }
                for k in 0..8u8 {
                    let key: Arc<str> = k.to_string().into();
                    prop_assert_eq!(table.get(&key).flatten(), open.get(&key));
                }
            }
        }
    }
}
