//! `GET /v1/rankings` and `GET /v1/rankings/{board}`.

use crate::answers::cursor::Cursor;
use crate::answers::paging::Paging;
use crate::config::Rankings;
use crate::reads::boards::{self, Summary};
use crate::reads::freshness::Freshness;
use crate::reads::totals::{AllTotals, Approximate};
use crate::routes::after::After;
use crate::routes::counters;
use crate::routes::query::{Query, actor_id, in_path, listed};
use crate::routes::reactions::Viewer;
use crate::routes::reply::{Has, Keep, Written};
use crate::state::Api;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Instant;
use tally_http::ApiProblem;
use tally_model::{Ranked, Ranking, format_ms};
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
    #[schema(nullable = false)]
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
    #[schema(nullable = false)]
    next: Option<String>,
    #[serde(flatten)]
    pub(crate) freshness: Freshness,
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

/// The boards, with how many items each has.
#[utoipa::path(
    get,
    path = "/v1/rankings",
    tag = "rankings",
    params(
        ("after" = Option<String>, Query, description = "A receipt: waits until what it covers is visible"),
        ("wait_ms" = Option<u64>, Query, maximum = 10_000, description = "How long at most; 1000 by default, up to 10000"),
    ),
    responses(
        (status = 200, description = "The boards; none where the topology has none", body = BoardsAnswer),
        (status = 304, description = "The content is the one that If-None-Match names"),
        (status = 400, description = "A receipt or parameter that is not valid", body = ApiProblem, content_type = "application/problem+json"),
        (status = 410, description = "A receipt of a log that was replaced", body = ApiProblem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn rankings(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    has: Has,
) -> Result<Response, ApiProblem> {
    let query = Query::parse(query.as_deref(), &["after", "wait_ms"])?;
    let after = After::parse(&api, &query)?;
    let Some(rankings) = &api.config.rankings else {
        // Nothing is missing from nothing.
        let freshness = Freshness::new((api.clock)().wall_ms).judged(after.map(|_| true));
        let keep = freshness.keep(Keep::Briefly);
        return has.reply(&BoardsAnswer { boards: Vec::new(), freshness }, keep);
    };
    let (written, freshness) = boards::boards(&api, rankings, after.as_ref()).await?;
    let keep = freshness.keep(Keep::Briefly);
    has.reply(&BoardsAnswer { boards: items_of(rankings, written), freshness }, keep)
}

/// A board: its subjects with rank, score and counters, best first.
///
/// A page goes on behind the last score and subject of the one before, whatever rose or fell meanwhile.
#[utoipa::path(
    get,
    path = "/v1/rankings/{board}",
    tag = "rankings",
    params(
        ("board" = String, Path, description = "A board of the topology, percent-encoded; with a group `node@group`"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "1 to 100; 50 by default"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("actor_id" = Option<String>, Query, description = "Who looks: each item says what this actor has switched on"),
        ("after" = Option<String>, Query, description = "A receipt: waits until what it covers is visible"),
        ("wait_ms" = Option<u64>, Query, maximum = 10_000, description = "How long at most; 1000 by default, up to 10000"),
    ),
    responses(
        (status = 200, description = "The items; none where nobody has a score", body = RankingAnswer),
        (status = 304, description = "The content is the one that If-None-Match names"),
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
    has: Has,
) -> Result<Response, ApiProblem> {
    let board = in_path(path, "`board`")?;
    let rankings = known(&api, &board).await?;
    let query = Query::parse(query.as_deref(), &["limit", "cursor", "actor_id", "after", "wait_ms"])?;
    let paging = Paging::parse(&api, &query, of_board(&board), "board")?;
    let viewer = query.one("actor_id")?;
    viewer.map(actor_id).transpose()?;
    let after = After::parse(&api, &query)?;
    let is_shared = paging.cursor.is_none() && viewer.is_none() && after.is_none();
    if is_shared && let Some(written) = api.board_pages.get(&board, paging.limit, rankings.pages_for) {
        api.loader.metrics.boards.page.inc();
        return Ok(has.reply_written(&written, Keep::Briefly));
    }
    let begun = Instant::now();
    let (found, freshness) = find(&api, rankings, &board, after.as_ref()).await?;
    let answer = page(&api, &board, found.as_deref(), freshness, &paging, viewer, after.as_ref()).await?;
    let keep = answer.freshness.keep(if viewer.is_some() { Keep::Own } else { Keep::Briefly });
    let written = Arc::new(Written::of(&answer)?);
    // What may not be kept is not as it should be: the next one tries again.
    if is_shared && keep == Keep::Briefly {
        api.board_pages.put(&board, paging.limit, begun, written.clone());
    }
    Ok(has.reply_written(&written, keep))
}

/// The boards, where the topology may have one of this name.
pub async fn known<'a>(api: &'a Arc<Api>, board: &str) -> Result<&'a Rankings, ApiProblem> {
    match api.config.rankings.as_ref().filter(|rankings| has(rankings, board)) {
        Some(rankings) => Ok(rankings),
        None => Err(unknown(api, board).await),
    }
}

/// A board as a whole; None where nobody has come onto it yet.
pub async fn find(
    api: &Arc<Api>,
    rankings: &Rankings,
    board: &str,
    after: Option<&After>,
) -> Result<(Option<Arc<Ranking>>, Freshness), ApiProblem> {
    let (found, freshness) = boards::board(api, rankings, board, after).await?;
    // A board of the topology that nobody has come onto yet is empty.
    if found.is_none() && !rankings.nodes.iter().any(|node| node == board) {
        return Err(unknown(api, board).await);
    }
    Ok((found, freshness))
}

/// The first page of a board, for nobody in particular.
pub async fn first_page(
    api: &Arc<Api>,
    board: &str,
    found: Option<&Ranking>,
    freshness: Freshness,
) -> Result<RankingAnswer, ApiProblem> {
    page(api, board, found, freshness, &Paging::first(of_board(board)), None, None).await
}

async fn page(
    api: &Arc<Api>,
    board: &str,
    found: Option<&Ranking>,
    mut freshness: Freshness,
    paging: &Paging,
    viewer: Option<&str>,
    after: Option<&After>,
) -> Result<RankingAnswer, ApiProblem> {
    let all = found.map_or(&[][..], |ranking| &ranking.items);
    let first = paging.cursor.as_ref().map_or(0, |cursor| all.partition_point(|item| !is_behind(item, cursor)));
    let shown = &all[first..all.len().min(first + paging.limit)];
    let last = shown.last().filter(|_| first + shown.len() < all.len());
    let next = last.map(|item| paging.behind(api, item.score, &item.subject_id));
    let mut items = Vec::with_capacity(shown.len());
    if !shown.is_empty() {
        let ids: Vec<_> = shown.iter().map(|item| item.subject_id.as_str()).collect();
        let (subjects, of_subjects) = counters::items(api, &ids, viewer, after).await?;
        freshness = freshness.least(of_subjects);
        for ((rank, item), subject) in (first + 1..).zip(shown).zip(subjects) {
            let counters::SubjectCounters { subject_id, counters, approximate, viewer } = subject;
            items.push(RankedItem { rank, subject_id, score: Score(item.score), counters, approximate, viewer });
        }
    }
    Ok(RankingAnswer { board: board.to_owned(), items, next, freshness })
}

/// What tells the pages of a board from those of other lists.
fn of_board(board: &str) -> String {
    format!("ranking\0{board}")
}

/// Whether an item comes after the last one shown: by score, then by id.
fn is_behind(item: &Ranked, cursor: &Cursor) -> bool {
    item.score < cursor.order || item.score == cursor.order && item.subject_id > cursor.id
}

/// Whether a board may be one of the topology's. What others have written stays in the stores.
fn has(rankings: &Rankings, board: &str) -> bool {
    let node = board.split('@').next().unwrap_or(board);
    rankings.nodes.iter().any(|known| known == node)
}

/// The boards of the topology, by name: those that were written, and those that nobody has come onto yet.
fn items_of(rankings: &Rankings, written: Vec<Summary>) -> Vec<BoardItem> {
    let item = |summary: Summary| {
        let Summary { board, items, as_of_ms } = summary;
        BoardItem { board, items, as_of: Some(format_ms(as_of_ms)) }
    };
    let mut listed: Vec<_> = written.into_iter().filter(|known| has(rankings, &known.board)).map(item).collect();
    for node in &rankings.nodes {
        if listed.iter().all(|item| item.board != *node) {
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
            items_of(rankings, written).into_iter().map(|item| item.board).collect()
        }
        None => Vec::new(),
    };
    let names = listed(known.iter().take(LISTED_MAX));
    let more = match known.len().saturating_sub(LISTED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
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
