//! `tally.v1.Rankings`.

use super::answer::{answer, read};
use super::parameters::Parameters;
use crate::routes::{Has, rankings};
use crate::state::Api;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use std::sync::Arc;
use tally_http::ApiProblem;
use tally_proto::tally::v1::{GetRankingRequest, GetRankingResponse, ListBoardsRequest, ListBoardsResponse};

/// `ListBoards`.
pub async fn list_boards(api: State<Arc<Api>>, request: Request) -> Result<Response, ApiProblem> {
    let (_, ListBoardsRequest { after }) = read(request).await?;
    let query = Parameters::default().with_after(after).query();
    answer::<ListBoardsResponse>(Box::pin(rankings::rankings(api, query, Has::NOTHING))).await
}

/// `GetRanking`.
pub async fn get_ranking(api: State<Arc<Api>>, request: Request) -> Result<Response, ApiProblem> {
    let (_, GetRankingRequest { board, page, actor_id, after }) = read(request).await?;
    let query = Parameters::default().with_page(page).with_each("actor_id", actor_id).with_after(after).query();
    answer::<GetRankingResponse>(Box::pin(rankings::ranking(api, Ok(Path(board)), query, Has::NOTHING))).await
}
