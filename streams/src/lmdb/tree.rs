//! A snapshot's trees, followed from the root to the leaves.

use super::meta::{Meta, Tree};
use super::page::{Content, HEADER, OVERFLOW, Page, kind, u32_at, u64_at};
use super::{Damage, Inspection};
use std::cmp::Ordering;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// LMDB's own limit.
const DEPTH_MAX: u16 = 32;

/// A walk through one snapshot: every page at most once.
pub(super) struct Walk<'a> {
    file: &'a File,
    len_bytes: u64,
    page_bytes: usize,
    last_page: u64,
    /// By page: it is part of a tree, or free.
    seen: Vec<u64>,
    /// Free pages that the file does not reach.
    beyond: u64,
    leaves_left: u64,
    inspection: &'a Inspection<'a>,
}

/// What distinguishes the trees.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Free,
    Main,
    Named,
}

/// Where the walk through a tree is.
#[derive(Default)]
struct Pass {
    /// The database's; empty for those that have none.
    name: Vec<u8>,
    branches: u64,
    leaves: u64,
    overflows: u64,
    entries: u64,
    /// Keys ascend.
    last: Option<Vec<u8>>,
    /// A branch's key is the least of what is below it.
    floor: Option<Vec<u8>>,
    /// Some leaves were not read.
    is_partial: bool,
    /// Databases found in the main one.
    named: Vec<(Vec<u8>, Tree)>,
}

impl<'a> Walk<'a> {
    pub fn new(file: &'a File, len_bytes: u64, meta: &Meta, inspection: &'a Inspection<'a>) -> Self {
        // Pages beyond the file may be counted as used where they are free.
        let pages = len_bytes.div_ceil(meta.page_bytes as u64);
        Self {
            file,
            len_bytes,
            page_bytes: meta.page_bytes,
            last_page: meta.last_page,
            seen: vec![0; (pages / 64 + 1) as usize],
            beyond: 0,
            leaves_left: inspection.leaves_max,
            inspection,
        }
    }

    /// Follows everything that the snapshot has.
    pub fn check_snapshot(&mut self, meta: &Meta) -> Result<(), Damage> {
        let main = self.check_tree(&meta.main, Kind::Main, &[]).map_err(|e| of("the main database", e))?;
        for (name, tree) in main.named {
            let checked = self.check_tree(&tree, Kind::Named, &name);
            checked.map_err(|e| of(&format!("database `{}`", name.escape_ascii()), e))?;
        }
        // Last: a free page must not be one that is used.
        self.check_tree(&meta.free, Kind::Free, &[]).map_err(|e| of("the list of free pages", e))?;
        let pages = self.len_bytes.div_ceil(self.page_bytes as u64).saturating_add(self.beyond);
        if self.last_page >= pages {
            let last = self.last_page;
            return Err(Damage::new(format!(
                "the last page should be {last}, and there are {pages}: it was cut short"
            )));
        }
        Ok(())
    }

    /// The number of the last transaction that freed a page; 0 for none.
    pub fn last_freed(&self, meta: &Meta) -> Result<u64, Damage> {
        let Some(mut number) = meta.free.root else { return Ok(0) };
        for _ in 0..DEPTH_MAX {
            let bytes = self.read(number, 1)?;
            let page = Page::parse(number, &bytes)?;
            match page.node(page.len() - 1)? {
                (_, Content::Child(child)) => number = child,
                (key, _) => return u64_at(key, 0).ok_or_else(|| Damage::at(number, "a key is too short")),
            }
        }
        Err(Damage::at(number, "lies too deep"))
    }

