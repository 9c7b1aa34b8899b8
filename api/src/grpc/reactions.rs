//! `tally.v1.Reactions`.

use super::answer::{answer, read};
use super::parameters::Parameters;
use crate::routes::{Has, Reader, reactions};
use crate::state::Api;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use std::sync::Arc;
use tally_http::ApiProblem;
use tally_proto::tally::v1::{ListActorsRequest, ListActorsResponse, ListSubjectsRequest, ListSubjectsResponse};

/// `ListActors`.
pub async fn list_actors(api: State<Arc<Api>>, reader: Reader, request: Request) -> Result<Response, ApiProblem> {
    let (_, ListActorsRequest { subject_id, metric, page, after }) = read(request).await?;
    let query = Parameters::default().with_page(page).with_after(after).query();
    let path = Ok(Path((subject_id, metric)));
    answer::<ListActorsResponse>(Box::pin(reactions::actors(api, path, query, reader, Has::NOTHING))).await
}

/// `ListSubjects`.
pub async fn list_subjects(api: State<Arc<Api>>, reader: Reader, request: Request) -> Result<Response, ApiProblem> {
    let (_, ListSubjectsRequest { actor_id, metric, page, after }) = read(request).await?;
    let query = Parameters::default().with_page(page).with_after(after).query();
    let path = Ok(Path((actor_id, metric)));
    answer::<ListSubjectsResponse>(Box::pin(reactions::subjects(api, path, query, reader, Has::NOTHING))).await
}
