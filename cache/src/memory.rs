//! The cache in this process.
//!
//! A stream of records fills it: all of them ([`Admit::All`]), or those of requested subjects ([`Admit::Asked`]). A
//! missing subject is loaded from another store and kept. The invariant: **what [`MemoryCache::get`] returns contains
//! every record below the position** that was there before the call.
//!
//! A load runs beside the stream, and a record must not slip between the two: read and dropped before the subject was
//! followed, and not yet in the store when it was loaded. So
//!
//! 1. the writer publishes the end of a batch before it looks up which subjects are followed
//!    ([`MemoryCache::reaching`]);
//! 2. a loader first follows the subject, then reads the writer's published end under the same lock: from there on no
//!    record is dropped ([`MemoryCache::follow`]);
//! 3. only then the other store's position is read, and then the totals. They count as complete where that position has
//!    reached what 2. has read, or where a record came meanwhile ([`MemoryCache::fill`]). Otherwise the subject stays
//!    followed from there, and the next load is complete.
//!
//! Boards are few and small: the writer stores all of them completely, and none is ever loaded.

use crate::filter::Filter;
use crate::locks;
use crate::shard::{CachedCounters, Known, Loaded, Shard};
use crate::watched::Watched;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tally_model::{Ranking, RootPosition, Roots};
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

/// Which records are taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// All records.
    All,
    /// Those of subjects that are already in the cache because they were requested.
    Asked,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self { size_bytes_max: 256 << 20 }
    }
}

/// Totals by subject, boards by name, and how far they go. Shared by all readers; one writer.
pub struct MemoryCache {
    shards: [RwLock<Shard>; SHARDS],
    hasher: ahash::RandomState,
    shard_bytes_max: usize,
    admit: Admit,
    boards: RwLock<BTreeMap<String, Arc<Ranking>>>,
    watched: Watched,
    /// Filter of all subjects with a record, if the writer began at the start of the topic.
    filter: Option<Filter>,
    /// Replaced as a whole, so that a reader takes one lock for all the partitions that it looks at.
    positions: RwLock<Arc<Positions>>,
    /// Published end of the batch that the writer is processing: at least the positions.
    reached: RwLock<HashMap<TopicPartition, u64>>,
    ready: AtomicBool,
    /// Counts the writes that moved a position.
    progress: watch::Sender<u64>,
}

type Positions = HashMap<TopicPartition, Position, ahash::RandomState>;

/// How far a partition is contained in the cache.
#[derive(Clone, Debug, Default)]
pub struct Position {
    /// Everything below is contained.
    pub next_offset: u64,
    /// How far the input is contained.
    pub roots: Arc<Roots>,
    /// The same for all tasks together.
    pub merged: Arc<[RootPosition]>,
    /// The least of their clocks; 0 where there is none.
    pub clock_ms: i64,
    /// The greatest version among what is contained.
    pub version: i64,
}

impl Position {
    /// A position whose roots are merged.
    pub fn new(next_offset: u64, roots: Roots, version: i64) -> Self {
        let merged: Arc<[RootPosition]> = roots.merged().into();
        let clock_ms = merged.iter().map(|root| root.clock_ms).min().unwrap_or(0).max(0);
        Self { next_offset, roots: Arc::new(roots), merged, clock_ms, version }
    }
}

/// The positions at one moment, of a cache that can be trusted.
pub struct Serving {
    positions: Arc<Positions>,
    /// The position of a partition without any record so far: None, or the empty position.
    unheard: Option<Position>,
}

impl Serving {
    /// The position of a partition; None if the cache cannot be trusted for it. What [`MemoryCache::get`] returns
    /// afterwards is at least as new.
    pub fn position(&self, partition: &TopicPartition) -> Option<&Position> {
        let position = self.positions.get(partition).or(self.unheard.as_ref());
        // A cache that follows its topic from some later offset on has no progress before the first mark.
        position.filter(|position| self.unheard.is_some() || !position.merged.is_empty())
    }
}

impl MemoryCache {
    /// An empty one.
    pub fn new(limits: CacheLimits, admit: Admit) -> Arc<Self> {
        Arc::new(Self::made(limits, admit, None))
    }

