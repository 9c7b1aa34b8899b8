//! The two meta pages: transaction N writes the one at N % 2, so the newer one's number is the older one's plus one.

use super::Damage;
use super::page::{HEADER, META, kind, u16_at, u32_at, u64_at};
use std::fs::File;
use std::os::unix::fs::FileExt;

const MAGIC: u32 = 0xBEEF_C0DE;
const DATA_VERSION: u32 = 1;
/// The size of a meta page: header, magic to map size, two trees, last page, transaction.
const BYTES: usize = HEADER + 24 + 2 * TREE_BYTES + 16;
/// A tree's root and counts.
pub(super) const TREE_BYTES: usize = 48;
/// The list of free pages has numbers as keys, in the machine's byte order.
const INTEGER_KEYS: u16 = 0x08;
/// No page: the root of an empty tree.
const NONE: u64 = u64::MAX;
const PAGE_BYTES_MIN: usize = 256;
const PAGE_BYTES_MAX: usize = 0x8000;

/// The root of a tree and its metadata.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tree {
    /// In the list of free pages this is the page size.
    pad: u32,
    flags: u16,
    pub depth: u16,
    pub branches: u64,
    pub leaves: u64,
    pub overflows: u64,
    pub entries: u64,
    /// None: it is empty.
    pub root: Option<u64>,
}

impl Tree {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= TREE_BYTES).then_some(())?;
        Some(Self {
            pad: u32_at(bytes, 0)?,
            flags: u16_at(bytes, 4)?,
            depth: u16_at(bytes, 6)?,
            branches: u64_at(bytes, 8)?,
            leaves: u64_at(bytes, 16)?,
            overflows: u64_at(bytes, 24)?,
            entries: u64_at(bytes, 32)?,
            root: Some(u64_at(bytes, 40)?).filter(|root| *root != NONE),
        })
    }

    /// Whether keys are bytes and each has one value.
    pub fn is_plain(&self) -> bool {
        self.flags == 0 && self.pad == 0
    }
}

/// A snapshot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Meta {
    pub page_bytes: usize,
    pub free: Tree,
    pub main: Tree,
    pub last_page: u64,
    pub transaction: u64,
}

impl Meta {
    /// Both of a file's.
    pub fn read_both(file: &File, len_bytes: u64) -> Result<[Self; 2], Damage> {
        let first = Self::read(file, len_bytes, 0, 0)?;
        let second = Self::read(file, len_bytes, 1, first.page_bytes as u64)?;
        if first.page_bytes != second.page_bytes {
            return Err(Damage::new("the meta pages disagree about the size of a page"));
        }
        Ok([first, second])
    }

    fn read(file: &File, len_bytes: u64, number: u64, at: u64) -> Result<Self, Damage> {
        let mut bytes = [0; BYTES];
        if at + BYTES as u64 > len_bytes {
            return Err(Damage::new(format!("was cut short: it has {len_bytes} bytes, less than its meta pages")));
        }
        file.read_exact_at(&mut bytes, at).map_err(|e| Damage::at(number, e))?;
        let damaged = |what: &str| Damage::at(number, what);
        if kind(number, &bytes)? != META {
            return Err(damaged("is no meta page"));
        }
        let body = &bytes[HEADER..];
        if u32_at(body, 0) != Some(MAGIC) {
            return Err(damaged("is not LMDB's: the magic number is wrong"));
        }
        if u32_at(body, 4) != Some(DATA_VERSION) {
            return Err(damaged("has a data version that this tally does not know"));
        }
        let tree = |at: usize| body.get(at..).and_then(Tree::parse).ok_or_else(|| damaged("is too short"));
        let (free, main) = (tree(24)?, tree(24 + TREE_BYTES)?);
        let page_bytes = free.pad as usize;
        if !page_bytes.is_power_of_two() || !(PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&page_bytes) {
            return Err(damaged("has an impossible page size"));
        }
        if free.flags != INTEGER_KEYS || !main.is_plain() {
            return Err(damaged("has flags that tally never sets"));
        }
        let counts = 24 + 2 * TREE_BYTES;
        let last_page = u64_at(body, counts).unwrap_or_default();
        let transaction = u64_at(body, counts + 8).unwrap_or_default();
        Ok(Self { page_bytes, free, main, last_page, transaction })
    }

    /// Whether the file has all pages up to the last that was ever used.
    pub fn check_length(&self, len_bytes: u64) -> Result<(), Damage> {
        let used = self.last_page.saturating_add(1).saturating_mul(self.page_bytes as u64);
        if len_bytes >= used {
            return Ok(());
        }
        Err(Damage::new(format!("has {len_bytes} bytes and {used} are in use: it was cut short")))
    }
}

/// The newest of both, and the other.
pub(super) fn newest([first, second]: [Meta; 2]) -> Result<(Meta, Meta), Damage> {
    // In a new environment both are of transaction 0, and nothing is in it.
    let is_new = |meta: &Meta| meta.transaction == 0 && meta.main.root.is_none() && meta.free.root.is_none();
    if is_new(&first) && is_new(&second) {
        return Ok((first, second));
    }
    let is_in_turn = first.transaction % 2 == 0 && second.transaction % 2 == 1;
    if !is_in_turn || first.transaction.abs_diff(second.transaction) != 1 {
        let (a, b) = (first.transaction, second.transaction);
        return Err(Damage::new(format!("the meta pages contradict each other: transactions {a} and {b}")));
    }
    let (newest, former) = if first.transaction > second.transaction { (first, second) } else { (second, first) };
    // A copy that LMDB has made begins with a blank page of transaction 0. No commit leaves a blank one.
    if newest.main.root.is_none() {
        return Err(Damage::new("the meta pages contradict each other: the one with the greatest number is blank"));
    }
    Ok((newest, former))
}
