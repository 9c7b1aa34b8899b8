//! LMDB's file format, as far as it takes to know that a file is whole before LMDB maps it.
//!
//! LMDB trusts what it maps: a file that was cut short kills the process by SIGBUS, a wrong page number or length may do
//! so by SIGSEGV, and a wrong branch page hides keys. So [`inspect`] reads the file by ordinary reads first, and follows
//! the newest snapshot from its meta page to the leaves. The format is that of LMDB's data version 1 in `mdb.c`, with
//! 64-bit page numbers in the machine's byte order.

mod meta;
mod page;
mod tree;

use meta::Meta;
use std::fs::File;
use std::path::Path;
use tree::Walk;

/// Why a file cannot be trusted: what and where.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Damage(String);

impl Damage {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    fn at(page: u64, what: impl std::fmt::Display) -> Self {
        Self(format!("page {page}: {what}"))
    }
}

/// Checks whether an entry (database, key, value) is intact.
pub(crate) type IsEntry = dyn Fn(&[u8], &[u8], &[u8]) -> bool;

/// Options of an inspection.
pub(crate) struct Inspection<'a> {
    /// How many leaf pages of the databases beside the main one are read; beyond them only branch pages are.
    pub leaves_max: u64,
    /// Called for every entry of named databases in the leaves that are read.
    pub entry: &'a IsEntry,
    /// Values longer than this are damage.
    pub value_bytes_max: u64,
    /// Whether values on overflow pages are read and passed to `entry`.
    pub reads_values: bool,
    /// The file is at least as long as what the meta page counts as used.
    pub is_grown_ahead: bool,
}

/// Checks a data file that exists. Anything that LMDB would trip over is damage, and so is a read that fails.
pub(crate) fn inspect(file: &Path, inspection: &Inspection<'_>) -> Result<(), Damage> {
    let file = File::open(file).map_err(|e| Damage::new(format!("cannot be opened: {e}")))?;
    let about = file.metadata().map_err(|e| Damage::new(format!("cannot be read: {e}")))?;
    if !about.is_file() {
        return Err(Damage::new("is no file"));
    }
    if about.len() == 0 {
        return Err(Damage::new("is empty: it has 0 bytes"));
    }
    let metas = Meta::read_both(&file, about.len())?;
    let (newest, former) = meta::newest(metas)?;
    if inspection.is_grown_ahead {
        newest.check_length(about.len())?;
    }
    let mut walk = Walk::new(&file, about.len(), &newest, inspection);
    walk.check_snapshot(&newest)?;
    // A meta page whose number was damaged may pass for the newest, although its content is older.
    match Walk::new(&file, about.len(), &former, inspection).last_freed(&former) {
        Ok(former) if former > walk.last_freed(&newest)? => {
            Err(Damage::new("the meta pages contradict each other: the one with the greatest number is not the newest"))
        }
        // The former snapshot may be gone where the newest is whole: its pages may be used again.
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "damage_tests.rs"]
mod tests;
