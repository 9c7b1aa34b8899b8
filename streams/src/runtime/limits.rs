//! When a stream thread commits, checkpoints, purges and writes snapshots.

use std::time::Duration;

/// Limits at which a thread must commit, or write a checkpoint or a snapshot.
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
    /// A snapshot begins when a task's changelog has more bytes than this, and twice as many as the snapshot will have.
    /// 0: the next one always begins when one is complete.
    pub snapshot_tail_bytes: u64,
    /// So many bytes of a snapshot are written with each commit of its task, or as many as the commit has anyway.
    pub snapshot_step_bytes: usize,
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
            snapshot_tail_bytes: 16 << 20,
            snapshot_step_bytes: 64 << 10,
            hydrate_entries: 5_000,
        }
    }
}
