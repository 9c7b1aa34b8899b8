//! Pages about the service itself.

use crate::problem::ApiProblem;
use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use prometheus::{Registry, TextEncoder};
use serde_json::{Map, Value};
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

/// A parameter may be absent. It is text, so it is never null.
fn without_null(schema: &mut Value) {
    if let Some(types) = schema["type"].as_array_mut() {
        types.retain(|name| name != "null");
        if let [one] = &types[..] {
            schema["type"] = one.clone();
        }
    }
    if let Some(schemas) = schema["oneOf"].as_array_mut() {
        schemas.retain(|schema| schema["type"] != "null");
        if let [one] = &schemas[..] {
            *schema = one.clone();
        }
    }
    // Looking for a key has put it there.
    if let Some(schema) = schema.as_object_mut() {
        schema.retain(|_, value| !value.is_null());
    }
}

/// `GET /openapi.json`: the description, written once. `schemas` replace components of the same name, where derived
/// schemas cannot express enough.
pub fn openapi_page(description: &OpenApi, schemas: Map<String, Value>) -> serde_json::Result<Router> {
    let mut description = serde_json::to_value(description)?;
    let operations = description["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    let operations = operations.filter_map(Value::as_object_mut).flat_map(Map::values_mut);
    let parameters = operations.filter_map(|operation| operation.get_mut("parameters")?.as_array_mut()).flatten();
    parameters.for_each(|parameter| without_null(&mut parameter["schema"]));
    if !schemas.is_empty() {
        let known = &mut description["components"]["schemas"];
        schemas.into_iter().for_each(|(name, schema)| known[name] = schema);
    }
    let json = Bytes::from(serde_json::to_vec(&description)?);
    let page = move || async move { ([(header::CONTENT_TYPE, "application/json")], json) };
    Ok(Router::new().route("/openapi.json", get(page)))
}
