//! A store of values that have a score, in the order of their scores: the top of each group of keys is at hand at any time.
//!
//! A score changes with its value, and by itself as time passes, in ticks. The order is of one tick;
//! [`RankedStore::advance`] takes it to another. It is derived from the values alone, so it is never written: after a
//! restart it is made anew. For that all values are in memory, from the moment the store is opened.

use super::changelog::{ChangelogEntry, ChangelogWriter};
use super::checkpoint::{Checkpoint, CheckpointWriter};
use super::codec::{StoreKey, StoreValue};
use super::key_value::{StorePlace, corrupt};
use super::order::{Order, Standing};
use super::table::Table;
use super::{StateStore, StoreError};
use std::ops::Bound;
use std::sync::Arc;

/// A value with a score.
pub trait Ranked: StoreValue + Default {
    /// What a score depends on besides value and tick.
    type Rule: Copy + PartialEq + Send;
    /// Its score at a tick; None where it has no place.
    fn score(&self, rule: Self::Rule, tick: i64) -> Option<i128>;
    /// The first tick after `tick` at which it may have another score though nobody wrote it; None where nothing of it
    /// counts at `tick` or later, so that it can be forgotten.
    fn next_tick(&self, rule: Self::Rule, tick: i64) -> Option<i64>;
    /// Whether every value has another score at every tick.
    fn ages_each_tick(rule: Self::Rule) -> bool;
    /// Whether it is as if it had never been written.
    fn is_empty(&self) -> bool;
    /// Appends what [`Ranked::apply`] makes this value of `before` with: what the changelog holds.
    fn difference(&self, before: &Self, items: &mut Vec<u64>);
    /// Applies a difference; false where it is none.
    fn apply(&mut self, items: &[u64]) -> bool;
}

/// A key of a ranked store. Each group of keys has an order of its own.
pub trait RankedKey: StoreKey + Ord {
    /// Its group.
    fn group(&self) -> &str;
}

/// What stands before the first NUL; where there is none, all are of the group with the empty name.
impl RankedKey for Arc<str> {
    fn group(&self) -> &str {
        self.split_once('\0').map_or("", |(group, _)| group)
    }
}

/// See the module.
pub struct RankedStore<K: RankedKey, V: Ranked> {
    place: StorePlace,
    table: Table<K, V>,
    /// None until somebody says which time it is.
    order: Option<Order<K, V>>,
    /// The tick of the order at the last commit.
    committed_tick: Option<i64>,
}

impl<K: RankedKey, V: Ranked> Default for RankedStore<K, V> {
    fn default() -> Self {
        Self { place: StorePlace::default(), table: Table::default(), order: None, committed_tick: None }
    }
}

impl<K: RankedKey, V: Ranked> RankedStore<K, V> {
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
            _ => self.rebuild(rule, tick, 0),
        }
    }

    /// The first `n` of a group with their scores, once something among them may have changed since the last call.
    /// Always None before [`RankedStore::advance`].
    pub fn take_top(&mut self, group: &str, n: usize) -> Option<Vec<(K, i128)>> {
        let order = self.order.as_ref()?;
        if order.is_short(group, n) {
            let (rule, tick) = (order.rule, order.tick);
            self.rebuild(rule, tick, n);
        }
        self.order.as_mut()?.take_top(group, n)
    }

    fn standing(&self, key: &K) -> Standing {
        match &self.order {
            Some(order) => Standing::of(self.table.get(key).flatten(), order.rule, order.tick),
            None => Standing::NOWHERE,
        }
    }

    fn age(&mut self, tick: i64) {
        let Some(order) = &mut self.order else { return };
        let rule = order.rule;
        if V::ages_each_tick(rule) || order.due_until(tick) > self.table.len() / 4 {
            // Looking at all of them at once is cheaper than moving so many one by one.
            return self.rebuild(rule, tick, 0);
        }
        let keys = order.take_due(tick);
        let before = std::mem::replace(&mut order.tick, tick);
        for key in keys {
            let value = self.table.get(&key).flatten();
            let (from, to) = (Standing::of(value, rule, before), Standing::of(value, rule, tick));
            order.place(&key, from, to);
            if to.next_tick.is_none() {
                *self.table.write(&key) = None;
            }
        }
    }

    fn rebuild(&mut self, rule: V::Rule, tick: i64, head: usize) {
        let mut gone = Vec::new();
        let standings = self.table.iter().filter_map(|(key, value)| {
            let standing = Standing::of(Some(value), rule, tick);
            if standing.next_tick.is_none() {
                gone.push(key.clone());
            }
            standing.next_tick.is_some().then(|| (key.clone(), standing))
        });
        self.order = Some(Order::new(rule, tick, head, standings));
        for key in gone {
            *self.table.write(&key) = None;
        }
    }
}

impl<K: RankedKey, V: Ranked> StateStore for RankedStore<K, V> {
    fn open(&mut self, name: &str, index: usize, behind: Option<Arc<Checkpoint>>) -> Result<(), StoreError> {
        self.place = StorePlace::new(name, index);
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
        out.begin(&self.place.name);
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
            // That of this transaction.
            order.touch_all();
        }
    }

    fn restore(&mut self, entry: &ChangelogEntry<'_>) -> Result<(), StoreError> {
        self.order = None;
        let key = |key: &[u8]| K::decode(key).ok_or_else(|| corrupt(&self.place.name, "a key"));
        match entry {
            ChangelogEntry::Delete { key: bytes } => *self.table.write(&key(bytes)?) = None,
            ChangelogEntry::Delta { key: bytes, items } => {
                let key = key(bytes)?;
                let (items, rest) = items.as_chunks::<8>();
                let items: Vec<u64> = items.iter().map(|item| u64::from_le_bytes(*item)).collect();
                let applied = self.table.write(&key).get_or_insert_default().apply(&items);
                if !applied || !rest.is_empty() {
                    return Err(corrupt(&self.place.name, "a difference"));
                }
            }
            other => return Err(corrupt(&self.place.name, format!("a ranked store has no {other:?}"))),
        }
        Ok(())
    }

    fn checkpoint(&self, out: &mut CheckpointWriter<'_>) -> Result<(), StoreError> {
        self.table.checkpoint_values(self.place.index, out)
    }

    fn checkpointed(&mut self) {
        self.table.checkpointed();
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
}

#[cfg(test)]
#[path = "ranked_tests.rs"]
mod tests;
