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
