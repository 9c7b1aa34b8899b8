//! The memory that state takes: one budget for all tasks of a process. Above it, entries that checkpoints have are evicted
//! (`store/table.rs`), and read through to the checkpoint when they are needed.

use super::{Task, TaskError};
use crate::processor::Dataflow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Eviction frees this part of the budget, so that it is not due with every commit.
const FREED_PART: usize = 16;
/// Above the budget, a task is checkpointed when it has written this part of the budget to its changelog: what is not
/// checkpointed cannot be evicted.
const CHECKPOINTED_PART: usize = 64;

/// How much memory the state of a process takes, in bytes, and may take.
#[derive(Debug)]
pub struct StateMemory {
    bytes_max: usize,
    bytes: AtomicUsize,
}

impl StateMemory {
    /// State may take so many bytes; 0 evicts all that can be.
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, bytes: AtomicUsize::new(0) })
    }

    /// State may take any amount.
    pub fn unlimited() -> Arc<Self> {
        Self::new(usize::MAX)
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// The part of it that the tasks of a thread take, as of its last report.
pub struct MemoryShare {
    memory: Arc<StateMemory>,
    bytes: usize,
}

impl MemoryShare {
    /// Of a thread that has no tasks yet.
    pub fn new(memory: Arc<StateMemory>) -> Self {
        Self { memory, bytes: 0 }
    }

    /// What it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the process takes more than it may.
    pub fn is_over(&self) -> bool {
        self.memory.bytes() > self.memory.bytes_max
    }

    /// Whether a quarter of the budget is free.
    pub fn has_room(&self) -> bool {
        self.memory.bytes() < self.memory.bytes_max - self.memory.bytes_max / 4
    }

    /// The most changelog that a task writes before it is checkpointed, in bytes.
    pub fn checkpoint_bytes(&self, usual: usize) -> usize {
        if self.is_over() { usual.min(self.memory.bytes_max / CHECKPOINTED_PART).max(1) } else { usual }
    }

    /// The thread has no tasks any more.
    pub fn clear(&mut self) {
        self.report(0);
    }

    fn report(&mut self, bytes: usize) {
        self.memory.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.memory.bytes.fetch_sub(std::mem::replace(&mut self.bytes, bytes), Ordering::Relaxed);
    }

    /// Reports what the tasks of the thread take. If the process takes too much, evicts their part of it, as far as
    /// checkpoints have it; returns how many entries. Tasks with an open transaction evict nothing. An error comes with the
    /// place of its task.
    pub fn make_room<D: Dataflow>(&mut self, tasks: &mut [&mut Task<D>]) -> Result<u64, (usize, TaskError)> {
        let measured = |tasks: &mut [&mut Task<D>]| {
            let tasks = tasks.iter_mut().map(|task| task.memory_bytes());
            tasks.fold((0, 0), |(all, evictable), (bytes, of_those)| (all + bytes, evictable + of_those))
        };
        let (bytes, evictable): (usize, usize) = measured(tasks);
        self.report(bytes);
        if !self.is_over() {
            return Ok(0);
        }
        let may = (self.memory.bytes_max - self.memory.bytes_max / FREED_PART) as f64;
        let surplus = self.bytes as f64 * (1.0 - may / self.memory.bytes() as f64);
        let kept = (1.0 - surplus / evictable.max(1) as f64).max(0.0);
        let mut evicted = 0;
        for (at, task) in tasks.iter_mut().enumerate() {
            evicted += if task.is_settled() { task.evict(kept).map_err(|error| (at, error))? } else { 0 };
        }
        self.report(measured(tasks).0);
        Ok(evicted)
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.report(0);
    }
}

impl<D: Dataflow> Task<D> {
    /// How much memory its state takes, about, and how much of that is subject to eviction; in bytes.
    pub fn memory_bytes(&mut self) -> (usize, usize) {
        let stores = self.stores.iter_mut().map(|store| (store.memory_bytes(), store.evictable_bytes()));
        stores.fold((0, 0), |(all, evictable), (bytes, of_those)| (all + bytes, evictable + of_those))
    }

    /// Entries that its stores have read from the checkpoint since the last call, each because it was needed.
    pub fn take_reads(&mut self) -> u64 {
        self.stores.iter_mut().map(|store| store.take_reads()).sum()
    }

    /// Whether there is no open transaction.
    pub fn is_settled(&mut self) -> bool {
        !self.moved && !self.stores.iter_mut().any(|store| store.has_changes())
    }

    /// Evicts entries until each store has the kept part of what can be evicted, as far as the checkpoint has them; returns how
    /// many. There is no open transaction.
    fn evict(&mut self, kept: f64) -> Result<u64, TaskError> {
        let Some(checkpoint) = self.checkpoint.open.clone() else { return Ok(0) };
        let mut evicted = 0;
        for store in self.stores.iter_mut() {
            let bytes_max = (store.evictable_bytes() as f64 * kept) as usize;
            match store.evict(&checkpoint, bytes_max) {
                Ok(count) => evicted += count as u64,
                Err(fault) => return Err(self.checkpoint.distrust(fault)),
            }
        }
        Ok(evicted)
    }
}
