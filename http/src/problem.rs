//! Errors as RFC 9457 problem details.

use crate::request_id;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;
use tally_model::Problem;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};

/// The media type of every error.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";
/// Problem types are names, not addresses: nothing has to answer there.
const TYPE_PREFIX: &str = "urn:tally:problem:";

/// An answer that is an error. Handlers return it; the request's id is filled in when it becomes a response.
#[derive(Clone, Debug)]
pub struct ApiProblem(Box<Content>);

#[derive(Clone, Debug)]
struct Content {
    status: StatusCode,
    slug: &'static str,
    title: &'static str,
    detail: String,
    retry_after_s: Option<u32>,
    headers: Vec<(HeaderName, HeaderValue)>,
    members: Map<String, Value>,
}

impl ApiProblem {
    /// A problem whose `type` is `urn:tally:problem:<slug>`. The title is the same for all of a kind; the detail
    /// describes the mistake in this request and its remedy.
    pub fn new(status: StatusCode, slug: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        let (detail, members) = (detail.into(), Map::new());
        let (retry_after_s, headers) = (None, Vec::new());
        Self(Box::new(Content { status, slug, title, detail, retry_after_s, headers, members }))
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "Invalid request", detail)
    }

    /// 404: no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// 408: the body did not arrive in time.
    pub fn body_timeout() -> Self {
        let detail = "The body did not arrive in time. Send it faster, or split it into smaller requests.";
        Self::new(StatusCode::REQUEST_TIMEOUT, "body-timeout", "Request body timeout", detail)
    }

    /// 413: the body is longer than allowed.
    pub fn payload_too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", "Request body too large", detail)
    }

    /// 415: names the media types that are accepted.
    pub fn unsupported_media_type(reason: impl fmt::Display, accepted: &[&str]) -> Self {
        let detail = format!("{reason}; accepted: {}.", accepted.join(", "));
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(status, "unsupported-media-type", "Unsupported media type", detail)
    }

    /// 429: above a limit; retry after `retry_after_s` seconds.
    pub fn too_many_requests(detail: impl Into<String>, retry_after_s: u32) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests", detail)
            .retry_after(retry_after_s)
    }

    /// 500: an internal error. The cause is only in the log.
    pub fn internal() -> Self {
        let detail = "An internal error occurred. The service log has the cause under this request_id.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail)
    }

    /// 503: temporarily unavailable; retry after `retry_after_s` seconds.
    pub fn unavailable(detail: impl Into<String>, retry_after_s: u32) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Temporarily unavailable", detail)
            .retry_after(retry_after_s)
    }

    /// 503: the process ends; another one, or the next, takes the request.
    pub fn shutting_down() -> Self {
        Self::unavailable("This process is shutting down.", 1)
    }

    /// Any other status, with the standard's own name for it.
    pub(crate) fn of_status(status: StatusCode, detail: impl Into<String>) -> Self {
        let slug = match status {
            StatusCode::BAD_REQUEST => "bad-request",
            StatusCode::METHOD_NOT_ALLOWED => "method-not-allowed",
            StatusCode::PAYLOAD_TOO_LARGE => "payload-too-large",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported-media-type",
            StatusCode::UNPROCESSABLE_ENTITY => "unprocessable",
            s if s.is_server_error() => "internal",
            _ => "refused",
        };
        Self::new(status, slug, status.canonical_reason().unwrap_or("Refused"), detail)
    }

    /// Sets `Retry-After`, in seconds.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after_s = Some(seconds);
        self
    }

    /// Adds a header to the answer.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Adds an extension member. One that cannot be written as JSON is left out.
    pub fn with(mut self, name: &'static str, value: impl Serialize) -> Self {
        if let Ok(value) = serde_json::to_value(value) {
            self.0.members.insert(name.to_owned(), value);
        }
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The mistake in this request.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Seconds after which a retry may succeed.
    #[cfg(feature = "grpc")]
    pub(crate) fn retry_after_s(&self) -> Option<u32> {
        self.0.retry_after_s
    }

    /// The body, for a request with this id.
    pub(crate) fn to_json(&self, request_id: &str) -> Vec<u8> {
        #[derive(Serialize)]
        struct WithMembers<'a> {
            #[serde(flatten)]
            problem: Problem,
            #[serde(flatten)]
            members: &'a Map<String, Value>,
        }
        let content = &*self.0;
        let problem = Problem {
            kind: format!("{TYPE_PREFIX}{}", content.slug),
            title: content.title.to_owned(),
            status: content.status.as_u16(),
            detail: content.detail.clone(),
            request_id: request_id.to_owned(),
        };
        // Writing strings and numbers to memory cannot fail; an empty body would still carry the status.
        serde_json::to_vec(&WithMembers { problem, members: &content.members }).unwrap_or_default()
    }
}

impl fmt::Display for ApiProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.0.status.as_u16(), self.0.title, self.0.detail)
    }
}

impl std::error::Error for ApiProblem {}

impl IntoResponse for ApiProblem {
    fn into_response(self) -> Response {
        let body = request_id::with_current(|id| self.to_json(id));
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.0.status;
        let headers = response.headers_mut();
        headers.extend(self.0.headers);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.0.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl utoipa::PartialSchema for ApiProblem {
    fn schema() -> RefOr<Schema> {
        let text = |what: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(what));
        let fields = [
            ("type", text("Stable name of the problem type: urn:tally:problem:<slug>")),
            ("title", text("The same for every problem of this type")),
            ("detail", text("What is wrong with this request, and what to do")),
            ("request_id", text("Also in the header x-request-id and in the service log")),
            ("status", ObjectBuilder::new().schema_type(Type::Integer).description(Some("The HTTP status"))),
        ];
        let object = ObjectBuilder::new().description(Some("Problem details (RFC 9457)"));
        let object =
            fields.into_iter().fold(object, |object, (name, field)| object.property(name, field).required(name));
        object.into()
    }
}

impl utoipa::ToSchema for ApiProblem {
    fn name() -> Cow<'static, str> {
        "Problem".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_fields_are_one_object() {
        let problem = ApiProblem::new(StatusCode::CONFLICT, "taken", "Taken", "It is taken.").with("by", ["u1"]);
        let json: Value = serde_json::from_slice(&problem.to_json("r1")).unwrap();
        let expected = serde_json::json!({
            "type": "urn:tally:problem:taken", "title": "Taken", "status": 409, "detail": "It is taken.",
            "request_id": "r1", "by": ["u1"],
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn retry_after_is_a_header() {
        let response = ApiProblem::unavailable("later", 7).into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "7");
        assert_eq!(response.headers()["content-type"], PROBLEM_JSON);
    }
}
