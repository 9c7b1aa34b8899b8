//! The log: what the runtime sees of Kafka.
//!
//! Topics of partitions, a consumer in a group, a transactional producer, committed offsets with metadata. Three
//! engines implement it: [`embedded`] (one process, one directory, durable), [`memory`] (its twin for tests) and Kafka,
//! unless the feature `kafka` is off. One suite of contract tests (`contract`) runs against all of them.
//!
//! Guarantees of every engine:
//! - A transaction's records and committed offsets become visible together or not at all; consumers see committed
//!   records only, in offset order. Offsets may have gaps.
//! - Append times are set by the log and never decrease within a partition; in the embedded log and in its twin, within
//!   the whole log, also over restarts.
//! - Once a call that commits or appends returns `Ok`, the data survives `kill -9`.
//! - A producer that takes over a transactional id fences the former holder: nothing that the former holder sends
//!   afterwards becomes visible.

mod clock;
#[cfg(feature = "testkit")]
pub mod contract;
mod error;
mod in_process;
#[cfg(feature = "kafka")]
pub mod kafka;
mod murmur2;
mod newest;
mod record;
mod size;
mod space;
mod topic;
mod traits;
mod wall;

pub use clock::{Clock, Lag, Now, Time, system_clock};
pub use error::LogError;
pub use in_process::upkeep::UpkeepOptions;
pub use in_process::{embedded, memory};
pub use murmur2::{murmur2, partition_of};
pub use newest::{LoggedRecord, newest_records};
pub use record::{AppendBatch, Header, HeaderList, Headers, OwnedRecord, ProducerRecord, Record, TopicPartition};
pub use size::{TopicSize, topic_size};
pub use space::Space;
pub use topic::{Cleanup, TopicSpec};
pub use traits::{
    AppendedOffsets, Appender, CommittedOffset, Completion, Consumer, GroupMetadata, Log, Polled, Readiness,
    TransactionalProducer,
};
pub use wall::{Doubt, Reading, WallClock, WallLimits, last_records};
