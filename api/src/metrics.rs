//! The metrics of the reads. Requests by route are counted at the HTTP edge.

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Handles of the API's metrics.
#[derive(Clone)]
pub struct ApiMetrics {
    /// Totals, by the store that answered.
    pub totals: LadderMetrics,
    /// Boards, by the store that answered.
    pub boards: LadderMetrics,
    /// Pages of boards that were made a moment ago.
    pub board_pages: IntCounter,
    /// Subjects in the cache of this process.
    pub view_subjects: IntGauge,
    /// Their size, by estimate.
    pub view_size_bytes: IntGauge,
    /// Records that the view has not read yet.
    pub view_lag_records: IntGauge,
    /// How far its clock is behind.
    pub view_clock_lag_seconds: Gauge,
    /// How long reads with `after` waited.
    pub wait_seconds: Histogram,
    /// Metrics of the live streams.
    pub live: LiveMetrics,
    breakers: IntGaugeVec,
}

/// Handles of the metrics of a ladder.
#[derive(Clone)]
pub struct LadderMetrics {
    /// The cache in this process.
    pub memory: Layer,
    /// Redis.
    pub redis: Layer,
    /// The database, which has all; misses are failures.
    pub database: Layer,
    /// Keys answered with what was last known, because no store answered.
    pub last_known: IntCounter,
    /// Keys that were read from no store, because no record of them exists; None where that is never known.
    pub absent: Option<IntCounter>,
    /// Keys that waited for a load which was under way already.
    pub coalesced: IntCounter,
}

/// Handles of the metrics of live streams.
#[derive(Clone)]
pub struct LiveMetrics {
    /// Open ones.
    pub streams: IntGauge,
    /// Subjects and boards that they are about.
    pub watched: IntGauge,
    /// Events handed to connections.
    pub events: IntCounter,
    /// Streams that did not begin because there were too many.
    pub refused: IntCounter,
}

/// A store among others.
#[derive(Clone)]
pub struct Layer {
    /// Keys answered.
    hits: IntCounter,
    /// Keys not answered, where they are counted.
    misses: Option<IntCounter>,
}

impl Layer {
    /// Counts a read of `asked` keys, of which the store had `found`.
    pub fn count(&self, asked: usize, found: usize) {
        self.hits.inc_by(found as u64);
        self.misses.iter().for_each(|misses| misses.inc_by(asked.saturating_sub(found) as u64));
    }
}

impl ApiMetrics {
    /// Makes the metrics known to a registry.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &["store"])?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let hits = counters(
            "tally_api_reads_total",
            "Subjects read, by the store that answered; none if no record of the subject exists.",
        )?;
        let misses = counters("tally_api_misses_total", "Subjects that a store was asked for and did not have.")?;
        let layer =
            |store| Layer { hits: hits.with_label_values(&[store]), misses: Some(misses.with_label_values(&[store])) };
        let coalesced = IntCounter::new(
            "tally_api_coalesced_total",
            "Reads of subjects and boards that joined an identical read in flight.",
        )?;
        registry.register(Box::new(coalesced.clone()))?;
        let state = Opts::new(
            "tally_api_breaker_state",
            "0 closed: working; 1 half open: one probe decides; 2 open: the store is not asked for a while.",
        );
        let breakers = IntGaugeVec::new(state, &["store"])?;
        registry.register(Box::new(breakers.clone()))?;
        let view_clock_lag_seconds = Gauge::new(
            "tally_api_view_clock_lag_seconds",
            "How far the clock of this cache is behind the wall clock.",
        )?;
        registry.register(Box::new(view_clock_lag_seconds.clone()))?;
        let waits = HistogramOpts::new("tally_api_wait_seconds", "Wait time of reads with `after`.")
            .buckets(vec![0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
        let wait_seconds = Histogram::with_opts(waits)?;
        registry.register(Box::new(wait_seconds.clone()))?;
        let of_boards = counters(
            "tally_api_board_reads_total",
            "Boards read, by the store that answered; page for a first page cached for 0.1 s.",
        )?;
        let of_store = |store| of_boards.with_label_values(&[store]);
        let board_layer = |store| Layer { hits: of_store(store), misses: None };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let live = LiveMetrics {
            streams: gauge("tally_api_live_streams", "Open live streams.")?,
            watched: gauge(
                "tally_api_live_watched",
                "Subjects and boards of live streams, including those of the last 30 s.",
            )?,
            events: counter("tally_api_live_events_total", "Events sent to live streams.")?,
            refused: counter("tally_api_live_refused_total", "Live streams refused because of --live-streams.")?,
        };
        Ok(Self {
            totals: LadderMetrics {
                memory: layer("memory"),
                redis: layer("redis"),
                database: layer("database"),
                last_known: hits.with_label_values(&["last_known"]),
                absent: Some(hits.with_label_values(&["none"])),
                coalesced: coalesced.clone(),
            },
            boards: LadderMetrics {
                memory: board_layer("memory"),
                redis: board_layer("redis"),
                database: board_layer("database"),
                last_known: of_store("last_known"),
                absent: None,
                coalesced,
            },
            board_pages: of_store("page"),
            view_subjects: gauge(
                "tally_api_view_subjects",
                "Subjects in the cache that `tally api` keeps in front of Redis.",
            )?,
            view_size_bytes: gauge("tally_api_view_size_bytes", "Estimated size of that cache.")?,
            view_lag_records: gauge("tally_api_view_lag_records", "Records that this cache is behind its topic.")?,
            view_clock_lag_seconds,
            wait_seconds,
            live,
            breakers,
        })
    }

    /// The state of a store's breaker.
    pub fn breaker(&self, store: &str) -> IntGauge {
        self.breakers.with_label_values(&[store])
    }
}
