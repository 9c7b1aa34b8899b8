//! `after=<receipt>` and `wait_ms`: reads that wait until they contain what a receipt covers.

use super::query::{Query, refused};
use crate::reads::after::After;
use crate::state::Api;
use axum::http::StatusCode;
use std::time::{Duration, Instant};
use tally_http::ApiProblem;
use tally_model::{Receipt, ReceiptError};

/// The query's `after` and `wait_ms`; None where there is no `after`.
pub fn after(api: &Api, query: &Query<'_>) -> Result<Option<After>, ApiProblem> {
    let wait_ms = query.wait_ms()?;
    let Some(text) = query.one("after")? else { return Ok(None) };
    let receipt = parse_receipt(api, "`after`", text)?;
    Ok(Some(After { receipt, deadline: Instant::now() + Duration::from_millis(wait_ms) }))
}

/// Reads a receipt; `what` names it in the problem.
pub fn parse_receipt(api: &Api, what: &str, text: &str) -> Result<Receipt, ApiProblem> {
    let receipt = Receipt::decode(text, &api.receipt_key).map_err(|error| match error {
        ReceiptError::Forged => refused(what, "is not a receipt that this service issued"),
        ReceiptError::UnknownLog => ApiProblem::new(
            StatusCode::GONE,
            "unknown-log",
            "The log of this receipt was replaced",
            "This receipt belongs to a log that was replaced; the outcome of its events can no longer be looked up.",
        ),
    })?;
    let partitions = api.reads.config.input_partitions;
    match receipt.offsets.iter().find(|(partition, _)| *partition >= partitions) {
        Some((partition, _)) => {
            let topic = &api.reads.config.input_topic;
            Err(refused(what, &format!("names partition {partition}, but `{topic}` has only {partitions}")))
        }
        None => Ok(receipt),
    }
}
