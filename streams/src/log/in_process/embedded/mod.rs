//! The embedded log: one process, one directory, durable. LMDB keeps the batches, one committer thread writes them.
//!
//! ```text
//! DIR/owner.lock   locked by the process that has the log open; holds its process id
//! DIR/data.mdb     LMDB: a database per partition, and `keys`
//! DIR/lock.mdb     LMDB's
//! DIR/beginning    while a log is begun, before anything is acknowledged
//! ```

mod committer;
mod copying;
mod directory;
mod lmdb;
mod offline;
mod options;
mod room;

use std::path::Path;
use std::sync::Arc;

use crate::log::LogError;
use crate::log::in_process::handle::{Handle, InProcess};
use crate::log::in_process::writer::Writer;
use committer::Committer;
pub use copying::{FixedCopy, LogCopy};
use lmdb::LmdbStorage;
pub use offline::{OfflineLog, TopicStat, Verified};
pub use options::EmbeddedOptions;

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
        let writer = Writer::open(Box::new(storage), options.clock)?.judged_by(options.wall).kept_by(options.upkeep);
        let view = writer.view();
        let committer = Committer::start(writer, options.queue_bytes_max)?;
        let submit = Arc::clone(committer.queue());
        Ok(Self { handle: Handle { view, submit }, _committer: committer })
    }
}

impl InProcess for EmbeddedLog {
    fn handle(&self) -> &Handle {
        &self.handle
    }
}
