//! The format of a request's body, by its headers.

use super::binary;
use crate::batch::Format;
use axum::http::HeaderMap;
use bytes::Bytes;
use tally_http::{ApiProblem, MediaType};

/// The media types of `POST /v1/events`.
const ACCEPTED: &[&str] = &[JSON, LINES, CLOUD_EVENT, CLOUD_EVENTS];
const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
const CLOUD_EVENT: &str = "application/cloudevents+json";
const CLOUD_EVENTS: &str = "application/cloudevents-batch+json";

/// How a request holds its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFormat {
    /// The body has them.
    Body(Format),
    /// One CloudEvent in binary mode: its attributes are headers, and the body is its data.
    BinaryCloudEvent,
}

impl BodyFormat {
    /// Out of the request's headers; 415 otherwise.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiProblem> {
        if binary::has_no_data(headers) {
            return Ok(Self::BinaryCloudEvent);
        }
        let media = MediaType::of(headers).map_err(|error| ApiProblem::unsupported_media_type(error, ACCEPTED))?;
        match media.as_str() {
            // The media types of CloudEvents take precedence over `ce-*` headers.
            media if !media.starts_with("application/cloudevents") && binary::is_binary(headers) => {
                match binary::is_json(media) {
                    true => Ok(Self::BinaryCloudEvent),
                    false => {
                        let reason = format!("The data of a CloudEvent in binary mode must be JSON, not `{media}`");
                        Err(ApiProblem::unsupported_media_type(reason, &[JSON]))
                    }
                }
            }
            JSON => Ok(Self::Body(Format::Json)),
            LINES => Ok(Self::Body(Format::Lines)),
            CLOUD_EVENT => Ok(Self::Body(Format::CloudEvent)),
            CLOUD_EVENTS => Ok(Self::Body(Format::CloudEvents)),
            other => Err(ApiProblem::unsupported_media_type(format!("`{other}` is not supported"), ACCEPTED)),
        }
    }

    /// The text that holds the events, and how.
    pub(super) fn events(self, body: Bytes, headers: &HeaderMap) -> Result<(Format, Bytes), ApiProblem> {
        match self {
            Self::Body(format) => Ok((format, body)),
            Self::BinaryCloudEvent => Ok((Format::CloudEvent, binary::to_structured(headers, &body)?.into())),
        }
    }
}
