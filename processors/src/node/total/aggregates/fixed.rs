//! Tumbling and hopping windows of a node: which ones have changed, when their values are sent, and when they are forgotten.

use super::closing::ClosingHandle;
use super::short::{HOUR_MS, Sketches, Sums};
use super::values::Values;
use super::{Node, Subject};
use crate::dataflow::Actions;
use crate::node::total::sketch::Sketch;
use hashbrown::HashSet;
use std::sync::Arc;
use tally_model::{MetricValue, Partial};
use tally_streams::processor::Context;
use tally_streams::store::{DeltaStore, Hash128, SegmentHash, StoreHandle, StoreKey};

/// Values by window. The segment is the minute of the window's end: no setting decides it.
pub(in crate::node::total) type FixedStore = DeltaStore<SegmentHash, Values>;

const MINUTE_MS: i64 = 60_000;

/// The segment that holds a time. Times before 1970 share the first.
fn segment(time_ms: i64, segment_ms: i64) -> u64 {
    (time_ms.max(0) / segment_ms) as u64
}

/// The store of the windows.
#[derive(Clone, Copy)]
pub(super) enum WindowHandle {
    /// All values of an `aggregate` node.
    Values(StoreHandle<FixedStore>),
    /// The number of events of a `count` node.
    Sums(StoreHandle<Sums>),
    /// The actors of a `unique` node.
    Sketches(StoreHandle<Sketches>),
}

