//! Lists that are read page by page: how much of them, and from where.

use crate::answers::cursor::Cursor;
use crate::routes::query::{Query, refused};
use crate::state::Api;
use tally_http::ApiProblem;

/// Items of a page: the most, and where nothing is asked for.
const LIMIT_MAX: usize = 100;
pub const LIMIT_DEFAULT: usize = 50;

/// A page that somebody asks for: `limit` and `cursor`.
pub struct Paging {
    /// What is paged. A cursor is good for nothing else.
    of: String,
    /// How many items the page may have.
    pub limit: usize,
    /// Where the page before ended.
    pub cursor: Option<Cursor>,
}

impl Paging {
    /// Reads `limit` and `cursor`. `of` tells this list from every other one; `list` names it in the refusal.
    pub fn parse(api: &Api, query: &Query<'_>, of: String, list: &str) -> Result<Self, ApiProblem> {
        let limit = match query.one("limit")? {
            None => LIMIT_DEFAULT,
            Some(text) => {
                let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                limit.ok_or_else(|| refused("`limit`", &format!("must be a number from 1 to {LIMIT_MAX}")))?
            }
        };
        let cursor = query.one("cursor")?.map(|text| {
            let cursor = Cursor::decode(text, &of, &api.receipt_key);
            cursor.ok_or_else(|| refused_cursor(list))
        });
        Ok(Self { cursor: cursor.transpose()?, of, limit })
    }

    /// The first page of a list of which no other one is asked for.
    pub fn first(of: String) -> Self {
        Self { of, limit: LIMIT_DEFAULT, cursor: None }
    }

    /// Leaves of the rows, of which one more than the page may have was asked for, those that are on the page, and
    /// returns the cursor of the next one if there is one. `place` tells where a row stands in the list.
    pub fn cut<T>(&self, api: &Api, rows: &mut Vec<T>, place: impl Fn(&T) -> (i64, String)) -> Option<String> {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let (order, id) = rows.last().filter(|_| more).map(place)?;
        Some(self.behind(api, order, &id))
    }

    /// The cursor of the page behind this item.
    pub fn behind(&self, api: &Api, order: i64, id: &str) -> String {
        Cursor { order, id: id.to_owned() }.encode(&self.of, &api.receipt_key)
    }
}

/// A cursor that is good for nothing here; `list` names what is paged.
pub fn refused_cursor(list: &str) -> ApiProblem {
    refused("`cursor`", &format!("is not one that this service gave out for this {list}"))
}