    /// One whose writer reads all records of a topic, from the very first on. It remembers which subjects there are even
    /// where it does not hold them: see [`MemoryCache::lacks`].
    pub fn of_all(limits: CacheLimits, admit: Admit) -> Arc<Self> {
        Arc::new(Self::made(limits, admit, Some(Filter::new())))
    }

    fn made(limits: CacheLimits, admit: Admit, filter: Option<Filter>) -> Self {
        Self {
            shards: std::array::from_fn(|_| RwLock::default()),
            hasher: ahash::RandomState::new(),
            shard_bytes_max: limits.size_bytes_max / SHARDS,
            admit,
            boards: RwLock::default(),
            watched: Watched::default(),
            filter,
            positions: RwLock::default(),
            reached: RwLock::default(),
            ready: AtomicBool::new(false),
            progress: watch::Sender::new(0),
        }
    }

    /// All totals of a subject; None is a miss, never zero.
    pub fn get(&self, subject_id: &str) -> Option<Arc<CachedCounters>> {
        self.read(subject_id).get(subject_id)
    }

    /// Whether no record of the subject lies below the positions that were there before the call. Only one
    /// [of all](MemoryCache::of_all) knows, and not of each.
    pub fn lacks(&self, subject_id: &str) -> bool {
        self.filter.as_ref().is_some_and(|filter| !filter.may_have(subject_id))
    }

    /// A board as a whole. Where the writer takes boards in, one that is not here does not exist.
    pub fn board(&self, board: &str) -> Option<Arc<Ranking>> {
        locks::read(&self.boards).get(board).cloned()
    }

    /// All boards, by name.
    pub fn boards(&self) -> Vec<Arc<Ranking>> {
        locks::read(&self.boards).values().cloned().collect()
    }

    /// Whether the writer has caught up, so that results can be trusted. Before that, a subject may be older than one
    /// that a client has already seen.
    pub fn ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// How far the input is contained in what was read from a partition, ascending by root partition.
    pub fn roots(&self, partition: &TopicPartition) -> Arc<[RootPosition]> {
        self.positions_read().get(partition).map_or_else(|| Arc::from([]), |position| position.merged.clone())
    }

    /// The positions, if the cache can be trusted.
    pub fn serving(&self) -> Option<Serving> {
        let unheard = || (self.admit == Admit::All).then(Position::default);
        self.ready().then(|| Serving { positions: self.positions_read().clone(), unheard: unheard() })
    }

    /// Before a load: see the module. A subject's partition is that of its records.
    pub fn follow(&self, subject_id: &str, partition: &TopicPartition) {
        let reached = || locks::read(&self.reached).get(partition).copied();
        self.write(subject_id).follow(subject_id, reached, self.shard_bytes_max);
    }

    /// After a load: see the module.
    pub fn fill(&self, subject_id: &str, loaded: Loaded) {
        self.write(subject_id).fill(subject_id, loaded, self.shard_bytes_max);
    }

    /// The last known state of a subject, for when no other store answers.
    pub fn last(&self, subject_id: &str, partition: &TopicPartition) -> Option<Loaded> {
        // The position before the totals: they are at least as new.
        let roots = self.roots(partition);
        Some(match self.read(subject_id).known(subject_id)? {
            Known::Current(counters) => Loaded { counters, roots, next_offset: None },
            Known::Former(loaded) => loaded,
        })
    }

    /// Changes after every write that moved a position, when its rows can be read.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    /// From now on [`MemoryCache::changes`] returns every change of a subject. What the cache has of it afterwards, if
    /// anything, is where those changes begin.
    pub fn watch(&self, subject_id: &Arc<str>) {
        self.watched.add(subject_id.clone());
    }

    /// Undoes [`MemoryCache::watch`].
    pub fn unwatch(&self, subject_id: &str) {
        self.watched.remove(subject_id);
    }

    /// The latest totals of each watched subject that got a record since the last call. Positions that were read before
    /// hold for them.
    pub fn changes(&self) -> HashMap<Arc<str>, Arc<CachedCounters>> {
        self.watched.take()
    }

