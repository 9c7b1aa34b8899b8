//! The door: events come in over HTTP, are checked one by one, and are answered for once the log has them durably.
//!
//! [`router`] is the way in; [`Door`] is what stands behind it. The path of a request, in order: [`admission`]
//! (429 rather than a stall), [`format`](mod@format) (what the body says it is), [`elements`] (the body cut into events), [`intake`]
//! (each event checked, completed and written as a record), the limits (how many of them somebody may send), the log, the
//! receipt.

mod admission;
mod anonymous;
mod answer;
mod binary;
mod caller;
mod cloud_event;
mod config;
mod door;
mod elements;
mod format;
mod intake;
mod metrics;
mod read_token;
mod refusal;
mod route;
mod schema;
mod taken;
mod types;

pub use answer::{Accepted, Rejected};
pub use config::{ConfigError, DoorConfig};
pub use door::{Door, DoorClock};
pub use route::router;
pub use types::EventTypes;

/// Events in one request.
pub const EVENTS_MAX: usize = 1_000;
/// Bytes of one request's body.
pub const BODY_BYTES_MAX: usize = 1 << 20;
