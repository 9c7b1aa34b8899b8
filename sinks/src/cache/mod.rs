//! The caches as targets: the totals of the subjects that are asked for, and all boards. [`MemoryTarget`] is the sink's side of a
//! [`tally_cache::MemoryCache`], [`RedisTarget`] that of a Redis.

mod memory;
mod redis;

pub use memory::MemoryTarget;
pub use redis::RedisTarget;