    fn check_tree(&mut self, tree: &Tree, kind: Kind, name: &[u8]) -> Result<Pass, Damage> {
        let mut pass = Pass { name: name.to_vec(), ..Pass::default() };
        match tree.root {
            Some(root) if tree.depth <= DEPTH_MAX => self.descend(root, tree.depth, kind, &mut pass)?,
            Some(_) => return Err(Damage::new(format!("has an impossible depth of {}", tree.depth))),
            None if tree.depth != 0 => return Err(Damage::new("has no root, and a depth")),
            None => {}
        }
        let counted = [pass.branches, pass.leaves, pass.overflows, pass.entries];
        let mut stated = [tree.branches, tree.leaves, tree.overflows, tree.entries];
        if !self.inspection.reads_values && pass.overflows < tree.overflows {
            // Pages that values keep which were replaced by shorter ones were not seen.
            stated[2] = pass.overflows;
        }
        if counted != stated && !pass.is_partial {
            return Err(Damage::new(format!(
                "should have {stated:?} branch pages, leaf pages, overflow pages and entries, and has {counted:?}"
            )));
        }
        Ok(pass)
    }

    fn descend(&mut self, number: u64, levels: u16, kind: Kind, pass: &mut Pass) -> Result<(), Damage> {
        let Some(below) = levels.checked_sub(1) else {
            return Err(Damage::at(number, "lies deeper than the tree's depth"));
        };
        self.take(number, 1)?;
        if kind == Kind::Named && below == 0 {
            match self.leaves_left.checked_sub(1) {
                Some(left) => self.leaves_left = left,
                None => {
                    pass.is_partial = true;
                    return Ok(());
                }
            }
        }
        let bytes = self.read(number, 1)?;
        let page = Page::parse(number, &bytes)?;
        if page.is_leaf != (below == 0) {
            return Err(Damage::at(number, "is a leaf where a branch should be, or the other way round"));
        }
        if page.is_leaf {
            pass.leaves += 1;
            return (0..page.len()).try_for_each(|index| self.check_entry(&page, number, index, kind, pass));
        }
        pass.branches += 1;
        for index in 0..page.len() {
            let (key, Content::Child(child)) = page.node(index)? else { continue };
            // The first key is not used.
            if index > 0 {
                let is_behind = |other: &Option<Vec<u8>>| {
                    other.as_deref().is_none_or(|other| compare(kind, other, key) == Ordering::Less)
                };
                if !is_behind(&pass.last) || !is_behind(&pass.floor) {
                    return Err(Damage::at(number, format!("the key of node {index} is out of order")));
                }
                pass.floor = Some(key.to_vec());
            }
            self.descend(child, below, kind, pass)?;
        }
        Ok(())
    }

    fn check_entry(
        &mut self,
        page: &Page<'_>,
        number: u64,
        index: usize,
        kind: Kind,
        pass: &mut Pass,
    ) -> Result<(), Damage> {
        let (key, content) = page.node(index)?;
        let wrong = |what: &str| Err(Damage::at(number, format!("node {index} {what}")));
        let is_ascending = pass.last.as_deref().is_none_or(|last| compare(kind, last, key) == Ordering::Less);
        let is_above = pass.floor.as_deref().is_none_or(|floor| compare(kind, floor, key) != Ordering::Greater);
        if !is_ascending || !is_above {
            return wrong("is out of order");
        }
        pass.last = Some(key.to_vec());
        pass.entries += 1;
        let inspection = self.inspection;
        let is_good = |name: &[u8], value: &[u8]| kind != Kind::Named || (inspection.entry)(name, key, value);
        match content {
            Content::Value(value) if kind == Kind::Free => self.take_free(number, value),
            Content::Value(value) if kind == Kind::Named && is_good(&pass.name, value) => Ok(()),
            Content::Value(_) => wrong("is not what was written there"),
            Content::Database(value) => match Tree::parse(value).filter(|tree| tree.is_plain()) {
                Some(tree) if kind == Kind::Main => {
                    pass.named.push((key.to_vec(), tree));
                    Ok(())
                }
                _ => wrong("is no database that tally made"),
            },
            Content::Overflow { first, len_bytes } => {
                if len_bytes > inspection.value_bytes_max && kind == Kind::Named {
                    return wrong(&format!("has a value of {len_bytes} bytes, more than there can be"));
                }
                let needed = (HEADER as u64 + len_bytes).div_ceil(self.page_bytes as u64);
                if kind == Kind::Named && !inspection.reads_values {
                    pass.overflows += needed;
                    return self.take(first, needed);
                }
                let head = self.read(first, 1)?;
                // A value that was replaced by a shorter one keeps its pages.
                let pages = u32_at(&head, 12).map_or(0, u64::from);
                if self::kind(first, &head)? != OVERFLOW || pages < needed {
                    return Err(Damage::at(first, format!("is not the first of {needed} overflow pages")));
                }
                self.take(first, pages)?;
                pass.overflows += pages;
                let bytes = self.read(first, needed)?;
                let value = bytes.get(HEADER..HEADER + len_bytes as usize);
                match (kind, value) {
                    (Kind::Free, Some(value)) => self.take_free(number, value),
                    (Kind::Named, Some(value)) if !is_good(&pass.name, value) => wrong("is not what was written there"),
                    (Kind::Main, _) => wrong("is no database that tally made"),
                    _ => Ok(()),
                }
            }
            Content::Child(_) => wrong("is that of a branch"),
        }
    }

