//! `POST /v1/events`.

use super::IngestRoutes;
use super::caller::caller_of;
use super::format::BodyFormat;
use super::schema::{
    BodyCoding, CeId, CeSource, CeSpecversion, CeSubject, CeTime, CeType, CloudEvent, CloudEventBatch, Events,
    EventsProblem, Lines,
};
use crate::BODY_BYTES_MAX;
use crate::answer::Accepted;
use crate::batch::Batch;
use crate::elements::without_bom;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use tally_http::{ApiProblem, read_body};

/// Sends events.
///
/// Send one event, an array, or one event per line (NDJSON), plain or as CloudEvents: up to 1,000 events and 1 MiB,
/// decompressed. The response is sent once the log has durably stored the valid events. Whatever the response, an event
/// can safely be sent again with the same `event_id` and `occurred_at`.
///
/// In binary mode the attributes of a CloudEvent are headers that begin with `ce-`; the body is its data, by the schema
/// `CloudEventData`, or empty.
///
/// `ip` and `user_agent` may differ from the connection's only where a service with a key sends them: other events that have
/// them are invalid, and among `rejected`.
#[utoipa::path(
    post,
    path = "/v1/events",
    tag = "events",
    params(
        ("Content-Encoding" = Option<BodyCoding>, Header, description = "Compression of the body"),
        ("ce-specversion" = Option<CeSpecversion>, Header, description = "CloudEvents binary mode: `specversion`"),
        ("ce-id" = Option<CeId>, Header, description = "CloudEvents binary mode: `id`"),
        ("ce-source" = Option<CeSource>, Header, description = "CloudEvents binary mode: `source`, percent-encoded"),
        ("ce-type" = Option<CeType>, Header, description = "CloudEvents binary mode: `type`"),
        ("ce-subject" = Option<CeSubject>, Header, description = "CloudEvents binary mode: `subject`, percent-encoded"),
        ("ce-time" = Option<CeTime>, Header, description = "CloudEvents binary mode: `time`"),
    ),
    request_body(content(
        (Events = "application/json"),
        (Lines = "application/x-ndjson"),
        (CloudEvent = "application/cloudevents+json"),
        (CloudEventBatch = "application/cloudevents-batch+json"),
    )),
    responses(
        (status = 202, description = "The log has the valid events", body = Accepted),
        (status = 400, description = "Not JSON, not decompressible, or no events", body = ApiProblem, content_type = "application/problem+json"),
        (status = 408, description = "Request body timeout", body = ApiProblem, content_type = "application/problem+json"),
        (status = 413, description = "More than 1,000 events or 1 MiB, decompressed", body = ApiProblem, content_type = "application/problem+json"),
        (status = 415, description = "Unsupported media type or content encoding; see Accept-Encoding", body = ApiProblem, content_type = "application/problem+json"),
        (
            status = 422,
            description = "No valid event: `type` is `urn:tally:problem:invalid-event`, and `rejected` says of each event why. \
                Also where only `ip` or `user_agent` is wrong: it is another than the connection's, and the sender is no \
                service with a key",
            body = EventsProblem,
            content_type = "application/problem+json",
        ),
        (status = 429, description = "Too many events in flight, or every event is over a limit; see Retry-After", body = EventsProblem, content_type = "application/problem+json"),
        (status = 503, description = "The log does not respond, or the server's clock is in doubt; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
        (status = 507, description = "The log's disk is full; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn post_events(
    State(routes): State<IngestRoutes>,
    request: Request,
) -> Result<(StatusCode, Json<Accepted>), ApiProblem> {
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    let format = BodyFormat::of(headers)?;
    let mut place = routes.service.open()?;
    let body = read_body(headers, body, BODY_BYTES_MAX, |bytes| place.grow(bytes).map_err(Into::into)).await?;
    let (format, events) = format.events(without_bom(body), headers)?;
    let caller = caller_of(&parts, &routes.trusted_proxies);
    let accepted = routes.service.take(caller, Batch { format, events, place }).await?;
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}
