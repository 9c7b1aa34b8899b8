//! Steps of a delta store against a map.

use super::*;
use crate::store::lives::Lives;
use crate::store::{ChangelogReader, Hash128, SegmentHash};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// In a delta: the name has no number any more.
const GONE: u8 = u8::MAX;

/// Numbers by name.
#[derive(Clone, Debug, Default, PartialEq)]
struct Numbers(BTreeMap<u8, u8>);

impl StoreValue for Numbers {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|(name, number)| out.extend_from_slice(&[*name, *number]));
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (pairs, rest) = bytes.as_chunks::<2>();
        rest.is_empty().then(|| Self(pairs.iter().map(|[name, number]| (*name, *number)).collect()))
    }
}

impl Deltas for Numbers {
    fn delta(&self, before: &Self, out: &mut Vec<u8>) {
        let changed = self.0.iter().filter(|(name, number)| before.0.get(name) != Some(number));
        changed.for_each(|(name, number)| out.extend_from_slice(&[*name, *number]));
        before
            .0
            .keys()
            .filter(|name| !self.0.contains_key(name))
            .for_each(|name| out.extend_from_slice(&[*name, GONE]));
    }

    fn apply(&mut self, delta: &[u8]) -> bool {
        let Some(changed) = Self::decode(delta) else { return false };
        self.0.extend(changed.0);
        self.0.retain(|_, number| *number != GONE);
        true
    }
}

type Store = DeltaStore<SegmentHash, Numbers>;
/// The first segment that is kept, and what is in it and the later ones.
type Model = (u64, BTreeMap<(u64, u8), BTreeMap<u8, u8>>);

fn key(segment: u64, key: u8) -> SegmentHash {
    SegmentHash { segment, hash: Hash128::of(7, &[&segment.to_le_bytes(), &[key]]) }
}

#[derive(Clone, Debug)]
enum Step {
    Set(u64, u8, u8, u8),
    Delete(u64, u8),
    Expire(u64),
    Commit,
    Rollback,
    Checkpoint,
    /// From the checkpoint of the last time, and the changelog since.
    Restart,
    Hydrate,
    Evict,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..5u64, 0..3u8, 0..4u8, 0..3u8).prop_map(|(segment, key, name, number)| Step::Set(segment, key, name, number)),
        2 => (0..5u64, 0..3u8).prop_map(|(segment, key)| Step::Delete(segment, key)),
        1 => (0..5u64).prop_map(Step::Expire),
        3 => Just(Step::Commit),
        1 => Just(Step::Rollback),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Restart),
        1 => Just(Step::Hydrate),
        2 => Just(Step::Evict),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn values_are_those_of_a_map_whatever_was_taken_back(steps in prop::collection::vec(step(), 0..100)) {
        let mut lives = Lives::<Store>::new();
        let (mut open, mut committed): (Model, Model) = Default::default();
        for step in steps {
            match step {
                Step::Set(segment, of, name, number) => {
                    let kept = segment >= open.0;
                    let slot = lives.store.modify(&key(segment, of));
                    prop_assert_eq!(slot.is_some(), kept);
                    if let Some(slot) = slot {
                        slot.get_or_insert_default().0.insert(name, number);
                        open.1.entry((segment, of)).or_default().insert(name, number);
                    }
                }
                Step::Delete(segment, of) => {
                    if let Some(slot) = lives.store.modify(&key(segment, of)) {
                        *slot = None;
                    }
                    open.1.remove(&(segment, of));
                }
                Step::Expire(segment) => {
                    lives.store.expire(segment);
                    open.0 = open.0.max(segment);
                    let first = open.0;
                    open.1.retain(|(segment, _), _| *segment >= first);
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
                    lives.store.expire(committed.0);
                    lives.commit();
                }
                _ => {}
            }
            for segment in 0..5 {
                for of in 0..3 {
                    let found = lives.store.get(&key(segment, of)).map(|numbers| numbers.0.clone());
                    prop_assert_eq!(found, open.1.get(&(segment, of)).cloned());
                }
            }
        }
    }
}

#[test]
fn the_changelog_has_what_changed() {
    let mut store = DeltaStore::<std::sync::Arc<str>, Numbers>::default();
    store.open("s", 0, None).unwrap();
    let key = "k".into();
    let bodies = |store: &mut DeltaStore<_, _>| {
        let mut writer = ChangelogWriter::new(1 << 20);
        store.write_changes(&mut writer);
        store.commit();
        writer.finish()
    };
    let set = |store: &mut DeltaStore<_, Numbers>, pairs: &[(u8, u8)]| {
        store.modify(&key).unwrap().get_or_insert_default().0.extend(pairs.iter().copied());
    };
    set(&mut store, &[(1, 1), (2, 2)]);
    assert_eq!(bodies(&mut store), [b"\x01s\x01\0\0\0\x02\x01k\x04\x01\x01\x02\x02"]);
    set(&mut store, &[(1, 1), (2, 3)]);
    assert_eq!(bodies(&mut store), [b"\x01s\x01\0\0\0\x02\x01k\x02\x02\x03"]);
    set(&mut store, &[(2, 3)]);
    assert!(bodies(&mut store).is_empty());
    set(&mut store, &[(2, 4)]);
    *store.modify(&key).unwrap() = None;
    let deleted = bodies(&mut store);
    assert_eq!(deleted, [b"\x01s\x01\0\0\0\x01\x01k"]);
    assert!(deleted.iter().flat_map(|body| ChangelogReader::new(body)).all(|entry| entry.is_ok()));
}
