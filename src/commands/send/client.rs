//! An ingest API at the other end of a connection: one request, and the meaning of its response.

use crate::commands::Failure;
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode, Uri};
use serde::Deserialize;
use std::time::Duration;
use tally_http::{ClientError, ClientLimits, HttpClient, causes};
use tally_model::from_object;

/// An ingest API answers within 3 s; a longer wait means that the network lost something.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const LIMITS: ClientLimits = ClientLimits {
    connect: Some(Duration::from_secs(5)),
    exchange: ANSWER_TIMEOUT,
    // The longest answer rejects 1,000 events with long reasons.
    body_bytes_max: 2 << 20,
};

/// Sends batches to `POST /v1/events`.
pub struct IngestClient {
    client: HttpClient,
    uri: Uri,
    authorization: Option<HeaderValue>,
}

/// What became of a request.
#[derive(Debug)]
pub enum Answer {
    /// The log has all events that were not rejected.
    Taken { accepted: u64, rejected: Vec<Rejected> },
    /// The request was too large: send less at once.
    TooLarge(String),
    /// Perhaps taken, perhaps not: send it again, not before `after`.
    Again { reason: String, after: Option<Duration> },
    /// A retry would not help.
    Refused(String),
}

/// An event that was not taken.
#[derive(Debug, Deserialize)]
pub struct Rejected {
    /// Its place in the request, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub error: String,
    /// Where nothing is wrong with it but a limit: seconds after which it may be sent again.
    #[serde(default)]
    pub retry_after: Option<u64>,
}

#[derive(Deserialize)]
struct Accepted {
    accepted: u64,
    rejected: Vec<Rejected>,
}

/// `application/problem+json`, as far as it matters here.
#[derive(Deserialize)]
struct Refusal {
    title: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    rejected: Option<Vec<Rejected>>,
}

impl IngestClient {
    /// `to` is `http://host:port`, perhaps with a path in front of `/v1`.
    pub fn new(to: &str, api_key: Option<&str>) -> Result<Self, Failure> {
        let uri = service_uri(to, "/v1/events").map_err(|why| Failure::usage(format!("--to {to}: {why}")))?;
        Ok(Self { client: HttpClient::plain(LIMITS), uri, authorization: bearer(api_key)? })
    }

    /// Where events go.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Sends lines of NDJSON once.
    pub async fn post(&self, lines: Bytes) -> Answer {
        let mut request = Request::post(self.uri.clone()).header(CONTENT_TYPE, "application/x-ndjson");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = match request.body(lines) {
            Ok(request) => request,
            Err(error) => return Answer::Refused(error.to_string()),
        };
        let again = |reason| Answer::Again { reason, after: None };
        match self.client.send(request).await.map(Response::into_parts) {
            Ok((head, Ok(body))) => Answer::of(&Response::from_parts(head, body)),
            Ok((_, Err(error))) => again(causes(&*error)),
            Err(ClientError::Late) => again(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
            Err(ClientError::Exchange(error)) => again(causes(&error)),
        }
    }
}

impl Answer {
    fn of(response: &Response<Bytes>) -> Self {
        let (status, body) = (response.status(), response.body());
        let refusal = || from_object::<Refusal>(body).ok();
        let reason = || match refusal() {
            Some(Refusal { title, detail, .. }) => format!("{}: {title}: {detail}", status.as_u16()),
            None => status.to_string(),
        };
        match status {
            StatusCode::ACCEPTED => match from_object::<Accepted>(body) {
                Ok(Accepted { accepted, rejected }) => Self::Taken { accepted, rejected },
                Err(error) => Self::Refused(format!("the answer is not one of an ingest API: {error}")),
            },
            StatusCode::UNPROCESSABLE_ENTITY => match refusal().and_then(|refusal| refusal.rejected) {
                Some(rejected) => Self::Taken { accepted: 0, rejected },
                None => Self::Refused(reason()),
            },
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge(reason()),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Self::Again { reason: reason(), after: retry_after(response) }
            }
            _ if status.is_server_error() => Self::Again { reason: reason(), after: retry_after(response) },
            _ => Self::Refused(reason()),
        }
    }
}

