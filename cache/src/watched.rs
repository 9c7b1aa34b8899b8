//! Subjects of which every change is wanted, whether or not the cache holds them.
//!
//! Readers of live streams watch them. The writer leaves the latest totals of each here; the task that sends them out
//! fetches them at its own pace, so a slow one costs no more than a quick one.

use crate::shard::CachedCounters;
use hashbrown::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

#[derive(Default)]
pub(crate) struct Watched {
    subjects: RwLock<HashSet<Arc<str>>>,
    /// How many there are: without any, a writer takes no lock.
    len: AtomicUsize,
    changes: Mutex<HashMap<Arc<str>, Arc<CachedCounters>>>,
    /// How often everything was forgotten.
    epoch: AtomicU64,
}

impl Watched {
    pub fn add(&self, subject_id: Arc<str>) {
        let mut subjects = self.subjects.write().unwrap_or_else(PoisonError::into_inner);
        subjects.insert(subject_id);
        self.len.store(subjects.len(), Ordering::Release);
    }

    pub fn remove(&self, subject_id: &str) {
        let mut subjects = self.subjects.write().unwrap_or_else(PoisonError::into_inner);
        subjects.remove(subject_id);
        self.len.store(subjects.len(), Ordering::Release);
        self.changes().remove(subject_id);
    }

    pub fn has(&self, subject_id: &str) -> bool {
        self.len.load(Ordering::Acquire) > 0
            && self.subjects.read().unwrap_or_else(PoisonError::into_inner).contains(subject_id)
    }

    /// The writer's, after the subject's shard has them: a reader that watches first and reads the shard next misses nothing.
    pub fn changed(&self, subject_id: &str, counters: &Arc<CachedCounters>) {
        if self.len.load(Ordering::Acquire) == 0 {
            return;
        }
        // Under this lock, so that one who is gone leaves nothing behind.
        let subjects = self.subjects.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(subject_id) = subjects.get(subject_id) {
            self.changes().insert(subject_id.clone(), counters.clone());
        }
    }

    pub fn forget(&self) {
        let mut changes = self.changes();
        changes.clear();
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    pub fn take(&self) -> HashMap<Arc<str>, Arc<CachedCounters>> {
        std::mem::take(&mut self.changes())
    }

    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    fn changes(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<CachedCounters>>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Admit, CacheLimits, CachedCounters, MemoryCache};
    use std::sync::Arc;

    fn totals(version: i64) -> CachedCounters {
        CachedCounters { counters: Box::new([("likes".into(), version.into())]), version }
    }

    #[test]
    fn the_latest_of_each_watched_subject_is_told_once_even_of_one_that_is_not_held() {
        let cache = MemoryCache::new(CacheLimits { size_bytes_max: 1 << 20 }, Admit::Asked);
        let versions = || {
            let mut all: Vec<_> =
                cache.changes().into_iter().map(|(id, counters)| (id.to_string(), counters.version)).collect();
            all.sort();
            all
        };
        cache.put("a:1", totals(1));
        assert!(versions().is_empty() && !cache.follows("a:1"));
        ["a:1", "a:2"].into_iter().for_each(|id| cache.watch(&Arc::from(id)));
        assert!(cache.follows("a:1") && !cache.follows("a:3"));
        for (id, version) in [("a:1", 2), ("a:3", 3), ("a:2", 4), ("a:1", 5)] {
            cache.put(id, totals(version));
        }
        assert_eq!(versions(), [("a:1".into(), 5), ("a:2".into(), 4)]);
        assert!(cache.get("a:1").is_none(), "only who reads it through the cache has it kept there");
        cache.put("a:1", totals(6));
        cache.put("a:2", totals(6));
        cache.unwatch("a:1");
        assert_eq!(versions(), [("a:2".into(), 6)]);
        cache.put("a:1", totals(7));
        cache.put("a:2", totals(7));
        let epoch = cache.epoch();
        cache.clear();
        assert!(versions().is_empty() && cache.epoch() > epoch, "earlier changes are not published any more");
    }
}
