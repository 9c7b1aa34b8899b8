//! What surrounds every route: request ids, metrics, the access log, a time limit, and errors that are all problems.

use crate::observe::{Observation, RequestMetrics};
use crate::problem::{ApiProblem, PROBLEM_JSON};
use crate::request_id::{REQUEST_ID_HEADER, RequestId};
use crate::well_formed;
use axum::Router;
use axum::body::to_bytes;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use prometheus::Registry;
use std::any::Any;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// How much of an error's text becomes a problem's detail.
const DETAIL_BYTES_MAX: usize = 4 << 10;

/// What surrounds every route of one registry.
#[derive(Clone)]
pub struct Edge(Arc<Inner>);

struct Inner {
    metrics: RequestMetrics,
    request_timeout: Duration,
}

impl Edge {
    /// Registers the metrics. A request that has no answer after `request_timeout` gets 503; a streamed body may
    /// take longer.
    pub fn new(registry: &Registry, request_timeout: Duration) -> prometheus::Result<Self> {
        Ok(Self(Arc::new(Inner { metrics: RequestMetrics::new(registry)?, request_timeout })))
    }

    /// Surrounds all routes of a finished router; routes that are added later are outside.
    pub fn wrap(&self, router: Router) -> Router {
        router
            .fallback(async |uri: Uri| ApiProblem::not_found(format!("No route matches {}.", uri.path())))
            .method_not_allowed_fallback(async |method: Method, uri: Uri| {
                let detail =
                    format!("{} does not support {method}; the allow header lists the supported methods.", uri.path());
                ApiProblem::of_status(StatusCode::METHOD_NOT_ALLOWED, detail)
            })
            .layer(from_fn_with_state(self.clone(), pass))
    }
}

async fn pass(State(edge): State<Edge>, mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let observation = Observation::begin(&edge.0.metrics, route, request.method());
    let access = tracing::enabled!(tracing::Level::DEBUG).then(|| Access::of(&request));
    request.extensions_mut().insert(id.clone());

    let mut response = id.clone().scope(answer(request, next, edge.0.request_timeout)).await;
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(REQUEST_ID_HEADER, value);
    }
    let status = response.status();
    let seconds = observation.end(status);
    if let Some(Access { method, path, peer }) = access {
        let (status, ms) = (status.as_u16(), seconds * 1e3);
        tracing::debug!(request_id = id.as_str(), %method, path, peer, status, ms, "answered");
    }
    response
}

/// What the access log says of a request.
struct Access {
    method: Method,
    path: String,
    peer: Option<String>,
}

impl Access {
    fn of(request: &Request) -> Self {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.to_string());
        Self { method: request.method().clone(), path: request.uri().path().to_owned(), peer }
    }
}

async fn answer(request: Request, next: Next, timeout: Duration) -> Response {
    if let Err(problem) = well_formed::check(request.version(), request.headers(), request.uri()) {
        return problem.into_response();
    }
    match tokio::time::timeout(timeout, unless_panic(next.run(request))).await {
        Ok(Ok(response)) => as_problem(response).await,
        Ok(Err(panic)) => {
            tracing::error!(request_id = current_id(), panic = panic_text(&*panic), "a handler panicked");
            ApiProblem::internal().into_response()
        }
        Err(_) => {
            let detail = format!("The request was not answered within {timeout:?}. Whether it took effect is unknown.");
            let problem =
                ApiProblem::new(StatusCode::SERVICE_UNAVAILABLE, "request-timeout", "Request timeout", detail);
            problem.retry_after(1).into_response()
        }
    }
}

fn current_id() -> String {
    crate::request_id::with_current(str::to_owned)
}

async fn unless_panic<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    // After a panic the future is dropped and never polled again, so nobody sees what it left half done.
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}

/// Errors that are no problem yet (extractors answer in plain text) become one; their other headers stay.
async fn as_problem(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    // A page for people says by itself what is wrong.
    let is_told = |value: &HeaderValue| value == PROBLEM_JSON || value.as_bytes().starts_with(b"text/html");
    if !is_error || response.headers().get(header::CONTENT_TYPE).is_some_and(is_told) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, DETAIL_BYTES_MAX).await.unwrap_or_default();
    let reason = status.canonical_reason().unwrap_or("Refused");
    let detail = if text.is_empty() { reason.into() } else { String::from_utf8_lossy(&text) };
    let mut response = ApiProblem::of_status(status, detail).into_response();
    for (name, value) in &parts.headers {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}
