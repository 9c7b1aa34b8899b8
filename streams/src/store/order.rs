//! The order of a ranked store: the first keys of each group by score, and when scores change by themselves.
//!
//! Readers want the first few of many. So only the head of each group is kept in order: all places up to a floor. Places
//! below the floor cost nothing until the head has become too short; then all scores are computed again.

use super::codec::{StoreKey, StoreValue};
use hashbrown::{HashMap, HashSet};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Places of a new head. A head that has grown to four times as many is cut to twice as many.
#[cfg(not(test))]
pub(super) const HEAD: usize = 4_096;
/// So short in tests that all of them reach its end.
#[cfg(test)]
pub(super) const HEAD: usize = 3;

/// A value with a score.
pub trait Ranked: StoreValue + Default {
    /// The parameters of a score besides value and tick.
    type Rule: Copy + PartialEq + Send;
    /// Its score at a tick; None if it has no place.
    fn score(&self, rule: Self::Rule, tick: i64) -> Option<i128>;
    /// The first tick after `tick` at which its score may change without a write; None if nothing of it counts at `tick`
    /// or later, so that the key can be removed.
    fn next_tick(&self, rule: Self::Rule, tick: i64) -> Option<i64>;
    /// Whether every value has another score at every tick.
    fn ages_each_tick(rule: Self::Rule) -> bool;
    /// Whether it equals a value that was never written.
    fn is_empty(&self) -> bool;
    /// Appends the difference that [`Ranked::apply`] turns `before` into this value with: the changelog holds it.
    fn difference(&self, before: &Self, items: &mut Vec<u64>);
    /// Applies a difference; false if it is invalid.
    fn apply(&mut self, items: &[u64]) -> bool;
}

/// A key of a ranked store. Each group of keys has an order of its own.
pub trait RankedKey: StoreKey + Ord {
    /// Its group.
    fn group(&self) -> &str;
}

/// The group is the text before the first NUL; without a NUL, the empty name.
impl RankedKey for Arc<str> {
    fn group(&self) -> &str {
        self.split_once('\0').map_or("", |(group, _)| group)
    }
}

/// The score of a key, and the tick at which it may change by itself.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Standing {
    pub score: Option<i128>,
    pub next_tick: Option<i64>,
}

impl Standing {
    pub const NOWHERE: Self = Self { score: None, next_tick: None };

    pub fn of<V: Ranked>(value: Option<&V>, rule: V::Rule, tick: i64) -> Self {
        value.map_or(Self::NOWHERE, |value| Self {
            score: value.score(rule, tick),
            next_tick: value.next_tick(rule, tick),
        })
    }
}

/// By score descending, then by key ascending.
type Place<K> = (Reverse<i128>, K);

/// The keys of one group.
struct Group<K> {
    /// The head: every place up to the floor.
    head: BTreeSet<Place<K>>,
    /// The last place of the head as it was made; None while every place belongs to it.
    floor: Option<Place<K>>,
    /// The last place of the top as it was last read; None while every place belongs to it.
    cutoff: Option<Place<K>>,
    /// Whether the top may have changed since it was last read.
    touched: bool,
}

impl<K> Default for Group<K> {
    fn default() -> Self {
        Self { head: BTreeSet::new(), floor: None, cutoff: None, touched: true }
    }
}

impl<K: Ord + Clone> Group<K> {
    fn is_above(line: &Option<Place<K>>, place: &Place<K>) -> bool {
        line.as_ref().is_none_or(|line| place <= line)
    }

    fn remove(&mut self, place: &Place<K>) {
        self.touched |= Self::is_above(&self.cutoff, place);
        self.head.remove(place);
    }

    fn insert(&mut self, place: Place<K>) {
        self.touched |= Self::is_above(&self.cutoff, &place);
        if !Self::is_above(&self.floor, &place) {
            return;
        }
        self.head.insert(place);
        if self.head.len() >= 4 * HEAD {
            while self.head.len() > 2 * HEAD {
                self.head.pop_last();
            }
            self.floor = self.head.last().cloned();
        }
    }

