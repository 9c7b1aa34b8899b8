//! `POST /v1/events`.

use crate::answer::{Accepted, EventDocument};
use crate::door::Door;
use crate::read_token;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use std::sync::Arc;
use tally_access::Principal;
use tally_http::{ApiProblem, peer_of};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The door's route, described for `/openapi.json`.
pub fn router(door: Door) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(post_events)).routes(routes!(read_token::post_read_token)).with_state(door)
}

/// Sends events.
///
/// One event, an array, or one a line (NDJSON): up to 1,000 events and 1 MiB. The answer comes when the log has the
/// valid ones durably. Whatever the answer, sending an event again with the same `event_id` and `occurred_at` is safe.
#[utoipa::path(
    post,
    path = "/v1/events",
    tag = "events",
    request_body(content(
        (EventDocument = "application/json"),
        (String = "application/x-ndjson"),
        (Object = "application/cloudevents+json"),
        (Vec<Object> = "application/cloudevents-batch+json"),
    )),
    responses(
        (status = 202, description = "The log has the valid events", body = Accepted),
        (status = 400, description = "Not JSON, or no events", body = ApiProblem, content_type = "application/problem+json"),
        (status = 408, description = "The body came too slowly", body = ApiProblem, content_type = "application/problem+json"),
        (status = 413, description = "More than 1,000 events or 1 MiB", body = ApiProblem, content_type = "application/problem+json"),
        (status = 415, description = "Another media type", body = ApiProblem, content_type = "application/problem+json"),
        (status = 422, description = "No valid event; `rejected` says why", body = ApiProblem, content_type = "application/problem+json"),
        (status = 429, description = "Too much under way, or all of it over a limit; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
        (status = 503, description = "The log does not answer; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
        (status = 507, description = "The log's disk is full; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
async fn post_events(State(door): State<Door>, request: Request) -> Result<(StatusCode, Json<Accepted>), ApiProblem> {
    let (parts, body) = request.into_parts();
    let principal = parts.extensions.get::<Arc<Principal>>().cloned();
    let accepted = door.take(peer_of(&parts.extensions), principal, &parts.headers, body).await?;
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}
