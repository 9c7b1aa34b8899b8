//! `GET /v1/receipts/{receipt}`: what became of the events of a request.

use super::after::parse_receipt;
use super::problem::log_is_away;
use super::query::{InPath, Query, in_path};
use super::reply::of_moment;
use crate::database::VerdictRow;
use crate::reads::roots::is_applied;
use crate::state::Api;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;
use tally_http::ApiProblem;
use tally_model::{Receipt, hex};
use utoipa::ToSchema;

/// Receipts forget after this what was not counted, as the rows behind it go.
const REMEMBERED_MS: i64 = 24 * 60 * 60 * 1_000;

/// What became of the events that a receipt covers.
#[derive(Serialize, ToSchema)]
pub struct ReceiptAnswer {
    /// `applied` once everything the receipt covers is in the database, else `pending`.
    state: &'static str,
    /// Ids of events that a rate rule holds back until its window ends.
    held: Vec<String>,
    /// Events that were not counted. The list may grow while pending; null after 24 h.
    #[schema(required = true)]
    not_counted: Option<Vec<NotCounted>>,
}

/// An event that was not counted.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct NotCounted {
    /// Null if it could not be parsed.
    #[schema(required = true)]
    event_id: Option<String>,
    /// `duplicate`, `limited`, `late` or `dead`.
    verdict: String,
    /// For people.
    reason: String,
}

impl From<VerdictRow> for NotCounted {
    fn from(VerdictRow { event_id, verdict, reason }: VerdictRow) -> Self {
        Self { event_id, verdict, reason }
    }
}

/// The outcome of the events of a request.
#[utoipa::path(
    get,
    path = "/v1/receipts/{receipt}",
    tag = "events",
    params(("receipt" = String, Path, description = "A receipt from `POST /v1/events`")),
    responses(
        (status = 200, description = "The state of its events", body = ReceiptAnswer),
        (status = 400, description = "Not a receipt that this service issued", body = ApiProblem, content_type = "application/problem+json"),
        (status = 410, description = "The receipt belongs to a log that was replaced", body = ApiProblem, content_type = "application/problem+json"),
        (status = 503, description = "The database or the log does not respond; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn receipt(
    State(api): State<Arc<Api>>,
    path: InPath<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiProblem> {
    Query::parse(query.as_deref(), &[])?;
    let text = in_path(path, "The receipt")?;
    let receipt = parse_receipt(&api, "The receipt", &text)?;
    // Progress before rows: what it claims to contain is found.
    let progress = api.reads.database.progress_now().await?;
    let is_applied = api.reads.config.outputs.iter().all(|topic| is_applied(topic, &progress, &receipt));
    let state = if is_applied { "applied" } else { "pending" };
    let (held, not_counted) = match is_forgotten(&api, &receipt).await? {
        true => (Vec::new(), None),
        false => {
            let (held, not_counted) = api.reads.database.verdicts(&hex(&receipt.request)).await?;
            (held, Some(not_counted.into_iter().map(NotCounted::from).collect()))
        }
    };
    of_moment(&ReceiptAnswer { state, held, not_counted })
}

/// Whether the log took the events so long ago that rows about them may be gone. A log that no longer has them counts
/// as long ago: an empty list would claim that all of them were counted.
async fn is_forgotten(api: &Arc<Api>, receipt: &Receipt) -> Result<bool, ApiProblem> {
    let Some((partition, offset)) = receipt.offsets.first().copied() else { return Ok(false) };
    let asked = api.clone();
    let found = tokio::task::spawn_blocking(move || asked.append_times.find(partition, offset)).await;
    let found = found.map_err(|_| ApiProblem::internal())?;
    let appended_at_ms = found.map_err(|error| log_is_away(&error))?;
    Ok(appended_at_ms.is_none_or(|appended_at_ms| (api.clock)().wall_ms - appended_at_ms > REMEMBERED_MS))
}
