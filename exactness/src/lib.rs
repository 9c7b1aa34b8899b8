//! Workloads through the real binary, and everything that came of them held against a naive model: what `tests/system.rs`,
//! `tests/faults.rs` and the large runs of `examples/` share. A development dependency only.

mod feed;
mod run;

pub mod faults;
pub mod naive;

pub use feed::{Feed, WorkloadFile};
pub use run::{ExactRun, compare, released_ms, stop, verdict_kinds, wait_until_released};
