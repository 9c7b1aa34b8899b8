//! The caches, as both sides see them: sinks write them, the API reads them.
//!
//! [`MemoryCache`] is in this process; [`redis`] is shared by many. All of either can be lost and is filled again from
//! the log. A subject that is missing is a miss (ask the database), never zero.

mod filter;
#[cfg(test)]
mod interleaving;
mod locks;
mod memory;
pub mod redis;
mod shard;
mod watched;

pub use memory::{Admit, CacheLimits, MemoryCache, Position, Serving};
pub use shard::{CachedCounters, Known, Loaded};
