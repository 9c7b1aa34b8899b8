//! The cache: the totals of the subjects that are asked for, in memory.
//!
//! [`MemoryCache`] answers; [`MemoryTarget`] is the sink's side of it. It starts empty and refills from the log. A
//! subject that is missing is a miss (ask the database), never zero.

mod memory;
mod shard;

pub use memory::{CacheLimits, MemoryCache, MemoryTarget};
pub use shard::CachedCounters;
