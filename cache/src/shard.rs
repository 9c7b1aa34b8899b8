//! A part of the cache, under one lock.

use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tally_model::{MetricValue, RootPosition};

/// What an entry costs beside its key and its metrics: map, queue, two allocations with their counts.
const ENTRY_BYTES: usize = 160;
/// A metric's shared name and its value. Decimals and texts are a little larger.
const METRIC_BYTES: usize = 32;

/// The totals of a subject, as of one record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CachedCounters {
    /// All totals, ascending by metric. Empty: no event has touched the subject.
    pub counters: Box<[(Arc<str>, MetricValue)]>,
    /// The record's version.
    pub version: i64,
}

/// What was read of a subject in another store.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its totals.
    pub counters: Arc<CachedCounters>,
    /// How far the input is contained in them.
    pub roots: Arc<[RootPosition]>,
    /// Below which offset of the subject's partition every record is contained; None if the store does not report it.
    pub next_offset: Option<u64>,
}

/// What is known of a subject, current or not.
#[derive(Clone, Debug)]
pub enum Known {
    /// As far as the cache's position goes.
    Current(Arc<CachedCounters>),
    /// As it was loaded at some time.
    Former(Loaded),
}

struct Entry {
    state: State,
    /// Whether it was read since the eviction last came by.
    read: AtomicBool,
}

enum State {
    /// It contains every record below the cache's position.
    Complete(Arc<CachedCounters>),
    /// Every record from `since` on will be seen. What was loaded, if anything, lacks some below it.
    Followed { since: u64, loaded: Option<Loaded> },
}

/// Subjects, within a number of bytes.
#[derive(Default)]
pub(crate) struct Shard {
    entries: HashMap<Arc<str>, Entry, ahash::RandomState>,
    /// Each key once, in the order in which the eviction looks at them.
    queue: VecDeque<Arc<str>>,
    bytes: usize,
    /// How many have left for want of room.
    evicted: u64,
}

impl Entry {
    fn complete(&self) -> Option<&Arc<CachedCounters>> {
        match &self.state {
            State::Complete(counters) => Some(counters),
            State::Followed { .. } => None,
        }
    }

    fn counters(&self) -> Option<&Arc<CachedCounters>> {
        match &self.state {
            State::Complete(counters) => Some(counters),
            State::Followed { loaded, .. } => loaded.as_ref().map(|loaded| &loaded.counters),
        }
    }

    fn size_bytes(&self, subject_id: &str) -> usize {
        let metrics = self.counters().map_or(0, |counters| counters.counters.len());
        ENTRY_BYTES + subject_id.len() + metrics * METRIC_BYTES
    }

    fn touch(&self) {
        // Plain stores of a shared flag would make every reader fight for the line.
        if !self.read.load(Ordering::Relaxed) {
            self.read.store(true, Ordering::Relaxed);
        }
    }
}

impl Shard {
    /// What contains everything up to the cache's position.
    pub fn get(&self, subject_id: &str) -> Option<Arc<CachedCounters>> {
        let entry = self.entries.get(subject_id)?;
        entry.touch();
        entry.complete().cloned()
    }

    /// Whether a record of the subject would be taken in.
    pub fn follows(&self, subject_id: &str) -> bool {
        self.entries.contains_key(subject_id)
    }

    /// Whatever is known.
    pub fn known(&self, subject_id: &str) -> Option<Known> {
        match &self.entries.get(subject_id)?.state {
            State::Complete(counters) => Some(Known::Current(counters.clone())),
            State::Followed { loaded, .. } => loaded.clone().map(Known::Former),
        }
    }

    /// A record: it holds all totals, so nothing before it matters any more. What was loaded may be newer still.
    pub fn put(&mut self, subject_id: &str, counters: impl Into<Arc<CachedCounters>>, bytes_max: usize, insert: bool) {
        let counters = counters.into();
        match self.entries.get_mut(subject_id) {
            Some(entry) => {
                let newer = entry.counters().filter(|known| known.version > counters.version).cloned();
                let state = State::Complete(newer.unwrap_or(counters));
                self.replace(subject_id, state);
            }
            None if insert => self.insert(subject_id, State::Complete(counters)),
            None => return,
        }
        self.evict(bytes_max);
    }

