//! When a stream thread commits, checkpoints and purges ahead of time.

use std::time::Duration;

/// Limits at which a thread must commit or write a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// A checkpoint is written at this much changelog, in bytes, …
    pub checkpoint_bytes: usize,
    /// … or at this age.
    pub checkpoint_age: Duration,
    /// A thread that reads records appended this long ago or longer is behind.
    pub behind: Duration,
    /// While it is behind, a thread commits at this interval, if that is longer than the topology's `commit_interval`.
    pub behind_commit_interval: Duration,
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
            behind: Duration::from_secs(1),
            behind_commit_interval: Duration::from_millis(500),
            transaction_bytes_max: 32 << 20,
            purge_interval: Duration::from_secs(5),
            hydrate_entries: 20_000,
        }
    }
}
