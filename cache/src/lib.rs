//! The caches, as both sides see them: sinks write them, the API reads them.
//!
//! [`MemoryCache`] is in this process. It starts empty and refills from the log. A subject that is missing is a miss (ask
//! the database), never zero.

mod memory;
mod shard;

pub use memory::{CacheLimits, MemoryCache, Position};
pub use shard::CachedCounters;
