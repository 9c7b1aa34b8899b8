//! A directory that is removed when its test has passed. When the test has failed, the logs of processes stay.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, io, thread};
use tempfile::TempDir;

/// Endings of the files that are kept: logs of services and of tally, and the output of a sender.
const KEPT: [&str; 4] = ["log", "jsonl", "stderr", "outcome"];

/// Distinguishes the files that one test keeps.
static NUMBER: AtomicU32 = AtomicU32::new(1);

/// A directory of a test's own.
pub struct Scratch(TempDir);

impl Scratch {
    /// A new, empty one.
    #[allow(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        let kept = kept_dir();
        match keep(self.path(), &kept) {
            Ok(0) => {}
            // `deploy/test.sh` looks for this line.
            Ok(_) => eprintln!("logs of processes: {}", kept.display()),
            Err(error) => eprintln!("{}: logs of processes cannot be kept: {error}", kept.display()),
        }
    }
}

/// `TALLY_TEST_LOGS`, or `tmp/logs` of the directory that Cargo builds into; then the name of the test.
fn kept_dir() -> PathBuf {
    let logs = std::env::var_os("TALLY_TEST_LOGS").map(PathBuf::from);
    let thread = thread::current();
    let test = thread.name().unwrap_or("a thread without a name").replace("::", ".");
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let logs = logs.or_else(|| target_dir().map(|dir| dir.join("tmp/logs"))).unwrap_or_else(std::env::temp_dir);
    logs.join(format!("{test}-{}-{number}", std::process::id()))
}

/// Where Cargo builds, as seen from the test's own program: the folder with Cargo's mark.
fn target_dir() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    program.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file()).map(Path::to_owned)
}

/// Copies logs, in the same folders; how many there are.
fn keep(from: &Path, to: &Path) -> io::Result<usize> {
    let mut kept = 0;
    for entry in fs::read_dir(from)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        if path.is_dir() {
            kept += keep(&path, &to.join(name))?;
        } else if path.extension().is_some_and(|ending| KEPT.iter().any(|kept| ending == *kept)) {
            fs::create_dir_all(to)?;
            fs::copy(&path, to.join(name))?;
            kept += 1;
        }
    }
    Ok(kept)
}