    /// From now on every record of the subject is taken in. `reached` is called under this shard's lock: none was
    /// passed over that lies beyond it. Where it is unknown how far the writer is, nothing that is loaded can be
    /// complete.
    pub fn follow(&mut self, subject_id: &str, reached: impl FnOnce() -> Option<u64>, bytes_max: usize) {
        if !self.entries.contains_key(subject_id) {
            self.insert(subject_id, State::Followed { since: u64::MAX, loaded: None });
        }
        if let Some(entry) = self.entries.get_mut(subject_id) {
            entry.touch();
            if let State::Followed { since, .. } = &mut entry.state {
                *since = (*since).min(reached().unwrap_or(u64::MAX));
            }
        }
        self.evict(bytes_max);
    }

    /// Takes in what was loaded after [`Shard::follow`]: unless it left in between, and unless it is older.
    pub fn fill(&mut self, subject_id: &str, loaded: Loaded, bytes_max: usize) {
        let Some(entry) = self.entries.get(subject_id) else { return };
        if entry.counters().is_some_and(|known| known.version > loaded.counters.version) {
            return;
        }
        let state = match entry.state {
            State::Complete(_) => State::Complete(loaded.counters),
            State::Followed { since, .. } if loaded.next_offset.is_some_and(|next_offset| next_offset >= since) => {
                State::Complete(loaded.counters)
            }
            State::Followed { since, .. } => State::Followed { since, loaded: Some(loaded) },
        };
        self.replace(subject_id, state);
        self.evict(bytes_max);
    }

    fn insert(&mut self, subject_id: &str, state: State) {
        let key = Arc::<str>::from(subject_id);
        let entry = Entry { state, read: AtomicBool::new(false) };
        self.bytes += entry.size_bytes(subject_id);
        self.queue.push_back(key.clone());
        self.entries.insert(key, entry);
    }

    fn replace(&mut self, subject_id: &str, state: State) {
        if let Some(entry) = self.entries.get_mut(subject_id) {
            self.bytes -= entry.size_bytes(subject_id);
            entry.state = state;
            self.bytes += entry.size_bytes(subject_id);
        }
    }

