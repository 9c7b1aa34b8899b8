//! Redis as a cache, as both of its sides see it: addresses, connections, the names of the keys, and what the stored
//! progress claims. The sink writes (`sinks/src/cache/redis`), the API reads (`api/src/reads/redis.rs`).

mod address;
mod keys;
mod progress;
mod reach;
mod shards;
mod slot;

pub use address::{AddressError, RedisAddress};
pub use keys::{EPOCH_FIELD, Keys, RANKING_FIELD, VERSION_FIELD};
pub use progress::{EPOCH, NodeIdentity, RedisProgress, SHARDS, StoredPartition, StoredShard, fields};
pub use reach::reach;
pub use shards::{RedisFailure, RedisTimeouts, Shards, describe, text};
pub use slot::{SLOTS, slot_of, tag_of};
