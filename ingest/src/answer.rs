//! The responses of the service.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The log has the events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// How many events were taken.
    pub accepted: usize,
    /// The others, in the order they were sent.
    pub rejected: Vec<Rejected>,
    /// Identifies the accepted events, to look up their outcome (`GET /v1/receipts/{receipt}`), and for `?after=` on
    /// reads.
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
    /// The mistake in the event.
    pub error: String,
    /// If only a limit was exceeded: seconds after which the event may be sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub retry_after: Option<u32>,
}
