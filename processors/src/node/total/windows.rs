//! The windows of a `total` node: sums and sketches, each until its window is closed, and when their values are sent.

use super::sketch::Sketch;
use crate::dataflow::Actions;
use crate::facts::{Emit, MetricKind, MetricSpec};
use crate::item::Item;
use hashbrown::HashSet;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tally_model::{CounterWindow, MetricValue, WindowSpec};
use tally_streams::processor::Context;
use tally_streams::store::{
    AccumulatorStore, DueStore, Hash128, SegmentHash, StoreHandle, StoreKey, StoreValue, WindowStore,
};

pub(super) const HOUR_MS: i64 = 3_600_000;

/// Counts by window, each kept until its window is closed.
pub(super) type Sums = WindowStore<Hash128, i64, HOUR_MS>;
/// Visitors by window. The segment is that of the window's end: no setting decides it.
pub(super) type Sketches = AccumulatorStore<SegmentHash, Sketch>;
/// Windows whose values are sent when they close.
pub(super) type Closing = DueStore<Hash128, Window>;

/// A window of a metric of a subject.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Window {
    pub subject_id: Arc<str>,
    pub metric: Arc<str>,
    pub length_ms: i64,
    pub start_ms: i64,
    /// Whether it counts visitors; otherwise it is a sum.
    pub is_unique: bool,
}

/// The stored form.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    subject_id: &'a str,
    metric: &'a str,
    length_ms: i64,
    start_ms: i64,
    is_unique: bool,
}

impl StoreValue for Window {
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

impl Window {
    fn key(&self, hash_seed: u64) -> Hash128 {
        let (length, start) = (self.length_ms.to_le_bytes(), self.start_ms.to_le_bytes());
        Hash128::of(hash_seed, &[self.subject_id.as_bytes(), self.metric.as_bytes(), &length, &start])
    }

    fn end_ms(&self) -> i64 {
        self.start_ms + self.length_ms
    }

    fn segment_hash(&self, hash: Hash128) -> SegmentHash {
        SegmentHash { segment: segment(self.end_ms()), hash }
    }
}

/// Times before 1970 share the first.
fn segment(time_ms: i64) -> u64 {
    time_ms.max(0) as u64 / HOUR_MS as u64
}

/// See the module.
pub(super) struct Windows {
    pub sums: StoreHandle<Sums>,
    /// None if no visitors are counted in windows.
    pub sketches: Option<StoreHandle<Sketches>>,
    /// None if every value is sent when it changes.
    pub closing: Option<StoreHandle<Closing>>,
    pub hash_seed: u64,
    pub grace_ms: i64,
    /// What changed since the last commit and is to be sent with it, in order of first change.
    changed: Vec<(Hash128, Window)>,
    /// All windows that changed since then.
    seen: HashSet<Hash128, <Hash128 as StoreKey>::Hasher>,
}

impl Windows {
    pub fn new(
        sums: StoreHandle<Sums>,
        sketches: Option<StoreHandle<Sketches>>,
        closing: Option<StoreHandle<Closing>>,
        hash_seed: u64,
        grace_ms: i64,
    ) -> Self {
        Self { sums, sketches, closing, hash_seed, grace_ms, changed: Vec::new(), seen: HashSet::default() }
    }

    /// Adds to the windows of a metric that hold a minute.
    pub fn add_delta(
        &mut self,
        context: &mut Context<'_, Actions>,
        subject_id: &Arc<str>,
        metric: &Arc<str>,
        spec: &MetricSpec,
        (minute, delta): (i64, i64),
    ) {
        for length_ms in spec.tumbling_ms() {
            let start_ms = crate::counting::windows::start_ms(minute * 60_000, length_ms);
            let (subject_id, metric) = (subject_id.clone(), metric.clone());
            let window = Window { subject_id, metric, length_ms, start_ms, is_unique: false };
            let key = window.key(self.hash_seed);
            let keep_until_ms = window.end_ms() + self.grace_ms;
            context.store(self.sums).upsert(&key, keep_until_ms, delta, |value| *value += delta);
            self.mark(context, key, window, spec.emit);
        }
    }

