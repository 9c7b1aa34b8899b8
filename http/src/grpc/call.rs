//! One call: its deadline, and its end as gRPC wants it.

use super::status;
use crate::edge::NoRoute;
use crate::problem::{ApiProblem, PROBLEM_JSON};
use crate::request_id::{REQUEST_ID_HEADER, RequestId};
use axum::body::{Body, HttpBody, to_bytes};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use bytes::Bytes;
use hyper::body::Frame;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout_at};

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// The media type of every response.
pub(super) const GRPC: &str = "application/grpc";
/// How often a response without news is polled: the guard then sees whether the credential of the call still holds.
const POLLED: Duration = Duration::from_secs(5);
/// How much of a problem is read.
const PROBLEM_BYTES_MAX: usize = 1 << 20;

/// Whether a request is a call, or a response that of one.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    matches!(codec(headers), Some(b"") | Some([b'+' | b';', ..]))
}

/// Whether its messages are those of protobuf.
pub(super) fn is_protobuf(headers: &HeaderMap) -> bool {
    let parameters = codec(headers).map(|codec| codec.strip_prefix(b"+proto").unwrap_or(codec));
    matches!(parameters, Some(b"") | Some([b';', ..]))
}

/// What follows the media type of gRPC.
fn codec(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(CONTENT_TYPE)?.as_bytes().strip_prefix(GRPC.as_bytes())
}

/// Answers a call by the routes, no later than at its deadline.
pub(crate) async fn call<F, E>(
    mut request: Request<Body>,
    routes: impl FnOnce(Request<Body>) -> F,
) -> Result<Response<Body>, E>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    let id = RequestId::of(request.headers());
    let deadline = match deadline(request.headers(), Instant::now()) {
        Ok(deadline) => deadline,
        Err(problem) => return Ok(failed(status::of_problem(&problem, &id), &id)),
    };
    // The routes take it over.
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        request.headers_mut().insert(REQUEST_ID_HEADER, value);
    }
    let response = match deadline {
        None => routes(request).await,
        Some(deadline) => match timeout_at(deadline, routes(request)).await {
            Ok(response) => response,
            Err(_) => return Ok(failed(status::of_problem(&too_late(), &id), &id)),
        },
    }?;
    if response.status().is_success() && is_grpc(response.headers()) {
        let deadline = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
        return Ok(response.map(|body| Body::new(Ended { body, deadline, poll_again: None, id, is_over: false })));
    }
    Ok(of_refused(response, &id).await)
}

/// `grpc-timeout`: up to eight digits and a unit.
fn deadline(headers: &HeaderMap, now: Instant) -> Result<Option<Instant>, ApiProblem> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let refused = || ApiProblem::bad_request("`grpc-timeout` must be up to eight digits and one of H, M, S, m, u, n.");
    let text = value.to_str().map_err(|_| refused())?;
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(refused)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused());
    }
    let number: u64 = digits.parse().map_err(|_| refused())?;
    let timeout = match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return Err(refused()),
    };
    // A deadline that the clock cannot represent never passes.
    Ok(now.checked_add(timeout))
}

fn too_late() -> ApiProblem {
    let detail = "The deadline of the call has passed. Whether it took effect is unknown.";
    ApiProblem::new(StatusCode::SERVICE_UNAVAILABLE, "request-timeout", "Request timeout", detail)
}

/// A response of trailers alone.
fn failed(status: HeaderMap, id: &RequestId) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(REQUEST_ID_HEADER, value);
    }
    response
}

/// The status for the response of a route that is no message: a problem, mostly.
async fn of_refused(response: Response<Body>, id: &RequestId) -> Response<Body> {
    let (parts, body) = response.into_parts();
    let header = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let retry_after_s = header(RETRY_AFTER).and_then(|seconds| seconds.parse().ok());
    let no_route = parts.extensions.get::<NoRoute>().is_some();
    let written = match header(CONTENT_TYPE) == Some(PROBLEM_JSON) {
        true => to_bytes(body, PROBLEM_BYTES_MAX).await.unwrap_or_default(),
        false => Bytes::new(),
    };
    failed(status::of_written(&written, retry_after_s, no_route), id)
}

/// The messages of a response, which end with a status whatever happens.
struct Ended {
    body: Body,
    /// Runs until the deadline.
    deadline: Option<Pin<Box<Sleep>>>,
    poll_again: Option<Pin<Box<Sleep>>>,
    id: RequestId,
    is_over: bool,
}

impl Ended {
    fn end(&mut self, problem: &ApiProblem) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.is_over = true;
        Poll::Ready(Some(Ok(Frame::trailers(status::of_problem(problem, &self.id)))))
    }
}

