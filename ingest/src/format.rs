//! What a body says it is.

use axum::http::HeaderMap;
use tally_http::{ApiProblem, MediaType};

/// The media types of `POST /v1/events`.
const ACCEPTED: &[&str] = &[JSON, LINES, CLOUD_EVENT, CLOUD_EVENTS];
pub(crate) const JSON: &str = "application/json";
pub(crate) const LINES: &str = "application/x-ndjson";
pub(crate) const CLOUD_EVENT: &str = "application/cloudevents+json";
pub(crate) const CLOUD_EVENTS: &str = "application/cloudevents-batch+json";

/// How a body holds its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// One event or an array of them.
    Json,
    /// One event a line.
    Lines,
    /// One CloudEvent.
    CloudEvent,
    /// An array of CloudEvents.
    CloudEvents,
}

impl Format {
    /// Out of the request's headers; 415 otherwise.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, ApiProblem> {
        let media = MediaType::of(headers).map_err(|error| ApiProblem::unsupported_media_type(error, ACCEPTED))?;
        match media.as_str() {
            JSON => Ok(Self::Json),
            LINES => Ok(Self::Lines),
            CLOUD_EVENT => Ok(Self::CloudEvent),
            CLOUD_EVENTS => Ok(Self::CloudEvents),
            other => Err(ApiProblem::unsupported_media_type(format!("`{other}` is not accepted"), ACCEPTED)),
        }
    }

    pub(crate) fn is_cloud(self) -> bool {
        matches!(self, Self::CloudEvent | Self::CloudEvents)
    }
}