    /// Adds visitors to a window.
    pub fn add_visitors(
        &mut self,
        context: &mut Context<'_, Actions>,
        subject_id: &Arc<str>,
        spec: &MetricSpec,
        (length_ms, start_ms): (i64, i64),
        visitors: &tally_model::Visitors,
    ) {
        // Changes may still arrive for a window that the topology no longer has.
        let Some(sketches) = self.sketches.filter(|_| spec.tumbling_ms().any(|size_ms| size_ms == length_ms)) else {
            return;
        };
        let (subject_id, metric) = (subject_id.clone(), visitors.metric.clone());
        let window = Window { subject_id, metric, length_ms, start_ms, is_unique: true };
        let key = window.key(self.hash_seed);
        if context.store(sketches).add(&window.segment_hash(key), &visitors.hashes).is_some() {
            self.mark(context, key, window, spec.emit);
        }
    }

    fn mark(&mut self, context: &mut Context<'_, Actions>, key: Hash128, window: Window, emit: Emit) {
        if !self.seen.insert(key) {
            return;
        }
        match (emit, self.closing) {
            (Emit::OnClose, Some(closing)) => {
                if context.store(closing).get(&key).is_none() {
                    let due_ms = window.end_ms() + self.grace_ms;
                    context.store(closing).put(&key, due_ms, window);
                }
            }
            _ => self.changed.push((key, window)),
        }
    }

    /// Sends the changed windows.
    pub fn flush(&mut self, context: &mut Context<'_, Actions>) {
        for (key, window) in std::mem::take(&mut self.changed) {
            self.send(context, key, &window);
        }
        self.seen.clear();
    }

    /// Sends the final values of windows that are closed by now.
    pub fn close(&mut self, context: &mut Context<'_, Actions>, clock_ms: i64) {
        let Some(closing) = self.closing else { return };
        while let Some((_, window)) = context.store(closing).take_due(clock_ms) {
            self.send(context, window.key(self.hash_seed), &window);
        }
    }

    /// Deletes closed windows.
    pub fn expire(&mut self, context: &mut Context<'_, Actions>, clock_ms: i64) {
        // Changes in windows that close now are still unsent.
        self.flush(context);
        context.store(self.sums).expire(clock_ms);
        if let Some(sketches) = self.sketches {
            context.store(sketches).expire(segment(clock_ms - self.grace_ms));
        }
    }

    pub fn discard(&mut self) {
        self.changed.clear();
        self.seen.clear();
    }

    fn send(&self, context: &mut Context<'_, Actions>, key: Hash128, window: &Window) {
        let value = match (window.is_unique, self.sketches) {
            (false, _) => context.store(self.sums).get(&key).copied(),
            (true, Some(sketches)) => context.store(sketches).get(&window.segment_hash(key)).map(Sketch::count),
            (true, None) => None,
        };
        let Some(value) = value.map(MetricValue::from) else { return };
        let kind = if window.is_unique { MetricKind::Unique } else { MetricKind::Sum };
        let version = context.version();
        context.forward(Item::Counter(CounterWindow {
            subject_id: window.subject_id.to_string(),
            metric: window.metric.to_string(),
            window: WindowSpec::Tumbling { size_ms: window.length_ms },
            window_start_ms: window.start_ms,
            window_end_ms: window.end_ms(),
            approximate: kind.is_estimate(&value),
            value,
            deleted: false,
            version,
        }));
    }
}

/// Whether any of these metrics counts visitors in windows.
pub(super) fn has_sketches<'a>(mut metrics: impl Iterator<Item = &'a MetricSpec>) -> bool {
    metrics.any(|metric| metric.kind == MetricKind::Unique && metric.tumbling_ms().next().is_some())
}

/// Whether any of these metrics sends windows when they close.
pub(super) fn has_closing<'a>(mut metrics: impl Iterator<Item = &'a MetricSpec>) -> bool {
    metrics.any(|metric| metric.emit == Emit::OnClose)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_bytes_are_what_they_have_always_been() {
        let (subject_id, metric) = ("a:1".into(), "views".into());
        let window = Window { subject_id, metric, length_ms: 60_000, start_ms: 120_000, is_unique: true };
        let mut bytes = Vec::new();
        window.encode(&mut bytes);
        assert_eq!(bytes, b"\x03a:1\x05views\xc0\xa9\x07\x80\xd3\x0e\x01");
        assert_eq!(Window::decode(&bytes), Some(window));
    }
}
