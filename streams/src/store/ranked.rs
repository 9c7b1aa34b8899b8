//! A store of values that have a score, in the order of their scores: the top is at hand at any time.
//!
//! A score changes with its value, and by itself as time passes, in ticks. The order is of one tick;
//! [`RankedStore::advance`] takes it to another. It is derived from the values alone, so it is never written: after a
//! restart it is made anew. For that all values are in memory, from the moment the store is opened.

use super::changelog::{ChangelogEntry, ChangelogWriter};
use super::checkpoint::{Checkpoint, CheckpointWriter};
use super::codec::{StoreKey, StoreValue};
use super::key_value::corrupt;
use super::table::Table;
use super::{StateStore, StoreError};
use hashbrown::HashSet;
use std::any::Any;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// A value with a score.
pub trait Ranked: StoreValue + Default {
    /// What a score depends on besides value and tick.
    type Rule: Copy + PartialEq + Send;
    /// Its score at a tick; None where it has no place.
    fn score(&self, rule: Self::Rule, tick: i64) -> Option<i64>;
    /// The first tick after `tick` at which it may have another score though nobody wrote it; None where nothing of it
    /// counts at `tick` or later, so that it can be forgotten.
    fn next_tick(&self, rule: Self::Rule, tick: i64) -> Option<i64>;
    /// Whether it is as if it had never been written.
    fn is_empty(&self) -> bool;
    /// Appends what [`Ranked::apply`] makes this value of `before` with: what the changelog holds.
    fn difference(&self, before: &Self, items: &mut Vec<u64>);
    /// Applies a difference; false where it is none.
    fn apply(&mut self, items: &[u64]) -> bool;
}

/// Where a key stands in the order.
#[derive(Clone, Copy, PartialEq)]
struct Standing {
    score: Option<i64>,
    next_tick: Option<i64>,
}

impl Standing {
    const NOWHERE: Self = Self { score: None, next_tick: None };

    fn of<V: Ranked>(value: Option<&V>, rule: V::Rule, tick: i64) -> Self {
        value.map_or(Self::NOWHERE, |value| Self {
            score: value.score(rule, tick),
            next_tick: value.next_tick(rule, tick),
        })
    }
}

/// By score descending, then by key ascending.
type Place<K> = (Reverse<i64>, K);

/// The keys in order, as of a tick. Every key stands where [`Standing::of`] its value at that tick says.
struct Order<K: StoreKey, R> {
    rule: R,
    tick: i64,
    places: BTreeSet<Place<K>>,
    /// When to look again at whom. None of the sets is empty.
    due: BTreeMap<i64, HashSet<K, K::Hasher>>,
    /// The last place of the top as it was last read; None while every place belongs to it.
    cutoff: Option<Place<K>>,
    /// Something in the top has changed since it was last read.
    touched: bool,
}

impl<K: StoreKey + Ord, R> Order<K, R> {
    fn place(&mut self, key: &K, from: Standing, to: Standing) {
        if from.score != to.score {
            if let Some(score) = from.score {
                let place = (Reverse(score), key.clone());
                self.touch(&place);
                self.places.remove(&place);
            }
            if let Some(score) = to.score {
                let place = (Reverse(score), key.clone());
                self.touch(&place);
                self.places.insert(place);
            }
        }
        if from.next_tick != to.next_tick {
            if let Some(tick) = from.next_tick
                && let Some(keys) = self.due.get_mut(&tick)
            {
                keys.remove(key);
                if keys.is_empty() {
                    self.due.remove(&tick);
                }
            }
            if let Some(tick) = to.next_tick {
                self.due.entry(tick).or_default().insert(key.clone());
            }
        }
    }

    fn touch(&mut self, place: &Place<K>) {
        self.touched |= self.cutoff.as_ref().is_none_or(|cutoff| place <= cutoff);
    }
}

/// See the module.
pub struct RankedStore<K: StoreKey + Ord, V: Ranked> {
    name: String,
    table: Table<K, V>,
    /// None until somebody says which time it is.
    order: Option<Order<K, V::Rule>>,
    /// The tick of the order at the last commit.
    committed_tick: Option<i64>,
    /// Its place among the checkpoint's databases.
    index: usize,
}

