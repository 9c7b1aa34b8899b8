//! What is counted about requests.

use axum::extract::MatchedPath;
use axum::http::{Method, StatusCode};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};
use std::time::Instant;

/// The route's name in metrics where no route matched: what strangers ask for must not become labels.
const UNMATCHED: &str = "unmatched";
/// The status in metrics where the client left before the answer (nginx's number for it).
const CLIENT_LEFT: &str = "499";

/// From the fastest answer out of memory to the slowest that a request timeout lets through.
const SECONDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Metrics per route.
#[derive(Clone)]
pub(crate) struct RequestMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    in_flight: IntGauge,
}

impl RequestMetrics {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let requests =
            Opts::new("tally_http_requests_total", "Requests answered; status 499 if the client disconnected first.");
        let seconds = HistogramOpts::new("tally_http_request_seconds", "Time until the response head was ready.");
        let metrics = Self {
            requests: IntCounterVec::new(requests, &["route", "method", "status"])?,
            seconds: HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &["route", "method"])?,
            in_flight: IntGauge::new(
                "tally_http_requests_in_flight",
                "Requests that wait for their response, including the one for /metrics.",
            )?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        Ok(metrics)
    }
}

/// One request under way. Dropped without an answer, it counts as one whose client left.
pub(crate) struct Observation<'a> {
    metrics: &'a RequestMetrics,
    route: Option<MatchedPath>,
    method: &'static str,
    begun: Instant,
    answered: bool,
}

impl<'a> Observation<'a> {
    pub(crate) fn begin(metrics: &'a RequestMetrics, route: Option<MatchedPath>, method: &Method) -> Self {
        metrics.in_flight.inc();
        Self { metrics, route, method: method_label(method), begun: Instant::now(), answered: false }
    }

    /// The answer is there. Returns how many seconds it took.
    pub(crate) fn end(mut self, status: StatusCode) -> f64 {
        self.answered = true;
        let seconds = self.begun.elapsed().as_secs_f64();
        self.count(status.as_str());
        self.metrics.seconds.with_label_values(&[self.route(), self.method]).observe(seconds);
        seconds
    }

    fn route(&self) -> &str {
        self.route.as_ref().map_or(UNMATCHED, MatchedPath::as_str)
    }

    fn count(&self, status: &str) {
        self.metrics.requests.with_label_values(&[self.route(), self.method, status]).inc();
    }
}

impl Drop for Observation<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        if !self.answered {
            self.count(CLIENT_LEFT);
        }
    }
}

/// Methods are the client's words too.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
