//! `GET /v1/rankings` and `GET /v1/rankings/{board}`.

use crate::after::After;
use crate::api::Api;
use crate::boards::{self, Summary};
use crate::config::Rankings;
use crate::counters::{self, Freshness};
use crate::cursor::Cursor;
use crate::query::{Query, refused};
use crate::reactions::{Viewer, actor, limit};
use crate::totals::{AllTotals, Approximate};
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::sync::Arc;
use tally_http::ApiProblem;
use tally_model::{Ranked, format_ms};
use utoipa::ToSchema;

/// Names that a problem lists.
const LISTED_MAX: usize = 20;

/// All boards.
#[derive(Serialize, ToSchema)]
pub struct BoardsAnswer {
    /// By name.
    boards: Vec<BoardItem>,
    #[serde(flatten)]
    freshness: Freshness,
}

/// A board in the list of all.
#[derive(Serialize, ToSchema)]
pub struct BoardItem {
    /// Its name.
    board: String,
    /// How many items it has.
    items: i64,
    /// When its items last changed (RFC 3339); absent while it never had any.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<String>,
}

/// A page of a board, best first.
#[derive(Serialize, ToSchema)]
pub struct RankingAnswer {
    /// The board.
    board: String,
    /// At most `limit`.
    items: Vec<RankedItem>,
    /// The cursor of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    #[serde(flatten)]
    freshness: Freshness,
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
    /// Every metric of the topology; zero where nobody touched it.
    #[schema(value_type = HashMap<String, i64>)]
    counters: AllTotals,
    /// The metrics above that are estimates (about 1 %).
    #[serde(skip_serializing_if = "Approximate::is_empty")]
    #[schema(value_type = Vec<String>, required = false)]
    approximate: Approximate,
    /// Where `actor_id` was asked for: what that actor has switched on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
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

/// The boards, with how many items each has.
#[utoipa::path(
    get,
    path = "/v1/rankings",
    tag = "rankings",
    params(
        ("after" = Option<String>, Query, description = "A receipt: waits until what it covers is visible"),
        ("wait_ms" = Option<u64>, Query, description = "How long at most; 1000 by default, up to 10000"),
    ),
    responses(
        (status = 200, description = "The boards; none where the topology has none", body = BoardsAnswer),
        (status = 400, description = "A receipt or parameter that is not valid", body = ApiProblem, content_type = "application/problem+json"),
        (status = 410, description = "A receipt of a log that was replaced", body = ApiProblem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn rankings(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
) -> Result<Json<BoardsAnswer>, ApiProblem> {
    let query = Query::parse(query.as_deref(), &["after", "wait_ms"])?;
    let after = After::parse(&api, &query)?;
    let Some(rankings) = &api.config.rankings else {
        // Nothing is missing from nothing.
        let freshness = Freshness::new((api.clock)()).judged(after.map(|_| true));
        return Ok(Json(BoardsAnswer { boards: Vec::new(), freshness }));
    };
    let (written, freshness) = boards::boards(&api, rankings, after.as_ref()).await?;
    Ok(Json(BoardsAnswer { boards: listed(rankings, written), freshness }))
}

/// A board: its subjects with rank, score and counters, best first.
///
/// A page goes on behind the last score and subject of the one before, whatever rose or fell meanwhile.
#[utoipa::path(
    get,
    path = "/v1/rankings/{board}",
    tag = "rankings",
    params(
        ("board" = String, Path, description = "A board of the topology, percent-encoded; with a group `node%2Fgroup`"),
        ("limit" = Option<u32>, Query, description = "1 to 100; 50 by default"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("actor_id" = Option<String>, Query, description = "Who looks: each item says what this actor has switched on"),
        ("after" = Option<String>, Query, description = "A receipt: waits until what it covers is visible"),
        ("wait_ms" = Option<u64>, Query, description = "How long at most; 1000 by default, up to 10000"),
    ),
    responses(
        (status = 200, description = "The items; none where nobody has a score", body = RankingAnswer),
        (status = 400, description = "A cursor, id, receipt or parameter that is not valid", body = ApiProblem, content_type = "application/problem+json"),
        (status = 404, description = "No such board; the detail names those that there are", body = ApiProblem, content_type = "application/problem+json"),
        (status = 410, description = "A receipt of a log that was replaced", body = ApiProblem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn ranking(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Json<RankingAnswer>, ApiProblem> {
    let Path(board) = path.map_err(|_| refused("`board`", "is not percent-encoded UTF-8"))?;
    let rankings = api.config.rankings.as_ref().filter(|rankings| has(rankings, &board));
    let Some(rankings) = rankings else { return Err(unknown(&api, &board).await) };
    let query = Query::parse(query.as_deref(), &["limit", "cursor", "actor_id", "after", "wait_ms"])?;
    let limit = limit(&query)?;
    let of = format!("ranking\0{board}");
    let cursor = query.one("cursor")?.map(|text| {
        let cursor = Cursor::decode(text, &of, &api.receipt_key);
        cursor.ok_or_else(|| refused("`cursor`", "is not one that this service gave out for this board"))
    });
    let cursor = cursor.transpose()?;
    let actor_id = query.one("actor_id")?;
    actor_id.map(actor).transpose()?;
    let after = After::parse(&api, &query)?;

    let (found, mut freshness) = boards::board(&api, rankings, &board, after.as_ref()).await?;
    // A board of the topology that nobody has come onto yet is empty. Nobody knows which groups there may be.
    if found.is_none() && !rankings.nodes.contains(&board) {
        return Err(unknown(&api, &board).await);
    }
    let all = found.as_ref().map_or(&[][..], |ranking| &ranking.items);
    let first = cursor.map_or(0, |cursor| all.partition_point(|item| !is_behind(item, &cursor)));
    let shown = &all[first..all.len().min(first + limit)];
    let last = shown.last().filter(|_| first + shown.len() < all.len());
    let next = last.map(|item| Cursor { order: item.score, id: item.subject_id.clone() }.encode(&of, &api.receipt_key));
    let mut items = Vec::with_capacity(shown.len());
    if !shown.is_empty() {
        let ids: Vec<_> = shown.iter().map(|item| item.subject_id.as_str()).collect();
        let (subjects, of_subjects) = counters::items(&api, &ids, actor_id, after.as_ref()).await?;
        freshness = freshness.least(of_subjects);
        for ((rank, item), subject) in (first + 1..).zip(shown).zip(subjects) {
            let counters::SubjectCounters { subject_id, counters, approximate, viewer } = subject;
            items.push(RankedItem { rank, subject_id, score: Score(item.score), counters, approximate, viewer });
        }
    }
    Ok(Json(RankingAnswer { board, items, next, freshness }))
}

/// Whether an item comes after the last one shown: by score, then by id.
fn is_behind(item: &Ranked, cursor: &Cursor) -> bool {
    item.score < cursor.order || item.score == cursor.order && item.subject_id > cursor.id
}

/// Whether a board may be one of the topology's. What others have written stays in the stores.
fn has(rankings: &Rankings, board: &str) -> bool {
    let node = board.split('/').next().unwrap_or(board);
    rankings.nodes.iter().any(|known| known == node)
}

/// The boards of the topology, by name: those that were written, and those that nobody has come onto yet.
fn listed(rankings: &Rankings, written: Vec<Summary>) -> Vec<BoardItem> {
    let item = |summary: Summary| {
        let Summary { board, items, as_of_ms } = summary;
        BoardItem { board, items, as_of: Some(format_ms(as_of_ms)) }
    };
    let mut listed: Vec<_> = written.into_iter().filter(|known| has(rankings, &known.board)).map(item).collect();
    for node in &rankings.nodes {
        let is_listed = |item: &BoardItem| item.board.split('/').next() == Some(node);
        if !listed.iter().any(is_listed) {
            listed.push(BoardItem { board: node.clone(), items: 0, as_of: None });
        }
    }
    listed.sort_unstable_by(|a, b| a.board.cmp(&b.board));
    listed
}

/// 404, with the boards that there are.
async fn unknown(api: &Arc<Api>, board: &str) -> ApiProblem {
    let known: Vec<String> = match &api.config.rankings {
        Some(rankings) => {
            // Where no store answers, those of the topology are named.
            let written = boards::boards(api, rankings, None).await.map_or_else(|_| Vec::new(), |(written, _)| written);
            listed(rankings, written).into_iter().map(|item| item.board).collect()
        }
        None => Vec::new(),
    };
    let names: Vec<_> = known.iter().take(LISTED_MAX).map(|name| format!("`{name}`")).collect();
    let more = match known.len().saturating_sub(LISTED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    ApiProblem::not_found(format!("There is no board `{board}`; those are: {names}{more}."))
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
