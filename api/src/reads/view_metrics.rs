//! Metrics of the view: the cache of requested subjects in front of Redis.

use super::Reads;
use super::memory::MemoryStore;
use crate::metrics::ApiMetrics;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tally_streams::log::{Lag, Log, Now, Time, TopicPartition};
use tokio::time::{MissedTickBehavior, interval};

const MEASURE_EVERY: Duration = Duration::from_secs(2);

/// Measures the view until the reads are dropped.
pub async fn measure_view(reads: Weak<Reads>, log: Arc<dyn Log>, clock: Time) {
    let mut due = interval(MEASURE_EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut clock_lag = Lag::default();
    loop {
        due.tick().await;
        let Some(reads) = reads.upgrade() else { return };
        let Some(view) = reads.totals.memory() else { return };
        let (log, partitions) = (log.clone(), reads.totals.partitions().to_vec());
        // If the log does not respond, the next round measures the lag.
        let ends = tokio::task::spawn_blocking(move || log.ends(&partitions)).await;
        let ends = ends.ok().and_then(Result::ok);
        measure(view, reads.totals.partitions(), ends.as_deref(), &mut clock_lag, &reads.metrics, clock());
    }
}

fn measure(
    MemoryStore { cache, .. }: &MemoryStore,
    partitions: &[TopicPartition],
    ends: Option<&[u64]>,
    clock_lag: &mut Lag,
    metrics: &ApiMetrics,
    now: Now,
) {
    let (subjects, size_bytes) = cache.size();
    metrics.view_subjects.set(subjects as i64);
    metrics.view_size_bytes.set(size_bytes as i64);
    let positions: Vec<_> = partitions.iter().map(|partition| cache.position(partition).unwrap_or_default()).collect();
    if let Some(ends) = ends {
        let behind = positions.iter().zip(ends).map(|(position, end)| end.saturating_sub(position.next_offset));
        metrics.view_lag_records.set(behind.sum::<u64>() as i64);
    }
    let clocks = positions.iter().flat_map(|position| position.merged.iter()).map(|root| root.clock_ms);
    if let Some(clock_ms) = clocks.filter(|clock_ms| *clock_ms > i64::MIN).min() {
        metrics.view_clock_lag_seconds.set(clock_lag.clock_ms(clock_ms, now) as f64 / 1_000.0);
    }
}
