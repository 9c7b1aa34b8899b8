//! A store of values that have a score, in the order of their scores: it returns the top of each group of keys at any time.
//!
//! A score changes with its value, and by itself as time passes, in ticks. The order is that of one tick;
//! [`RankedStore::advance`] moves it to another. It is derived from the values and never written: it is rebuilt after a
//! restart. Opening the store therefore loads all values into memory.

use super::changelog::{ChangelogEntry, ChangelogWriter, read_items};
use super::entries::Entries;
use super::kind::StoreKind;
use super::order::{Order, Ranked, RankedKey, Standing};
use super::{StateStore, StoreError};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

/// See the module.
pub struct RankedStore<K: RankedKey, V: Ranked> {
    entries: Entries<K, V>,
    /// None before the first [`RankedStore::advance`].
    order: Option<Order<K, V>>,
    /// Keys that have changed since the order was last read, with the standing that it has of them: a key that changes
    /// often is placed once.
    unplaced: HashMap<K, Standing, K::Hasher>,
    /// The tick of the order at the last commit.
    committed_tick: Option<i64>,
}

impl<K: RankedKey, V: Ranked> Default for RankedStore<K, V> {
    fn default() -> Self {
        Self { entries: Entries::default(), order: None, unplaced: HashMap::default(), committed_tick: None }
    }
}

impl<K: RankedKey, V: Ranked> RankedStore<K, V> {
    /// For [`super::super::topology::StoreSpec::make`].
    pub fn make() -> Box<dyn StateStore> {
        Box::new(Self::default())
    }

    /// Changes the value of a key; begins with a default one.
    pub fn modify(&mut self, key: &K, change: impl FnOnce(&mut V)) {
        let found = self.entries.find(key);
        if let Some(order) = &self.order
            && let Entry::Vacant(unplaced) = self.unplaced.entry(key.clone())
        {
            unplaced.insert(Standing::of(self.entries.at(found, key), order.rule, order.tick));
        }
        let slot = self.entries.write_at(found, key);
        let value = slot.get_or_insert_default();
        change(value);
        let is_over = |order: &Order<K, V>| value.next_tick(order.rule, order.tick).is_none();
        if value.is_empty() || self.order.as_ref().is_some_and(is_over) {
            *slot = None;
        }
    }

    /// Brings the order up to date with the values.
    fn place(&mut self) {
        let Some(order) = &mut self.order else { return };
        for (key, from) in self.unplaced.drain() {
            let to = Standing::of(self.entries.table.get(&key).flatten(), order.rule, order.tick);
            order.place(&key, from, to);
        }
    }

    /// Moves the order to `tick`, and removes keys of which nothing counts any more, from the state too.
    ///
    /// The cost is one look-up and two moves for each key whose score changes by itself until then.
    pub fn advance(&mut self, rule: V::Rule, tick: i64) {
        match &self.order {
            Some(order) if order.rule == rule && order.tick == tick => {}
            Some(order) if order.rule == rule && order.tick < tick => {
                self.place();
                self.age(tick);
            }
            // The first call, or the first since a rollback of a transaction that had moved the clock.
            _ => self.rebuild(rule, tick, 0),
        }
    }

    /// The first `n` of a group with their scores; None if none of them can have changed since the last call, and before
    /// the first [`RankedStore::advance`].
    pub fn take_top(&mut self, group: &str, n: usize) -> Option<Vec<(K, i128)>> {
        self.place();
        let order = self.order.as_ref()?;
        if order.is_short(group, n) {
            let (rule, tick) = (order.rule, order.tick);
            self.rebuild(rule, tick, n);
        }
        self.order.as_mut()?.take_top(group, n)
    }

    fn forget_order(&mut self) {
        self.order = None;
        self.unplaced.clear();
    }

    fn standing(&self, key: &K) -> Standing {
        match &self.order {
            Some(order) => Standing::of(self.entries.table.get(key).flatten(), order.rule, order.tick),
            None => Standing::NOWHERE,
        }
    }

    fn age(&mut self, tick: i64) {
        let Some(order) = &mut self.order else { return };
        let rule = order.rule;
        if V::ages_each_tick(rule) || order.due_until(tick) > self.entries.table.len() / 4 {
            // Sorting all of them once is cheaper than moving this many one by one.
            return self.rebuild(rule, tick, 0);
        }
        let keys = order.take_due(tick);
        let before = std::mem::replace(&mut order.tick, tick);
        for key in keys {
            let value = self.entries.table.get(&key).flatten();
            let (from, to) = (Standing::of(value, rule, before), Standing::of(value, rule, tick));
            order.place(&key, from, to);
            if to.next_tick.is_none() {
                *self.entries.write(&key) = None;
            }
        }
    }

    fn rebuild(&mut self, rule: V::Rule, tick: i64, head: usize) {
        let mut gone = Vec::new();
        let standings = self.entries.table.iter().filter_map(|(key, value)| {
            let standing = Standing::of(Some(value), rule, tick);
            if standing.next_tick.is_none() {
                gone.push(key.clone());
            }
            standing.next_tick.is_some().then(|| (key.clone(), standing))
        });
        self.order = Some(Order::new(rule, tick, head, standings));
        self.unplaced.clear();
        for key in gone {
            *self.entries.write(&key) = None;
        }
    }
}

impl<K: RankedKey, V: Ranked> StoreKind for RankedStore<K, V> {
    type Key = K;
    type Entry = V;
    const LOADS_ALL: bool = true;

    fn entries(&self) -> &Entries<K, V> {
        &self.entries
    }

    fn entries_mut(&mut self) -> &mut Entries<K, V> {
        &mut self.entries
    }

    fn write_entries(&self, out: &mut ChangelogWriter) {
        let (mut items, nothing) = (Vec::new(), V::default());
        for (key, before, now) in self.entries.table.differences() {
            let stored_key = |out: &mut Vec<u8>| key.encode(out);
            match (before, now) {
                (None, None) => {}
                (Some(_), None) => out.delete(stored_key),
                (_, Some(now)) => {
                    items.clear();
                    now.difference(before.unwrap_or(&nothing), &mut items);
                    if !items.is_empty() {
                        out.delta(stored_key, items.iter().copied());
                    }
                }
            }
        }
    }

    fn replay(&mut self, entry: &ChangelogEntry<'_>) -> Result<(), StoreError> {
        self.forget_order();
        match entry {
            ChangelogEntry::Delta { key, items } => {
                let key = K::decode(key).ok_or_else(|| self.entries.corrupt("a key"))?;
                let value = self.entries.write(&key).get_or_insert_default();
                let applied = read_items(items).is_some_and(|items| value.apply(&items));
                if applied { Ok(()) } else { Err(self.entries.corrupt("a difference")) }
            }
            entry => self.entries.replay_value(entry),
        }
    }

    fn committed(&mut self) {
        self.committed_tick = self.order.as_ref().map(|order| order.tick);
    }

    fn undo(&mut self) {
        self.place();
        if self.order.as_ref().map(|order| order.tick) != self.committed_tick {
            self.forget_order();
        }
        let changes = self.entries.table.changes();
        let moved: Vec<_> = changes.map(|(key, _)| (key.clone(), self.standing(key))).collect();
        self.entries.rollback();
        for (key, from) in moved {
            let to = self.standing(&key);
            if let Some(order) = &mut self.order {
                order.place(&key, from, to);
            }
        }
        if let Some(order) = &mut self.order {
            // The tops that were read belong to this transaction.
            order.touch_all();
        }
    }
}

#[cfg(test)]
#[path = "ranked_tests.rs"]
mod tests;
