//! What the door answers, and what it is sent, for the description.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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
    /// Its id, as far as it can be read.
    pub event_id: Option<String>,
    /// What is wrong with it.
    pub error: String,
    /// Where nothing is wrong with it but a limit: seconds after which it may be sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
}

/// An event as it is sent. Read by nobody: it describes what `EventFields` of the model reads.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "Event")]
pub struct EventDocument {
    /// With `actor_id` the idempotency key: sent again, it counts once.
    #[schema(pattern = "^[A-Za-z0-9._:-]{1,64}$", example = "01J9ZQ4N8G")]
    pub event_id: String,
    /// A type that the topology names.
    #[serde(rename = "type")]
    #[schema(example = "like")]
    pub kind: String,
    /// Who did it. May be absent for views, reads and calls.
    #[schema(min_length = 1, max_length = 120, example = "u42")]
    pub actor_id: Option<String>,
    /// What it was done to: `kind:id`.
    #[schema(max_length = 128, example = "article:7")]
    pub subject_id: String,
    /// RFC 3339, or milliseconds since 1970 as a number. Default: now.
    #[schema(example = "2026-11-21T08:00:00.123Z")]
    pub occurred_at: Option<String>,
    /// Default: the caller's address.
    pub ip: Option<String>,
    /// Default: the caller's.
    #[schema(max_length = 1024)]
    pub user_agent: Option<String>,
    /// How long; required for `read`.
    #[schema(minimum = 0, maximum = 86_400_000)]
    pub duration_ms: Option<i64>,
    /// At most 16 strings, numbers and booleans, 2 KiB in all.
    #[schema(value_type = Object)]
    pub properties: Option<BTreeMap<String, serde_json::Value>>,
}
