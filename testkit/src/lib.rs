//! What the tests, benchmarks and examples of several crates share. A development dependency only: no release build has it.
//!
//! The crate knows `model` and nothing else of the workspace, so that a change elsewhere does not rebuild it. What has to
//! know the log is in `tally_streams::testkit`.

pub mod baseline;
pub mod boards;

mod client;
#[cfg(feature = "database")]
mod database;
mod environment;
mod process;
mod scratch;
mod sender;
mod site;
mod wait;

pub use client::{Answer, Client};
#[cfg(feature = "database")]
pub use database::{OwnServer, ServerDatabase, Session, server_databases};
pub use environment::{
    deploy_services, optional_service, repository, service, services_required, services_script, skip, with_prefix,
};
pub use process::{now_ms, quiet_port, signal};
pub use scratch::Scratch;
pub use sender::{Sender, Sent};
pub use site::{Service, Site};
pub use wait::{PATIENCE, eventually, wait_for, wait_until};

/// The time at which most tests begin: 2026-11-21T08:00:00Z, in milliseconds since 1970.
pub const NOW_MS: i64 = 1_795_248_000_000;
/// A minute in milliseconds.
pub const MINUTE_MS: i64 = 60_000;
/// The `topology.yaml` that is shipped.
pub const SHIPPED_TOPOLOGY: &str = include_str!("../../topology.yaml");
