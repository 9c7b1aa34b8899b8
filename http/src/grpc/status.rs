//! A problem as the status of a call: the code, the text, and `google.rpc.Status` with the problem's type and fields.

use crate::problem::ApiProblem;
use crate::request_id::RequestId;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use prost_types::{Any, Duration};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use tally_model::Problem;
use tally_proto::Message;
use tally_proto::errors::bad_request::FieldViolation;
use tally_proto::errors::{BadRequest, ErrorInfo, RequestInfo, RetryInfo, Status};

const CODE: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
/// Whose reasons they are.
const DOMAIN: &str = "tally";
/// Clients take 8 KiB of trailers or more: beyond, details are left out, and the first rejected events stay.
const DETAILS_BYTES_MAX: usize = 4 << 10;

/// The codes of gRPC that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
enum Code {
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl Code {
    fn of(problem: &Problem) -> Self {
        match StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR) {
            _ if problem.kind.ends_with(":request-timeout") => Self::DeadlineExceeded,
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                Self::InvalidArgument
            }
            StatusCode::UNAUTHORIZED => Self::Unauthenticated,
            StatusCode::FORBIDDEN => Self::PermissionDenied,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::CONFLICT => Self::Aborted,
            StatusCode::GONE => Self::FailedPrecondition,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::INSUFFICIENT_STORAGE => Self::ResourceExhausted,
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::Unimplemented,
            StatusCode::REQUEST_TIMEOUT | StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable,
            status if status.is_server_error() => Self::Internal,
            _ => Self::Unknown,
        }
    }
}

/// A problem as it was written for HTTP.
#[derive(Deserialize)]
struct Written {
    #[serde(flatten)]
    problem: Problem,
    #[serde(default)]
    rejected: Vec<RejectedEvent>,
}

/// An element of the member `rejected`.
#[derive(Deserialize)]
struct RejectedEvent {
    index: usize,
    error: String,
}

/// The trailers of a call that has succeeded.
pub(super) fn ok() -> HeaderMap {
    HeaderMap::from_iter([(CODE, HeaderValue::from_static("0"))])
}

/// Whether these headers end a call.
pub(super) fn is_status(headers: &HeaderMap) -> bool {
    headers.contains_key(CODE)
}

/// The trailers of a call that fails with this problem.
pub(super) fn of_problem(problem: &ApiProblem, id: &RequestId) -> HeaderMap {
    of_written(&problem.to_json(id.as_str()), problem.retry_after_s(), false)
}

/// The trailers for a problem as it was written for HTTP, with the `Retry-After` of its response. `no_route`: the path of
/// the call names no method.
pub(super) fn of_written(json: &[u8], retry_after_s: Option<u32>, no_route: bool) -> HeaderMap {
    match serde_json::from_slice::<Written>(json) {
        Ok(written) => {
            let code = if no_route { Code::Unimplemented } else { Code::of(&written.problem) };
            trailers(code, &written.problem.detail, &details(&written, retry_after_s))
        }
        // Not written by this server.
        Err(_) => trailers(Code::Unknown, "The response is not one of a gRPC method.", &[]),
    }
}

fn details(written: &Written, retry_after_s: Option<u32>) -> Vec<Any> {
    let Problem { kind, title, status, request_id, .. } = &written.problem;
    let slug = kind.rsplit(':').next().unwrap_or_default();
    let reason = slug.to_ascii_uppercase().replace('-', "_");
    let status = status.to_string();
    let metadata = [("type", kind), ("title", title), ("status", &status)];
    let metadata: BTreeMap<_, _> = metadata.into_iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
    let mut details = vec![
        any("ErrorInfo", &ErrorInfo { reason, domain: DOMAIN.to_owned(), metadata }),
        any("RequestInfo", &RequestInfo { request_id: request_id.clone() }),
    ];
    if let Some(seconds) = retry_after_s {
        let retry_delay = Some(Duration { seconds: seconds.into(), nanos: 0 });
        details.push(any("RetryInfo", &RetryInfo { retry_delay }));
    }
    let mut bad = BadRequest::default();
    for violation in violations(written) {
        bad.field_violations.push(violation);
        if bad.encoded_len() > DETAILS_BYTES_MAX {
            bad.field_violations.pop();
            break;
        }
    }
    if !bad.field_violations.is_empty() {
        details.push(any("BadRequest", &bad));
    }
    details
}

/// The rejected events, or the field of the request that the detail is about.
fn violations(written: &Written) -> Vec<FieldViolation> {
    let of_event = |RejectedEvent { index, error }: &RejectedEvent| FieldViolation {
        field: match named(error) {
            Some(field) => format!("events[{index}].{field}"),
            None => format!("events[{index}]"),
        },
        description: error.clone(),
    };
    let detail = &written.problem.detail;
    let of_request = |field: &str| FieldViolation { field: field.to_owned(), description: detail.clone() };
    match named(detail).filter(|_| written.problem.status == StatusCode::BAD_REQUEST) {
        Some(field) => vec![of_request(field)],
        None => written.rejected.iter().map(of_event).collect(),
    }
}

