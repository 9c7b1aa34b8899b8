//! `GET /v1/processes`: what this process and those named by `--peers` report of themselves.

use super::query::Query;
use super::reply::of_moment;
use crate::processes::ProcessItem;
use crate::state::Api;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;
use tally_http::ApiProblem;
use utoipa::ToSchema;

/// What the processes report of themselves.
#[derive(Serialize, ToSchema)]
pub struct ProcessesAnswer {
    /// This process first, then those in `--peers`, in that order.
    #[schema(value_type = Vec<ProcessItem>)]
    items: Arc<Vec<ProcessItem>>,
}

/// The metrics of this process and of those in `--peers`.
#[utoipa::path(
    get,
    path = "/v1/processes",
    tag = "operations",
    responses(
        (status = 200, description = "The metrics of each process, or the reason why there are none", body = ProcessesAnswer),
        (status = 400, description = "A parameter was sent; the route has none", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn processes(State(api): State<Arc<Api>>, RawQuery(query): RawQuery) -> Result<Response, ApiProblem> {
    Query::parse(query.as_deref(), &[])?;
    of_moment(&ProcessesAnswer { items: api.processes.look().await })
}
