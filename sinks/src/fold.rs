//! Rows by key: of several with one key, the newest wins.

use hashbrown::{HashSet, HashTable};
use std::ops::Range;
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

    /// The rows in the order of their keys: neighbours share pages, and writers that meet wait for each other in order.
    pub(crate) fn sorted(&self) -> impl Iterator<Item = &R> {
        let key = |row: usize| &self.keys[range(&self.ends, row)];
        // Most keys differ in their first bytes, which need no look at the keys.
        let mut order: Vec<_> = (0..self.rows.len()).map(|row| (first_bytes(key(row)), row)).collect();
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| key(a.1).cmp(key(b.1))));
        order.into_iter().map(|(_, row)| &self.rows[row])
    }

    pub(crate) fn add(&mut self, key: &[u8], record: R::Record<'_>, names: &mut Names) {
        let Self { rows, keys, ends, index, hasher } = self;
        let hash = hasher.hash_one(key);
        match index.find(hash, |row| keys[range(ends, *row)] == *key) {
            Some(row) => rows[*row].merge(record, names),
            None => {
                index.insert_unique(hash, rows.len(), |row| hasher.hash_one(&keys[range(ends, *row)]));
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

/// Where the key of a row lies.
fn range(ends: &[usize], row: usize) -> Range<usize> {
    row.checked_sub(1).map_or(0, |before| ends[before])..ends[row]
}

/// The first bytes of a key as a number of the same order; a shorter key ends in zeros.
fn first_bytes(key: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    let len = key.len().min(bytes.len());
    bytes[..len].copy_from_slice(&key[..len]);
    u128::from_be_bytes(bytes)
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
    use tally_model::Ranking;

    #[test]
    fn rows_are_sorted_by_their_whole_keys() {
        let (mut fold, mut names) = (Fold::<Ranking>::default(), Names::default());
        let keys =
            ["b", "", "article:1234567890\0x", "article:1234567890\0a", "a\0", "a", "article:1234567", "a\u{7528}"];
        for key in keys {
            let ranking = Ranking { board: key.to_owned(), items: Vec::new(), as_of_ms: 0, version: 0 };
            fold.add(key.as_bytes(), ranking, &mut names);
        }
        let mut sorted = keys;
        sorted.sort_unstable();
        assert_eq!(fold.sorted().map(|ranking| &*ranking.board).collect::<Vec<_>>(), sorted);
    }

    #[test]
    fn names_are_shared_and_foreign_ones_do_not_pile_up() {
        let mut names = Names::default();
        assert!(Arc::ptr_eq(&names.share("likes"), &names.share("likes")));
        (0..10_000).for_each(|n| drop(names.share(&n.to_string())));
        assert!(names.0.len() <= NAMES_MAX);
    }
}