/// The field that an error is about: it begins with its name.
fn named(error: &str) -> Option<&str> {
    error.strip_prefix('`').and_then(|rest| rest.split_once('`')).map(|(field, _)| field)
}

fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/google.rpc.{name}"), value: message.encode_to_vec() }
}

fn trailers(code: Code, message: &str, details: &[Any]) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([(CODE, HeaderValue::from(code as i32))]);
    if let Ok(text) = HeaderValue::try_from(percent_encoded(message, is_plain)) {
        headers.insert(MESSAGE, text);
    }
    if !details.is_empty() {
        let status = Status { code: code as i32, message: message.to_owned(), details: details.to_vec() };
        let encoded = Bytes::from(STANDARD_NO_PAD.encode(status.encode_to_vec()));
        if let Ok(value) = HeaderValue::from_maybe_shared(encoded) {
            headers.insert(DETAILS, value);
        }
    }
    headers
}

/// `Status-Message`: printable ASCII but `%` stays.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'%'
}

/// A text in which every byte is `%` and two hexadecimal digits, but for those of ASCII that are `plain`.
pub fn percent_encoded(text: &str, plain: impl Fn(u8) -> bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte.is_ascii() && plain(byte) {
            true => encoded.push(char::from(byte)),
            false => {
                // Writing to memory cannot fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn code(status: u16, slug: &'static str) -> i32 {
        let problem = ApiProblem::new(StatusCode::from_u16(status).unwrap(), slug, "T", "50 % é");
        let headers = of_problem(&problem, &RequestId::new());
        assert_eq!(headers[MESSAGE], "50 %25 %C3%A9");
        headers[CODE].to_str().unwrap().parse().unwrap()
    }

    #[test]
    fn each_status_of_a_problem_has_a_code() {
        for (status, slug, expected) in [
            (400, "bad-request", 3),
            (401, "unauthenticated", 16),
            (403, "insufficient-scope", 7),
            (404, "not-found", 5),
            (408, "body-timeout", 14),
            (410, "unknown-log", 9),
            (413, "payload-too-large", 3),
            (415, "unsupported-media-type", 12),
            (422, "invalid-event", 3),
            (429, "too-many-requests", 8),
            (500, "internal", 13),
            (503, "unavailable", 14),
            (503, "outcome-unknown", 14),
            (503, "request-timeout", 4),
            (507, "log-full", 8),
        ] {
            assert_eq!(code(status, slug), expected, "{status} {slug}");
        }
    }

    fn details_of(headers: &HeaderMap) -> Vec<Any> {
        let bytes = STANDARD_NO_PAD.decode(&headers[DETAILS]).unwrap();
        Status::decode(&*bytes).unwrap().details
    }

    #[test]
    fn details_have_the_type_the_fields_and_when_to_retry() {
        let rejected = json!([
            {"index": 0, "event_id": "a", "error": "`actor_id` is missing"},
            {"index": 2, "event_id": null, "error": "exceeds a limit"},
        ]);
        let problem = ApiProblem::too_many_requests("Too many.", 7).with("rejected", rejected);
        let headers = of_problem(&problem, &RequestId::new());
        let [info, _, retry, bad] = &*details_of(&headers) else { panic!("{headers:?}") };
        let info = ErrorInfo::decode(&*info.value).unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("TOO_MANY_REQUESTS", "tally"));
        assert_eq!(info.metadata["type"], "urn:tally:problem:too-many-requests");
        assert_eq!(info.metadata["status"], "429");
        assert_eq!(RetryInfo::decode(&*retry.value).unwrap().retry_delay.unwrap().seconds, 7);
        let violations = BadRequest::decode(&*bad.value).unwrap().field_violations;
        let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["events[0].actor_id", "events[2]"]);
        assert_eq!(violations[1].description, "exceeds a limit");
        let headers = of_problem(&ApiProblem::bad_request("`limit` must be a number."), &RequestId::new());
        let bad = BadRequest::decode(&*details_of(&headers).pop().unwrap().value).unwrap();
        assert_eq!(bad.field_violations[0].field, "limit");
    }

    #[test]
    fn details_fit_the_trailers_that_clients_take() {
        let rejected: Vec<_> = (0..1_000).map(|index| json!({"index": index, "error": "x".repeat(300)})).collect();
        let headers = of_problem(&ApiProblem::bad_request("x").with("rejected", rejected), &RequestId::new());
        assert!(headers[DETAILS].len() < 8 << 10, "{}", headers[DETAILS].len());
        let last = details_of(&headers).pop().unwrap();
        assert!(BadRequest::decode(&*last.value).unwrap().field_violations.len() > 10);
    }
}
