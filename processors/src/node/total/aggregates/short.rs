//! What the short forms `count` and `unique` keep of windows, as they did before there was `aggregate`.

use super::closing::{Closing, Window};
use super::node::Node;
use crate::counting::aggregation::AggregateWindow;
use crate::counting::windows::HOUR_MS;
use crate::facts::{Emit, MetricKind, MetricSpec};
use crate::node::total::sketch::Sketch;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tally_model::WindowSpec;
use tally_streams::store::{AccumulatorStore, DueStore, Hash128, SegmentHash, StoreValue, WindowStore};

/// Counts by window, each kept until its window is closed.
pub(in crate::node::total) type Sums = WindowStore<Hash128, i64, HOUR_MS>;
/// Visitors by window. The segment is that of the window's end: no setting decides it.
pub(in crate::node::total) type Sketches = AccumulatorStore<SegmentHash, Sketch>;
/// Windows whose values are sent when they close, by the same hash.
pub(in crate::node::total) type ShortClosingStore = DueStore<Hash128, ShortClosing>;

/// A window that waits for the clock. The metric is the node.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::node::total) struct ShortClosing {
    subject_id: Arc<str>,
    metric: Arc<str>,
    length_ms: i64,
    start_ms: i64,
    is_unique: bool,
}

/// The stored form.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    subject_id: &'a str,
    metric: &'a str,
    length_ms: i64,
    start_ms: i64,
    /// Whether it counts visitors; otherwise it is a sum.
    is_unique: bool,
}

impl StoreValue for ShortClosing {
    /// Postcard of [`Stored`].
    fn encode(&self, out: &mut Vec<u8>) {
        let Self { subject_id, metric, length_ms, start_ms, is_unique } = self;
        let (length_ms, start_ms, is_unique) = (*length_ms, *start_ms, *is_unique);
        if let Ok(bytes) =
            postcard::to_extend(&Stored { subject_id, metric, length_ms, start_ms, is_unique }, std::mem::take(out))
        {
            *out = bytes;
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let Stored { subject_id, metric, length_ms, start_ms, is_unique } = postcard::from_bytes(bytes).ok()?;
        Some(Self { subject_id: subject_id.into(), metric: metric.into(), length_ms, start_ms, is_unique })
    }
}

impl ShortClosing {
    pub(super) fn new(node: &Node, Window { subject, start_ms, end_ms }: Window<'_>) -> Self {
        Self {
            subject_id: subject.subject_id.clone(),
            metric: node.aggregation.node.clone(),
            length_ms: end_ms - start_ms,
            start_ms,
            is_unique: node.aggregation.counts_distinct(),
        }
    }
}

impl From<ShortClosing> for Closing {
    fn from(ShortClosing { subject_id, metric, length_ms, start_ms, .. }: ShortClosing) -> Self {
        let window = AggregateWindow::new(WindowSpec::Tumbling { size_ms: length_ms }).id;
        Self { node: metric, subject_id, window, at_ms: start_ms }
    }
}

/// Whether any of these metrics counts visitors in windows.
pub(in crate::node::total) fn has_sketches<'a>(mut metrics: impl Iterator<Item = &'a MetricSpec>) -> bool {
    metrics.any(|metric| metric.kind == MetricKind::Unique && metric.tumbling_ms().next().is_some())
}

/// Whether any of these metrics sends windows when they close.
pub(in crate::node::total) fn has_closing<'a>(mut metrics: impl Iterator<Item = &'a MetricSpec>) -> bool {
    metrics.any(|metric| metric.emit == Emit::OnClose)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_bytes_are_what_they_have_always_been() {
        let (subject_id, metric) = ("a:1".into(), "views".into());
        let window = ShortClosing { subject_id, metric, length_ms: 60_000, start_ms: 120_000, is_unique: true };
        let mut bytes = Vec::new();
        window.encode(&mut bytes);
        assert_eq!(bytes, b"\x03a:1\x05views\xc0\xa9\x07\x80\xd3\x0e\x01");
        assert_eq!(ShortClosing::decode(&bytes), Some(window));
    }
}
