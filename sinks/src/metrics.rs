//! The metrics of sinks.

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// The metrics of all sinks of a process; register once.
#[derive(Clone)]
pub struct SinkMetrics {
    records: IntCounterVec,
    batches: IntCounterVec,
    write_seconds: HistogramVec,
    errors: IntCounterVec,
    lag_records: IntGaugeVec,
    position_resets: IntCounterVec,
    clock_lag_seconds: GaugeVec,
    refills: IntCounterVec,
    partitions: IntGaugeVec,
    breaker_state: IntGaugeVec,
    expired_rows: IntCounterVec,
    cache_subjects: IntGaugeVec,
    cache_size_bytes: IntGaugeVec,
    cache_evicted: IntCounterVec,
}

/// What a sink shows of the cache in its process.
pub struct MemoryMetrics {
    pub subjects: IntGauge,
    pub size_bytes: IntGauge,
    pub evicted: IntCounter,
}

/// The metrics of one sink, with their labels looked up.
pub(crate) struct Handles {
    sink: String,
    all: SinkMetrics,
    pub batches: IntCounter,
    pub write_seconds: Histogram,
    pub errors: IntCounter,
    pub position_resets: IntCounter,
    pub clock_lag_seconds: Gauge,
    pub partitions: IntGauge,
    pub breaker_state: IntGauge,
}

impl SinkMetrics {
    /// Makes the metrics known to a registry.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let metrics = Self {
            records: counter(
                "tally_sink_records_total",
                "Records read, including progress marks of older releases.",
                &["sink", "topic"],
            )?,
            batches: counter("tally_sink_batches_total", "Batches written.", &["sink"])?,
            write_seconds: HistogramVec::new(
                HistogramOpts::new("tally_sink_write_seconds", "Time to write a batch.")
                    .buckets(vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]),
                &["sink"],
            )?,
            errors: counter(
                "tally_sink_errors_total",
                "Failures of the log or the target; each is retried after 100 ms to 10 s.",
                &["sink"],
            )?,
            lag_records: gauge(
                "tally_sink_lag_records",
                "Consumer lag: records in the log that are not in the target, measured every 2 s.",
                &["sink", "topic", "partition"],
            )?,
            position_resets: counter(
                "tally_sink_position_reset_total",
                "Positions outside their topic that were reset to its start because the log or the target was replaced.",
                &["sink"],
            )?,
            clock_lag_seconds: GaugeVec::new(
                Opts::new(
                    "tally_sink_clock_lag_seconds",
                    "How far the clock of the stored data is behind the wall clock, and at least the time since it last moved.",
                ),
                &["sink"],
            )?,
            refills: counter(
                "tally_sink_refills_total",
                "Times that Redis was found empty, replaced or restarted and is filled from the start of its topics; 1 after the first start.",
                &["sink"],
            )?,
            partitions: gauge("tally_sink_partitions", "Partitions that this process reads.", &["sink"])?,
            breaker_state: gauge(
                "tally_sink_breaker_state",
                "0 closed: working; 1 half open: one attempt decides; 2 open after 5 failures in a row: only probes are sent.",
                &["sink"],
            )?,
            expired_rows: counter(
                "tally_sink_expired_rows_total",
                "Rows deleted after their retention.",
                &["sink", "table"],
            )?,
            cache_subjects: gauge(
                "tally_sink_cache_subjects",
                "Subjects in the cache of this process, measured every second.",
                &["sink"],
            )?,
            cache_size_bytes: gauge(
                "tally_sink_cache_size_bytes",
                "Estimated size of these subjects; at most --cache-mib.",
                &["sink"],
            )?,
            cache_evicted: counter(
                "tally_sink_cache_evicted_total",
                "Subjects that left this cache because of --cache-mib.",
                &["sink"],
            )?,
        };
        registry.register(Box::new(metrics.write_seconds.clone()))?;
        registry.register(Box::new(metrics.clock_lag_seconds.clone()))?;
        Ok(metrics)
    }

    /// Counts how often the target of that sink was found empty or replaced, and its refill began.
    pub fn refills(&self, sink: &str) -> IntCounter {
        self.refills.with_label_values(&[sink])
    }

    pub(crate) fn of_memory(&self, sink: &str) -> MemoryMetrics {
        MemoryMetrics {
            subjects: self.cache_subjects.with_label_values(&[sink]),
            size_bytes: self.cache_size_bytes.with_label_values(&[sink]),
            evicted: self.cache_evicted.with_label_values(&[sink]),
        }
    }

    pub(crate) fn of(&self, sink: &str) -> Handles {
        Handles {
            sink: sink.to_owned(),
            all: self.clone(),
            batches: self.batches.with_label_values(&[sink]),
            write_seconds: self.write_seconds.with_label_values(&[sink]),
            errors: self.errors.with_label_values(&[sink]),
            position_resets: self.position_resets.with_label_values(&[sink]),
            clock_lag_seconds: self.clock_lag_seconds.with_label_values(&[sink]),
            partitions: self.partitions.with_label_values(&[sink]),
            breaker_state: self.breaker_state.with_label_values(&[sink]),
        }
    }
}

impl Handles {
    pub fn records(&self, topic: &str) -> IntCounter {
        self.all.records.with_label_values(&[self.sink.as_str(), topic])
    }

    pub fn lag_records(&self, topic: &str, partition: u32) -> IntGauge {
        self.all.lag_records.with_label_values(&[self.sink.as_str(), topic, &partition.to_string()])
    }

    pub fn expired_rows(&self, table: &str) -> IntCounter {
        self.all.expired_rows.with_label_values(&[self.sink.as_str(), table])
    }

    /// Ends the series of a partition that another process reads now.
    pub fn forget_lag(&self, topic: &str, partition: u32) {
        let labels = [self.sink.as_str(), topic, &partition.to_string()];
        // It may not have been there.
        let _ = self.all.lag_records.remove_label_values(&labels);
    }
}
