//! Lists that are read page by page: how much of them, and from where.

use super::cursor::Cursor;
use tally_model::ReceiptKey;

/// Items of a page: the most, and the default.
pub const LIMIT_MAX: usize = 100;
pub const LIMIT_DEFAULT: usize = 50;

/// The page requested: `limit` and `cursor`.
pub struct Paging {
    /// The list that is paged. A cursor is valid for that list only.
    pub of: String,
    /// How many items the page may have.
    pub limit: usize,
    /// Where the page before ended.
    pub cursor: Option<Cursor>,
}

impl Paging {
    /// The first page of a list, of the default length.
    pub fn first(of: String) -> Self {
        Self { of, limit: LIMIT_DEFAULT, cursor: None }
    }

    /// Cuts the rows, of which one more than the page may have was read, to those on the page, and returns the cursor of
    /// the next page if there is one. `place` is where a row stands in the list.
    pub fn cut<T>(&self, key: &ReceiptKey, rows: &mut Vec<T>, place: impl Fn(&T) -> (i64, String)) -> Option<String> {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let (order, id) = rows.last().filter(|_| more).map(place)?;
        Some(self.behind(key, order, &id))
    }

    /// The cursor of the page behind this item.
    pub fn behind(&self, key: &ReceiptKey, order: i64, id: &str) -> String {
        Cursor { order, id: id.to_owned() }.encode(&self.of, key)
    }
}
