//! The state directory: locked by one process, and what tells boots of the machine apart.

use std::fs::File;
use std::path::{Path, PathBuf};

/// A state directory that this process holds.
pub struct StateDir {
    path: PathBuf,
    /// The lock goes with it.
    _lock: File,
}

impl StateDir {
    /// Makes the directory if it is missing, and locks it.
    pub fn open(path: &Path) -> Result<Self, String> {
        let wrong = |e: &dyn std::fmt::Display| format!("state directory {}: {e}", path.display());
        std::fs::create_dir_all(path).map_err(|e| wrong(&e))?;
        let lock = File::create(path.join("lock")).map_err(|e| wrong(&e))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => {
                Err(wrong(&"another tally uses it: stop that one, or give this one its own with --state"))
            }
            Err(std::fs::TryLockError::Error(e)) => Err(wrong(&e)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The kernel's id of this boot; empty where there is none, so that a checkpoint is only trusted after a clean close.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let held = StateDir::open(dir.path()).unwrap();
        assert!(StateDir::open(dir.path()).err().unwrap().contains("another tally uses it"));
        drop(held);
        assert!(StateDir::open(dir.path()).is_ok());
    }
}
