//! `tally.v1.Collects`.

use super::answer::read;
use crate::collects::Collects;
use crate::routes::Reader;
use crate::routes::collects::{CollectAnswer, set};
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::post;
use std::sync::Arc;
use tally_access::{Access, Principal, Routes, Scope};
use tally_http::ApiProblem;
use tally_http::grpc::reply;
use tally_proto::tally::v1::{CollectRequest, CollectResponse, UncollectRequest, UncollectResponse};

/// The methods that write.
pub fn collects(collects: Arc<Collects>) -> Routes {
    let routes = Router::new()
        .route("/tally.v1.Collects/Collect", post(collect))
        .route("/tally.v1.Collects/Uncollect", post(uncollect));
    Routes::new(Access::Needs(Scope::Write), routes.with_state(collects))
}

async fn collect(
    State(collects): State<Arc<Collects>>,
    reader: Reader,
    request: Request,
) -> Result<Response, ApiProblem> {
    let (parts, CollectRequest { subject_id, actor_id }) = read(request).await?;
    let CollectAnswer { subject_id, actor_id, active, count, receipt } =
        switch(&collects, (&parts, &reader), subject_id, actor_id, true).await?;
    Ok(reply(&CollectResponse { subject_id, actor_id, active, count, receipt }))
}

async fn uncollect(
    State(collects): State<Arc<Collects>>,
    reader: Reader,
    request: Request,
) -> Result<Response, ApiProblem> {
    let (parts, UncollectRequest { subject_id, actor_id }) = read(request).await?;
    let CollectAnswer { subject_id, actor_id, active, count, receipt } =
        switch(&collects, (&parts, &reader), subject_id, actor_id, false).await?;
    Ok(reply(&UncollectResponse { subject_id, actor_id, active, count, receipt }))
}

async fn switch(
    collects: &Collects,
    (parts, reader): (&Parts, &Reader),
    subject_id: String,
    actor_id: String,
    active: bool,
) -> Result<CollectAnswer, ApiProblem> {
    // The guard sees actors in paths alone.
    if let Some(principal) = parts.extensions.get::<Arc<Principal>>() {
        principal.check_actor(&actor_id)?;
    }
    // Boxed as the futures of reads are.
    Ok(Box::pin(set(collects, (parts, reader), Ok(Path((subject_id, actor_id))), active)).await?.0)
}
