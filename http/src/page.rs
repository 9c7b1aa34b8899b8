//! Pages about the service itself.

use crate::problem::ApiProblem;
use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use prometheus::{Registry, TextEncoder};
use utoipa::openapi::OpenApi;

/// `GET /metrics`: what the registry holds, as Prometheus text.
pub fn metrics_page(registry: Registry) -> Router {
    let page = move || async move {
        match TextEncoder::new().encode_to_string(&registry.gather()) {
            Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be written as text");
                ApiProblem::internal().into_response()
            }
        }
    };
    Router::new().route("/metrics", get(page))
}

/// `GET /openapi.json`: the description, written once.
pub fn openapi_page(description: &OpenApi) -> serde_json::Result<Router> {
    let json = Bytes::from(serde_json::to_vec(description)?);
    let page = move || async move { ([(header::CONTENT_TYPE, "application/json")], json) };
    Ok(Router::new().route("/openapi.json", get(page)))
}
