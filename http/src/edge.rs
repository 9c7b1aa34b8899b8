//! What surrounds every route: request ids, metrics, the access log, a time limit, and errors that are all problems.

use crate::observe::{Observation, RequestMetrics, RouteMetrics};
use crate::problem::{ApiProblem, PROBLEM_JSON};
use crate::request_id::{REQUEST_ID_HEADER, RequestId};
use crate::well_formed;
use axum::body::to_bytes;
use axum::extract::{ConnectInfo, MatchedPath, Request};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use prometheus::Registry;
use std::any::Any;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tower::{Layer, Service};

/// How much of an error's text becomes a problem's detail.
const DETAIL_BYTES_MAX: usize = 4 << 10;

/// Marks the response to a path that no route matches: to a gRPC client it is a method that is not implemented.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoRoute;

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
            .fallback(async |uri: Uri| {
                (Extension(NoRoute), ApiProblem::not_found(format!("No route matches {}.", uri.path())))
            })
            .method_not_allowed_fallback(async |method: Method, uri: Uri| {
                let detail =
                    format!("{} does not support {method}; the allow header lists the supported methods.", uri.path());
                ApiProblem::of_status(StatusCode::METHOD_NOT_ALLOWED, detail)
            })
            .layer(self.clone())
    }
}

impl<S> Layer<S> for Edge {
    type Service = Surrounded<S>;

    fn layer(&self, route: S) -> Surrounded<S> {
        let metrics = Arc::new(RouteMetrics::new(self.0.metrics.clone()));
        Surrounded { route, metrics, request_timeout: self.0.request_timeout }
    }
}

/// One route with what surrounds it. Written out rather than as an axum middleware, which costs each request several
/// allocations and copies of the route.
#[derive(Clone)]
pub struct Surrounded<S> {
    route: S,
    metrics: Arc<RouteMetrics>,
    request_timeout: Duration,
}

impl<S> Service<Request> for Surrounded<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.route.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let id = RequestId::of(request.headers());
        let route = request.extensions().get::<MatchedPath>().cloned();
        let observation = Observation::begin(self.metrics.clone(), route, request.method());
        let access = tracing::enabled!(tracing::Level::DEBUG).then(|| Access::of(&request));
        request.extensions_mut().insert(id.clone());
        let answer = match well_formed::check(request.version(), request.headers(), request.uri()) {
            // An axum route does nothing before it is polled, so a panic of a handler is caught there.
            Ok(()) => Ok(self.route.call(request)),
            Err(problem) => Err(problem),
        };
        let timeout = self.request_timeout;
        Box::pin(async move {
            let mut response = id.clone().scope(respond(answer, timeout)).await;
            if let Ok(value) = HeaderValue::from_str(id.as_str()) {
                response.headers_mut().insert(REQUEST_ID_HEADER, value);
            }
            let status = response.status();
            let seconds = observation.end(status);
            if let Some(Access { method, path, peer }) = access {
                let (status, ms) = (status.as_u16(), seconds * 1e3);
                tracing::debug!(request_id = id.as_str(), %method, path, peer, status, ms, "answered");
            }
            Ok(response)
        })
    }
}

/// The fields of a request in the access log.
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

async fn respond(
    answer: Result<impl Future<Output = Result<Response, Infallible>>, ApiProblem>,
    timeout: Duration,
) -> Response {
    let answer = match answer {
        Ok(answer) => answer,
        Err(problem) => return problem.into_response(),
    };
    match tokio::time::timeout(timeout, unless_panic(answer)).await {
        Ok(Ok(Ok(response))) => as_problem(response).await,
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
    // After a panic the future is dropped and never polled again, so its partial state is never observed.
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
    // An HTML page already shows what is wrong.
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
