//! A store of values that are due at a time each: [`DueStore::take_due`] returns those that are due by the clock, the
//! earliest first.
//!
//! The order is derived from the values and never written: it is rebuilt when it is needed after a restart or a
//! rollback. Opening the store therefore loads all values into memory, so it is meant for a small number of values.

use super::changelog::ChangelogEntry;
use super::codec::{StoreKey, StoreValue};
use super::entries::Entries;
use super::kind::StoreKind;
use super::{StateStore, StoreError};
use std::collections::BTreeSet;

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

/// See the module.
pub struct DueStore<K: StoreKey + Ord, V: StoreValue> {
    entries: Entries<K, Due<V>>,
    /// By time and key; None until it is needed.
    order: Option<BTreeSet<(i64, K)>>,
}

impl<K: StoreKey + Ord, V: StoreValue> Default for DueStore<K, V> {
    fn default() -> Self {
        Self { entries: Entries::default(), order: None }
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
        let before = self.entries.write(key).replace(Due { due_ms, value });
        if let Some(order) = &mut self.order {
            if let Some(before) = before {
                order.remove(&(before.due_ms, key.clone()));
            }
            order.insert((due_ms, key.clone()));
        }
    }

    /// Removes the value that is due earliest, if that is at or before the clock; returns when it was due, and the value.
    pub fn take_due(&mut self, clock_ms: i64) -> Option<(i64, V)> {
        let table = &self.entries.table;
        let order =
            self.order.get_or_insert_with(|| table.iter().map(|(key, due)| (due.due_ms, key.clone())).collect());
        let (due_ms, key) = order.first().filter(|(due_ms, _)| *due_ms <= clock_ms)?.clone();
        order.remove(&(due_ms, key.clone()));
        self.entries.write(&key).take().map(|due| (due_ms, due.value))
    }
}

impl<K: StoreKey + Ord, V: StoreValue> StoreKind for DueStore<K, V> {
    type Key = K;
    type Entry = Due<V>;
    const LOADS_ALL: bool = true;

    fn entries(&self) -> &Entries<K, Due<V>> {
        &self.entries
    }

    fn entries_mut(&mut self) -> &mut Entries<K, Due<V>> {
        &mut self.entries
    }

    fn replay(&mut self, entry: &ChangelogEntry<'_>) -> Result<(), StoreError> {
        self.order = None;
        self.entries.replay_value(entry)
    }

    fn undo(&mut self) {
        self.entries.rollback();
        self.order = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::lives::Lives;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    type Store = DueStore<Arc<str>, i64>;
    /// By key: when it is due, and the value.
    type Model = BTreeMap<Arc<str>, (i64, i64)>;

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, i64, i64),
        Take(i64),
        Commit,
        Rollback,
        /// From the checkpoint of the last time, and the changelog since.
        Restart,
        Checkpoint,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..6u8, 0..20i64, any::<i64>()).prop_map(|(key, due_ms, value)| Step::Put(key, due_ms, value)),
            4 => (0..20i64).prop_map(Step::Take),
            3 => Just(Step::Commit),
            1 => Just(Step::Rollback),
            1 => Just(Step::Restart),
            1 => Just(Step::Checkpoint),
        ]
    }

    fn take_due(model: &mut Model, clock_ms: i64) -> Option<(i64, i64)> {
        let first = model.iter().map(|(key, (due_ms, _))| (*due_ms, key.clone())).min()?;
        (first.0 <= clock_ms).then(|| model.remove(&first.1)).flatten()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_due_comes_in_order_whatever_was_taken_back(steps in prop::collection::vec(step(), 0..80)) {
            let mut lives = Lives::<Store>::new();
            let (mut open, mut committed) = (Model::new(), Model::new());
            for step in steps {
                match step {
                    Step::Put(key, due_ms, value) => {
                        let key: Arc<str> = key.to_string().into();
                        lives.store.put(&key, due_ms, value);
                        open.insert(key, (due_ms, value));
                    }
                    Step::Take(clock_ms) => loop {
                        let due = lives.store.take_due(clock_ms);
                        prop_assert_eq!(due, take_due(&mut open, clock_ms));
                        if due.is_none() {
                            break;
                        }
                    },
                    Step::Commit => {
                        lives.commit();
                        committed = open.clone();
                    }
                    Step::Rollback | Step::Restart | Step::Checkpoint => {
                        lives.store.rollback();
                        open = committed.clone();
                    }
                }
                match step {
                    Step::Checkpoint => lives.checkpoint(),
                    Step::Restart => lives.restart(),
                    _ => {}
                }
                for key in 0..6u8 {
                    let key: Arc<str> = key.to_string().into();
                    prop_assert_eq!(lives.store.get(&key), open.get(&key).map(|(_, value)| value));
                }
            }
        }
    }
}
