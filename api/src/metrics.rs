//! What the reads tell about themselves. Requests by route are counted at the HTTP edge.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

/// Handles of the API's metrics.
pub struct ApiMetrics {
    /// Subjects that the cache answered.
    pub cache_reads: IntCounter,
    /// Subjects that the database answered.
    pub database_reads: IntCounter,
    /// How long reads with `after` waited.
    pub wait_seconds: Histogram,
}

impl ApiMetrics {
    /// Makes the metrics known to a registry.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let reads = Opts::new("tally_api_reads_total", "Subjects read, by the store that answered.");
        let reads = IntCounterVec::new(reads, &["store"])?;
        let waits = HistogramOpts::new("tally_api_wait_seconds", "How long reads with `after` waited.")
            .buckets(vec![0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
        let wait_seconds = Histogram::with_opts(waits)?;
        registry.register(Box::new(reads.clone()))?;
        registry.register(Box::new(wait_seconds.clone()))?;
        let (cache_reads, database_reads) =
            (reads.with_label_values(&["cache"]), reads.with_label_values(&["database"]));
        Ok(Self { cache_reads, database_reads, wait_seconds })
    }
}
