//! A store of values that only ever take items in: sketches. Its changelog holds the items, not the values.

use super::changelog::{ChangelogEntry, ChangelogWriter};
use super::checkpoint::{Checkpoint, CheckpointWriter};
use super::codec::{StoreKey, StoreValue};
use super::key_value::corrupt;
use super::{StateStore, StoreError};
use hashbrown::HashMap;
use std::any::Any;
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
        self.fetch(key);
        self.map.get(key).map(|slot| &slot.value)
    }

    /// Takes items in; the accumulator afterwards where any of them changed it.
    pub fn add(&mut self, key: &K, items: &[u64]) -> Option<&A> {
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

impl<K: StoreKey, A: Accumulator> StateStore for AccumulatorStore<K, A> {
    fn open(&mut self, name: &str, index: usize, behind: Option<Arc<Checkpoint>>) -> Result<(), StoreError> {
        self.name = name.to_owned();
        self.index = index;
        self.behind = behind;
        Ok(())
    }

    fn write_changes(&mut self, out: &mut ChangelogWriter) {
        out.begin(&self.name);
        let mut bytes = Vec::new();
        // Items of a key mostly stand together: they come by subject.
        for run in self.open.chunk_by(|a, b| a.0 == b.0) {
            bytes.clear();
            run[0].0.encode(&mut bytes);
            out.delta(&bytes, run.iter().map(|(_, item, _)| *item));
        }
    }

    fn has_changes(&self) -> bool {
        !self.open.is_empty()
    }

    fn commit(&mut self) {
        self.open.clear();
    }

    fn rollback(&mut self) {
        while let Some((key, _, undo)) = self.open.pop() {
            if let Some(slot) = self.map.get_mut(&key) {
                slot.value.revert(undo);
            }
        }
    }

    fn restore(&mut self, entry: &ChangelogEntry<'_>) -> Result<(), StoreError> {
        let ChangelogEntry::Delta { key, items } = entry else {
            return Err(corrupt(&self.name, format!("an accumulator store has no {entry:?}")));
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

    fn checkpoint(&mut self, out: &mut CheckpointWriter<'_>) -> Result<(), StoreError> {
        out.begin(self.index);
        let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
        for key in self.dirty.drain(..) {
            let Some(slot) = self.map.get_mut(&key) else { continue };
            slot.dirty = false;
            key_bytes.clear();
            value_bytes.clear();
            key.encode(&mut key_bytes);
            slot.value.encode(&mut value_bytes);
            out.put(&key_bytes, &value_bytes)?;
        }
        Ok(())
    }

    fn hydrate(&mut self, entries_max: usize) -> Result<bool, StoreError> {
        let Some(checkpoint) = &self.behind else { return Ok(false) };
        let after = self.hydrated.take();
        let after = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (map, name, mut last) = (&mut self.map, &self.name, None);
        let more = checkpoint.scan(self.index, after, entries_max, |key, value| {
            last = Some(key.to_vec());
            let key = K::decode(key).ok_or_else(|| corrupt(name, "a key"))?;
            if !map.contains_key(&key) {
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

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
