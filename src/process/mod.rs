//! A process of tally: its parts, their start and their shutdown.

mod clock;
mod graph;
#[cfg_attr(not(feature = "grpc"), path = "without_grpc.rs")]
mod grpc;
mod identity;
mod ingest;
#[cfg_attr(not(feature = "kafka"), path = "without_kafka.rs")]
pub mod kafka;
pub mod log;
mod log_space;
pub mod logging;
pub mod page;
mod parts;
pub mod planning;
mod process_metrics;
mod reach;
mod read_side;
mod recording;
mod roles;
mod serve;
mod sinking;
mod site;
mod stores;
mod streaming;
mod topics;
mod view;
mod watch;
mod who;

pub use ingest::types_taken;
pub use roles::Roles;
pub use serve::serve;
pub use site::Site;

use std::time::{SystemTime, UNIX_EPOCH};

/// Wall time, milliseconds since 1970.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
