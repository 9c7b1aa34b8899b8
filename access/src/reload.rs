//! A file that is read again when it has changed, without a restart.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A larger file cannot be a key file.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The parsed content of a file. A version that cannot be parsed changes nothing: the previous content stays in use.
pub struct Reloading<T> {
    path: PathBuf,
    parse: fn(&str) -> Result<T, String>,
    current: RwLock<Arc<T>>,
    seen: Mutex<Option<Stamp>>,
}

/// Distinguishes versions of a file. A file that replaced another has another inode number.
type Stamp = (u64, u64, i64, i64);

fn stamp(metadata: &Metadata) -> Stamp {
    (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

impl<T> Reloading<T> {
    /// Reads the file. Errors of `parse` have the form `line:column: what`, and never repeat content of the file.
    pub fn open(path: &Path, parse: fn(&str) -> Result<T, String>) -> Result<Self, String> {
        let (value, stamp) = read(path, parse)?;
        let (current, seen) = (RwLock::new(Arc::new(value)), Mutex::new(Some(stamp)));
        Ok(Self { path: path.to_owned(), parse, current, seen })
    }

    /// The content of the file.
    pub fn get(&self) -> Arc<T> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file again if it has changed, or in any case if `asked`. Returns whether it did. Blocks.
    pub fn reload(&self, asked: bool) -> Result<bool, String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = fs::metadata(&self.path).map(|metadata| stamp(&metadata)).ok();
        if *seen == now && !asked {
            return Ok(false);
        }
        // One log entry per invalid version.
        *seen = now;
        let (value, stamp) = read(&self.path, self.parse)?;
        *seen = Some(stamp);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
        Ok(true)
    }
}

fn read<T>(path: &Path, parse: fn(&str) -> Result<T, String>) -> Result<(T, Stamp), String> {
    let name = path.display();
    let wrong = |why: String| format!("{name}: {why}");
    // The stamp before the text: what changes in between is read once more.
    let metadata = fs::metadata(path).map_err(|e| wrong(e.to_string()))?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(wrong(format!("has {} bytes; at most {FILE_BYTES_MAX} are read", metadata.len())));
    }
    let text = fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    Ok((parse(&text).map_err(|why| format!("{name}:{why}"))?, stamp(&metadata)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Result<u32, String> {
        text.trim().parse().map_err(|_| "1:1: no number".to_owned())
    }

    #[test]
    fn a_file_is_read_when_it_changes_and_a_bad_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        let put = |text: &str| {
            let new = dir.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, &path).unwrap();
        };
        put("1");
        let file = Reloading::open(&path, number).unwrap();
        assert_eq!((file.reload(false), *file.get()), (Ok(false), 1));
        put("2");
        assert_eq!((file.reload(false), *file.get()), (Ok(true), 2));
        put("x");
        assert_eq!(file.reload(false), Err(format!("{}:1:1: no number", path.display())));
        assert_eq!((file.reload(false), *file.get()), (Ok(false), 2));
        fs::remove_file(&path).unwrap();
        assert!(file.reload(false).unwrap_err().contains("No such file"));
        assert_eq!((file.reload(false), *file.get()), (Ok(false), 2));
        put("3");
        assert_eq!((file.reload(true), *file.get(), file.reload(true)), (Ok(true), 3, Ok(true)));
    }
}
