//! Tumbling and hopping windows of an `aggregate` node.

use super::closing::{Closing, ClosingStore};
use super::values::Values;
use super::{Node, Subject};
use crate::dataflow::Actions;
use crate::facts::Emit;
use hashbrown::HashSet;
use std::sync::Arc;
use tally_model::{MetricValue, Partial, Slot};
use tally_streams::processor::Context;
use tally_streams::store::{DeltaStore, Hash128, SegmentHash, StoreHandle, StoreKey};

/// Values by window. The segment is the minute of the window's end: no setting decides it.
pub(in crate::node::total) type FixedStore = DeltaStore<SegmentHash, Values>;

const SEGMENT_MS: i64 = 60_000;

/// Times before 1970 share the first.
fn segment(time_ms: i64) -> u64 {
    time_ms.max(0) as u64 / SEGMENT_MS as u64
}

/// The size of the windows at a place among those of a node.
fn size_ms(node: &Node, kind: usize) -> i64 {
    node.windows()[kind].fixed().map_or(0, |(size_ms, _)| size_ms)
}

/// See the module.
pub(super) struct Fixed {
    store: StoreHandle<FixedStore>,
    closing: Option<StoreHandle<ClosingStore>>,
    hash_seed: u64,
    /// What changed since the last commit and is to be sent with it, in order of first change.
    changed: Vec<Window>,
    /// All windows that changed since then.
    seen: HashSet<Hash128, <Hash128 as StoreKey>::Hasher>,
    /// The first segment that has not expired.
    first_segment: u64,
}

/// A window of a subject.
struct Window {
    subject_id: Arc<str>,
    /// Its place among the node's windows.
    kind: usize,
    start_ms: i64,
    key: SegmentHash,
}

impl Fixed {
    pub fn new(store: StoreHandle<FixedStore>, closing: Option<StoreHandle<ClosingStore>>, hash_seed: u64) -> Self {
        Self { store, closing, hash_seed, changed: Vec::new(), seen: HashSet::default(), first_segment: 0 }
    }

    fn window(&self, node: &Node, subject_id: &Arc<str>, kind: usize, start_ms: i64) -> Window {
        let start = start_ms.to_le_bytes();
        let hash = Hash128::of(self.hash_seed, &[subject_id.as_bytes(), node.windows()[kind].name.as_bytes(), &start]);
        let end_ms = start_ms + size_ms(node, kind);
        let key = SegmentHash { segment: segment(end_ms), hash };
        Window { subject_id: subject_id.clone(), kind, start_ms, key }
    }

    /// Adds to all windows of a slot.
    pub fn add(
        &mut self,
        context: &mut Context<'_, Actions>,
        node: &Node,
        Subject { subject_id, kind }: Subject<'_>,
        slot: &Slot,
        values: &[(u32, Partial)],
    ) {
        let every_ms = node.windows()[kind].fixed().map_or(1, |(_, every_ms)| every_ms);
        let mut start_ms = slot.from_ms;
        while start_ms <= slot.to_ms {
            let window = self.window(node, subject_id, kind, start_ms);
            if let Some(slot) = context.store(self.store).modify(&window.key) {
                slot.get_or_insert_default().add(values);
                self.mark(context, node, window);
            }
            start_ms += every_ms;
        }
    }

    fn mark(&mut self, context: &mut Context<'_, Actions>, node: &Node, window: Window) {
        if !self.seen.insert(window.key.hash) {
            return;
        }
        match (node.aggregation.emit, self.closing) {
            (Emit::OnClose, Some(closing)) => {
                let (name, of) = (node.windows()[window.kind].name.as_bytes(), window.subject_id.as_bytes());
                let node_name = node.aggregation.node.as_bytes();
                let key = Hash128::of(self.hash_seed, &[node_name, of, name, &window.start_ms.to_le_bytes()]);
                if context.store(closing).get(&key).is_none() {
                    let due_ms = window.start_ms + size_ms(node, window.kind) + node.aggregation.grace_ms;
                    let value = Closing {
                        node: node.aggregation.node.clone(),
                        subject_id: window.subject_id,
                        window: node.windows()[window.kind].id,
                        at_ms: window.start_ms,
                    };
                    context.store(closing).put(&key, due_ms, value);
                }
            }
            _ => self.changed.push(window),
        }
    }

    /// Sends the final values of a window.
    pub fn close(&self, context: &mut Context<'_, Actions>, node: &Node, subject: Subject<'_>, start_ms: i64) {
        let window = self.window(node, subject.subject_id, subject.kind, start_ms);
        if let Some(results) = self.results(context, node, &window) {
            node.close(context, subject, (start_ms, start_ms + size_ms(node, subject.kind)), results);
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
        let Some(results) = self.results(context, node, window) else { return };
        let end_ms = window.start_ms + size_ms(node, window.kind);
        let subject = Subject { subject_id: &window.subject_id, kind: window.kind };
        node.send(context, subject, (window.start_ms, end_ms), results);
    }

    fn results(&self, context: &mut Context<'_, Actions>, node: &Node, window: &Window) -> Option<Vec<MetricValue>> {
        context.store(self.store).get(&window.key).map(|values| node.results(values))
    }

    /// Forgets the windows that are closed by the clock.
    pub fn expire(&mut self, context: &mut Context<'_, Actions>, node: &Node, clock_ms: i64) {
        let first = segment(clock_ms.saturating_sub(node.aggregation.grace_ms));
        if first > self.first_segment {
            // Changes in windows that are forgotten now are still unsent.
            let unsent = self.changed.extract_if(.., |window| window.key.segment < first).collect::<Vec<_>>();
            unsent.iter().for_each(|window| self.send(context, node, window));
            context.store(self.store).expire(first);
            self.first_segment = first;
        }
    }

    pub fn discard(&mut self) {
        self.changed.clear();
        self.seen.clear();
        self.first_segment = 0;
    }
}
