//! The metrics of the service.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// From the response time of a memory log to the append timeout.
const SECONDS: &[f64] = &[0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0];

/// The service's metrics.
#[derive(Clone)]
pub(crate) struct IngestMetrics {
    pub(crate) accepted: IntCounter,
    pub(crate) rejected: IntCounter,
    pub(crate) in_flight: IntGauge,
    pub(crate) append_seconds: Histogram,
    pub(crate) unavailable: IntCounterVec,
}

impl IngestMetrics {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let events = Opts::new(
            "tally_ingest_events_total",
            "Events stored in the log, and events rejected as invalid or above a limit.",
        );
        let events = IntCounterVec::new(events, &["outcome"])?;
        let append = HistogramOpts::new(
            "tally_ingest_append_seconds",
            "Time from handing a request's events to the log until it confirms them or fails.",
        );
        let unavailable = Opts::new("tally_ingest_unavailable_total", "Valid requests that could not be served.");
        let metrics = Self {
            accepted: events.with_label_values(&["accepted"]),
            rejected: events.with_label_values(&["rejected"]),
            in_flight: IntGauge::new("tally_ingest_requests_in_flight", "Requests whose events wait for the log.")?,
            append_seconds: Histogram::with_opts(append.buckets(SECONDS.to_vec()))?,
            unavailable: IntCounterVec::new(unavailable, &["reason"])?,
        };
        registry.register(Box::new(events))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        registry.register(Box::new(metrics.append_seconds.clone()))?;
        registry.register(Box::new(metrics.unavailable.clone()))?;
        Ok(metrics)
    }
}
