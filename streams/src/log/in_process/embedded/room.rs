//! The space left for writes: on the disk, in LMDB's map, and in unused pages of its file.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::options::EmbeddedOptions;
use crate::log::LogError;
use crate::log::in_process::storage::Op;

/// LMDB's page size while the file's is not known yet; the system's page size is never smaller.
const PAGE_BYTES: u64 = 4096;

/// The most pages that a commit copies on the path to one changed leaf.
const PATH_PAGES: u64 = 5;

/// The file grows by an eighth of itself at a time, within these limits.
const STEP_BYTES_MIN: u64 = 1 << 20;
const STEP_BYTES_MAX: u64 = 64 << 20;

/// LMDB's figures about its file.
#[derive(Clone, Copy)]
pub(super) struct Usage {
    /// Up to the end of the last page that was ever used.
    pub used_bytes: u64,
    /// The map.
    pub map_bytes: u64,
}

/// Tracks the file's length and the free disk space.
pub(super) struct Room {
    dir: PathBuf,
    file: File,
    len_bytes: Mutex<u64>,
    disk_reserve_bytes: u64,
}

impl Room {
    /// For the data file in `dir`, which exists.
    pub fn open(dir: &Path, options: &EmbeddedOptions) -> std::io::Result<Self> {
        let file = OpenOptions::new().write(true).open(dir.join("data.mdb"))?;
        let len_bytes = file.metadata()?.len().into();
        Ok(Self { dir: dir.to_owned(), file, len_bytes, disk_reserve_bytes: options.disk_reserve_bytes })
    }

    /// Rejects appends that would not leave the reserve. `free_inside` counts the bytes of unused pages in the file; it
    /// is called only when space is short.
    pub fn check(
        &self,
        ops: &[Op<'_>],
        usage: Usage,
        free_inside: impl FnOnce() -> Result<u64, LogError>,
    ) -> Result<(), LogError> {
        if !ops.iter().any(|op| matches!(op, Op::Append { .. } | Op::Create(_))) {
            return Ok(());
        }
        let need = need_bytes(ops);
        let disk = free_on_disk(&self.dir)?;
        let map = usage.map_bytes.saturating_sub(usage.used_bytes);
        let map_reserve = self.disk_reserve_bytes.min(usage.map_bytes / 8);
        let left = disk.saturating_sub(self.disk_reserve_bytes).min(map.saturating_sub(map_reserve));
        // Free pages are scattered, and those of the last commits cannot be used yet: half of them are counted on.
        if need <= left || need <= free_inside()? / 2 {
            return Ok(());
        }
        Err(LogError::Full(format!(
            "{need} bytes are needed; {disk} are free on the disk and {map} below the log's limit of {}, of which {} are kept in reserve",
            usage.map_bytes, self.disk_reserve_bytes
        )))
    }

    /// Makes the file long enough before a commit, whose sync then makes the length durable too. (LMDB may count pages
    /// as used that it never writes, so the length alone would not show whether a file is whole.)
    pub fn grow(&self, ops: &[Op<'_>], usage: Usage) -> Result<(), LogError> {
        let wanted = usage.used_bytes.saturating_add(need_bytes(ops)).saturating_add(STEP_BYTES_MIN / 2);
        let mut len = self.len();
        if *len >= wanted.min(usage.map_bytes) {
            return Ok(());
        }
        let step = (usage.used_bytes / 8).clamp(STEP_BYTES_MIN, STEP_BYTES_MAX);
        let new = wanted.saturating_add(step).next_multiple_of(STEP_BYTES_MIN).min(usage.map_bytes);
        self.file.set_len(new).map_err(|e| LogError::Full(format!("cannot make the log's file longer: {e}")))?;
        *len = new;
        Ok(())
    }

    /// The file's length.
    pub fn len_bytes(&self) -> u64 {
        *self.len()
    }

    fn len(&self) -> MutexGuard<'_, u64> {
        self.len_bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that a commit of `ops` may take in the worst case.
fn need_bytes(ops: &[Op<'_>]) -> u64 {
    let pages: u64 = ops
        .iter()
        .map(|op| match op {
            Op::Create(_) | Op::Trim { .. } | Op::Put { .. } => PATH_PAGES,
            Op::Append { value, .. } => PATH_PAGES + value_pages(value),
            // At both ends of the range a path; what is between only goes.
            Op::Replace { blocks, .. } => {
                2 * PATH_PAGES + blocks.iter().map(|(_, block)| PATH_PAGES + value_pages(block)).sum::<u64>()
            }
        })
        .sum();
    // The list of free pages changes with every commit.
    (pages + 4 * PATH_PAGES) * PAGE_BYTES
}

/// Pages of a value that has some of its own.
fn value_pages(value: &[u8]) -> u64 {
    (value.len() as u64 + 16).div_ceil(PAGE_BYTES)
}

/// Bytes that this process may still write to the file system of `dir`.
fn free_on_disk(dir: &Path) -> Result<u64, LogError> {
    let wrong = |e: std::io::Error| LogError::Fatal(format!("cannot query the free space of {}: {e}", dir.display()));
    let path = CString::new(dir.as_os_str().as_bytes()).map_err(|e| wrong(e.into()))?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` ends with a NUL and `stat` has room for what the call writes.
    if unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(wrong(std::io::Error::last_os_error()));
    }
    // SAFETY: the call succeeded, so that it has filled in all of `stat`.
    let stat = unsafe { stat.assume_init() };
    // The fields are narrower on other systems.
    #[allow(clippy::useless_conversion)]
    Ok(u64::from(stat.f_bavail).saturating_mul(u64::from(stat.f_frsize)))
}
