//! `GET /v1/live`: server-sent events, whenever counters or a board change.

use super::query::{Query, refused};
use super::rankings::unknown;
use super::reader::Reader;
use crate::live::{LiveError, Watched};
use crate::state::Api;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use std::sync::Arc;
use tally_access::{AlsoNeeds, Scope};
use tally_http::ApiProblem;

/// Subjects of one stream.
const SUBJECTS_MAX: usize = 100;
/// When to come back where all streams are taken.
const RETRY_AFTER_S: u32 = 5;

/// The counters of subjects, or a board, as server-sent events whenever they change.
///
/// The current state is sent first; with `Last-Event-ID`, only what has changed since that event. Events of a subject
/// are sent at most every 100 ms, those of a board every 250 ms, with the complete latest state.
#[utoipa::path(
    get,
    path = "/v1/live",
    tag = "live",
    params(
        ("subject_id" = Option<Vec<String>>, Query, description = "1 to 100 times"),
        ("board" = Option<String>, Query, description = "A board, instead of subjects"),
        ("access_token" = Option<String>, Query, description = "For browsers, which cannot set headers on this request: the value of `Authorization` without `Bearer`"),
        ("last-event-id" = Option<String>, Header, description = "The `id` of the last event of the same stream"),
    ),
    responses(
        (status = 200, description = "Events `counters` (as `GET /v1/subjects/{subject_id}/counters` answers) or `ranking` (as the first page of `GET /v1/rankings/{board}`)", body = String, content_type = "text/event-stream"),
        (status = 400, description = "Invalid id or parameter", body = ApiProblem, content_type = "application/problem+json"),
        (status = 404, description = "No such board; `detail` lists the boards", body = ApiProblem, content_type = "application/problem+json"),
        (status = 503, description = "The limit of streams is reached, or the database does not respond; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn live(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    reader: Reader,
) -> Result<Response, ApiProblem> {
    let query = Query::parse(query.as_deref(), &["subject_id", "board", "access_token"])?;
    let of = requested(&query, &reader)?;
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let stream = match api.live.open(of.clone(), seen).await {
        Ok(stream) => stream,
        Err(error) => return Err(problem(&api, &of, error).await),
    };
    let mut response = Response::new(Body::new(stream));
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // For nginx, which would collect events until there are enough of them.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    if of.iter().filter_map(Watched::subject).any(|id| reader.is_private(id)) {
        response.extensions_mut().insert(AlsoNeeds(Scope::Admin));
    }
    Ok(response)
}

/// Why a stream about these does not begin.
async fn problem(api: &Arc<Api>, of: &[Watched], error: LiveError) -> ApiProblem {
    match (error, of) {
        (LiveError::Full(streams), _) => {
            let detail = format!("This process has reached its limit of {streams} live streams.");
            ApiProblem::unavailable(detail, RETRY_AFTER_S)
        }
        (LiveError::Stopping, _) => ApiProblem::shutting_down(),
        (LiveError::NoBoard, [Watched::Board(board)]) => unknown(api, board).await,
        (LiveError::Read(error), _) => error.into(),
        (LiveError::NoBoard | LiveError::Json(_), _) => ApiProblem::internal(),
    }
}

/// What a stream is to be about, each once.
fn requested(query: &Query<'_>, reader: &Reader) -> Result<Box<[Watched]>, ApiProblem> {
    let subjects = query.all("subject_id");
    if let Some(board) = query.one("board")? {
        return match subjects[..] {
            [] => Ok(Box::new([Watched::Board(board.into())])),
            _ => Err(refused("`board`", "cannot be combined with `subject_id`")),
        };
    }
    if subjects.is_empty() || subjects.len() > SUBJECTS_MAX {
        let rule = format!("must be given 1 to {SUBJECTS_MAX} times, not {}; or a `board` instead", subjects.len());
        return Err(refused("`subject_id`", &rule));
    }
    let mut of: Vec<Watched> = Vec::with_capacity(subjects.len());
    for id in subjects {
        reader.check(id)?;
        let watched = Watched::Subject(id.into());
        if !of.contains(&watched) {
            of.push(watched);
        }
    }
    Ok(of.into())
}
