//! A store of values that have a score, in the order of their scores: it returns the top of each group of keys at any time.
//!
//! A score changes with its value, and by itself as time passes, in ticks. The order is that of one tick;
//! [`RankedStore::advance`] moves it to another. It is derived from the values, and the changelog lacks it. The checkpoint
//! has it too: what is in memory are the first of each group ([`Order`]), and what has changed since ([`Places`]).

use super::changelog::{ChangelogEntry, ChangelogWriter, read_items};
use super::checkpoint::{Checkpoint, CheckpointWriter};
use super::codec::StoreValue;
use super::entries::Entries;
use super::kind::StoreKind;
use super::order::{Heads, Order};
use super::places::{self, Places, WholeOrder};
use super::rank::{Ranked, RankedKey, Standing};
use super::{StateStore, StoreError};
use std::sync::Arc;

/// See the module.
pub struct RankedStore<K: RankedKey, V: Ranked> {
    entries: Entries<K, V>,
    /// None before the first [`RankedStore::advance`], if the checkpoint has no order.
    order: Option<Order<K, V>>,
    places: Places<K>,
    /// The tick of the order at the last commit.
    committed_tick: Option<i64>,
}

impl<K: RankedKey, V: Ranked> Default for RankedStore<K, V> {
    fn default() -> Self {
        Self { entries: Entries::default(), order: None, places: Places::default(), committed_tick: None }
    }
}

impl<K: RankedKey, V: Ranked> RankedStore<K, V> {
    /// For [`super::super::topology::StoreSpec::make`].
    pub fn make() -> Box<dyn StateStore> {
        Box::new(Self::default())
    }

    /// Changes the value of a key; begins with a default one.
    pub fn modify(&mut self, key: &K, change: impl FnOnce(&mut V)) {
        let order = self.order.as_ref().map(|order| (order.rule, order.tick));
        let slot = self.write(key);
        let value = slot.get_or_insert_default();
        change(value);
        if value.is_empty() || order.is_some_and(|(rule, tick)| value.next_tick(rule, tick).is_none()) {
            *slot = None;
        }
    }

    /// The value of a key, to be changed.
    fn write(&mut self, key: &K) -> &mut Option<V> {
        let found = self.entries.find(key);
        if let Some(order) = &self.order {
            let entries = &self.entries;
            self.places.wait(key, || Standing::of(entries.at(found, key), order.rule, order.tick));
        }
        self.entries.write_at(found, key)
    }

    /// Brings the order up to date with the values.
    fn place(&mut self) {
        let Some(order) = &mut self.order else { return };
        let (table, rule, tick) = (&self.entries.table, order.rule, order.tick);
        let standing = |key: &K| Standing::of(table.get(key).flatten(), rule, tick);
        self.places.place(standing, |key, from, to| order.place(key, from, to));
    }

    /// Moves the order to `tick`, and removes keys of which nothing counts any more, from the state too.
    ///
    /// The cost is one look-up and two moves for each key whose standing changes by itself until then. If the rule is
    /// another one, or the tick an earlier one, all values are read. If any cannot be read: see
    /// [`StateStore::take_fault`].
    pub fn advance(&mut self, rule: V::Rule, tick: i64) {
        let from = self.order.as_ref().filter(|order| order.rule == rule).map(|order| order.tick);
        if from == Some(tick) {
            return;
        }
        self.place();
        let moved = match from {
            Some(from) if from < tick && self.places.is_whole() => self.age(tick),
            _ => self.begin(rule, tick),
        };
        if let Err(fault) = moved {
            self.entries.fail(fault);
        }
    }

    /// The first `n` of a group with their scores; None if none of them can have changed since the last call, and before
    /// the first [`RankedStore::advance`]. None also if they cannot be read: see [`StateStore::take_fault`].
    pub fn take_top(&mut self, group: &str, n: usize) -> Option<Vec<(K, i128)>> {
        self.place();
        if self.order.as_ref()?.is_short(group, n)
            && let Err(fault) = self.fill(n)
        {
            self.entries.fail(fault);
            return None;
        }
        self.order.as_mut()?.take_top(group, n)
    }

    /// Fills the heads with at least `n` places.
    fn fill(&mut self, n: usize) -> Result<(), StoreError> {
        let Some(order) = &mut self.order else { return Ok(()) };
        if !self.places.is_whole() {
            return self.rebuild(n);
        }
        let are_tied = V::ages_each_tick(order.rule);
        order.heads = Some(self.places.heads(n, are_tied, |rank| order.score(rank))?);
        Ok(())
    }

    /// Begins another order.
    fn begin(&mut self, rule: V::Rule, tick: i64) -> Result<(), StoreError> {
        self.order = Some(Order::new(rule, tick));
        self.places.begin(self.entries.is_empty());
        if self.places.is_whole() { Ok(()) } else { self.rebuild(0) }
    }

    /// Reads all values: fills the heads with at least `n` places, and removes keys of which nothing counts any more.
    fn rebuild(&mut self, n: usize) -> Result<(), StoreError> {
        let Some(order) = &mut self.order else { return Ok(()) };
        let (mut heads, mut over) = (Heads::new(n), Vec::new());
        let mut each = |key: &K, value: &V| {
            let Standing { rank, next_tick } = Standing::of(Some(value), order.rule, order.tick);
            if next_tick.is_none() {
                over.push(key.clone());
            } else if let Some(score) = rank.and_then(|rank| order.score(rank)) {
                heads.offer(key.clone(), score);
            }
        };
        self.entries.table.iter().for_each(|(key, value)| each(key, value));
        let mut cursor = None;
        while self.entries.read_behind(&mut cursor, None, |key, value| each(&key, &value))? {}
        order.heads = Some(heads);
        for key in over {
            *self.entries.write(&key) = None;
        }
        Ok(())
    }

