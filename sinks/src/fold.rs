//! Rows by key: of several with one key, the newest wins.

use hashbrown::{HashSet, HashTable};
use std::sync::Arc;

/// Names that are shared before they are forgotten: metrics are few, and a foreign record must not fill the memory.
const NAMES_MAX: usize = 4_096;

/// A row that records fold into.
pub trait Newest: Sized {
    /// A record as it was read; it borrows from the log.
    type Record<'a>;

    /// The row of the first record of its key.
    fn first(record: Self::Record<'_>, names: &mut Names) -> Self;

    /// Takes in a record that lies later in the log. It wins unless its version is smaller.
    fn merge(&mut self, later: Self::Record<'_>, names: &mut Names);
}

/// Rows of which a newer one replaces an older one of the same key.
#[derive(Debug)]
pub struct Fold<R> {
    rows: Vec<R>,
    /// The keys of the rows, one after the other.
    keys: Vec<u8>,
    /// Where the key of each row ends.
    ends: Vec<usize>,
    /// Numbers of rows, by key.
    index: HashTable<usize>,
    hasher: ahash::RandomState,
}

impl<R> Default for Fold<R> {
    fn default() -> Self {
        let (rows, keys, ends) = (Vec::new(), Vec::new(), Vec::new());
        Self { rows, keys, ends, index: HashTable::new(), hasher: ahash::RandomState::new() }
    }
}

impl<R: Newest> Fold<R> {
    /// The rows, one a key, in order of first appearance.
    pub fn rows(&self) -> &[R] {
        &self.rows
    }

    pub(crate) fn add(&mut self, key: &[u8], record: R::Record<'_>, names: &mut Names) {
        let Self { rows, keys, ends, index, hasher } = self;
        let of = |ends: &[usize], row: usize| row.checked_sub(1).map_or(0, |before| ends[before])..ends[row];
        let hash = hasher.hash_one(key);
        match index.find(hash, |row| keys[of(ends, *row)] == *key) {
            Some(row) => rows[*row].merge(record, names),
            None => {
                index.insert_unique(hash, rows.len(), |row| hasher.hash_one(&keys[of(ends, *row)]));
                rows.push(R::first(record, names));
                keys.extend_from_slice(key);
                ends.push(keys.len());
            }
        }
    }

    /// Empties it; keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.keys.clear();
        self.ends.clear();
        self.index.clear();
    }
}

/// Names that many rows share.
#[derive(Debug, Default)]
pub struct Names(HashSet<Arc<str>, ahash::RandomState>);

impl Names {
    /// The shared copy of a name.
    pub fn share(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return known.clone();
        }
        if self.0.len() == NAMES_MAX {
            self.0.clear();
        }
        let new = Arc::<str>::from(name);
        self.0.insert(new.clone());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shared_and_foreign_ones_do_not_pile_up() {
        let mut names = Names::default();
        assert!(Arc::ptr_eq(&names.share("likes"), &names.share("likes")));
        (0..10_000).for_each(|n| drop(names.share(&n.to_string())));
        assert!(names.0.len() <= NAMES_MAX);
    }
}
