//! Stream threads, and what they share.

mod control;
mod expired_moves;
mod limits;
mod metrics;
mod recorded_topology;
mod refusals;
mod replaced;
mod state_dir;
mod thread;

pub use control::{Control, ControlError, Proposal, confirm, establish, newest_control, renew_log_id};
pub use limits::Limits;
pub use metrics::StreamMetrics;
pub use recorded_topology::{TOPOLOGY_KEY, record_topology, recorded_topology};
pub use state_dir::{StateDir, boot_id};
pub use thread::{Polling, StreamThread};
