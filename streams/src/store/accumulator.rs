//! A store of values that only ever take items in: sketches. Its changelog holds the items, not the values. Where keys
//! belong to segments of time ([`StoreKey::segment`]), whole segments expire.

use super::changelog::{ChangelogEntry, ChangelogWriter, read_items};
use super::codec::{StoreKey, StoreValue};
use super::entries::Entries;
use super::kind::StoreKind;
use super::slots::Place;
use super::table::end_undo;
use super::{StateStore, StoreError};

/// A value that accumulates items. The order of items does not matter, and a repeated item changes nothing.
pub trait Accumulator: StoreValue + Default {
    /// What [`Accumulator::revert`] needs to take an item out.
    type Undo: Send;
    /// Adds an item; None if that changes nothing.
    fn add(&mut self, item: u64) -> Option<Self::Undo>;
    /// Takes the last item out.
    fn revert(&mut self, undo: Self::Undo);
}

/// Keys and accumulators.
pub struct AccumulatorStore<K: StoreKey, A: Accumulator> {
    entries: Entries<K, A>,
    /// The items that the open transaction added, in order. Accumulators are too large to be copied for a rollback.
    open: Vec<(Place, u64, A::Undo)>,
}

impl<K: StoreKey, A: Accumulator> Default for AccumulatorStore<K, A> {
    fn default() -> Self {
        Self { entries: Entries::default(), open: Vec::new() }
    }
}

impl<K: StoreKey, A: Accumulator> AccumulatorStore<K, A> {
    /// For [`super::super::topology::StoreSpec::make`].
    pub fn make() -> Box<dyn StateStore> {
        Box::new(Self::default())
    }

    /// The accumulator of a key.
    pub fn get(&mut self, key: &K) -> Option<&A> {
        self.entries.get(key)
    }

    /// Drops the segments before this one.
    pub fn expire(&mut self, segment: u64) {
        self.entries.expire(segment);
    }

    /// Adds items; returns the accumulator if any of them changed it. Items of an expired segment are ignored.
    pub fn add(&mut self, key: &K, items: &[u64]) -> Option<&A> {
        let before = self.open.len();
        let open = &mut self.open;
        self.entries.change_in_place(key, |place, value| {
            let added = items.iter().filter_map(|item| Some((place, *item, value.add(*item)?)));
            open.extend(added);
            open.len() > before
        })
    }
}

impl<K: StoreKey, A: Accumulator> StoreKind for AccumulatorStore<K, A> {
    type Key = K;
    type Entry = A;

    fn entries(&self) -> &Entries<K, A> {
        &self.entries
    }

    fn entries_mut(&mut self) -> &mut Entries<K, A> {
        &mut self.entries
    }

    fn write_entries(&self, out: &mut ChangelogWriter) {
        // Items of a key mostly stand together: they come by subject.
        for run in self.open.chunk_by(|a, b| a.0 == b.0) {
            out.delta(|out| self.entries.table.key(run[0].0).encode(out), run.iter().map(|(_, item, _)| *item));
        }
    }

    fn replay(&mut self, entry: &ChangelogEntry<'_>) -> Result<(), StoreError> {
        match entry {
            ChangelogEntry::Delta { key, items } => {
                let key = K::decode(key).ok_or_else(|| self.entries.corrupt("a key"))?;
                let items = read_items(items).ok_or_else(|| self.entries.corrupt("items"))?;
                self.add(&key, &items);
            }
            ChangelogEntry::DropSegments { before } => self.expire(*before),
            put @ ChangelogEntry::Put { .. } => self.entries.replay_value(put)?,
            other => return Err(self.entries.unexpected(other)),
        }
        Ok(())
    }

    fn committed(&mut self) {
        end_undo(&mut self.open);
    }

    fn undo(&mut self) {
        while let Some((place, _, undo)) = self.open.pop() {
            if let Some(value) = self.entries.table.get_mut(place) {
                value.revert(undo);
            }
        }
        end_undo(&mut self.open);
        self.entries.rollback();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::lives::Lives;
    use crate::store::{Hash128, SegmentHash};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// A set of numbers.
    #[derive(Clone, Debug, Default, PartialEq)]
    struct Items(BTreeSet<u64>);

    impl StoreValue for Items {
        fn encode(&self, out: &mut Vec<u8>) {
            self.0.iter().for_each(|item| out.extend_from_slice(&item.to_le_bytes()));
        }

        fn decode(bytes: &[u8]) -> Option<Self> {
            let (items, rest) = bytes.as_chunks::<8>();
            rest.is_empty().then(|| Self(items.iter().map(|item| u64::from_le_bytes(*item)).collect()))
        }
    }

    impl Accumulator for Items {
        type Undo = u64;

        fn add(&mut self, item: u64) -> Option<u64> {
            self.0.insert(item).then_some(item)
        }

        fn revert(&mut self, item: u64) {
            self.0.remove(&item);
        }
    }

    type Store = AccumulatorStore<SegmentHash, Items>;
    /// The first segment that is kept, and what is in it and the later ones.
    type Model = (u64, BTreeMap<(u64, u8), BTreeSet<u64>>);

    fn key(segment: u64, key: u8) -> SegmentHash {
        SegmentHash { segment, hash: Hash128::of(7, &[&segment.to_le_bytes(), &[key]]) }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(u64, u8, u64),
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
            10 => (0..6u64, 0..3u8, 0..9u64).prop_map(|(segment, key, item)| Step::Add(segment, key, item)),
            1 => (0..6u64).prop_map(Step::Expire),
            3 => Just(Step::Commit),
            1 => Just(Step::Rollback),
            1 => Just(Step::Checkpoint),
            1 => Just(Step::Restart),
            1 => Just(Step::Hydrate),
            2 => Just(Step::Evict),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn segments_are_forgotten_whole_and_nothing_else_is(steps in prop::collection::vec(step(), 0..100)) {
            let mut lives = Lives::<Store>::new();
            let (mut open, mut committed): (Model, Model) = Default::default();
            for step in steps {
                match step {
                    Step::Add(segment, of, item) => {
                        let grown = lives.store.add(&key(segment, of), &[item]).is_some();
                        let kept = segment >= open.0;
                        prop_assert_eq!(grown, kept && open.1.entry((segment, of)).or_default().insert(item));
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
                        // Expired entries do not come back: a clock never goes back.
                        lives.store.expire(committed.0);
                        lives.commit();
                    }
                    _ => {}
                }
                for segment in 0..6 {
                    for of in 0..3 {
                        let found = lives.store.get(&key(segment, of)).map(|items| items.0.clone()).unwrap_or_default();
                        prop_assert_eq!(found, open.1.get(&(segment, of)).cloned().unwrap_or_default());
                    }
                }
            }
        }
    }
}