/// What is added to a window. It fits the store: a node sends what the `total` has stores for.
#[derive(Clone, Copy)]
pub(super) enum Added<'a> {
    Values(&'a [(u32, Partial)]),
    Delta(i64),
    Visitors(&'a [u64]),
}

/// A window of a subject.
pub(super) struct Window {
    pub subject_id: Arc<str>,
    /// Its place among the node's windows.
    pub kind: usize,
    pub start_ms: i64,
    pub end_ms: i64,
    /// Its key in the store, and the segment that it expires with.
    pub key: SegmentHash,
}

impl WindowHandle {
    fn hash(self, hash_seed: u64, node: &Node, subject: Subject<'_>, (start_ms, size_ms): (i64, i64)) -> Hash128 {
        let (subject_id, start) = (subject.subject_id.as_bytes(), start_ms.to_le_bytes());
        match self {
            Self::Values(_) => {
                Hash128::of(hash_seed, &[subject_id, node.windows()[subject.kind].name.as_bytes(), &start])
            }
            Self::Sums(_) | Self::Sketches(_) => {
                Hash128::of(hash_seed, &[subject_id, node.aggregation.node.as_bytes(), &size_ms.to_le_bytes(), &start])
            }
        }
    }

    /// The segment of a window that ends then.
    fn segment(self, end_ms: i64, grace_ms: i64) -> u64 {
        match self {
            Self::Values(_) => segment(end_ms, MINUTE_MS),
            Self::Sums(_) => segment(end_ms + grace_ms, HOUR_MS),
            Self::Sketches(_) => segment(end_ms, HOUR_MS),
        }
    }

    /// The first segment with windows that may be open.
    fn first_segment(self, clock_ms: i64, grace_ms: i64) -> u64 {
        match self {
            Self::Values(_) => segment(clock_ms.saturating_sub(grace_ms), MINUTE_MS),
            Self::Sums(_) => segment(clock_ms, HOUR_MS),
            Self::Sketches(_) => segment(clock_ms.saturating_sub(grace_ms), HOUR_MS),
        }
    }

    /// Adds to a window; whether that may have changed it.
    fn add(self, context: &mut Context<'_, Actions>, window: &Window, grace_ms: i64, added: Added<'_>) -> bool {
        match (self, added) {
            (Self::Values(store), Added::Values(values)) => match context.store(store).modify(&window.key) {
                Some(slot) => {
                    slot.get_or_insert_default().add(values);
                    true
                }
                None => false,
            },
            (Self::Sums(store), Added::Delta(delta)) => {
                let keep_until_ms = window.end_ms + grace_ms;
                context.store(store).upsert(&window.key.hash, keep_until_ms, delta, |value| *value += delta);
                true
            }
            (Self::Sketches(store), Added::Visitors(hashes)) => context.store(store).add(&window.key, hashes).is_some(),
            _ => false,
        }
    }

    fn results(self, context: &mut Context<'_, Actions>, node: &Node, key: &SegmentHash) -> Option<Vec<MetricValue>> {
        match self {
            Self::Values(store) => context.store(store).get(key).map(|values| node.results(values)),
            Self::Sums(store) => context.store(store).get(&key.hash).map(|sum| vec![(*sum).into()]),
            Self::Sketches(store) => context.store(store).get(key).map(|sketch| vec![Sketch::count(sketch).into()]),
        }
    }

    fn expire(self, context: &mut Context<'_, Actions>, first: u64) {
        match self {
            Self::Values(store) => context.store(store).expire(first),
            Self::Sums(store) => context.store(store).expire(first as i64 * HOUR_MS),
            Self::Sketches(store) => context.store(store).expire(first),
        }
    }
}

/// See the module.
pub(super) struct Fixed {
    store: WindowHandle,
    /// Where windows wait whose values are sent when they close; None if they are sent when they change.
    closing: Option<ClosingHandle>,
    hash_seed: u64,
    /// What changed since the last commit and is to be sent with it, in order of first change.
    changed: Vec<Window>,
    /// All windows that changed since then.
    seen: HashSet<Hash128, <Hash128 as StoreKey>::Hasher>,
    /// The first segment that has not expired.
    first_segment: u64,
}

impl Fixed {
    pub fn new(store: WindowHandle, closing: Option<ClosingHandle>, hash_seed: u64) -> Self {
        Self { store, closing, hash_seed, changed: Vec::new(), seen: HashSet::default(), first_segment: 0 }
    }

    fn window(&self, node: &Node, subject: Subject<'_>, start_ms: i64) -> Window {
        let size_ms = node.windows()[subject.kind].fixed().map_or(0, |(size_ms, _)| size_ms);
        let end_ms = start_ms + size_ms;
        let hash = self.store.hash(self.hash_seed, node, subject, (start_ms, size_ms));
        let segment = self.store.segment(end_ms, node.aggregation.grace_ms);
        let (subject_id, kind) = (subject.subject_id.clone(), subject.kind);
        Window { subject_id, kind, start_ms, end_ms, key: SegmentHash { segment, hash } }
    }

    /// Adds to all windows that begin from the first of these times to the last.
    pub fn add(
        &mut self,
        context: &mut Context<'_, Actions>,
        node: &Node,
        subject: Subject<'_>,
        (from_ms, to_ms): (i64, i64),
        added: Added<'_>,
    ) {
        let every_ms = node.windows()[subject.kind].fixed().map_or(1, |(_, every_ms)| every_ms);
        let mut start_ms = from_ms;
        while start_ms <= to_ms {
            let window = self.window(node, subject, start_ms);
            if self.store.add(context, &window, node.aggregation.grace_ms, added) {
                self.mark(context, node, window);
            }
            start_ms += every_ms;
        }
    }

    fn mark(&mut self, context: &mut Context<'_, Actions>, node: &Node, window: Window) {
        if self.seen.insert(window.key.hash) {
            match self.closing {
                Some(closing) => closing.wait_for(context, self.hash_seed, node, &window),
                None => self.changed.push(window),
            }
        }
    }

    /// Sends the final values of a window.
    pub fn close(&self, context: &mut Context<'_, Actions>, node: &Node, subject: Subject<'_>, start_ms: i64) {
        let window = self.window(node, subject, start_ms);
        if let Some(results) = self.store.results(context, node, &window.key) {
            node.close(context, subject, (start_ms, window.end_ms), results);
        }
    }

    /// Sends the changed windows.
    pub fn flush(&mut self, context: &mut Context<'_, Actions>, node: &Node) {
        for window in std::mem::take(&mut self.changed) {
            self.send(context, node, &window);
        }
        self.seen.clear();
    }

    fn send(&self, context: &mut Context<'_, Actions>, node: &Node, window: &Window) {
        let Some(results) = self.store.results(context, node, &window.key) else { return };
        let subject = Subject { subject_id: &window.subject_id, kind: window.kind };
        node.send(context, subject, (window.start_ms, window.end_ms), results);
    }

    /// Forgets the windows that are closed by the clock.
    pub fn expire(&mut self, context: &mut Context<'_, Actions>, node: &Node, clock_ms: i64) {
        let first = self.store.first_segment(clock_ms, node.aggregation.grace_ms);
        if first > self.first_segment {
            // Changes in windows that are forgotten now are still unsent.
            let unsent = self.changed.extract_if(.., |window| window.key.segment < first).collect::<Vec<_>>();
            unsent.iter().for_each(|window| self.send(context, node, window));
            self.store.expire(context, first);
            self.first_segment = first;
        }
    }

    pub fn discard(&mut self) {
        self.changed.clear();
        self.seen.clear();
        self.first_segment = 0;
    }
}
