//! A store of values that only ever take items in: sketches. Its changelog holds the items, not the values. Where keys
//! belong to segments of time ([`StoreKey::segment`]), whole segments are forgotten.

use super::changelog::{ChangelogEntry, ChangelogWriter};
use super::checkpoint::{Checkpoint, CheckpointWriter};
use super::codec::{StoreKey, StoreValue};
use super::key_value::corrupt;
use super::{StateStore, StoreError};
use hashbrown::HashMap;
use std::ops::Bound;
use std::sync::Arc;

/// A value that takes items in. The order of items does not matter, and one that is in changes nothing.
pub trait Accumulator: StoreValue + Default {
    /// What it takes to give an item back.
    type Undo: Send;
    /// Takes an item in; None where it changes nothing.
    fn add(&mut self, item: u64) -> Option<Self::Undo>;
    /// Gives the last item back.
    fn revert(&mut self, undo: Self::Undo);
}

struct Slot<A> {
    value: A,
    /// Changed since the last checkpoint.
    dirty: bool,
}

/// Keys and accumulators.
pub struct AccumulatorStore<K: StoreKey, A: Accumulator> {
    name: String,
    map: HashMap<K, Slot<A>, K::Hasher>,
    /// The open transaction: what was taken in, in order.
    open: Vec<(K, u64, A::Undo)>,
    dirty: Vec<K>,
    /// Segments below are gone for good.
    dropped: u64,
    /// Segments below are gone if the open transaction commits.
    dropping: u64,
    /// Where the checkpoint still has dropped segments.
    dropped_on_disk: u64,
    behind: Option<Arc<Checkpoint>>,
    hydrated: Option<Vec<u8>>,
    index: usize,
    fault: Option<StoreError>,
}

impl<K: StoreKey, A: Accumulator> Default for AccumulatorStore<K, A> {
    fn default() -> Self {
        Self {
            name: String::new(),
            map: HashMap::default(),
            open: Vec::new(),
            dirty: Vec::new(),
            dropped: 0,
            dropping: 0,
            dropped_on_disk: 0,
            behind: None,
            hydrated: None,
            index: 0,
            fault: None,
        }
    }
}

impl<K: StoreKey, A: Accumulator> AccumulatorStore<K, A> {
    /// For [`super::super::topology::StoreSpec::make`].
    pub fn make() -> Box<dyn StateStore> {
        Box::new(Self::default())
    }

    /// The accumulator of a key.
    pub fn get(&mut self, key: &K) -> Option<&A> {
        if is_below(key, self.dropping) {
            return None;
        }
        self.fetch(key);
        self.map.get(key).map(|slot| &slot.value)
    }

    /// Forgets the segments before this one.
    pub fn expire(&mut self, segment: u64) {
        self.dropping = self.dropping.max(segment);
    }

    /// Takes items in; the accumulator afterwards where any of them changed it. A segment that was forgotten stays so.
    pub fn add(&mut self, key: &K, items: &[u64]) -> Option<&A> {
        if is_below(key, self.dropping) {
            return None;
        }
        self.fetch(key);
        let slot = self.map.entry(key.clone()).or_insert_with(|| Slot { value: A::default(), dirty: false });
        let before = self.open.len();
        for item in items {
            if let Some(undo) = slot.value.add(*item) {
                self.open.push((key.clone(), *item, undo));
            }
        }
        if self.open.len() == before {
            return None;
        }
        if !std::mem::replace(&mut slot.dirty, true) {
            self.dirty.push(key.clone());
        }
        Some(&slot.value)
    }

    fn fetch(&mut self, key: &K) {
        let Some(checkpoint) = &self.behind else { return };
        if self.map.contains_key(key) {
            return;
        }
        let mut bytes = Vec::new();
        key.encode(&mut bytes);
        match checkpoint.get(self.index, &bytes).map(|found| found.map(|value| A::decode(&value))) {
            Ok(Some(Some(value))) => drop(self.map.insert(key.clone(), Slot { value, dirty: false })),
            Ok(Some(None)) => self.fault = Some(corrupt(&self.name, "a value")),
            Ok(None) => {}
            Err(fault) => self.fault = Some(fault),
        }
    }
}