    /// How often everything was forgotten so far. After that, records may have been missed.
    pub fn epoch(&self) -> u64 {
        self.watched.epoch()
    }

    /// Number of subjects held, and their size in bytes by estimate.
    pub fn size(&self) -> (usize, usize) {
        let shards = self.shards.iter().map(locks::read);
        shards.fold((0, 0), |(len, bytes), shard| (len + shard.len(), bytes + shard.bytes()))
    }

    /// How many subjects have left for want of room. They are misses until the next record of theirs.
    pub fn evicted(&self) -> u64 {
        self.shards.iter().map(|shard| locks::read(shard).evicted()).sum()
    }

    /// The writer's, before it looks at records: it is about to go so far.
    pub fn reaching(&self, partition: &TopicPartition, next_offset: u64) {
        let mut reached = locks::write(&self.reached);
        match reached.get_mut(partition) {
            Some(reached) => *reached = next_offset.max(*reached),
            None => drop(reached.insert(partition.clone(), next_offset)),
        }
    }

    /// The writer's: whether totals of this subject would be taken in.
    pub fn follows(&self, subject_id: &str) -> bool {
        self.admit == Admit::All || self.watched.has(subject_id) || self.read(subject_id).follows(subject_id)
    }

    /// The writer's: takes totals in, unless newer ones are there.
    pub fn put(&self, subject_id: &str, counters: CachedCounters) {
        let counters = Arc::new(counters);
        self.write(subject_id).put(subject_id, counters.clone(), self.shard_bytes_max, self.admit == Admit::All);
        self.saw(subject_id);
        self.watched.changed(subject_id, &counters);
    }

    /// The writer's: there is a record of this subject. Enough for [`MemoryCache::lacks`].
    pub fn saw(&self, subject_id: &str) {
        if let Some(filter) = &self.filter {
            filter.insert(subject_id);
        }
    }

    /// The writer's: takes a board in, unless a newer version of it is there.
    pub fn put_board(&self, ranking: Ranking) {
        let mut boards = locks::write(&self.boards);
        if boards.get(&ranking.board).is_none_or(|known| known.version <= ranking.version) {
            boards.insert(ranking.board.clone(), Arc::new(ranking));
        }
    }

    /// For the writer: the position of each partition.
    pub fn positions(&self) -> Vec<(TopicPartition, Position)> {
        let positions = self.positions_read();
        positions.iter().map(|(partition, position)| (partition.clone(), position.clone())).collect()
    }

    /// For the writer: the position of a partition.
    pub fn position(&self, partition: &TopicPartition) -> Option<Position> {
        self.positions_read().get(partition).cloned()
    }

    /// For the writer: moves positions after the records that they cover were put. A reader that sees a position also
    /// finds those records.
    pub fn advance(&self, steps: impl IntoIterator<Item = (TopicPartition, Position)>) {
        Arc::make_mut(&mut *self.positions_write()).extend(steps);
        self.progress.send_modify(|writes| *writes += 1);
    }

    /// The writer's: see [`MemoryCache::ready`].
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// The writer's: forgets everything.
    pub fn clear(&self) {
        self.set_ready(false);
        *self.positions_write() = Arc::default();
        locks::write(&self.reached).clear();
        locks::write(&self.boards).clear();
        for shard in &self.shards {
            locks::write(shard).clear();
        }
        self.watched.forget();
    }

    fn read(&self, subject_id: &str) -> RwLockReadGuard<'_, Shard> {
        locks::read(self.shard(subject_id))
    }

    fn write(&self, subject_id: &str) -> RwLockWriteGuard<'_, Shard> {
        locks::write(self.shard(subject_id))
    }

    fn shard(&self, subject_id: &str) -> &RwLock<Shard> {
        &self.shards[(self.hasher.hash_one(subject_id) >> 32) as usize % SHARDS]
    }

    fn positions_read(&self) -> RwLockReadGuard<'_, Arc<Positions>> {
        locks::read(&self.positions)
    }

    fn positions_write(&self) -> RwLockWriteGuard<'_, Arc<Positions>> {
        locks::write(&self.positions)
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
