//! The sinks: what carries the output topics into places that answer questions, a database and a cache.
//!
//! A [`SinkTask`] reads committed records, folds them by key and writes them into a [`Target`] as upserts guarded by
//! their version. Its positions live in the target, in the same transaction as the rows, so a crash at any step
//! neither loses nor repeats anything that can be seen, and a restored backup or an emptied cache refills itself.

mod batch;
mod breaker;
mod cache;
mod config;
mod database;
mod failure;
mod fold;
mod metrics;
mod origin;
mod partition;
mod progress_topic;
mod reading;
mod row;
mod runner;
mod share;
mod store;
mod target;
mod thread;
mod value;

pub use batch::{Batch, DeadLetterRow, Move, RecordError};
pub use cache::{MemoryTarget, RedisTarget};
pub use config::SinkConfig;
pub use database::{
    Database, DatabaseError, DatabaseOwner, Reached, Retention, WindowRetention, check_options, copy_database,
    database_file, log_name, log_of, reach, rename_log,
};
pub use failure::SinkError;
pub use fold::{Fold, Names, Newest};
pub use metrics::SinkMetrics;
pub use row::{CounterRow, ReactionRow, WindowRow};
pub use runner::{SinkTask, Step};
pub use store::{OpenError, SINK_TYPES, SinkType, StoreAddress, StoreKind, StoreUrl, TargetSite};
pub use target::{Expired, Standing, StoredPosition, Target, TargetError};
pub use thread::{HeadStart, SinkState, SinkThread};
