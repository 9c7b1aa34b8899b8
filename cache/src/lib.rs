//! The caches, as both sides see them: sinks write them, the API reads them.
//!
//! [`MemoryCache`] is in this process; [`redis`] is shared by many, unless the feature `redis` is off. All of either
//! can be lost and is filled again from the log. A missing subject is a miss (read the database), never zero.

mod filter;
#[cfg(test)]
mod interleaving;
mod locks;
mod memory;
#[cfg_attr(not(feature = "redis"), path = "without_redis.rs")]
pub mod redis;
mod shard;
mod watched;

pub use memory::{Admit, CacheLimits, MemoryCache, Position, Serving};
pub use shard::{CachedCounters, Known, Loaded};

/// The schemes of addresses of a Redis or a Redis Cluster, without their colons.
pub const REDIS_SCHEMES: [&str; 4] = ["redis", "rediss", "redis+cluster", "rediss+cluster"];

/// Whether an address is of Redis at all, by its scheme.
pub fn is_redis(url: &str) -> bool {
    url.split_once(':').is_some_and(|(scheme, _)| REDIS_SCHEMES.contains(&scheme))
}
