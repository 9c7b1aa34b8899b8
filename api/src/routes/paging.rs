//! The parameters of lists that are read page by page: `limit` and `cursor`.

use super::query::{Query, refused};
use crate::answers::cursor::Cursor;
use crate::answers::paging::{LIMIT_DEFAULT, LIMIT_MAX, Paging};
use crate::state::Api;
use tally_http::ApiProblem;

/// Reads `limit` and `cursor`. `of` distinguishes this list from every other one; `list` names it in the refusal.
pub fn paging(api: &Api, query: &Query<'_>, of: String, list: &str) -> Result<Paging, ApiProblem> {
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
    Ok(Paging { cursor: cursor.transpose()?, of, limit })
}

/// A cursor that is not valid for this list; `list` names the list.
pub fn refused_cursor(list: &str) -> ApiProblem {
    refused("`cursor`", &format!("was not issued by this service for this {list}"))
}
