//! The cache in this process as a store: totals or boards that a sink keeps current.

use super::roots::{clock_ms, covers};
use super::store::{Board, Contained, Key, ReadStore, StoreError, Stored, Totals};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tally_cache::{Loaded, MemoryCache};
use tally_model::Receipt;
use tally_streams::log::{Log, TopicPartition};

/// See the module.
pub struct MemoryStore {
    /// The cache.
    pub cache: Arc<MemoryCache>,
    /// Whether the topic of totals has everything that was ever written to it, but for what newer records replace.
    is_whole: AtomicBool,
}

impl MemoryStore {
    /// Over a cache that a sink fills.
    pub fn new(cache: Arc<MemoryCache>) -> Self {
        Self { cache, is_whole: AtomicBool::new(false) }
    }

    /// Checks whether the topic of totals, of these partitions, begins with its first record. Where it was truncated, a
    /// subject without a record may still have rows. Blocks.
    pub fn look_at_start(&self, log: &dyn Log, partitions: &[TopicPartition]) {
        let starts = partitions.iter().map(|partition| log.bounds(partition).map(|(start, _)| start));
        match starts.collect::<Result<Vec<_>, _>>() {
            Ok(starts) => self.is_whole.store(starts.iter().all(|start| *start == 0), Ordering::Relaxed),
            Err(error) => tracing::warn!("unknown subjects are looked up in the stores: {error}"),
        }
    }

