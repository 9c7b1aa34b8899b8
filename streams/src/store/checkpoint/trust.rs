//! Whether a checkpoint may be opened: three small files beside it.
//!
//! ```text
//! boot     the boot of the machine that wrote it last
//! clean    is there: it was synced and closed, so that it survives the end of that boot
//! deaths   a digit: how often in a row the process died before the task's first commit. Counted in advance while the
//!          checkpoint is open, and taken back when the process lets it go
//! ```
//!
//! All are overwritten in place, so that a full disk does not prevent it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Deaths before the first commit that make a checkpoint suspect.
pub(super) const DEATHS_MAX: u8 = 2;
/// The number of deaths while a checkpoint is being opened: a death now is attributed to it.
const OPENING: u8 = 9;

/// A process opens one checkpoint at a time, so that a death is attributed to the right one.
static GATE: Mutex<()> = Mutex::new(());

/// The state of a checkpoint by the files beside it, before its data file is read.
pub(super) enum Trust {
    /// There is no checkpoint yet.
    Nothing,
    /// It may be opened. The process has died this many times since the last commit of its task.
    Granted { deaths: u8 },
    /// For a reason.
    Denied(String),
}

/// Reads the files beside the data file.
pub(super) fn trust(dir: &Path, boot_id: &str) -> Trust {
    let denied = |reason: &str| Trust::Denied(reason.to_owned());
    match dir.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Trust::Nothing,
        Err(e) => return Trust::Denied(e.to_string()),
        Ok(about) if !about.is_dir() => return denied("it is not a directory"),
        Ok(_) => {}
    }
    let is_there = |name: &str| dir.join(name).symlink_metadata().is_ok();
    if !is_there("data.mdb") {
        // A checkpoint's data file is written before the boot.
        return if is_there("boot") { denied("data.mdb is missing") } else { Trust::Nothing };
    }
    if dir.join("lock.mdb").symlink_metadata().is_ok_and(|about| !about.is_file()) {
        return denied("lock.mdb is not a file");
    }
    let deaths = deaths(dir);
    if deaths >= OPENING {
        return denied("the process died while it opened it");
    }
    if deaths >= DEATHS_MAX {
        return denied("it is damaged, or the process died of it before the task's first commit");
    }
    let is_of_this_boot = std::fs::read_to_string(dir.join("boot")).is_ok_and(|boot| boot == boot_id);
    if !is_of_this_boot && !is_there("clean") {
        return denied("the machine was rebooted and it had not been closed");
    }
    Trust::Granted { deaths }
}

/// While this lives, the process opens this checkpoint and no other.
pub(super) struct Opening<'a> {
    dir: &'a Path,
    /// The number of deaths that is stored when the opening ends without one.
    deaths: u8,
    _gate: MutexGuard<'static, ()>,
}

impl<'a> Opening<'a> {
    /// Counts the opening as a death in advance.
    pub fn begin(dir: &'a Path, deaths: u8) -> io::Result<Self> {
        let gate = GATE.lock().unwrap_or_else(PoisonError::into_inner);
        set_deaths(dir, OPENING)?;
        Ok(Self { dir, deaths, _gate: gate })
    }

    /// Marks the checkpoint as open. Until the task has committed, it may be the cause of a death.
    pub fn end(mut self, boot_id: &str) -> io::Result<()> {
        match std::fs::remove_file(self.dir.join("clean")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        write_in_place(&self.dir.join("boot"), boot_id)?;
        self.deaths = self.deaths.saturating_add(1).min(DEATHS_MAX);
        Ok(())
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        // Where it cannot be noted, the checkpoint may be discarded without need.
        let _ = set_deaths(self.dir, self.deaths);
    }
}

/// How often the process died since the task's last commit.
fn deaths(dir: &Path) -> u8 {
    match std::fs::read(dir.join("deaths")) {
        // An invalid number was damaged.
        Ok(text) => match text.first() {
            Some(digit) if digit.is_ascii_digit() => digit - b'0',
            Some(_) => OPENING,
            None => 0,
        },
        Err(_) => 0,
    }
}

/// Sets the number of deaths.
pub(super) fn set_deaths(dir: &Path, deaths: u8) -> io::Result<()> {
    write_in_place(&dir.join("deaths"), &char::from(b'0' + deaths).to_string())
}

/// Marks the checkpoint as synced and closed.
pub(super) fn set_clean(dir: &Path) -> io::Result<()> {
    write_in_place(&dir.join("clean"), "")
}

/// Overwrites a file without giving back its space first.
fn write_in_place(path: &Path, text: &str) -> io::Result<()> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    file.write_all_at(text.as_bytes(), 0)?;
    if file.metadata()?.len() != text.len() as u64 { file.set_len(text.len() as u64) } else { Ok(()) }
}
