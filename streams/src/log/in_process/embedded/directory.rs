//! The log's directory: its owner, and whether a log must exist in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::log::LogError;

/// Exists while a log is being created: the data in the directory was never used then.
const BEGINNING: &str = "beginning";

/// Created where it is missing; locked until dropped.
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

/// The advice at the end of every message about a damaged log.
pub(super) const WAY_OUT: &str = "stop here and restore the log from a backup (docs/operations.md, \"Damaged log\")";

/// A log that cannot be used without an operator.
pub(super) fn damaged(file: &Path, detail: impl std::fmt::Display) -> LogError {
    LogError::Corrupt { address: file.display().to_string(), detail: format!("{detail}: {WAY_OUT}") }
}

impl Directory {
    /// Takes the directory for this process.
    pub fn lock(dir: &Path) -> Result<Self, LogError> {
        Self::lock_unless_in_use(dir)?.map_err(LogError::Fatal)
    }

    /// The same; the inner error says which process has it.
    pub fn lock_unless_in_use(dir: &Path) -> Result<Result<Self, String>, LogError> {
        let wrong = |e: std::io::Error| LogError::Fatal(format!("cannot use the directory {}: {e}", dir.display()));
        fs::create_dir_all(dir).map_err(wrong)?;
        let path = dir.join("owner.lock");
        let mut lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(wrong)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let owner = fs::read_to_string(&path).unwrap_or_default();
                return Ok(Err(format!(
                    "the log in {} is in use by process {}: stop that one, or choose another directory",
                    dir.display(),
                    owner.trim()
                )));
            }
            Err(TryLockError::Error(e)) => return Err(wrong(e)),
        }
        // For the message above; the lock itself does not depend on it.
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(wrong)?;
        Ok(Ok(Self { path: dir.to_owned(), _lock: lock }))
    }

    /// Whether to create a new log. If there was a log whose data is missing, it is lost, and no new log takes its
    /// place. `proof` names other evidence of a former log.
    pub fn is_to_begin(&self, proof: Option<&str>) -> Result<bool, LogError> {
        let data = self.path.join("data.mdb");
        let is_there = |name: &str| self.path.join(name).symlink_metadata().is_ok();
        if is_there(BEGINNING) {
            // The process that created it died before anything was acknowledged.
            for left in ["data.mdb", "lock.mdb"] {
                match fs::remove_file(self.path.join(left)) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(self.wrong(&e)),
                    _ => {}
                }
            }
        } else if is_there("data.mdb") {
            return Ok(false);
        } else if is_there("lock.mdb") {
            return Err(damaged(&data, "is missing, and lock.mdb beside it shows that there was a log"));
        }
        match proof {
            Some(proof) => Err(damaged(&data, format!("is missing, and {proof} shows that there was a log"))),
            None => Ok(true),
        }
    }

    /// From now on until [`Directory::begun`] nothing here is of any value.
    pub fn begin(&self) -> Result<(), LogError> {
        File::create(self.path.join(BEGINNING)).map_err(|e| self.wrong(&e))?;
        self.sync()
    }

    /// Records that the log exists durably.
    pub fn begun(&self) -> Result<(), LogError> {
        self.sync()?;
        fs::remove_file(self.path.join(BEGINNING)).map_err(|e| self.wrong(&e))?;
        self.sync()
    }

    /// Makes the names of files survive a crash of the system.
    fn sync(&self) -> Result<(), LogError> {
        File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(|e| self.wrong(&e))
    }

    fn wrong(&self, error: &std::io::Error) -> LogError {
        LogError::Fatal(format!("cannot use the directory {}: {error}", self.path.display()))
    }
}
