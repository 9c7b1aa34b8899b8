//! `GET /v1/topology`: the graph that the process runs.

use super::query::Query;
use crate::answers::topology::TopologyAnswer;
use crate::state::Api;
use axum::Json;
use axum::extract::{RawQuery, State};
use std::sync::Arc;
use tally_http::ApiProblem;

/// The pipeline as a graph: subtopologies, nodes and edges.
#[utoipa::path(
    get,
    path = "/v1/topology",
    tag = "operations",
    responses(
        (status = 200, description = "The graph", body = TopologyAnswer),
        (status = 400, description = "A parameter was sent; the route has none", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn topology(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
) -> Result<Json<Arc<TopologyAnswer>>, ApiProblem> {
    Query::parse(query.as_deref(), &[])?;
    Ok(Json(api.topology.clone()))
}
