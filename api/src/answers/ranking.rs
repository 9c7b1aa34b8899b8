//! Pages of boards as they are answered.

use super::ReadError;
use super::counters::{self, SubjectCounters};
use super::cursor::Cursor;
use super::metric_json::MetricJson;
use super::paging::Paging;
use super::viewer::Viewer;
use crate::reads::Reads;
use crate::reads::after::After;
use crate::reads::boards::BoardRead;
use crate::reads::freshness::Freshness;
use crate::reads::totals::{AllTotals, RelativeErrors};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::sync::Arc;
use tally_model::{Ranked, ReceiptKey};
use utoipa::ToSchema;

/// A page of a board, best first.
#[derive(Serialize, ToSchema)]
pub struct RankingAnswer {
    /// The board.
    board: String,
    /// At most `limit`.
    items: Vec<RankedItem>,
    /// The cursor of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<String>,
    #[serde(flatten)]
    pub freshness: Freshness,
}

/// A subject on a board.
#[derive(Serialize, ToSchema)]
pub struct RankedItem {
    /// Its place on the board as it is now, from 1.
    rank: usize,
    /// The subject.
    subject_id: String,
    /// What the weights of the board make of its counts: a number with up to three decimals, greater than 0.
    #[schema(value_type = f64)]
    score: Score,
    /// Every metric of the topology. Without events: 0, or null for minima, maxima, averages, quantiles, first and last
    /// values.
    #[schema(value_type = HashMap<String, MetricJson>)]
    counters: AllTotals,
    /// The metrics that are estimates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, required = false)]
    approximate: Vec<Arc<str>>,
    /// Their relative errors: 0.01 is 1 %. The standard error of a distinct count, the largest error of a quantile.
    #[serde(skip_serializing_if = "RelativeErrors::is_empty")]
    #[schema(value_type = HashMap<String, f64>, required = false)]
    relative_errors: RelativeErrors,
    /// With `actor_id`: the toggles of that actor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    viewer: Option<Viewer>,
}

/// A score in thousandths, written as a decimal number: exact, where a double would round.
pub struct Score(i64);

impl Serialize for Score {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (sign, score) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let text = format!("{sign}{}.{:03}", score / 1_000, score % 1_000);
        let text = text.trim_end_matches('0').trim_end_matches('.').to_owned();
        RawValue::from_string(text).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

/// The first page of a board, without a viewer.
pub async fn first_page(
    reads: &Reads,
    key: &ReceiptKey,
    board: &str,
    read: BoardRead,
) -> Result<RankingAnswer, ReadError> {
    page(reads, key, board, read, &Paging::first(of_board(board)), (None, None)).await
}

/// A page of a board; with a viewer, what that actor has switched on. With `after` it waits for the totals
/// as well.
pub async fn page(
    reads: &Reads,
    key: &ReceiptKey,
    board: &str,
    (ranking, mut freshness): BoardRead,
    paging: &Paging,
    (viewer, after): (Option<&str>, Option<&After>),
) -> Result<RankingAnswer, ReadError> {
    let all = ranking.as_deref().map_or(&[][..], |ranking| &ranking.items);
    let first = paging.cursor.as_ref().map_or(0, |cursor| all.partition_point(|item| !is_behind(item, cursor)));
    let shown = &all[first..all.len().min(first + paging.limit)];
    let last = shown.last().filter(|_| first + shown.len() < all.len());
    let next = last.map(|item| paging.behind(key, item.score, &item.subject_id));
    let mut items = Vec::with_capacity(shown.len());
    if !shown.is_empty() {
        let ids: Vec<_> = shown.iter().map(|item| item.subject_id.as_str()).collect();
        let (subjects, of_subjects) = counters::items(reads, &ids, viewer, after).await?;
        freshness = freshness.least(of_subjects);
        for ((rank, item), subject) in (first + 1..).zip(shown).zip(subjects) {
            let SubjectCounters { subject_id, counters, approximate, relative_errors, viewer } = subject;
            let score = Score(item.score);
            items.push(RankedItem { rank, subject_id, score, counters, approximate, relative_errors, viewer });
        }
    }
    Ok(RankingAnswer { board: board.to_owned(), items, next, freshness })
}

/// Distinguishes the pages of a board from those of other lists.
pub fn of_board(board: &str) -> String {
    format!("ranking\0{board}")
}

/// Whether an item comes after the last one shown: by score, then by id.
fn is_behind(item: &Ranked, cursor: &Cursor) -> bool {
    item.score < cursor.order || item.score == cursor.order && item.subject_id > cursor.id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_exact_decimals() {
        for (score, text) in [
            (1, "0.001"),
            (1_500, "1.5"),
            (4_000, "4"),
            (10_000, "10"),
            (12_345, "12.345"),
            (0, "0"),
            (-1_230, "-1.23"),
            (i64::MAX, "9223372036854775.807"),
        ] {
            assert_eq!(serde_json::to_string(&Score(score)).unwrap(), text);
        }
    }
}
