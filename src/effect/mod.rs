//! The effect of a changed topology on events that the log has: they are processed in memory by the topology that runs and
//! by the changed one, both without earlier state, and everything that the two decide or compute differently is counted.

mod decisions;
mod difference;
mod replay;
mod results;

pub use difference::{Effect, compare};
pub use replay::{Replay, replay};

#[cfg(test)]
mod tests;
