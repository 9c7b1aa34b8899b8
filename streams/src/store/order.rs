//! The order of a ranked store as of a tick: the first keys of each group by score.
//!
//! Readers want the first few of many. So only the head of each group is in memory: all places up to a floor. Places below
//! the floor cost nothing until the head has become too short; then the heads are filled again.

use super::rank::{Rank, Ranked, RankedKey};
use hashbrown::HashMap;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Places of a new head. A head that has grown to four times as many is cut to twice as many.
#[cfg(not(test))]
pub(super) const HEAD: usize = 4_096;
/// So short in tests that all of them reach its end.
#[cfg(test)]
pub(super) const HEAD: usize = 3;

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
}

/// The heads of all groups. A group that it lacks has no places.
pub(super) struct Heads<K> {
    groups: HashMap<String, Group<K>, ahash::RandomState>,
    /// How many places heads get while they are filled.
    places: usize,
}

impl<K: RankedKey> Heads<K> {
    /// Heads that are filled with at least so many places, or all if there are fewer.
    pub fn new(places: usize) -> Self {
        Self { groups: HashMap::default(), places: places.max(HEAD) }
    }

    /// Adds a place while heads are filled.
    pub fn offer(&mut self, key: K, score: i128) -> Offered {
        let group = self.groups.entry_ref(key.group()).or_default();
        let place = (Reverse(score), key);
        let last = group.head.last().filter(|_| group.head.len() >= self.places);
        let offered = match last {
            Some(last) if last.0 < place.0 => Offered::Below,
            Some(last) if *last < place => Offered::Tied,
            _ => Offered::Kept,
        };
        let is_full = last.is_some();
        if offered == Offered::Kept {
            group.head.insert(place);
            if is_full {
                group.head.pop_last();
            }
        }
        if is_full {
            group.floor = group.head.last().cloned();
        }
        offered
    }
}

/// What became of a place that was offered to a head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Offered {
    /// It belongs to it, unless better ones follow.
    Kept,
    /// The head is full of better ones, the last of which has the same score.
    Tied,
    /// The head is full of places with better scores.
    Below,
}

/// The keys in order, as of a tick. Every key has the place of its rank at that tick.
pub(super) struct Order<K, V: Ranked> {
    pub rule: V::Rule,
    pub tick: i64,
    /// None until they are needed.
    pub heads: Option<Heads<K>>,
}

impl<K: RankedKey, V: Ranked> Order<K, V> {
    pub fn new(rule: V::Rule, tick: i64) -> Self {
        Self { rule, tick, heads: None }
    }

    /// The score of a rank.
    pub fn score(&self, rank: Rank) -> Option<i128> {
        V::score(rank, self.rule, self.tick)
    }

    /// The rank of a key has changed.
    pub fn place(&mut self, key: &K, from: Option<Rank>, to: Option<Rank>) {
        let [from, to] = [from, to].map(|rank| self.score(rank?));
        let Some(heads) = &mut self.heads else { return };
        if from == to {
            return;
        }
        let group = heads.groups.entry_ref(key.group()).or_default();
        if let Some(score) = from {
            group.remove(&(Reverse(score), key.clone()));
        }
        if let Some(score) = to {
            group.insert((Reverse(score), key.clone()));
        }
    }

    /// Whether the first `n` of a group are unknown: its head is shorter, and there may be more below the floor.
    pub fn is_short(&self, group: &str, n: usize) -> bool {
        let Some(heads) = &self.heads else { return true };
        heads.groups.get(group).is_some_and(|group| group.touched && group.floor.is_some() && group.head.len() < n)
    }

    /// The first `n` of a group, once something among them may have changed since the last call. Heads are filled.
    pub fn take_top(&mut self, group: &str, n: usize) -> Option<Vec<(K, i128)>> {
        let group = self.heads.as_mut()?.groups.entry_ref(group).or_default();
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
        for group in self.heads.iter_mut().flat_map(|heads| heads.groups.values_mut()) {
            (group.touched, group.cutoff) = (true, None);
        }
    }

    /// How much memory the heads take, about, in bytes. Nodes of the trees are two thirds full.
    pub fn memory_bytes(&self) -> usize {
        let groups = self.heads.iter().flat_map(|heads| heads.groups.values());
        groups.map(|group| group.head.len() * size_of::<Place<K>>() * 3 / 2).sum()
    }
}
