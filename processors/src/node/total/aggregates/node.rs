//! What a node computes, and the values of its windows as they are emitted.

use super::values::Values;
use crate::counting::aggregation::{AggregateValue, AggregateWindow, Aggregation, Ratio};
use crate::dataflow::Actions;
use crate::item::Item;
use std::sync::Arc;
use tally_model::{CounterWindow, MetricValue, Partial};
use tally_streams::processor::Context;
use tally_streams::topology::BuildSite;

/// A subject, and the place of a window among those of its node.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub subject_id: &'a Arc<str>,
    pub kind: usize,
}

/// What a node computes, and how its values are emitted.
pub struct Node {
    pub aggregation: Aggregation,
    /// The ids of the values.
    pub ids: Vec<u32>,
    /// The output for closed windows, if some node reads them.
    pub closed: Option<usize>,
}

impl Node {
    pub fn new(site: &BuildSite<'_, Actions>, aggregation: Aggregation) -> Self {
        let ids = aggregation.values.iter().map(AggregateValue::id).collect();
        Self { ids, closed: site.output(&aggregation.closed_name()), aggregation }
    }

    /// The places and sizes of tumbling windows.
    pub fn tumbling_ms(&self) -> impl Iterator<Item = (usize, i64)> + '_ {
        let windows = self.windows().iter().enumerate();
        windows.filter_map(|(kind, window)| Some((kind, window.spec.tumbling_ms()?)))
    }

    pub fn windows(&self) -> &[AggregateWindow] {
        &self.aggregation.windows
    }

    /// The result of each value.
    pub fn results(&self, values: &Values) -> Vec<MetricValue> {
        let of = |at: usize| values.result(self.ids[at], &self.aggregation.values[at]);
        let result = |(at, value): (usize, &AggregateValue)| match value.ratio() {
            Some(Ratio { dividend, divisor, .. }) => of(dividend).divided(&of(divisor), value.scale),
            None => of(at),
        };
        self.aggregation.values.iter().enumerate().map(result).collect()
    }

    /// The metrics that change when these values do.
    pub fn changed(&self, values: &[(u32, Partial)]) -> Vec<Arc<str>> {
        let is_changed = |at: usize| values.iter().any(|(known, _)| *known == self.ids[at]);
        let changed = self.aggregation.values.iter().enumerate().filter(|(at, value)| match value.ratio() {
            Some(Ratio { dividend, divisor, .. }) => is_changed(dividend) || is_changed(divisor),
            None => is_changed(*at),
        });
        changed.map(|(_, value)| value.metric.clone()).collect()
    }

    /// Emits the values of a window. Times are those of its start and of the first millisecond behind it.
    pub fn send(
        &self,
        context: &mut Context<'_, Actions>,
        subject: Subject<'_>,
        times: (i64, i64),
        results: Vec<MetricValue>,
    ) {
        for (value, result) in self.aggregation.values.iter().zip(results) {
            self.emit(context, subject, times, value, Some(result));
        }
    }

    /// Emits the values of a window for the last time.
    pub fn close(
        &self,
        context: &mut Context<'_, Actions>,
        subject: Subject<'_>,
        times: (i64, i64),
        results: Vec<MetricValue>,
    ) {
        self.send_closed(context, subject, times, &results);
        self.send(context, subject, times, results);
    }

    /// Emits that a window no longer exists.
    pub fn delete(&self, context: &mut Context<'_, Actions>, subject: Subject<'_>, times: (i64, i64)) {
        for value in &self.aggregation.values {
            self.emit(context, subject, times, value, None);
        }
    }

    /// Emits a value of a window; None where the window no longer exists.
    fn emit(
        &self,
        context: &mut Context<'_, Actions>,
        subject: Subject<'_>,
        (window_start_ms, window_end_ms): (i64, i64),
        value: &AggregateValue,
        result: Option<MetricValue>,
    ) {
        let (version, deleted) = (context.version(), result.is_none());
        let result = result.unwrap_or_default();
        context.forward(Item::Counter(CounterWindow {
            subject_id: subject.subject_id.to_string(),
            metric: value.metric.to_string(),
            window: self.windows()[subject.kind].spec,
            window_start_ms,
            window_end_ms,
            approximate: value.kind().is_estimate(&result),
            value: result,
            deleted,
            version,
        }));
    }
}