fn is_below<K: StoreKey>(key: &K, segment: u64) -> bool {
    key.segment().is_some_and(|own| own < segment)
}

impl<K: StoreKey, A: Accumulator> StateStore for AccumulatorStore<K, A> {
    fn open(&mut self, name: &str, index: usize, behind: Option<Arc<Checkpoint>>) -> Result<(), StoreError> {
        self.name = name.to_owned();
        self.index = index;
        self.behind = behind;
        Ok(())
    }

    fn write_changes(&mut self, out: &mut ChangelogWriter) {
        out.begin(&self.name);
        if self.dropping > self.dropped {
            out.drop_segments(self.dropping);
        }
        let mut bytes = Vec::new();
        // Items of a key mostly stand together: they come by subject.
        for run in self.open.chunk_by(|a, b| a.0 == b.0) {
            bytes.clear();
            run[0].0.encode(&mut bytes);
            out.delta(&bytes, run.iter().map(|(_, item, _)| *item));
        }
    }

    fn has_changes(&self) -> bool {
        !self.open.is_empty() || self.dropping > self.dropped
    }

    fn commit(&mut self) {
        self.open.clear();
        if self.dropping > self.dropped {
            self.dropped = self.dropping;
            let dropped = self.dropped;
            self.map.retain(|key, _| !is_below(key, dropped));
            self.dirty.retain(|key| !is_below(key, dropped));
        }
    }

    fn rollback(&mut self) {
        while let Some((key, _, undo)) = self.open.pop() {
            if let Some(slot) = self.map.get_mut(&key) {
                slot.value.revert(undo);
            }
        }
        self.dropping = self.dropped;
    }

    fn restore(&mut self, entry: &ChangelogEntry<'_>) -> Result<(), StoreError> {
        let (key, items) = match entry {
            ChangelogEntry::Delta { key, items } => (key, items),
            ChangelogEntry::DropSegments { before } => {
                self.expire(*before);
                return Ok(());
            }
            other => return Err(corrupt(&self.name, format!("an accumulator store has no {other:?}"))),
        };
        let key = K::decode(key).ok_or_else(|| corrupt(&self.name, "a key"))?;
        let (items, rest) = items.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(corrupt(&self.name, "items"));
        }
        let items: Vec<u64> = items.iter().map(|item| u64::from_le_bytes(*item)).collect();
        self.add(&key, &items);
        Ok(())
    }

    fn checkpoint(&self, out: &mut CheckpointWriter<'_>) -> Result<(), StoreError> {
        out.begin(self.index);
        if self.dropped > self.dropped_on_disk {
            out.delete_below(&self.dropped.to_be_bytes())?;
        }
        let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
        for key in &self.dirty {
            let Some(slot) = self.map.get(key) else { continue };
            key_bytes.clear();
            value_bytes.clear();
            key.encode(&mut key_bytes);
            slot.value.encode(&mut value_bytes);
            out.put(&key_bytes, &value_bytes)?;
        }
        Ok(())
    }

    fn checkpointed(&mut self) {
        self.dropped_on_disk = self.dropped;
        for key in self.dirty.drain(..) {
            if let Some(slot) = self.map.get_mut(&key) {
                slot.dirty = false;
            }
        }
    }

    fn hydrate(&mut self, entries_max: usize) -> Result<bool, StoreError> {
        let Some(checkpoint) = &self.behind else { return Ok(false) };
        let after = self.hydrated.take();
        let after = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (map, name, live, mut last) = (&mut self.map, &self.name, self.dropped, None);
        let more = checkpoint.scan(self.index, after, entries_max, |key, value| {
            last = Some(key.to_vec());
            let key = K::decode(key).ok_or_else(|| corrupt(name, "a key"))?;
            if !map.contains_key(&key) && !is_below(&key, live) {
                let value = A::decode(value).ok_or_else(|| corrupt(name, "a value"))?;
                map.insert(key, Slot { value, dirty: false });
            }
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
        self.map.len()
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
                    Step::Rollback | Step::Checkpoint | Step::Restart => {
                        lives.store.rollback();
                        open = committed.clone();
                    }
                }
                match step {
                    Step::Checkpoint => lives.checkpoint(),
                    Step::Restart => {
                        lives.restart();
                        // Nobody comes with what was forgotten: a clock does not go back.
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