impl HttpBody for Ended {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.is_over = frame.trailers_ref().is_some_and(status::is_status);
                Poll::Ready(Some(Ok(frame)))
            }
            // The guard ends a response that outlives its credential.
            Poll::Ready(None) => {
                let detail = "The key or token of this call is not valid any more. Call again with a new one.";
                let status = StatusCode::UNAUTHORIZED;
                self.end(&ApiProblem::new(status, "expired-credentials", "Expired credentials", detail))
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(%error, "the body of a response ended early");
                self.end(&ApiProblem::internal())
            }
            Poll::Pending
                if self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(context).is_ready()) =>
            {
                self.end(&too_late())
            }
            Poll::Pending => {
                let poll_again = self.poll_again.get_or_insert_with(|| Box::pin(sleep(POLLED)));
                if poll_again.as_mut().poll(context).is_ready() {
                    poll_again.as_mut().reset(Instant::now() + POLLED);
                    context.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;
    use http_body_util::BodyExt;
    use std::convert::Infallible;
    use std::future::{pending, ready};

    /// What a call to a route with this answer gives: the messages, and the code.
    async fn called(timeout: &'static str, answer: impl Future<Output = Response<Body>>) -> (Bytes, String) {
        let request = Request::post("/a.B/C").header(TIMEOUT, timeout).body(Body::empty()).unwrap();
        let response = call(request, async |_| Ok::<_, Infallible>(answer.await)).await.unwrap();
        assert_eq!((response.status(), &response.headers()[CONTENT_TYPE]), (StatusCode::OK, &GRPC.parse().unwrap()));
        let code = |headers: &HeaderMap| headers.get("grpc-status").map(|code| code.to_str().unwrap().to_owned());
        let at_once = code(response.headers());
        let collected = response.into_body().collect().await.unwrap();
        let behind = collected.trailers().and_then(code);
        (collected.to_bytes(), at_once.or(behind).unwrap())
    }

    fn of_media(media: &'static str, body: impl Into<Body>) -> Response<Body> {
        Response::builder().header(CONTENT_TYPE, media).body(body.into()).unwrap()
    }

    #[tokio::test]
    async fn every_answer_ends_with_a_status() {
        let problem = ApiProblem::not_found("No board.");
        assert_eq!(called("9S", ready(problem.clone().into_response())).await.1, "5");
        let no_method = (axum::Extension(NoRoute), problem).into_response();
        assert_eq!(called("9S", ready(no_method)).await.1, "12");
        assert_eq!(called("9S", ready(of_media("text/html", "page"))).await, (Bytes::new(), "2".to_owned()));
        // The guard ends a body without a status.
        assert_eq!(called("9S", ready(of_media(GRPC, "message"))).await, ("message".into(), "16".to_owned()));
    }

    #[tokio::test]
    async fn a_deadline_ends_the_route_and_the_body() {
        assert_eq!(called("5m", pending()).await.1, "4");
        let endless = Body::new(Endless);
        assert_eq!(called("5m", ready(of_media(GRPC, endless))).await.1, "4");
    }

    struct Endless;

    impl HttpBody for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[test]
    fn calls_have_a_media_type() {
        for (media, expected) in [
            ("application/grpc", (true, true)),
            ("application/grpc+proto", (true, true)),
            ("application/grpc;charset=utf-8", (true, true)),
            ("application/grpc+json", (true, false)),
            ("application/grpc-web", (false, false)),
            ("application/json", (false, false)),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media))]);
            assert_eq!((is_grpc(&headers), is_protobuf(&headers)), expected, "{media}");
        }
    }

    #[test]
    fn timeouts_have_a_unit() {
        let now = Instant::now();
        let of = |text: &str| {
            let headers = HeaderMap::from_iter([(TIMEOUT, HeaderValue::from_str(text).unwrap())]);
            deadline(&headers, now).map(|deadline| deadline.map(|deadline| deadline - now))
        };
        for (text, expected) in [
            ("2H", Duration::from_secs(7_200)),
            ("2M", Duration::from_secs(120)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("0S", Duration::ZERO),
            ("15m", Duration::from_millis(15)),
            ("15u", Duration::from_micros(15)),
            ("15n", Duration::from_nanos(15)),
        ] {
            assert_eq!(of(text).unwrap(), Some(expected), "{text}");
        }
        for wrong in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S", "1 S"] {
            assert_eq!(of(wrong).unwrap_err().status(), 400, "{wrong}");
        }
        assert_eq!(deadline(&HeaderMap::new(), now).unwrap(), None);
    }
}