    /// Moves the order to a later tick.
    fn age(&mut self, tick: i64) -> Result<(), StoreError> {
        let Some(order) = &mut self.order else { return Ok(()) };
        let (rule, before) = (order.rule, order.tick);
        if V::ages_each_tick(rule) {
            order.heads = None;
        }
        while let Some((due, key)) = self.places.first_due(tick)? {
            let found = self.entries.find(&key);
            let value = self.entries.at(found, &key);
            let to = Standing::of(value, rule, tick);
            let from = self.places.place_due(&key, || Standing::of(value, rule, before), to);
            if from.next_tick != Some(due) || to.next_tick.is_some_and(|next| next <= tick) {
                return Err(self.entries.corrupt("the tick of a value"));
            }
            order.place(&key, from.rank, to.rank);
            if to.next_tick.is_none() {
                *self.entries.write_at(found, &key) = None;
            }
        }
        order.tick = tick;
        Ok(())
    }

    /// What a checkpoint has of the order beside its places: the tick (i64 LE), then the rule. Empty without an order.
    fn mark(&self) -> Vec<u8> {
        let mut mark = Vec::new();
        if let Some(order) = &self.order {
            order.tick.encode(&mut mark);
            order.rule.encode(&mut mark);
        }
        mark
    }

    /// Writes all places.
    fn write_order(&self, order: &Order<K, V>, out: &mut CheckpointWriter<'_>) -> Result<(), StoreError> {
        let standing = |value: &V| Standing::of(Some(value), order.rule, order.tick);
        let mut whole = WholeOrder::begin(self.entries.index(), out)?;
        for (key, value) in self.entries.table.iter() {
            whole.add(key, standing(value))?;
        }
        let (mut cursor, mut more, mut read) = (None, true, Vec::new());
        while more {
            let each = |key, value: V| read.push((key, standing(&value)));
            more = self.entries.read_behind(&mut cursor, Some(whole.out()), each)?;
            read.drain(..).try_for_each(|(key, standing)| whole.add(&key, standing))?;
        }
        whole.end(&self.mark())
    }
}

impl<K: RankedKey, V: Ranked> StoreKind for RankedStore<K, V> {
    type Key = K;
    type Entry = V;

    fn entries(&self) -> &Entries<K, V> {
        &self.entries
    }

    fn entries_mut(&mut self) -> &mut Entries<K, V> {
        &mut self.entries
    }

    fn open_entries(&mut self, name: &str, index: usize, behind: Option<Arc<Checkpoint>>) -> Result<(), StoreError> {
        self.entries.open(name, index, behind.clone())?;
        let mark = self.places.open(name, index, behind)?.split_first_chunk();
        let order = mark.and_then(|(tick, rule)| Some((V::Rule::decode(rule)?, i64::from_le_bytes(*tick))));
        match order {
            Some((rule, tick)) if self.places.is_whole() => {
                self.order = Some(Order::new(rule, tick));
                self.committed_tick = Some(tick);
            }
            _ => self.places.begin(false),
        }
        Ok(())
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
        match entry {
            ChangelogEntry::Delta { key, items } => {
                let key = K::decode(key).ok_or_else(|| self.entries.corrupt("a key"))?;
                let value = self.write(&key).get_or_insert_default();
                let applied = read_items(items).is_some_and(|items| value.apply(&items));
                if applied { Ok(()) } else { Err(self.entries.corrupt("a difference")) }
            }
            entry => {
                let (key, value) = self.entries.read_value(entry)?;
                *self.write(&key) = value;
                Ok(())
            }
        }
    }

    fn committed(&mut self) {
        self.place();
        self.places.commit();
        self.committed_tick = self.order.as_ref().map(|order| order.tick);
    }

    fn undo(&mut self) {
        match (&mut self.order, self.committed_tick) {
            (Some(order), Some(tick)) if self.places.is_whole() => {
                self.places.rollback(|key, from, to| order.place(key, from, to));
                if order.tick != tick {
                    (order.tick, order.heads) = (tick, None);
                }
                // The tops that were read belong to this transaction.
                order.touch_all();
            }
            _ => {
                (self.order, self.committed_tick) = (None, None);
                self.places.begin(false);
            }
        }
        self.entries.rollback();
    }

    fn write_checkpoint(&self, out: &mut CheckpointWriter<'_>) -> Result<(), StoreError> {
        match &self.order {
            Some(_) if self.places.is_whole() => {
                self.entries.checkpoint(out)?;
                self.places.checkpoint(&self.mark(), out)
            }
            Some(order) => {
                // First, since it reads the entries of the last checkpoint.
                self.write_order(order, out)?;
                self.entries.checkpoint(out)
            }
            None => {
                self.entries.checkpoint(out)?;
                places::delete(out)
            }
        }
    }

    fn checkpoint_written(&mut self, checkpoint: &Arc<Checkpoint>) {
        self.committed();
        self.entries.checkpointed();
        if self.order.is_some()
            && let Err(fault) = self.places.checkpointed(self.mark(), checkpoint)
        {
            self.entries.fail(fault);
        }
    }

    fn order_bytes(&self) -> usize {
        self.places.memory_bytes() + self.order.as_ref().map_or(0, Order::memory_bytes)
    }
}

#[cfg(test)]
#[path = "ranked_tests.rs"]
mod tests;
