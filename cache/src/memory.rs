//! The cache in this process.

use crate::shard::{CachedCounters, Shard};
use hashbrown::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tally_model::{RootPosition, Roots};
use tally_streams::log::TopicPartition;
use tokio::sync::watch;

/// Locks, so that readers and the writer seldom meet.
const SHARDS: usize = 16;

/// How large the cache may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// The memory of all subjects together, by estimate; over it whole subjects leave.
    pub size_bytes_max: usize,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self { size_bytes_max: 256 << 20 }
    }
}

/// Totals by subject, and how far they go. Shared by all readers; one writer.
pub struct MemoryCache {
    shards: [RwLock<Shard>; SHARDS],
    hasher: ahash::RandomState,
    shard_bytes_max: usize,
    positions: RwLock<HashMap<TopicPartition, Position>>,
    ready: AtomicBool,
    /// Counts the writes that moved a position.
    progress: watch::Sender<u64>,
}

/// How far a partition is contained in the cache.
#[derive(Clone, Debug)]
pub struct Position {
    /// Everything below is contained.
    pub next_offset: u64,
    /// How far the input is contained.
    pub roots: Roots,
    /// The same for all tasks together.
    pub merged: Arc<[RootPosition]>,
    /// The greatest version among what is contained.
    pub version: i64,
}

impl Position {
    /// A position whose roots are merged.
    pub fn new(next_offset: u64, roots: Roots, version: i64) -> Self {
        let merged = roots.merged().into();
        Self { next_offset, roots, merged, version }
    }
}

impl MemoryCache {
    /// An empty one.
    pub fn new(limits: CacheLimits) -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| RwLock::default()),
            hasher: ahash::RandomState::new(),
            shard_bytes_max: limits.size_bytes_max / SHARDS,
            positions: RwLock::default(),
            ready: AtomicBool::new(false),
            progress: watch::Sender::new(0),
        })
    }

    /// All totals of a subject; None is a miss, never zero.
    pub fn get(&self, subject_id: &str) -> Option<Arc<CachedCounters>> {
        let shard = self.shard(subject_id).read().unwrap_or_else(PoisonError::into_inner);
        shard.get(subject_id)
    }

    /// Whether everything that the log held when the writer started has been read. Before that a subject found may be
    /// older than one that somebody has seen already.
    pub fn ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// How far the input is contained in what was read from a partition, ascending by root partition.
    pub fn roots(&self, topic: &str, partition: u32) -> Arc<[RootPosition]> {
        let positions = self.positions_read();
        let position = positions.get(&TopicPartition::new(topic, partition));
        position.map_or_else(|| Arc::from([]), |position| position.merged.clone())
    }

    /// Changes after every write that moved a position, when its rows can be read.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    /// Number of subjects held, and their size in bytes by estimate.
    pub fn size(&self) -> (usize, usize) {
        let shards = self.shards.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner));
        shards.fold((0, 0), |(len, bytes), shard| (len + shard.len(), bytes + shard.bytes()))
    }

    /// The writer's: takes totals in, unless newer ones are there.
    pub fn put(&self, subject_id: &str, counters: CachedCounters) {
        let mut shard = self.shard(subject_id).write().unwrap_or_else(PoisonError::into_inner);
        shard.put(subject_id, counters, self.shard_bytes_max);
    }

    /// The writer's: where each partition stands.
    pub fn positions(&self) -> Vec<(TopicPartition, Position)> {
        let positions = self.positions_read();
        positions.iter().map(|(partition, position)| (partition.clone(), position.clone())).collect()
    }

    /// The writer's: the offset at which a partition stands.
    pub fn next_offset(&self, partition: &TopicPartition) -> Option<u64> {
        self.positions_read().get(partition).map(|position| position.next_offset)
    }

    /// The writer's: moves positions, after what they cover was put. Whoever sees a position finds what it covers.
    pub fn advance(&self, steps: impl IntoIterator<Item = (TopicPartition, Position)>) {
        self.positions_write().extend(steps);
        self.progress.send_modify(|writes| *writes += 1);
    }

    /// The writer's: see [`MemoryCache::ready`].
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// The writer's: forgets everything.
    pub fn clear(&self) {
        self.set_ready(false);
        self.positions_write().clear();
        for shard in &self.shards {
            shard.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    fn shard(&self, subject_id: &str) -> &RwLock<Shard> {
        &self.shards[(self.hasher.hash_one(subject_id) >> 32) as usize % SHARDS]
    }

    fn positions_read(&self) -> RwLockReadGuard<'_, HashMap<TopicPartition, Position>> {
        self.positions.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn positions_write(&self) -> RwLockWriteGuard<'_, HashMap<TopicPartition, Position>> {
        self.positions.write().unwrap_or_else(PoisonError::into_inner)
    }
}
