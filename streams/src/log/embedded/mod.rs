//! The embedded log: one process, one directory, durable. LMDB keeps the batches, one committer thread writes them.
//!
//! ```text
//! DIR/owner.lock   locked by the process that has the log open; holds its process id
//! DIR/data.mdb     LMDB: a database per partition, and `keys`
//! DIR/lock.mdb     LMDB's
//! DIR/beginning    while a log is begun, before anything is acknowledged
//! ```

mod committer;
mod directory;
mod lmdb;
mod room;

use std::path::Path;
use std::sync::Arc;

use super::LogError;
use super::clock::{Clock, system_clock};
use super::engine::Writer;
use super::handle::{Handle, log_by_handle};
use super::wall::WallClock;
use committer::Committer;
use lmdb::LmdbStorage;

/// How an embedded log is opened.
#[derive(Clone)]
pub struct EmbeddedOptions {
    /// Gives append times and decides about retention.
    pub clock: Clock,
    /// Judges the clock of the process: then append times come from here, and while it is in doubt, what is appended
    /// outside transactions is refused with [`LogError::Unavailable`].
    pub wall: Option<Arc<WallClock>>,
    /// The most that the log may take on disk. Only address space is reserved: where the system refuses that much,
    /// half of it is tried, and so on.
    pub map_size_bytes: u64,
    /// Appends are refused with [`LogError::Full`] when they would leave less than this on the disk (or in the map;
    /// there at most an eighth of it). What frees room may use it, and so may appends that should fit into pages of the
    /// file that are free: where those are too scattered the file grows nevertheless.
    pub disk_reserve_bytes: u64,
    /// Appends beyond transactions are refused with [`LogError::Busy`] while this much is waiting.
    pub queue_bytes_max: usize,
    /// Evidence that a log existed here, if any: then none is created in place of missing data.
    pub proof: Option<String>,
    /// Partitions of all topics together. A few bytes of memory each for every reader.
    pub partitions_max: u32,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            clock: system_clock(),
            wall: None,
            map_size_bytes: 1 << 40,
            disk_reserve_bytes: 64 << 20,
            queue_bytes_max: 64 << 20,
            proof: None,
            partitions_max: 1024,
        }
    }
}

/// A log in a directory. Dropping it writes what is waiting; the directory is free when consumers, producers and
/// appenders are dropped too.
pub struct EmbeddedLog {
    handle: Handle,
    // Dropped for what it does: it stops the thread.
    _committer: Committer,
}

impl EmbeddedLog {
    /// Opens the log in `dir`, or begins one. Fails where another process has it open, or where the data is damaged in
    /// a way that shows at once.
    pub fn open(dir: impl AsRef<Path>, options: EmbeddedOptions) -> Result<Self, LogError> {
        let storage = LmdbStorage::open(dir.as_ref(), &options)?;
        let writer = Writer::open(Box::new(storage), options.clock)?.judged_by(options.wall);
        let view = writer.view();
        let committer = Committer::start(writer, options.queue_bytes_max)?;
        let submit = Arc::clone(committer.queue());
        Ok(Self { handle: Handle { view, submit }, _committer: committer })
    }
}

log_by_handle!(EmbeddedLog);
