//! What is due against a sort, whatever was evicted, rolled back or restored in between.

use super::*;
use crate::store::lives::{Event, Lives, event};
use crate::store::{Hash128, KeyValueStore};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

type Store = DueStore<Arc<str>, i64>;
/// By key: when it is due, and the value.
type Model = BTreeMap<Arc<str>, (i64, i64)>;

#[derive(Clone, Debug)]
enum Step {
    Put(u8, i64, i64),
    Get(u8),
    /// Up to so many that are due by this time.
    Take(i64, usize),
    Commit,
    Rollback,
    Hydrate,
    /// After a rollback.
    Meet(Event),
}

/// Enough keys that heads of three places are cut down and read again.
fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        24 => (0..48u8, 0..60i64, any::<i64>()).prop_map(|(key, due_ms, value)| Step::Put(key, due_ms, value)),
        4 => (0..48u8).prop_map(Step::Get),
        6 => (0..60i64, 1..9usize).prop_map(|(clock_ms, count)| Step::Take(clock_ms, count)),
        8 => Just(Step::Commit),
        3 => Just(Step::Rollback),
        1 => Just(Step::Hydrate),
        11 => event().prop_map(Step::Meet),
    ]
}

fn text(key: u8) -> Arc<str> {
    key.to_string().into()
}

fn take_due(model: &mut Model, clock_ms: i64) -> Option<(i64, i64)> {
    let first = model.iter().map(|(key, (due_ms, _))| (*due_ms, key.clone())).min()?;
    (first.0 <= clock_ms).then(|| model.remove(&first.1)).flatten()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn what_is_due_comes_in_order_whatever_was_evicted_or_taken_back(steps in prop::collection::vec(step(), 0..160)) {
        let mut lives = Lives::<Store>::new();
        let (mut open, mut committed) = (Model::new(), Model::new());
        for step in steps {
            match step {
                Step::Put(key, due_ms, value) => {
                    lives.store.put(&text(key), due_ms, value);
                    open.insert(text(key), (due_ms, value));
                }
                Step::Get(key) => {
                    prop_assert_eq!(lives.store.get(&text(key)), open.get(&text(key)).map(|(_, value)| value));
                }
                Step::Take(clock_ms, count) => for _ in 0..count {
                    prop_assert_eq!(lives.store.take_due(clock_ms), take_due(&mut open, clock_ms));
                },
                Step::Commit => {
                    lives.commit();
                    committed = open.clone();
                }
                Step::Hydrate => _ = lives.store.hydrate(5).unwrap(),
                Step::Rollback | Step::Meet(_) => {
                    lives.store.rollback();
                    open = committed.clone();
                }
            }
            if let Step::Meet(event) = step {
                lives.meet(event);
            }
        }
        while let Some(due) = take_due(&mut open, i64::MAX) {
            prop_assert_eq!(lives.store.take_due(i64::MAX), Some(due));
        }
        prop_assert_eq!(lives.store.take_due(i64::MAX), None);
        prop_assert_eq!(lives.store.take_fault(), None);
    }
}

/// A value of 200 bytes.
#[derive(Clone, Debug, PartialEq)]
struct Wide(u64);

impl StoreValue for Wide {
    fn encode(&self, out: &mut Vec<u8>) {
        (0..25).for_each(|_| self.0.encode(out));
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        u64::decode(bytes.get(..8)?).map(Self)
    }
}

#[test]
fn opening_it_reads_no_value_and_taking_one_reads_few() {
    const VALUES: u64 = 10_000;
    let key = |n: u64| Hash128::of(7, &[&n.to_le_bytes()]);
    let mut lives = Lives::<DueStore<Hash128, Wide>>::new();
    for n in 0..VALUES {
        lives.store.put(&key(n), n as i64, Wide(n));
        if n % 2_000 == 0 {
            lives.commit();
            lives.checkpoint();
        }
    }
    lives.commit();
    lives.checkpoint();
    // Gone from the front of the order, and from the checkpoint.
    for n in 0..VALUES / 2 {
        assert_eq!(lives.store.take_due(i64::MAX), Some((n as i64, Wide(n))));
    }
    lives.commit();
    lives.checkpoint();
    let reads = |lives: &Lives<_>| lives.checkpoint.blocks_read.swap(0, Ordering::Relaxed);
    reads(&lives);
    lives.restart();
    let opening = reads(&lives);
    assert_eq!((lives.store.len(), lives.store.take_due(VALUES as i64 / 2 - 1)), (0, None));
    assert_eq!(reads(&lives), 0, "nothing is due");
    for n in VALUES / 2..VALUES / 2 + 3 {
        assert_eq!(lives.store.take_due(i64::MAX), Some((n as i64, Wide(n))));
    }
    let taking = reads(&lives);
    // All values are in 150 blocks, and their order in 20.
    assert!(opening < 25 && taking < 15, "{opening} blocks to open it, {taking} to take three");
    lives.commit();
    while lives.store.hydrate(1_000).unwrap() {}
    let (all, hydrated) = (lives.store.memory_bytes(), lives.store.len());
    lives.checkpoint();
    lives.evict();
    let (left, bytes) = (lives.store.len(), lives.store.memory_bytes());
    assert!(hydrated as u64 >= VALUES / 2 - 3 && left == 0 && bytes < all / 4, "{all} bytes, then {bytes} with {left}");
}

#[test]
fn a_checkpoint_of_the_former_format_has_no_order_and_gets_one() {
    let mut former = Lives::<KeyValueStore<Arc<str>, Due<i64>>>::new();
    for n in 0..50 {
        former.store.put(&text(n), Due { due_ms: i64::from(n) * 7 % 50, value: n.into() });
    }
    former.commit();
    former.checkpoint();
    let mut lives = former.into::<Store>();
    lives.restart();
    assert_eq!(lives.store.take_due(0), Some((0, 0)));
    lives.commit();
    lives.checkpoint();
    lives.evict();
    lives.restart();
    assert_eq!(lives.store.len(), 0, "the order is read from the checkpoint");
    for due_ms in 1..50 {
        assert_eq!(lives.store.take_due(i64::MAX).map(|(due_ms, _)| due_ms), Some(due_ms));
    }
    assert_eq!((lives.store.take_due(i64::MAX), lives.store.take_fault()), (None, None));
}

#[test]
fn a_place_without_its_value_is_a_fault() {
    let mut lives = Lives::<Store>::new();
    lives.store.put(&text(1), 5, 7);
    lives.commit();
    lives.checkpoint();
    let mut other = lives.into::<KeyValueStore<Arc<str>, Due<i64>>>();
    other.restart();
    other.store.delete(&text(1));
    other.commit();
    other.checkpoint();
    let mut lives = other.into::<Store>();
    lives.restart();
    assert_eq!(lives.store.take_due(5), None);
    assert!(matches!(lives.store.take_fault(), Some(StoreError::Corrupt { .. })));
}
