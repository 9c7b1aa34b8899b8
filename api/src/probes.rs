//! `GET /livez` and `GET /readyz`.

use crate::api::Api;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;
use tally_http::ApiProblem;
use utoipa::ToSchema;

/// Something else that has to be well before requests should come: a name, and `Ok` or why not. Must not block.
pub type Check = (&'static str, Arc<dyn Fn() -> Result<(), String> + Send + Sync>);

/// Well.
#[derive(Serialize, ToSchema)]
pub struct Well {
    /// `ok`.
    status: &'static str,
}

/// Whether the process runs.
#[utoipa::path(get, path = "/livez", tag = "operations", responses((status = 200, description = "It does", body = Well)))]
pub async fn livez() -> Json<Well> {
    Json(Well { status: "ok" })
}

/// Whether requests can be answered.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    responses(
        (status = 200, description = "They can", body = Well),
        (status = 503, description = "They cannot; the detail says why", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn readyz(State(api): State<Arc<Api>>) -> Result<Json<Well>, ApiProblem> {
    api.database.progress().await?;
    for (name, check) in &api.checks {
        check().map_err(|cause| ApiProblem::unavailable(format!("{name}: {cause}."), 1))?;
    }
    Ok(Json(Well { status: "ok" }))
}
