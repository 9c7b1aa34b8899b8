//! RFC 9457 problem details.

use serde::{Deserialize, Serialize};

/// The body of every answer that is an error (`application/problem+json`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// A stable name of the kind of problem: `urn:tally:problem:<slug>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For people, the same for every problem of this kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// For people: what is wrong with this request and what to do.
    pub detail: String,
    /// The same as in the logs and in the header `x-request-id`.
    pub request_id: String,
}
