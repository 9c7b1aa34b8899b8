//! What a body says it is.

use crate::binary;
use axum::http::HeaderMap;
use bytes::Bytes;
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
    /// One CloudEvent in binary mode: its attributes are headers, and the body is its data.
    BinaryCloudEvent,
}

impl Format {
    /// Out of the request's headers; 415 otherwise.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, ApiProblem> {
        if binary::has_no_data(headers) {
            return Ok(Self::BinaryCloudEvent);
        }
        let media = MediaType::of(headers).map_err(|error| ApiProblem::unsupported_media_type(error, ACCEPTED))?;
        match media.as_str() {
            // Its own media types say more than headers beside them.
            media if !media.starts_with("application/cloudevents") && binary::is_binary(headers) => {
                match binary::is_json(media) {
                    true => Ok(Self::BinaryCloudEvent),
                    false => {
                        let reason = format!("The data of a CloudEvent in binary mode must be JSON, not `{media}`");
                        Err(ApiProblem::unsupported_media_type(reason, &[JSON]))
                    }
                }
            }
            JSON => Ok(Self::Json),
            LINES => Ok(Self::Lines),
            CLOUD_EVENT => Ok(Self::CloudEvent),
            CLOUD_EVENTS => Ok(Self::CloudEvents),
            other => Err(ApiProblem::unsupported_media_type(format!("`{other}` is not accepted"), ACCEPTED)),
        }
    }

    pub(crate) fn is_cloud(self) -> bool {
        matches!(self, Self::CloudEvent | Self::CloudEvents | Self::BinaryCloudEvent)
    }

    /// The text that holds the events.
    pub(crate) fn events(self, body: Bytes, headers: &HeaderMap) -> Result<Bytes, ApiProblem> {
        match self {
            Self::BinaryCloudEvent => binary::to_structured(headers, &body).map(Bytes::from),
            _ => Ok(body),
        }
    }
}
