//! The caches as targets: the totals of requested subjects, and all boards. [`MemoryTarget`] is the sink's side of a
//! [`tally_cache::MemoryCache`], [`RedisTarget`] that of a Redis.

mod memory;
#[cfg_attr(not(feature = "redis"), path = "without_redis.rs")]
mod redis;

pub use memory::MemoryTarget;
pub use redis::RedisTarget;

use crate::store::{SinkType, StoreAddress, StoreKind, StoreUrl};
use tally_cache::is_redis;
use tally_cache::redis::RedisAddress;
use tally_model::OutputType;

/// Sinks that fill a cache.
pub const SINK_TYPE: SinkType = SinkType {
    name: "cache",
    kind: StoreKind::Cache,
    schemes: &["memory", "redis", "rediss", "redis+cluster", "rediss+cluster"],
    values: &[OutputType::Counters, OutputType::Ranking],
    parse,
};

fn parse(url: &StoreUrl) -> Result<StoreAddress, String> {
    if url.as_str() == "memory:" {
        return Ok(StoreAddress::Memory);
    }
    if !is_redis(url.as_str()) {
        let forms = "`memory:`, `redis://host:6379`, `rediss://…` or `redis+cluster://host:port,host2:port2`";
        return Err(format!("use {forms}"));
    }
    let address = RedisAddress::parse(url.as_str()).map_err(|error| error.cause)?;
    Ok(StoreAddress::Redis(address.shown_as(&url.to_string())))
}
