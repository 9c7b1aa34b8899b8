//! `GET /v1/progress/history`: what happened in the last hour, sample by sample.

use super::query::Query;
use super::reply::of_moment;
use crate::processes::Sample;
use crate::state::Api;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;
use tally_http::ApiProblem;
use utoipa::ToSchema;

/// What happened, sample by sample.
#[derive(Debug, Serialize, ToSchema)]
pub struct HistoryAnswer {
    /// Oldest first; at most an hour, starting with this process.
    samples: Vec<Sample>,
}

/// Incoming events, lag and errors of the last hour, sampled every 10 seconds.
#[utoipa::path(
    get,
    path = "/v1/progress/history",
    tag = "operations",
    responses(
        (status = 200, description = "The samples, oldest first", body = HistoryAnswer),
        (status = 400, description = "A parameter was sent; the route has none", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn history(State(api): State<Arc<Api>>, RawQuery(query): RawQuery) -> Result<Response, ApiProblem> {
    Query::parse(query.as_deref(), &[])?;
    of_moment(&HistoryAnswer { samples: api.processes.samples() })
}
