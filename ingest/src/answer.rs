//! What the service answers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The log has the events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// How many events were taken.
    pub accepted: usize,
    /// The others, in the order they were sent.
    pub rejected: Vec<Rejected>,
    /// What became of the taken ones: `GET /v1/receipts/{receipt}`, and `?after=` on reads.
    pub receipt: String,
}

/// An event that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rejected {
    /// Its place in the request, from 0. Empty lines of NDJSON do not count.
    pub index: usize,
    /// Its id; null where it cannot be read.
    #[schema(required = true)]
    pub event_id: Option<String>,
    /// What is wrong with it.
    pub error: String,
    /// Where nothing is wrong with it but a limit: seconds after which it may be sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub retry_after: Option<u32>,
}