impl<K: StoreKey + Ord, V: Ranked> Default for RankedStore<K, V> {
    fn default() -> Self {
        Self { name: String::new(), table: Table::default(), order: None, committed_tick: None, index: 0 }
    }
}

impl<K: StoreKey + Ord, V: Ranked> RankedStore<K, V> {
    /// For [`super::super::topology::StoreSpec::make`].
    pub fn make() -> Box<dyn StateStore> {
        Box::new(Self::default())
    }

    /// Changes the value of a key, or makes one from nothing.
    pub fn modify(&mut self, key: &K, change: impl FnOnce(&mut V)) {
        let from = self.standing(key);
        let slot = self.table.write(key);
        let value = slot.get_or_insert_default();
        change(value);
        let to = self.order.as_ref().map(|order| Standing::of(Some(&*value), order.rule, order.tick));
        if value.is_empty() || to.is_some_and(|to| to.next_tick.is_none()) {
            *slot = None;
        }
        if let (Some(order), Some(to)) = (&mut self.order, to) {
            order.place(key, from, to);
        }
    }

    /// Time is at `tick` now. What lies behind is forgotten, also from the state.
    ///
    /// Costs what is due until then: a look and two moves for each key whose score changes by itself.
    pub fn advance(&mut self, rule: V::Rule, tick: i64) {
        match &self.order {
            Some(order) if order.rule == rule && order.tick == tick => {}
            Some(order) if order.rule == rule && order.tick < tick => self.age(tick),
            // The first time, or the first since a transaction that had moved the clock was taken back.
            _ => self.rebuild(rule, tick),
        }
    }

    /// The first `n` with their scores, once something among them may have changed since the last call. Always None
    /// before [`RankedStore::advance`].
    pub fn take_top(&mut self, n: usize) -> Option<Vec<(K, i64)>> {
        let order = self.order.as_mut().filter(|order| order.touched)?;
        order.touched = false;
        let top: Vec<_> = order.places.iter().take(n).map(|(Reverse(score), key)| (key.clone(), *score)).collect();
        let last = top.last().filter(|_| top.len() == n);
        order.cutoff = last.map(|(key, score)| (Reverse(*score), key.clone()));
        Some(top)
    }

    fn standing(&self, key: &K) -> Standing {
        match &self.order {
            Some(order) => Standing::of(self.table.get(key).flatten(), order.rule, order.tick),
            None => Standing::NOWHERE,
        }
    }

    fn age(&mut self, tick: i64) {
        let Some(order) = &mut self.order else { return };
        let due: usize = order.due.range(..=tick).map(|(_, keys)| keys.len()).sum();
        if due > self.table.len() / 4 {
            // Sorting all of them at once is cheaper than moving so many one by one.
            let rule = order.rule;
            return self.rebuild(rule, tick);
        }
        let before = std::mem::replace(&mut order.tick, tick);
        let keys: Vec<K> = order.due.range(..=tick).flat_map(|(_, keys)| keys.iter().cloned()).collect();
        for key in keys {
            let value = self.table.get(&key).flatten();
            let from = Standing::of(value, order.rule, before);
            let to = Standing::of(value, order.rule, tick);
            order.place(&key, from, to);
            if to.next_tick.is_none() {
                *self.table.write(&key) = None;
            }
        }
    }

    fn rebuild(&mut self, rule: V::Rule, tick: i64) {
        let (mut places, mut gone) = (Vec::new(), Vec::new());
        let mut due: BTreeMap<i64, HashSet<K, K::Hasher>> = BTreeMap::new();
        for (key, value) in self.table.iter() {
            match Standing::of(Some(value), rule, tick) {
                Standing { next_tick: None, .. } => gone.push(key.clone()),
                Standing { next_tick: Some(next), score } => {
                    due.entry(next).or_default().insert(key.clone());
                    places.extend(score.map(|score| (Reverse(score), key.clone())));
                }
            }
        }
        for key in gone {
            *self.table.write(&key) = None;
        }
        places.sort_unstable();
        let places = BTreeSet::from_iter(places);
        self.order = Some(Order { rule, tick, places, due, cutoff: None, touched: true });
    }
}

