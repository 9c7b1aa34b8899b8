//! `POST /v1/events`.

use crate::answer::Accepted;
use crate::door::Door;
use crate::read_token;
use crate::schema::{BodyCoding, Events, EventsProblem, Lines};
use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use tally_access::Principal;
use tally_http::{ApiProblem, peer_of};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The door's route, described for `/openapi.json`.
pub fn router(door: Door) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(post_events)).routes(routes!(read_token::post_read_token)).with_state(door)
}

fn cloud_event() -> Value {
    json!({"specversion": "1.0", "id": "01J9ZQ4N8G", "source": "/app", "type": "like", "subject": "article:7",
        "data": {"actor_id": "u42"}})
}

/// Sends events.
///
/// Send one event, an array, or one event per line (NDJSON), plain or as CloudEvents: up to 1,000 events and 1 MiB,
/// decompressed. The response is sent once the log has durably stored the valid events. Whatever the response, an event
/// can safely be sent again with the same `event_id` and `occurred_at`.
///
/// The schema `CloudEvent` describes a CloudEvent; in binary mode its attributes are headers, and its data is the
/// body, as JSON.
#[utoipa::path(
    post,
    path = "/v1/events",
    tag = "events",
    params(
        ("Content-Encoding" = Option<BodyCoding>, Header, description = "Compression of the body"),
        ("ce-specversion" = Option<String>, Header, description = "CloudEvents binary mode: `1.0`"),
        ("ce-id" = Option<String>, Header, description = "CloudEvents binary mode: `id`, percent-encoded"),
        ("ce-source" = Option<String>, Header, description = "CloudEvents binary mode: `source`, percent-encoded"),
        ("ce-type" = Option<String>, Header, description = "CloudEvents binary mode: `type`, percent-encoded"),
        ("ce-subject" = Option<String>, Header, description = "CloudEvents binary mode: `subject`, percent-encoded"),
        ("ce-time" = Option<String>, Header, description = "CloudEvents binary mode: `time`"),
    ),
    request_body(content(
        (Events = "application/json"),
        (Lines = "application/x-ndjson"),
        // Their schema is `CloudEvent`. It does not stand here: openapi-python-client writes `isinstance` of a list where a
        // body has several schemas, and that fails whenever it is called.
        ("application/cloudevents+json", example = json!(cloud_event())),
        ("application/cloudevents-batch+json", example = json!([cloud_event()])),
    )),
    responses(
        (status = 202, description = "The log has the valid events", body = Accepted),
        (status = 400, description = "Not JSON, not decompressible, or no events", body = ApiProblem, content_type = "application/problem+json"),
        (status = 408, description = "Request body timeout", body = ApiProblem, content_type = "application/problem+json"),
        (status = 413, description = "More than 1,000 events or 1 MiB, decompressed", body = ApiProblem, content_type = "application/problem+json"),
        (status = 415, description = "Unsupported media type or content encoding; see Accept-Encoding", body = ApiProblem, content_type = "application/problem+json"),
        (status = 422, description = "No valid event; `rejected` says why", body = EventsProblem, content_type = "application/problem+json"),
        (status = 429, description = "Too many events in flight, or every event is over a limit; see Retry-After", body = EventsProblem, content_type = "application/problem+json"),
        (status = 503, description = "The log does not respond, or the server's clock is in doubt; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
        (status = 507, description = "The log's disk is full; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
async fn post_events(State(door): State<Door>, request: Request) -> Result<(StatusCode, Json<Accepted>), ApiProblem> {
    let (parts, body) = request.into_parts();
    let principal = parts.extensions.get::<Arc<Principal>>().cloned();
    let accepted = door.take(peer_of(&parts.extensions), principal, &parts.headers, body).await?;
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}
