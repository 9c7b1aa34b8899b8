//! A part of the cache, under one lock.

use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What an entry costs beside its key and its metrics: map, queue, two allocations with their counts.
const ENTRY_BYTES: usize = 160;
/// A metric's shared name and its value.
const METRIC_BYTES: usize = 24;

/// The totals of a subject, as of one record.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedCounters {
    /// All totals, ascending by metric.
    pub counters: Box<[(Arc<str>, i64)]>,
    /// The record's version.
    pub version: i64,
}

struct Entry {
    counters: Arc<CachedCounters>,
    /// Whether it was read since the eviction last came by.
    read: AtomicBool,
}

/// Subjects, within a number of bytes.
#[derive(Default)]
pub(crate) struct Shard {
    entries: HashMap<Arc<str>, Entry, ahash::RandomState>,
    /// Each key once, in the order in which the eviction looks at them.
    queue: VecDeque<Arc<str>>,
    bytes: usize,
}

impl Shard {
    pub fn get(&self, subject_id: &str) -> Option<Arc<CachedCounters>> {
        let entry = self.entries.get(subject_id)?;
        // Plain stores of a shared flag would make every reader fight for the line.
        if !entry.read.load(Ordering::Relaxed) {
            entry.read.store(true, Ordering::Relaxed);
        }
        Some(entry.counters.clone())
    }

    pub fn put(&mut self, subject_id: &str, counters: CachedCounters, bytes_max: usize) {
        match self.entries.get_mut(subject_id) {
            Some(entry) if entry.counters.version > counters.version => return,
            Some(entry) => {
                self.bytes -= size_bytes(subject_id, &entry.counters);
                self.bytes += size_bytes(subject_id, &counters);
                entry.counters = Arc::new(counters);
            }
            None => {
                let key = Arc::<str>::from(subject_id);
                self.bytes += size_bytes(subject_id, &counters);
                self.queue.push_back(key.clone());
                self.entries.insert(key, Entry { counters: Arc::new(counters), read: AtomicBool::new(false) });
            }
        }
        self.evict(bytes_max);
    }

    /// Second chance: what was read since the last visit stays for another round.
    fn evict(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some(key) = self.queue.pop_front() else { return };
            if self.entries.get(&key).is_some_and(|entry| entry.read.swap(false, Ordering::Relaxed)) {
                self.queue.push_back(key);
            } else if let Some(entry) = self.entries.remove(&key) {
                self.bytes -= size_bytes(&key, &entry.counters);
            }
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

fn size_bytes(subject_id: &str, counters: &CachedCounters) -> usize {
    ENTRY_BYTES + subject_id.len() + counters.counters.len() * METRIC_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(version: i64) -> CachedCounters {
        CachedCounters { counters: Box::new([("likes".into(), version)]), version }
    }

    #[test]
    fn a_smaller_version_changes_nothing() {
        let mut shard = Shard::default();
        for version in [5, 4, 5, 6, 1] {
            shard.put("article:7", counters(version), 10_000);
        }
        assert_eq!(*shard.get("article:7").unwrap(), counters(6));
        assert_eq!(shard.bytes(), size_bytes("article:7", &counters(6)));
    }

    #[test]
    fn the_oldest_that_nobody_read_goes_first() {
        let mut shard = Shard::default();
        let room_for_three = 3 * size_bytes("a:1", &counters(1));
        for id in ["a:1", "a:2", "a:3"] {
            shard.put(id, counters(1), room_for_three);
        }
        shard.get("a:1");
        shard.put("a:4", counters(1), room_for_three);
        let left: Vec<_> = ["a:1", "a:2", "a:3", "a:4"].into_iter().filter(|id| shard.get(id).is_some()).collect();
        assert_eq!(left, ["a:1", "a:3", "a:4"]);
        assert!(shard.bytes() <= room_for_three && shard.len() == 3 && shard.queue.len() == 3);
    }

    #[test]
    fn one_that_is_too_large_for_the_shard_is_not_kept() {
        let mut shard = Shard::default();
        shard.put("a:1", counters(1), 10);
        assert!(shard.get("a:1").is_none());
        assert_eq!((shard.len(), shard.bytes()), (0, 0));
    }
}
