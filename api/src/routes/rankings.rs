//! `GET /v1/rankings` and `GET /v1/rankings/{board}`.

use super::after::after;
use super::described::{AfterParams, AfterResponses, PageParams};
use super::paging::paging;
use super::query::{InPath, Query, actor_id, in_path, listed};
use super::reply::{Has, Keep, written};
use crate::answers::ranking::{RankingAnswer, of_board, page};
use crate::reads::Boards;
use crate::reads::boards::Summary;
use crate::reads::freshness::Freshness;
use crate::state::Api;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;
use tally_http::ApiProblem;
use tally_model::format_ms;
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

/// The boards with their number of items.
#[utoipa::path(
    get,
    path = "/v1/rankings",
    tag = "rankings",
    params(
        AfterParams,
    ),
    responses(
        (status = 200, description = "The boards; empty if the topology has none", body = BoardsAnswer),
        (status = 400, description = "Invalid receipt or parameter", body = ApiProblem, content_type = "application/problem+json"),
        AfterResponses,
    ),
)]
pub async fn rankings(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    has: Has,
) -> Result<Response, ApiProblem> {
    let query = Query::parse(query.as_deref(), &["after", "wait_ms"])?;
    let after = after(&api, &query)?;
    let Some(boards) = &api.reads.boards else {
        // Nothing is missing from nothing.
        let freshness = Freshness::new((api.clock)().wall_ms).judged(after.map(|_| true));
        let keep = Keep::Briefly.unless_singular(&freshness);
        return has.reply(&BoardsAnswer { boards: Vec::new(), freshness }, keep);
    };
    let (written, freshness) = boards.list(&api.reads, after.as_ref()).await?;
    let keep = Keep::Briefly.unless_singular(&freshness);
    has.reply(&BoardsAnswer { boards: items_of(boards, written), freshness }, keep)
}

/// A board: its subjects with rank, score and counters, best first.
///
/// Pages continue after the last score and subject of the previous page, whatever changed in between.
#[utoipa::path(
    get,
    path = "/v1/rankings/{board}",
    tag = "rankings",
    params(
        ("board" = String, Path, description = "A board of the topology, percent-encoded; `node@group` for a group"),
        PageParams,
        ("actor_id" = Option<String>, Query, description = "The viewer: each item has this actor's toggles"),
        AfterParams,
    ),
    responses(
        (status = 200, description = "The items; empty if no subject has a score", body = RankingAnswer),
        (status = 400, description = "Invalid cursor, id, receipt or parameter", body = ApiProblem, content_type = "application/problem+json"),
        (status = 404, description = "No such board; `detail` lists the boards", body = ApiProblem, content_type = "application/problem+json"),
        AfterResponses,
    ),
)]
pub async fn ranking(
    State(api): State<Arc<Api>>,
    path: InPath<String>,
    RawQuery(query): RawQuery,
    has: Has,
) -> Result<Response, ApiProblem> {
    let board = in_path(path, "`board`")?;
    let Some(boards) = api.reads.boards_with(&board) else { return Err(unknown(&api, &board).await) };
    let query = Query::parse(query.as_deref(), &["limit", "cursor", "actor_id", "after", "wait_ms"])?;
    let paging = paging(&api, &query, of_board(&board), "board")?;
    let viewer = query.one("actor_id")?;
    viewer.map(actor_id).transpose()?;
    let after = after(&api, &query)?;
    let is_shared = paging.cursor.is_none() && viewer.is_none() && after.is_none();
    let pages_for = boards.rankings.pages_for;
    if is_shared && let Some(written) = api.board_pages.get(&board, paging.limit, pages_for) {
        api.reads.metrics.board_pages.inc();
        return Ok(has.reply_written(&written, Keep::Briefly));
    }
    let begun = Instant::now();
    let read = boards.board(&board, after.as_ref()).await?;
    if !boards.has(&board, &read) {
        return Err(unknown(&api, &board).await);
    }
    let answer = page(&api.reads, &api.receipt_key, &board, read, &paging, (viewer, after.as_ref())).await?;
    let keep = if viewer.is_some() { Keep::Own } else { Keep::Briefly }.unless_singular(&answer.freshness);
    let written = Arc::new(written(&answer)?);
    // What may not be kept is not as it should be: the next one tries again.
    if is_shared && keep == Keep::Briefly {
        api.board_pages.put(&board, paging.limit, begun, written.clone());
    }
    Ok(has.reply_written(&written, keep))
}

/// The boards of the topology, by name: those that were written, and those that are still empty.
fn items_of(boards: &Boards, written: Vec<Summary>) -> Vec<BoardItem> {
    let item = |summary: Summary| {
        let Summary { board, items, as_of_ms } = summary;
        BoardItem { board, items, as_of: Some(format_ms(as_of_ms)) }
    };
    let mut listed: Vec<_> = written.into_iter().filter(|known| boards.may_have(&known.board)).map(item).collect();
    for node in &boards.rankings.nodes {
        if listed.iter().all(|item| item.board != *node) {
            listed.push(BoardItem { board: node.clone(), items: 0, as_of: None });
        }
    }
    listed.sort_unstable_by(|a, b| a.board.cmp(&b.board));
    listed
}

/// 404, with the boards that there are.
pub async fn unknown(api: &Arc<Api>, board: &str) -> ApiProblem {
    let known: Vec<String> = match &api.reads.boards {
        Some(boards) => {
            // Where no store answers, those of the topology are named.
            let written = boards.list(&api.reads, None).await.map_or_else(|_| Vec::new(), |(written, _)| written);
            items_of(boards, written).into_iter().map(|item| item.board).collect()
        }
        None => Vec::new(),
    };
    let names = listed(known.iter().take(LISTED_MAX));
    let more = match known.len().saturating_sub(LISTED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    ApiProblem::not_found(format!("There is no board `{board}`; boards: {names}{more}."))
}
