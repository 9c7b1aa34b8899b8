//! What happened in the last hour, sample by sample. It is kept in memory, so a console that is opened, or loaded again,
//! begins with it.

use super::ProcessItem;
use crate::answers::progress::ProgressAnswer;
use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use tally_model::format_ms;
use utoipa::ToSchema;

/// An hour.
const SAMPLES_MAX: usize = 360;
/// What processors could not take.
const REJECTED: &str = "tally_node_rejected_total";
/// Failures of sinks.
const STORE_ERRORS: &str = "tally_sink_errors_total";

/// Changes since the previous sample.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Sample {
    /// When it was taken (RFC 3339).
    at: String,
    /// Events since the previous sample; null in the first sample, and if the log did not respond.
    #[schema(required = true)]
    events: Option<u64>,
    /// Events missing in at least one store; null if the log or the database did not respond.
    #[schema(required = true)]
    lag_records: Option<u64>,
    /// Lag of the slowest partition.
    #[schema(required = true)]
    lag_seconds: Option<f64>,
    /// Values that processors could not handle since the previous sample; null if no visible process runs processors, or
    /// if they were not visible before.
    #[schema(required = true)]
    rejected: Option<u64>,
    /// Failures of sinks since the previous sample; null if no visible process runs sinks, or if they were not visible
    /// before.
    #[schema(required = true)]
    store_errors: Option<u64>,
}

/// The last samples, and what they were compared with.
#[derive(Default)]
pub struct History {
    samples: VecDeque<Sample>,
    /// The sum of the ends of all input partitions.
    end: Option<u64>,
    /// What each process had counted, by its address and the name of the counter.
    counted: HashMap<(Option<String>, &'static str), u64>,
}

impl History {
    /// Adds a sample.
    pub fn take(&mut self, now_ms: i64, progress: Option<&ProgressAnswer>, processes: &[ProcessItem]) {
        let end = progress.map(ProgressAnswer::end);
        let events = end.zip(self.end).and_then(|(end, before)| end.checked_sub(before));
        self.end = end.or(self.end);
        let sample = Sample {
            at: format_ms(now_ms),
            events,
            lag_records: progress.map(ProgressAnswer::lag_records),
            lag_seconds: progress.and_then(ProgressAnswer::lag_seconds),
            rejected: self.increase(REJECTED, "tally_tasks", processes),
            store_errors: self.increase(STORE_ERRORS, "tally_sink_partitions", processes),
        };
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// The oldest first.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter()
    }

    /// By how much a counter of all processes has risen. `having` is the metric of those that have such a counter: it
    /// appears when it first counts.
    fn increase(&mut self, counter: &'static str, having: &str, processes: &[ProcessItem]) -> Option<u64> {
        let mut increase = None;
        for process in processes {
            let Some(text) = process.metrics.as_deref().filter(|text| sum(text, having).is_some()) else { continue };
            let now = sum(text, counter).unwrap_or(0.0) as u64;
            let before = self.counted.insert((process.address.clone(), counter), now);
            // This process began with its history, so all that it has counted is part of it. A counter that fell was reset.
            let before = before.or(process.address.is_none().then_some(0));
            let own = before.map(|before| if now < before { now } else { now - before });
            increase = match (increase, own) {
                (Some(sum), Some(own)) => Some(sum + own),
                (sum, own) => sum.or(own),
            };
        }
        increase
    }
}

/// The sum of a metric's samples in Prometheus text; None where there is none.
fn sum(text: &str, metric: &str) -> Option<f64> {
    let value = |line: &str| {
        let rest = line.strip_prefix(metric).filter(|rest| rest.starts_with(['{', ' ']))?;
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    };
    text.lines().filter_map(value).reduce(|sum, one| sum + one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(address: Option<&str>, metrics: &str) -> ProcessItem {
        ProcessItem { address: address.map(str::to_owned), metrics: Some(metrics.to_owned()), error: None }
    }

    #[test]
    fn samples_are_what_was_added_since_the_one_before_over_all_processes() {
        let mut history = History::default();
        let own = process(None, "tally_http_connections 2\n");
        let counting = |rejected: u64| {
            let text = format!(
                "tally_tasks{{thread=\"a\",subtopology=\"b c\"}} 8\n# HELP tally_node_rejected_total x 9\n\
                 tally_node_rejected_total{{node=\"valid\"}} {rejected}\ntally_node_rejected_total{{node=\"shares\"}} 1\n\
                 tally_node_rejected_totals 70\n"
            );
            process(Some("http://p"), &text)
        };
        let sinking = process(Some("http://s"), "tally_sink_partitions{sink=\"database\"} 8\n");
        let mut take = |processes: &[ProcessItem]| {
            history.take(0, None, processes);
            history.samples.back().map(|sample| (sample.rejected, sample.store_errors)).unwrap()
        };
        assert_eq!(take(std::slice::from_ref(&own)), (None, None), "no counting process can be read");
        assert_eq!(take(&[own.clone(), counting(3)]), (None, None), "earlier counts belong to no sample");
        assert_eq!(take(&[own.clone(), counting(5), sinking.clone()]), (Some(2), None));
        assert_eq!(take(&[own.clone(), counting(5), sinking.clone()]), (Some(0), Some(0)));
        assert_eq!(take(&[own.clone(), counting(1), sinking]), (Some(2), Some(0)), "it started over");
        let lost = ProcessItem { metrics: None, error: Some("away".into()), ..counting(0) };
        assert_eq!(take(&[own.clone(), lost]), (None, None));
        assert_eq!(take(&[own, counting(4)]), (Some(3), None), "what it counted meanwhile");
        // A process that counts by itself knows all of it.
        let whole = ProcessItem { address: None, ..counting(2) };
        assert_eq!(take(std::slice::from_ref(&whole)), (Some(3), None));
        assert_eq!(take(&[whole]), (Some(0), None));
    }

    #[test]
    fn an_hour_is_kept() {
        let mut history = History::default();
        for second in 0..SAMPLES_MAX as i64 + 5 {
            history.take(second * 1_000, None, &[]);
        }
        assert_eq!(history.samples.len(), SAMPLES_MAX);
        assert_eq!(history.samples[0].at, "1970-01-01T00:00:05.000Z");
    }
}
