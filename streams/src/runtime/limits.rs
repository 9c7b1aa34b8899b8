//! When a stream thread commits, checkpoints and purges ahead of time.

use std::time::Duration;

/// Limits at which a thread must commit or write a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// A checkpoint is written at this much changelog, in bytes, …
    pub checkpoint_bytes: usize,
    /// … or at this age.
    pub checkpoint_age: Duration,
    /// An open transaction that holds more is committed at once.
    pub transaction_bytes_max: usize,
    /// How often records below the committed offsets of repartition topics are deleted.
    pub purge_interval: Duration,
    /// Entries loaded from checkpoints per poll, until all are in memory.
    pub hydrate_entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            checkpoint_bytes: 8 << 20,
            checkpoint_age: Duration::from_secs(10),
            transaction_bytes_max: 32 << 20,
            purge_interval: Duration::from_secs(5),
            hydrate_entries: 20_000,
        }
    }
}