    /// The first of all places.
    fn fill(&mut self, mut places: Vec<Place<K>>, head: usize) {
        if places.len() > head {
            places.select_nth_unstable(head);
            places.truncate(head);
            self.floor = places.iter().max().cloned();
        }
        places.sort_unstable();
        self.head = BTreeSet::from_iter(places);
    }
}

/// The keys in order, as of a tick. Every key has the place of [`Standing::of`] its value at that tick.
pub(super) struct Order<K: StoreKey, V: Ranked> {
    pub rule: V::Rule,
    pub tick: i64,
    groups: HashMap<String, Group<K>, ahash::RandomState>,
    /// The keys to check again, by tick; empty if every tick changes all keys. None of the sets is empty.
    due: BTreeMap<i64, HashSet<K, K::Hasher>>,
}

impl<K: RankedKey, V: Ranked> Order<K, V> {
    /// The order of all keys with their standings at a tick. Heads have at least `head` places, or all keys if there
    /// are fewer.
    pub fn new(rule: V::Rule, tick: i64, head: usize, keys: impl Iterator<Item = (K, Standing)>) -> Self {
        let mut order = Self { rule, tick, groups: HashMap::default(), due: BTreeMap::new() };
        let mut places: HashMap<String, Vec<Place<K>>, ahash::RandomState> = HashMap::default();
        for (key, Standing { score, next_tick }) in keys {
            if let Some(score) = score {
                places.entry_ref(key.group()).or_default().push((Reverse(score), key.clone()));
            }
            if let Some(tick) = next_tick.filter(|_| !V::ages_each_tick(rule)) {
                order.due.entry(tick).or_default().insert(key);
            }
        }
        for (group, places) in places {
            order.groups.entry(group).or_default().fill(places, head.max(HEAD));
        }
        order
    }

    pub fn place(&mut self, key: &K, from: Standing, to: Standing) {
        if from.score != to.score {
            let group = self.groups.entry_ref(key.group()).or_default();
            if let Some(score) = from.score {
                group.remove(&(Reverse(score), key.clone()));
            }
            if let Some(score) = to.score {
                group.insert((Reverse(score), key.clone()));
            }
        }
        if from.next_tick != to.next_tick && !V::ages_each_tick(self.rule) {
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

    /// How many keys have another standing at `tick`.
    pub fn due_until(&self, tick: i64) -> usize {
        self.due.range(..=tick).map(|(_, keys)| keys.len()).sum()
    }

    /// Removes and returns those keys; [`Order::place`] sets when they are due next.
    pub fn take_due(&mut self, tick: i64) -> Vec<K> {
        self.due.extract_if(..=tick, |_, _| true).flat_map(|(_, keys)| keys).collect()
    }

    /// Whether the first `n` of a group are unknown: its head is shorter, and there may be more below the floor.
    pub fn is_short(&self, group: &str, n: usize) -> bool {
        self.groups.get(group).is_some_and(|group| group.touched && group.floor.is_some() && group.head.len() < n)
    }

    /// The first `n` of a group, once something among them may have changed since the last call.
    pub fn take_top(&mut self, group: &str, n: usize) -> Option<Vec<(K, i128)>> {
        let group = self.groups.entry_ref(group).or_default();
        if !std::mem::take(&mut group.touched) {
            return None;
        }
        let top: Vec<_> = group.head.iter().take(n).map(|(Reverse(score), key)| (key.clone(), *score)).collect();
        let last = top.last().filter(|_| top.len() == n);
        group.cutoff = last.map(|(key, score)| (Reverse(*score), key.clone()));
        Some(top)
    }

    /// Marks all tops as changed: earlier reads of them are invalid.
    pub fn touch_all(&mut self) {
        for group in self.groups.values_mut() {
            (group.touched, group.cutoff) = (true, None);
        }
    }
}
