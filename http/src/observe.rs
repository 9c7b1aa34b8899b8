//! What is counted about requests.

use axum::extract::MatchedPath;
use axum::http::{Method, StatusCode};
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// The route's name in metrics where no route matched: requested paths must not become labels.
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

/// The metrics of one route, with the label look-ups of most requests done once.
pub(crate) struct RouteMetrics {
    all: RequestMetrics,
    by_method: [OnceLock<MethodMetrics>; METHODS.len()],
}

struct MethodMetrics {
    seconds: Histogram,
    /// The counter of the first successful status; other statuses are looked up.
    succeeded: OnceLock<(StatusCode, IntCounter)>,
}

impl RouteMetrics {
    pub(crate) fn new(all: RequestMetrics) -> Self {
        Self { all, by_method: Default::default() }
    }

    fn answered(&self, route: &str, method: usize, status: StatusCode, seconds: f64) {
        let name = METHODS[method];
        let known = self.by_method[method].get_or_init(|| MethodMetrics {
            seconds: self.all.seconds.with_label_values(&[route, name]),
            succeeded: OnceLock::new(),
        });
        known.seconds.observe(seconds);
        let count = || self.all.requests.with_label_values(&[route, name, status.as_str()]);
        if status.is_success() {
            let (usual, counter) = known.succeeded.get_or_init(|| (status, count()));
            if *usual == status {
                return counter.inc();
            }
        }
        count().inc();
    }
}

/// One request under way. Dropped without an answer, it counts as one whose client left.
pub(crate) struct Observation {
    metrics: Arc<RouteMetrics>,
    route: Option<MatchedPath>,
    /// Its place among [`METHODS`].
    method: usize,
    begun: Instant,
    answered: bool,
}

impl Observation {
    /// `metrics` are those of the route.
    pub(crate) fn begin(metrics: Arc<RouteMetrics>, route: Option<MatchedPath>, method: &Method) -> Self {
        metrics.all.in_flight.inc();
        Self { metrics, route, method: label_of(method), begun: Instant::now(), answered: false }
    }

    /// Records the response. Returns its duration in seconds.
    pub(crate) fn end(mut self, status: StatusCode) -> f64 {
        self.answered = true;
        let seconds = self.begun.elapsed().as_secs_f64();
        self.metrics.answered(self.route(), self.method, status, seconds);
        seconds
    }

    fn route(&self) -> &str {
        self.route.as_ref().map_or(UNMATCHED, MatchedPath::as_str)
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        self.metrics.all.in_flight.dec();
        if !self.answered {
            self.metrics.all.requests.with_label_values(&[self.route(), METHODS[self.method], CLIENT_LEFT]).inc();
        }
    }
}

/// Methods as labels. They are the client's words too, so the last stands for all others.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "other"];

fn label_of(method: &Method) -> usize {
    METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1)
}