    /// The totals of subjects that all are here, in their order, and the clock of the oldest: the same as
    /// [`ReadStore::totals`] without what vouches for each of them, whose references all readers share.
    pub fn all_totals(&self, keys: &[Key<'_>]) -> Option<(Vec<Totals>, i64)> {
        // The positions before the totals: they are at least as new.
        let serving = self.cache.serving().filter(|_| !keys.is_empty())?;
        let mut partitions: Vec<&TopicPartition> = Vec::with_capacity(keys.len());
        for key in keys {
            // Of one topic there is one of each number, and many keys share it.
            if !partitions.iter().any(|known| std::ptr::eq(*known, key.partition)) {
                partitions.push(key.partition);
            }
        }
        let mut oldest_ms = i64::MAX;
        for partition in partitions {
            oldest_ms = serving.position(partition)?.clock_ms.min(oldest_ms);
        }
        let totals = keys.iter().map(|key| self.cache.get(key.id)).collect::<Option<Vec<_>>>()?;
        Some((totals, oldest_ms))
    }

    /// Zeros of a subject that has no record, as far as its topic was read: no other store needs to be read for
    /// made-up ids. Records that came since are beyond what the answer claims.
    pub fn absent(&self, key: Key<'_>) -> Option<Stored<Totals>> {
        let serving = self.cache.serving().filter(|_| self.is_whole.load(Ordering::Relaxed))?;
        // The position before the lookup: what lies below it was read.
        let roots = serving.position(key.partition)?.merged.clone();
        // Without a clock these would be zeros as of 1970; a store may know better.
        clock_ms(&roots).filter(|clock_ms| *clock_ms > 0)?;
        self.cache.lacks(key.id).then(|| Stored { value: Arc::default(), roots, next_offset: None })
    }

    /// Before subjects are loaded from another store: see [`MemoryCache::follow`].
    pub fn follow(&self, keys: &[Key<'_>]) {
        keys.iter().for_each(|key| self.cache.follow(key.id, key.partition));
    }

    /// Keeps what another store had: see [`MemoryCache::fill`].
    pub fn fill(&self, key: Key<'_>, stored: &Stored<Totals>) {
        let Stored { value: counters, roots, next_offset } = stored.clone();
        self.cache.fill(key.id, Loaded { counters, roots, next_offset });
    }

    /// The last that is known of a subject.
    pub fn last_totals(&self, key: Key<'_>) -> Option<Stored<Totals>> {
        let Loaded { counters, roots, next_offset } = self.cache.last(key.id, key.partition)?;
        Some(Stored { value: counters, roots, next_offset })
    }

    /// The last that is known of a board.
    pub fn last_board(&self, key: Key<'_>) -> Option<Stored<Board>> {
        // The position before the board: it is at least as new.
        let roots = self.cache.roots(key.partition);
        Some(Stored { value: Some(self.cache.board(key.id)?), roots, next_offset: None })
    }
}

impl ReadStore for MemoryStore {
    async fn progress(&self, partitions: &[&TopicPartition]) -> Result<Vec<Option<Contained>>, StoreError> {
        Ok(partitions.iter().map(|partition| Some(self.cache.roots(partition))).collect())
    }

    async fn totals(&self, subjects: &[Key<'_>]) -> Result<Vec<Option<Stored<Totals>>>, StoreError> {
        // The positions before the totals: they are at least as new.
        let serving = self.cache.serving();
        let totals = |key: &Key<'_>| {
            let position = serving.as_ref()?.position(key.partition)?;
            Some(Stored { value: self.cache.get(key.id)?, roots: position.merged.clone(), next_offset: None })
        };
        Ok(subjects.iter().map(totals).collect())
    }

    async fn board(&self, board: Key<'_>) -> Result<Option<Stored<Board>>, StoreError> {
        // The position before the board: it is at least as new.
        let serving = self.cache.serving();
        let position = serving.as_ref().and_then(|serving| serving.position(board.partition));
        // It has all boards: one that it does not have was never written.
        let stored = |roots| Stored { value: self.cache.board(board.id), roots, next_offset: None };
        Ok(position.map(|position| stored(position.merged.clone())))
    }

    async fn wait(&self, partitions: &[&TopicPartition], receipt: &Receipt, deadline: Instant) -> bool {
        let mut progress = self.cache.subscribe();
        loop {
            if partitions.iter().all(|partition| covers(&self.cache.roots(partition), receipt)) {
                return true;
            }
            match tokio::time::timeout_at(deadline.into(), progress.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reads::freshness::Freshness;
    use crate::reads::store::{Answer, Source};
    use tally_cache::{Admit, CacheLimits, CachedCounters, Position};
    use tally_model::{ProgressMark, RootPosition, Roots};

    fn position(clock_ms: i64) -> Position {
        let mut roots = Roots::default();
        let root = RootPosition { partition: 0, next_offset: 1, clock_ms };
        roots.apply(ProgressMark { task: "by-subject_id/0".into(), generation: 0, roots: vec![root], version: 1 });
        Position::new(1, roots, 1)
    }

    #[tokio::test]
    async fn reading_all_at_once_is_the_same_as_reading_each() {
        let partitions = [0, 1].map(|number| TopicPartition::new("counters", number));
        let cache = MemoryCache::new(CacheLimits::default(), Admit::All);
        for (number, id) in ["a:1", "a:2", "a:3"].into_iter().enumerate() {
            let counters = Box::new([("likes".into(), (number as i64).into())]);
            cache.put(id, CachedCounters { counters, version: 1 });
        }
        cache.advance([(partitions[0].clone(), position(7_000)), (partitions[1].clone(), position(5_000))]);
        let store = MemoryStore::new(cache.clone());
        let key = |id, number: usize| Key { id, partition: &partitions[number] };
        for keys in [vec![key("a:1", 0)], vec![key("a:3", 0), key("a:2", 1), key("a:3", 0)], vec![key("a:1", 1)]] {
            cache.set_ready(false);
            assert!(store.all_totals(&keys).is_none(), "the read may be older than an earlier read");
            cache.set_ready(true);
            let (all, oldest_ms) = store.all_totals(&keys).unwrap();
            let each: Vec<_> = store.totals(&keys).await.unwrap().into_iter().map(Option::unwrap).collect();
            assert_eq!(all, each.iter().map(|stored| stored.value.clone()).collect::<Vec<_>>());
            let answers: Vec<_> = each.into_iter().map(|stored| Answer { stored, source: Source::Memory }).collect();
            assert_eq!(oldest_ms, Freshness::of(&answers, None).as_of_ms());
        }
        for keys in [vec![], vec![key("a:1", 0), key("a:4", 1)]] {
            assert!(store.all_totals(&keys).is_none(), "{keys:?}");
        }
    }
}
