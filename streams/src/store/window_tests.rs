//! Windows that are dropped, rolled back, restored and read through to the checkpoint, against a map.

use super::*;
use crate::store::lives::Lives;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const SEGMENT_MS: i64 = 10;

type Store = WindowStore<Arc<str>, i64, SEGMENT_MS>;

/// The first segment that is kept; by key, the segment and the value.
#[derive(Clone, Default)]
struct Model {
    first: i64,
    values: BTreeMap<u8, (i64, i64)>,
}

impl Model {
    fn expire(&mut self, first: i64) {
        self.first = self.first.max(first);
        let first = self.first;
        self.values.retain(|_, (segment, _)| *segment >= first);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u8, i64, i64),
    Add(u8, i64, i64),
    Expire(i64),
    Commit,
    Rollback,
    Checkpoint,
    /// From the last checkpoint, and the changelog since.
    Restart,
    Hydrate,
    Evict,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6u8, -9..90i64, 0..9i64).prop_map(|(key, until_ms, value)| Step::Insert(key, until_ms, value)),
        6 => (0..6u8, -9..90i64, 0..9i64).prop_map(|(key, until_ms, value)| Step::Add(key, until_ms, value)),
        1 => (0..80i64).prop_map(Step::Expire),
        4 => Just(Step::Commit),
        1 => Just(Step::Rollback),
        2 => Just(Step::Checkpoint),
        2 => Just(Step::Restart),
        1 => Just(Step::Hydrate),
        2 => Just(Step::Evict),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn an_entry_stays_until_its_segment_ends_and_is_gone_then(steps in prop::collection::vec(step(), 0..100)) {
        let mut lives = Lives::<Store>::new();
        let (mut open, mut committed): (Model, Model) = Default::default();
        for step in steps {
            match step {
                Step::Insert(of, until_ms, value) => {
                    let segment = (until_ms / SEGMENT_MS).max(open.first);
                    let is_new = lives.store.insert(&of.to_string().into(), until_ms, value);
                    prop_assert_eq!(is_new, !open.values.contains_key(&of));
                    open.values.entry(of).or_insert((segment, value));
                }
                Step::Add(of, until_ms, value) => {
                    let segment = (until_ms / SEGMENT_MS).max(open.first);
                    lives.store.upsert(&of.to_string().into(), until_ms, value, |sum| *sum += value);
                    open.values.entry(of).and_modify(|(_, sum)| *sum += value).or_insert((segment, value));
                }
                Step::Expire(clock_ms) => {
                    lives.store.expire(clock_ms);
                    open.expire(clock_ms / SEGMENT_MS);
                }
                Step::Commit => {
                    lives.commit();
                    committed = open.clone();
                }
                Step::Hydrate => _ = lives.store.hydrate(2).unwrap(),
                Step::Rollback | Step::Checkpoint | Step::Restart | Step::Evict => {
                    lives.store.rollback();
                    open = committed.clone();
                }
            }
            match step {
                Step::Checkpoint => lives.checkpoint(),
                Step::Evict => _ = lives.evict(),
                Step::Restart => {
                    lives.restart();
                    // The clock that expired segments before the checkpoint is still there.
                    lives.store.expire(committed.first * SEGMENT_MS);
                    lives.commit();
                }
                _ => {}
            }
            for of in 0..6u8 {
                let found = lives.store.get(&of.to_string().into()).copied();
                prop_assert_eq!(found, open.values.get(&of).map(|(_, value)| *value));
            }
            prop_assert_eq!(lives.store.take_fault(), None);
        }
    }
}
