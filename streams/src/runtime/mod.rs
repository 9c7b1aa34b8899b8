//! Stream threads, and what they share.

mod control;
mod expired_moves;
mod limits;
mod metrics;
mod refusals;
mod replaced;
mod state_dir;
mod thread;

pub use control::{Control, ControlError, Proposal, confirm, establish};
pub use limits::Limits;
pub use metrics::StreamMetrics;
pub use state_dir::{StateDir, boot_id};
pub use thread::{Polling, StreamThread};