fn retry_after(response: &Response<Bytes>) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The header that carries `--api-key`.
pub fn bearer(api_key: Option<&str>) -> Result<Option<HeaderValue>, Failure> {
    let header = api_key.map(|key| HeaderValue::try_from(format!("Bearer {key}"))).transpose();
    let mut header = header.map_err(|_| Failure::usage("--api-key: holds characters that no header may hold"))?;
    if let Some(value) = &mut header {
        value.set_sensitive(true);
    }
    Ok(header)
}

/// The address of a route; `to` is `http://host:port`, perhaps with a path in front of the route's.
pub fn service_uri(to: &str, route: &str) -> Result<Uri, String> {
    let form = "needs the form http://host:port";
    if to.starts_with("https://") {
        return Err(
            "https is not spoken here yet: send to an http:// address, for example of a proxy on this machine \
                    that speaks TLS with the other side"
                .to_owned(),
        );
    }
    let base = to.strip_suffix('/').unwrap_or(to);
    // Otherwise the path would be taken for the host.
    if base.len() <= "http://".len() {
        return Err(form.to_owned());
    }
    let uri: Uri = format!("{base}{route}").parse().map_err(|_| form.to_owned())?;
    match (uri.scheme_str(), uri.host(), uri.query()) {
        (Some("http"), Some(host), None) if !host.is_empty() => Ok(uri),
        _ => Err(form.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (to, expected) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/events"),
            ("http://example.org/", "http://example.org/v1/events"),
            ("http://[::1]:80/tally", "http://[::1]:80/tally/v1/events"),
        ] {
            assert_eq!(service_uri(to, "/v1/events").unwrap().to_string(), expected);
        }
        for to in ["", "127.0.0.1:8080", "localhost", "ftp://x", "http://", "http://a b", "http://x?y=1"] {
            assert_eq!(service_uri(to, "/v1/events").unwrap_err(), "needs the form http://host:port", "{to}");
        }
        assert!(service_uri("https://example.org", "/v1/events").unwrap_err().contains("https is not spoken"));
    }

    fn answer(status: u16, headers: &[(&str, &str)], body: &'static str) -> Answer {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        Answer::of(&response.body(Bytes::from_static(body.as_bytes())).unwrap())
    }

    #[test]
    fn answers_mean_what_the_contract_says() {
        let taken =
            answer(202, &[], r#"{"accepted":2,"rejected":[{"index":1,"event_id":null,"error":"e"}],"receipt":"r"}"#);
        assert!(matches!(taken, Answer::Taken { accepted: 2, rejected } if rejected[0].index == 1));
        let none =
            r#"{"type":"t","title":"No valid event","status":422,"detail":"d","rejected":[{"index":0,"error":"e"}]}"#;
        assert!(matches!(answer(422, &[], none), Answer::Taken { accepted: 0, rejected } if rejected.len() == 1));
        let problem = r#"{"type":"t","title":"Busy","status":503,"detail":"wait"}"#;
        for status in [408, 429, 500, 502, 503, 504, 507] {
            let Answer::Again { reason, after } = answer(status, &[("retry-after", "7")], problem) else {
                panic!("{status}")
            };
            assert_eq!((reason, after), (format!("{status}: Busy: wait"), Some(Duration::from_secs(7))));
        }
        assert!(matches!(answer(413, &[], problem), Answer::TooLarge(_)));
        for status in [200, 204, 301, 400, 401, 403, 404, 405, 415] {
            assert!(matches!(answer(status, &[], "x"), Answer::Refused(_)), "{status}");
        }
        assert!(matches!(answer(202, &[], "hello"), Answer::Refused(_)));
        assert!(matches!(answer(422, &[], "hello"), Answer::Refused(_)));
        assert!(matches!(answer(503, &[("retry-after", "soon")], ""), Answer::Again { after: None, .. }));
    }
}
