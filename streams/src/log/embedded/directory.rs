//! The log's directory: who may use it, and whether its file is whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::Path;

use crate::log::LogError;

/// Created where it is missing; locked until dropped.
pub(super) struct Directory {
    _lock: File,
}

impl Directory {
    /// Takes the directory for this process.
    pub fn lock(dir: &Path) -> Result<Self, LogError> {
        let wrong = |e: std::io::Error| LogError::Fatal(format!("cannot use the directory {}: {e}", dir.display()));
        fs::create_dir_all(dir).map_err(wrong)?;
        let path = dir.join("owner.lock");
        let mut lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(wrong)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let owner = fs::read_to_string(&path).unwrap_or_default();
                return Err(LogError::Fatal(format!(
                    "the log in {} is in use by process {}: stop that one, or choose another directory",
                    dir.display(),
                    owner.trim()
                )));
            }
            Err(TryLockError::Error(e)) => return Err(wrong(e)),
        }
        // For the message above; the lock itself does not depend on it.
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(wrong)?;
        Ok(Self { _lock: lock })
    }

    /// Makes the names of new files survive a crash of the system.
    pub fn sync(dir: &Path) -> Result<(), LogError> {
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|e| LogError::Fatal(format!("cannot sync the directory {}: {e}", dir.display())))
    }
}
