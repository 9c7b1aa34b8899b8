//! The log within the process: one writer, and readers that share a view with it.
//!
//! ```text
//! handle     the log itself                  request    what the writer is asked, and its answer
//! writer     the only place of changes       upkeep     what keeps the log small, in slices:
//! retention  removal of old batches          merging    of small ones; compaction of what was replaced
//! rewriting  what the two have in common     block      what they write; packing compresses it
//! view       what readers see                registry   topics
//! consumer   reading                         group      members, rebalances; assignment computes who reads what
//! producer   transactions                    appender   appends outside transactions
//! partition  what the writer knows of one    storage    the trait of what keeps batches and keys
//! batch      a stored value; varint          keys       the log's own keys
//! embedded   the storage on LMDB, durable    memory     the storage in memory, for tests
//! ```

mod appender;
mod assignment;
mod batch;
mod block;
mod compaction;
mod consumer;
pub mod embedded;
mod group;
mod handle;
mod keys;
pub mod memory;
mod merging;
mod packing;
mod partition;
mod producer;
mod registry;
mod request;
mod retention;
mod rewriting;
mod storage;
pub mod upkeep;
mod varint;
mod view;
mod writer;
