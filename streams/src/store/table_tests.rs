//! Transactions that are rolled back, and checkpoints that fail, against maps.

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
    /// The part of the checkpointed entries.
    Evict(f64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..8u8, any::<i64>()).prop_map(|(k, v)| Step::Put(k, v)),
        2 => (0..8u8).prop_map(Step::Delete),
        1 => Just(Step::Commit),
        1 => Just(Step::Rollback),
        1 => any::<bool>().prop_map(Step::Checkpoint),
        2 => prop_oneof![Just(0.4), Just(1.0)].prop_map(Step::Evict),
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
                Step::Rollback | Step::Checkpoint(_) | Step::Evict(_) => {
                    table.rollback();
                    open = committed.clone();
                }
            }
            if let Step::Checkpoint(fails) = step {
                let mut left = if fails { 1 } else { usize::MAX };
                let mut written = disk.clone();
                let mut write = |key: &[u8], value: Option<&i64>| -> Result<(), ()> {
                    left = left.checked_sub(1).ok_or(())?;
                    match value {
                        Some(value) => written.insert(key.to_vec(), *value),
                        None => written.remove(key),
                    };
                    Ok(())
                };
                if table.unwritten().try_for_each(|(key, value)| write(key.as_bytes(), value)).is_err() {
                    // The disk is full: nothing is written, and the next checkpoint has all of it.
                    continue;
                }
                table.checkpointed();
                disk = written;
                let on_disk: Vec<_> = disk.iter().map(|(k, v)| (k.clone(), *v)).collect();
                let expected: Vec<_> = committed.iter().map(|(k, v)| (k.as_bytes().to_vec(), *v)).collect();
                prop_assert_eq!(on_disk, expected);
            }
            if let Step::Evict(part) = step {
                let (before, clean) = (table.len(), table.clean());
                let left = before - (clean as f64 * part).ceil() as usize;
                let evicted = table.evict(part, |table| table.len() <= left);
                prop_assert_eq!(table.len(), before - evicted);
                prop_assert!(table.len() <= left);
            }
            for k in 0..8u8 {
                let key: Arc<str> = k.to_string().into();
                // What is not in memory is read through.
                let found = match table.get(&key) {
                    Some(value) => value,
                    None => disk.get(key.as_bytes()),
                };
                prop_assert_eq!(found, open.get(&key));
            }
        }
    }
}
