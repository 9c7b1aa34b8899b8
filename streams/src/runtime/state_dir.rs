//! The state directory, locked by one process: its id in the log, and the id of the machine's boot.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A state directory that this process holds.
pub struct StateDir {
    path: PathBuf,
    id: String,
    /// The lock goes with it.
    _lock: File,
}

impl StateDir {
    /// Creates the directory if it is missing, locks it, and gives it an id if it has none. A full or read-only disk
    /// does not prevent the start: an id that cannot be stored is used by this process only.
    pub fn open(path: &Path) -> Result<Self, String> {
        let wrong = |e: &dyn std::fmt::Display| format!("state directory {}: {e}", path.display());
        match std::fs::create_dir_all(path) {
            Err(e) if is_of_the_disk(&e) => {
                let why = "name one on a disk that can be written with --state, or make room";
                return Err(wrong(&format!("{e}: it cannot be made: {why}")));
            }
            made => made.map_err(|e| wrong(&e))?,
        }
        let lock = match File::create(path.join("lock")) {
            // The directory can be locked itself.
            Err(e) if is_of_the_disk(&e) => File::open(path.join("lock")).or_else(|_| File::open(path)),
            lock => lock,
        };
        let lock = lock.map_err(|e| wrong(&e))?;
        match lock.try_lock() {
            Ok(()) => {
                let id = id_of(&path.join("id")).map_err(|e| wrong(&e))?;
                Ok(Self { path: path.to_owned(), id, _lock: lock })
            }
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

    /// Whether a process that used it has counted something.
    pub fn has_checkpoints(&self) -> bool {
        let is_one = |entry: &std::fs::DirEntry| entry.path().join("data.mdb").exists();
        let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
        let generations =
            entries(&self.path).filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"generation-"));
        generations.flat_map(|generation| entries(&generation.path()).collect::<Vec<_>>()).any(|entry| is_one(&entry))
    }

    /// Eight hexadecimal digits, generated once: part of every name of the process in the log. A copy of the directory
    /// has the same id, and a process on it fences the one on the original.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Whether the disk is full, broken or read-only: errors that its process can tolerate.
fn is_of_the_disk(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem) || error.raw_os_error() == Some(libc::EIO)
}

fn id_of(file: &Path) -> Result<String, String> {
    let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
    match std::fs::read_to_string(file) {
        // One that is empty was being made when the machine went down, or the disk was full.
        Ok(text) if !text.trim().is_empty() => {
            let id = text.trim();
            let is_id = id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            return if is_id { Ok(id.to_owned()) } else { Err(wrong(&"is not the id that tally made; delete it")) };
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(wrong(&error)),
        Ok(_) | Err(_) => {}
    }
    // No secret: that no two are the same is enough. The keys of a new hasher come from the system's randomness.
    let id = format!("{:08x}", RandomState::new().hash_one(file) >> 32);
    let written = File::create(file).and_then(|mut file| file.write_all(id.as_bytes()).and_then(|()| file.sync_all()));
    match written {
        Err(error) if is_of_the_disk(&error) => {
            // Part of one would pass for damage.
            let _ = std::fs::remove_file(file);
            tracing::warn!(path = %file.display(), %error, "the id of this process cannot be kept; the next start has another");
            Ok(id)
        }
        written => written.map(|()| id).map_err(|e| wrong(&e)),
    }
}

/// The kernel's id of this boot; empty if unknown, so that a checkpoint is only trusted after a clean close.
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

    #[test]
    fn its_id_is_made_once() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id_of = |dir: &tempfile::TempDir| StateDir::open(dir.path()).map(|held| held.id().to_owned());
        let id = id_of(&one).unwrap();
        assert_eq!((id.len(), id_of(&one)), (8, Ok(id.clone())));
        assert_ne!(id_of(&other).unwrap(), id);
        std::fs::write(other.path().join("id"), "mine\n").unwrap();
        assert!(id_of(&other).unwrap_err().ends_with("id: is not the id that tally made; delete it"));
        std::fs::write(other.path().join("id"), "").unwrap();
        assert_eq!(id_of(&other).unwrap().len(), 8);
    }
}
