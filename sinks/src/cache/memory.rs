//! The cache in this process.

use super::shard::{CachedCounters, Shard};
use crate::batch::{Batch, CounterRow, Move};
use crate::target::{StoredPosition, Target, TargetError};
use hashbrown::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tally_model::RootPosition;
use tally_streams::log::TopicPartition;
use tokio::sync::watch;

/// Locks, so that readers and the sink seldom meet.
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

/// Totals by subject, and how far they go. Shared by all readers; written by its [`MemoryTarget`] alone.
pub struct MemoryCache {
    shards: [RwLock<Shard>; SHARDS],
    hasher: ahash::RandomState,
    shard_bytes_max: usize,
    positions: RwLock<HashMap<TopicPartition, Position>>,
    ready: AtomicBool,
    /// Counts the writes that moved a position.
    progress: watch::Sender<u64>,
}

struct Position {
    next_offset: u64,
    roots: crate::Roots,
    merged: Arc<[RootPosition]>,
    version: i64,
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

    /// Whether everything that the log held when the sink started has been read. Before that a subject found may be
    /// older than one that somebody has seen already.
    pub fn ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// How far the input is contained in what was read from a partition, ascending by root partition.
    pub fn roots(&self, topic: &str, partition: u32) -> Arc<[RootPosition]> {
        let positions = self.positions.read().unwrap_or_else(PoisonError::into_inner);
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

    fn shard(&self, subject_id: &str) -> &RwLock<Shard> {
        &self.shards[(self.hasher.hash_one(subject_id) >> 32) as usize % SHARDS]
    }
}

/// The sink's side of a [`MemoryCache`].
pub struct MemoryTarget {
    cache: Arc<MemoryCache>,
    /// Partitions that have not yet reached what the log held when the sink started.
    goals: Option<HashMap<TopicPartition, u64>>,
    /// Metrics' names, so that a million subjects share them.
    names: HashSet<Arc<str>, ahash::RandomState>,
}

impl MemoryTarget {
    /// Writes to that cache; there must be one target a cache.
    pub fn new(cache: Arc<MemoryCache>) -> Self {
        Self { cache, goals: None, names: HashSet::default() }
    }

    /// Forgets everything; the sink fills it again from the start of the topics.
    pub fn reset(&mut self) {
        self.cache.ready.store(false, Ordering::Release);
        self.goals = None;
        let mut positions = self.cache.positions.write().unwrap_or_else(PoisonError::into_inner);
        positions.clear();
        for shard in &self.cache.shards {
            shard.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    fn put(&mut self, row: &CounterRow) {
        let counters = row.counters.counters.iter().map(|(metric, value)| (self.name(metric), *value)).collect();
        let entry = CachedCounters { counters, version: row.counters.version };
        let subject_id = row.counters.subject_id.as_str();
        let mut shard = self.cache.shard(subject_id).write().unwrap_or_else(PoisonError::into_inner);
        shard.put(subject_id, entry, self.cache.shard_bytes_max);
    }

    fn name(&mut self, metric: &str) -> Arc<str> {
        match self.names.get(metric) {
            Some(name) => name.clone(),
            None => {
                let name = Arc::<str>::from(metric);
                self.names.insert(name.clone());
                name
            }
        }
    }

    fn check(&self, moves: &[Move]) -> Result<(), TargetError> {
        let positions = self.cache.positions.read().unwrap_or_else(PoisonError::into_inner);
        for step in moves {
            let found = positions.get(&step.partition).map(|position| position.next_offset);
            if found != step.expected {
                let (partition, expected) = (step.partition.clone(), step.expected);
                return Err(TargetError::Moved { partition, expected, found });
            }
        }
        Ok(())
    }

    fn advance(&mut self, moves: &[Move]) {
        let mut positions = self.cache.positions.write().unwrap_or_else(PoisonError::into_inner);
        for step in moves {
            if let Some(goals) = &mut self.goals
                && goals.get(&step.partition).is_some_and(|goal| step.next_offset >= *goal)
            {
                goals.remove(&step.partition);
            }
            let Move { next_offset, roots, version, .. } = step.clone();
            let merged = roots.merged().into();
            positions.insert(step.partition.clone(), Position { next_offset, roots, merged, version });
        }
        drop(positions);
        if self.goals.as_ref().is_some_and(HashMap::is_empty) {
            self.cache.ready.store(true, Ordering::Release);
        }
    }
}

impl Target for MemoryTarget {
    fn positions(&mut self, topics: &[Arc<str>]) -> Result<Vec<StoredPosition>, TargetError> {
        let positions = self.cache.positions.read().unwrap_or_else(PoisonError::into_inner);
        let of_topics = positions.iter().filter(|(partition, _)| topics.contains(&partition.topic));
        let stored = of_topics.map(|(partition, position)| StoredPosition {
            partition: partition.clone(),
            next_offset: position.next_offset,
            roots: position.roots.clone(),
            version: position.version,
        });
        Ok(stored.collect())
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn begin(&mut self, goals: &[(TopicPartition, u64)]) {
        // A sink that starts again after an error goes on where it was: what was ready stays so.
        let goals = self.goals.insert(goals.iter().cloned().collect());
        if goals.is_empty() {
            self.cache.ready.store(true, Ordering::Release);
        }
    }

    fn write(&mut self, batch: &Batch) -> Result<(), TargetError> {
        self.check(&batch.positions)?;
        for row in batch.counters.rows() {
            self.put(row);
        }
        // Positions follow the rows: whoever sees a position finds what it covers.
        self.advance(&batch.positions);
        if !batch.positions.is_empty() {
            self.cache.progress.send_modify(|writes| *writes += 1);
        }
        Ok(())
    }
}