    /// Takes note of pages that are used. Each has one place.
    fn take(&mut self, first: u64, pages: u64) -> Result<(), Damage> {
        let last = first.saturating_add(pages - 1);
        if first < 2 || last > self.last_page {
            return Err(Damage::at(first, format!("is used, and the last page is {}", self.last_page)));
        }
        if last.saturating_add(1).saturating_mul(self.page_bytes as u64) > self.len_bytes {
            let len = self.len_bytes;
            return Err(Damage::at(first, format!("lies beyond the file's {len} bytes: it was cut short")));
        }
        (first..=last).try_for_each(|page| self.note(page))
    }

    fn note(&mut self, page: u64) -> Result<(), Damage> {
        if page >= self.len_bytes.div_ceil(self.page_bytes as u64) {
            self.beyond += 1;
            return Ok(());
        }
        let Some(word) = self.seen.get_mut((page / 64) as usize) else { return Ok(()) };
        let bit = 1 << (page % 64);
        if *word & bit != 0 {
            return Err(Damage::at(page, "has two places"));
        }
        *word |= bit;
        Ok(())
    }

    /// Reads a list of free pages: its length, then the page numbers.
    fn take_free(&mut self, number: u64, list: &[u8]) -> Result<(), Damage> {
        let count = u64_at(list, 0).and_then(|count| usize::try_from(count).ok());
        let numbers = count.and_then(|count| list.get(8..count.checked_mul(8)?.checked_add(8)?));
        let Some(numbers) = numbers else { return Err(Damage::at(number, "a list of free pages is too short")) };
        for free in numbers.chunks_exact(8).filter_map(|bytes| u64_at(bytes, 0)) {
            if free < 2 || free > self.last_page {
                return Err(Damage::at(number, format!("lists page {free} as free, which there is not")));
            }
            self.note(free)?;
        }
        Ok(())
    }

    fn read(&self, first: u64, pages: u64) -> Result<Vec<u8>, Damage> {
        let bytes = self.page_bytes as u64;
        let at = first.checked_mul(bytes).filter(|at| at.saturating_add(pages * bytes) <= self.len_bytes);
        let at = at.ok_or_else(|| Damage::at(first, "lies beyond the file's end"))?;
        let mut buffer = vec![0; (pages * bytes) as usize];
        self.file.read_exact_at(&mut buffer, at).map_err(|e| Damage::at(first, e))?;
        Ok(buffer)
    }
}

fn compare(kind: Kind, a: &[u8], b: &[u8]) -> Ordering {
    match kind {
        Kind::Free => u64_at(a, 0).cmp(&u64_at(b, 0)),
        Kind::Main | Kind::Named => a.cmp(b),
    }
}

fn of(what: &str, damage: Damage) -> Damage {
    Damage(format!("{what}: {}", damage.0))
}