    /// Second chance: what was read since the last visit stays for another round.
    fn evict(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some(key) = self.queue.pop_front() else { return };
            if self.entries.get(&key).is_some_and(|entry| entry.read.swap(false, Ordering::Relaxed)) {
                self.queue.push_back(key);
            } else if let Some(entry) = self.entries.remove(&key) {
                self.bytes -= entry.size_bytes(&key);
                self.evicted += 1;
            }
        }
    }

    pub fn clear(&mut self) {
        *self = Self { evicted: self.evicted, ..Self::default() };
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(version: i64) -> CachedCounters {
        CachedCounters { counters: Box::new([("likes".into(), version.into())]), version }
    }

    fn size_bytes(subject_id: &str) -> usize {
        ENTRY_BYTES + subject_id.len() + METRIC_BYTES
    }

    fn loaded(version: i64, next_offset: u64) -> Loaded {
        Loaded { counters: Arc::new(counters(version)), roots: Arc::from([]), next_offset: Some(next_offset) }
    }

    #[test]
    fn a_smaller_version_changes_nothing() {
        let mut shard = Shard::default();
        for version in [5, 4, 5, 6, 1] {
            shard.put("article:7", counters(version), 10_000, true);
        }
        assert_eq!(*shard.get("article:7").unwrap(), counters(6));
        assert_eq!(shard.bytes(), size_bytes("article:7"));
    }

    #[test]
    fn the_oldest_unread_subject_is_evicted_first() {
        let mut shard = Shard::default();
        let room_for_three = 3 * size_bytes("a:1");
        for id in ["a:1", "a:2", "a:3"] {
            shard.put(id, counters(1), room_for_three, true);
        }
        shard.get("a:1");
        shard.put("a:4", counters(1), room_for_three, true);
        let left: Vec<_> = ["a:1", "a:2", "a:3", "a:4"].into_iter().filter(|id| shard.get(id).is_some()).collect();
        assert_eq!(left, ["a:1", "a:3", "a:4"]);
        assert!(shard.bytes() <= room_for_three && shard.len() == 3 && shard.queue.len() == 3);
        shard.clear();
        assert_eq!((shard.len(), shard.bytes(), shard.evicted()), (0, 0, 1), "a counter never falls");
    }

    #[test]
    fn one_that_is_too_large_for_the_shard_is_not_kept() {
        let mut shard = Shard::default();
        shard.put("a:1", counters(1), 10, true);
        assert!(shard.get("a:1").is_none());
        assert_eq!((shard.len(), shard.bytes()), (0, 0));
    }

    #[test]
    fn a_record_of_a_subject_that_was_not_requested_is_skipped() {
        let mut shard = Shard::default();
        shard.put("a:1", counters(1), 10_000, false);
        assert!(!shard.follows("a:1") && shard.len() == 0);
        shard.follow("a:1", || Some(0), 10_000);
        assert!(shard.follows("a:1") && shard.get("a:1").is_none() && shard.known("a:1").is_none());
        shard.put("a:1", counters(2), 10_000, false);
        assert_eq!(*shard.get("a:1").unwrap(), counters(2));
    }

    #[test]
    fn what_was_loaded_counts_from_where_on_the_subject_was_followed() {
        let mut shard = Shard::default();
        shard.follow("a:1", || None, 10_000);
        // Not even known from where on.
        shard.fill("a:1", loaded(1, u64::MAX - 1), 10_000);
        assert!(shard.get("a:1").is_none());
        shard.follow("a:1", || Some(100), 10_000);
        shard.follow("a:1", || Some(120), 10_000);
        shard.fill("a:1", loaded(2, 99), 10_000);
        assert!(shard.get("a:1").is_none(), "what lies at 99 was neither loaded nor seen");
        assert!(matches!(shard.known("a:1"), Some(Known::Former(former)) if former.counters.version == 2));
        shard.fill("a:1", loaded(3, 100), 10_000);
        assert_eq!(*shard.get("a:1").unwrap(), counters(3));
        assert!(matches!(shard.known("a:1"), Some(Known::Current(_))));
    }

    #[test]
    fn a_record_that_came_during_a_load_wins_unless_the_store_was_ahead() {
        for (streamed, of_store, winner) in [(5, 4, 5), (5, 6, 6), (5, 5, 5)] {
            let mut shard = Shard::default();
            shard.follow("a:1", || Some(100), 10_000);
            shard.put("a:1", counters(streamed), 10_000, false);
            shard.fill("a:1", loaded(of_store, 90), 10_000);
            assert_eq!(shard.get("a:1").unwrap().version, winner);
        }
        // The other way round: an old record comes by after a load that was ahead.
        let mut shard = Shard::default();
        shard.follow("a:1", || Some(100), 10_000);
        shard.fill("a:1", loaded(7, 90), 10_000);
        shard.put("a:1", counters(6), 10_000, false);
        assert_eq!(shard.get("a:1").unwrap().version, 7);
    }

    #[test]
    fn one_that_left_during_a_load_does_not_come_back_with_it() {
        let mut shard = Shard::default();
        let room_for_two = 2 * size_bytes("a:1");
        shard.follow("a:1", || Some(0), room_for_two);
        for id in ["a:2", "a:3", "a:4", "a:5"] {
            shard.put(id, counters(1), room_for_two, true);
        }
        assert!(!shard.follows("a:1"));
        shard.fill("a:1", loaded(1, 9), room_for_two);
        assert!(!shard.follows("a:1") && shard.bytes() <= room_for_two);
    }
}
