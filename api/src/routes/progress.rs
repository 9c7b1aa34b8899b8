//! `GET /v1/progress`: how far everything has come.

use super::query::Query;
use super::reply::of_moment;
use crate::answers::progress::ProgressAnswer;
use crate::state::Api;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use std::sync::Arc;
use tally_http::ApiProblem;

/// Processing progress per partition.
#[utoipa::path(
    get,
    path = "/v1/progress",
    tag = "operations",
    responses(
        (status = 200, description = "By partition of the root topic", body = ProgressAnswer),
        (status = 503, description = "The database or the log does not respond; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn progress(State(api): State<Arc<Api>>, RawQuery(query): RawQuery) -> Result<Response, ApiProblem> {
    Query::parse(query.as_deref(), &[])?;
    of_moment(&api.progress.read(api.reads.database.progress_now()).await?)
}
