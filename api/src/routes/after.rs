//! `after=<receipt>`: reads that wait until they see what somebody wrote.

use crate::reads::roots::covers;
use crate::routes::query::{Query, refused};
use crate::state::Api;
use axum::http::StatusCode;
use std::time::{Duration, Instant};
use tally_cache::MemoryCache;
use tally_http::ApiProblem;
use tally_model::{Receipt, ReceiptError};
use tally_streams::log::TopicPartition;

/// What a read has to wait for, and until when.
pub struct After {
    /// What must be visible.
    pub receipt: Receipt,
    /// When to answer without it.
    pub deadline: Instant,
}

impl After {
    /// The query's `after` and `wait_ms`; None where there is no `after`.
    pub fn parse(api: &Api, query: &Query<'_>) -> Result<Option<Self>, ApiProblem> {
        let wait_ms = query.wait_ms()?;
        let Some(text) = query.one("after")? else { return Ok(None) };
        let receipt = parse_receipt(api, "`after`", text)?;
        Ok(Some(Self { receipt, deadline: Instant::now() + Duration::from_millis(wait_ms) }))
    }

    /// Waits until the cache has passed the receipt in these partitions of `counters`; false where it is too late.
    pub async fn wait_for_cache(&self, cache: &MemoryCache, partitions: &[&TopicPartition]) -> bool {
        let mut progress = cache.subscribe();
        loop {
            if partitions.iter().all(|partition| covers(&cache.roots(partition), &self.receipt)) {
                return true;
            }
            match tokio::time::timeout_at(self.deadline.into(), progress.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return false,
            }
        }
    }
}

/// Reads a receipt; `what` names it in the problem.
pub fn parse_receipt(api: &Api, what: &str, text: &str) -> Result<Receipt, ApiProblem> {
    let receipt = Receipt::decode(text, &api.receipt_key).map_err(|error| match error {
        ReceiptError::Forged => refused(what, "is no receipt that this service gave out"),
        ReceiptError::UnknownLog => ApiProblem::new(
            StatusCode::GONE,
            "unknown-log",
            "The log of this receipt is gone",
            "This receipt belongs to a log that was replaced: nobody can say any more what became of its events.",
        ),
    })?;
    let partitions = api.config.input_partitions;
    match receipt.offsets.iter().find(|(partition, _)| *partition >= partitions) {
        Some((partition, _)) => {
            let topic = &api.config.input_topic;
            Err(refused(what, &format!("names partition {partition}, but `{topic}` has only {partitions}")))
        }
        None => Ok(receipt),
    }
}