impl<K: StoreKey + Ord, V: Ranked> StateStore for RankedStore<K, V> {
    fn open(&mut self, name: &str, index: usize, behind: Option<Arc<Checkpoint>>) -> Result<(), StoreError> {
        self.name = name.to_owned();
        self.index = index;
        let Some(checkpoint) = behind else { return Ok(()) };
        let table = &mut self.table;
        checkpoint.scan(index, Bound::Unbounded, usize::MAX, |key, value| {
            let key = K::decode(key).ok_or_else(|| corrupt(name, "a key"))?;
            table.load(key, V::decode(value).ok_or_else(|| corrupt(name, "a value"))?);
            Ok(())
        })?;
        Ok(())
    }

    fn write_changes(&mut self, out: &mut ChangelogWriter) {
        out.begin(&self.name);
        let (mut key_bytes, mut items, nothing) = (Vec::new(), Vec::new(), V::default());
        for (key, before, now) in self.table.differences() {
            key_bytes.clear();
            key.encode(&mut key_bytes);
            match (before, now) {
                (None, None) => {}
                (Some(_), None) => out.delete(&key_bytes),
                (_, Some(now)) => {
                    items.clear();
                    now.difference(before.unwrap_or(&nothing), &mut items);
                    if !items.is_empty() {
                        out.delta(&key_bytes, items.iter().copied());
                    }
                }
            }
        }
    }

    fn has_changes(&self) -> bool {
        self.table.has_changes()
    }

    fn commit(&mut self) {
        self.table.commit();
        self.committed_tick = self.order.as_ref().map(|order| order.tick);
    }

    fn rollback(&mut self) {
        if self.order.as_ref().map(|order| order.tick) != self.committed_tick {
            self.order = None;
        }
        let moved: Vec<_> = self.table.changes().map(|(key, _)| (key.clone(), self.standing(key))).collect();
        self.table.rollback();
        for (key, from) in moved {
            let to = self.standing(&key);
            if let Some(order) = &mut self.order {
                order.place(&key, from, to);
            }
        }
        if let Some(order) = &mut self.order {
            // Whoever read the top in this transaction has forgotten it.
            (order.touched, order.cutoff) = (true, None);
        }
    }

    fn restore(&mut self, entry: &ChangelogEntry<'_>) -> Result<(), StoreError> {
        self.order = None;
        let key = |key: &[u8]| K::decode(key).ok_or_else(|| corrupt(&self.name, "a key"));
        match entry {
            ChangelogEntry::Delete { key: bytes } => *self.table.write(&key(bytes)?) = None,
            ChangelogEntry::Delta { key: bytes, items } => {
                let key = key(bytes)?;
                let (items, rest) = items.as_chunks::<8>();
                let items: Vec<u64> = items.iter().map(|item| u64::from_le_bytes(*item)).collect();
                let applied = self.table.write(&key).get_or_insert_default().apply(&items);
                if !applied || !rest.is_empty() {
                    return Err(corrupt(&self.name, "a difference"));
                }
            }
            other => return Err(corrupt(&self.name, format!("a ranked store has no {other:?}"))),
        }
        Ok(())
    }

    fn checkpoint(&mut self, out: &mut CheckpointWriter<'_>) -> Result<(), StoreError> {
        out.begin(self.index);
        let mut value_bytes = Vec::new();
        let stored_key = |key: &K, _: Option<&V>| {
            let mut bytes = Vec::new();
            key.encode(&mut bytes);
            bytes
        };
        self.table.checkpoint(stored_key, |key, value| match value {
            Some(value) => {
                value_bytes.clear();
                value.encode(&mut value_bytes);
                out.put(key, &value_bytes)
            }
            None => out.delete(key),
        })
    }

    fn hydrate(&mut self, _entries_max: usize) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn take_fault(&mut self) -> Option<StoreError> {
        None
    }

    fn len(&self) -> usize {
        self.table.len()
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

#[cfg(test)]
#[path = "ranked_tests.rs"]
mod tests;
