//! Windows that follow from the events of a subject: sessions and sliding windows.

use super::closing::{Closing, ClosingStore};
use super::spans::Spans;
use super::values::Values;
use super::{Node, Subject};
use crate::dataflow::Actions;
use crate::facts::Emit;
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use tally_model::{Partial, Slot};
use tally_streams::processor::Context;
use tally_streams::store::{DeltaStore, Hash128, StoreHandle, StoreKey};

/// Spans by subject and window.
pub(in crate::node::total) type SpanStore = DeltaStore<Hash128, Spans>;

/// What a kind of windows makes of the spans of a subject. A window is named by its start.
pub(super) trait Rule: Send {
    /// Adds events, and notes which windows have changed.
    fn add(&self, spans: &mut Spans, slot: &Slot, values: &[(u32, Partial)], changed: &mut Changed);
    /// The next time after `after_ms` at which a window closes or a span can be forgotten.
    fn next_due_ms(&self, spans: &Spans, after_ms: i64) -> Option<i64>;
    /// The windows that others may absorb: start, and first millisecond behind it.
    fn absorbable(&self, spans: &Spans) -> Vec<(i64, i64)>;
    /// The first millisecond behind a window and its values, if there is one that begins then.
    fn window(&self, spans: &Spans, start_ms: i64) -> Option<(i64, Values)>;
    /// Whether a window is closed at this time.
    fn is_closed(&self, spans: &Spans, start_ms: i64, clock_ms: i64) -> bool;
    /// The windows that close at this time. Those of earlier times are closed.
    fn due(&self, spans: &Spans, due_ms: i64) -> BTreeSet<i64>;
    /// Forgets what only closed windows are made of.
    fn forget(&self, spans: &mut Spans, due_ms: i64);
}

/// What changed of a subject since the last commit.
pub(super) struct Changed {
    subject_id: Arc<str>,
    /// The place of the window among those of the node.
    kind: usize,
    /// Windows that were emitted before and may be absorbed, as in [`Rule::absorbable`].
    emitted: Vec<(i64, i64)>,
    /// Windows that changed.
    pub touched: BTreeSet<i64>,
}

/// See the module.
pub(super) struct Spanned {
    store: StoreHandle<SpanStore>,
    closing: StoreHandle<ClosingStore>,
    hash_seed: u64,
    /// By the place of the window among those of the node; None for fixed ones.
    rules: Vec<Option<Box<dyn Rule>>>,
    /// In order of first change.
    changed: Vec<(Hash128, Changed)>,
    index: HashMap<Hash128, usize, <Hash128 as StoreKey>::Hasher>,
}

impl Spanned {
    pub fn new(
        store: StoreHandle<SpanStore>,
        closing: StoreHandle<ClosingStore>,
        hash_seed: u64,
        rules: Vec<Option<Box<dyn Rule>>>,
    ) -> Self {
        Self { store, closing, hash_seed, rules, changed: Vec::new(), index: HashMap::default() }
    }

    fn key(&self, node: &Node, subject: Subject<'_>) -> Hash128 {
        let name = node.windows()[subject.kind].name.as_bytes();
        Hash128::of(self.hash_seed, &[subject.subject_id.as_bytes(), name])
    }

    /// Adds events.
    pub fn add(
        &mut self,
        context: &mut Context<'_, Actions>,
        node: &Node,
        subject: Subject<'_>,
        slot: &Slot,
        values: &[(u32, Partial)],
    ) {
        let Some(rule) = &self.rules[subject.kind] else { return };
        let (key, clock_ms) = (self.key(node, subject), context.clock_ms());
        let Some(entry) = context.store(self.store).modify(&key) else { return };
        let spans = entry.get_or_insert_default();
        let at = *self.index.entry(key).or_insert_with(|| {
            let (subject_id, emitted) = (subject.subject_id.clone(), rule.absorbable(spans));
            self.changed.push((key, Changed { subject_id, kind: subject.kind, emitted, touched: BTreeSet::new() }));
            self.changed.len() - 1
        });
        rule.add(spans, slot, values, &mut self.changed[at].1);
        let due_ms = rule.next_due_ms(spans, clock_ms);
        self.wait(context, node, subject, due_ms);
    }

    /// Waits for a time, unless it waits for an earlier one already: what was extended meanwhile waits again then.
    fn wait(&self, context: &mut Context<'_, Actions>, node: &Node, subject: Subject<'_>, due_ms: Option<i64>) {
        let Some(due_ms) = due_ms else { return };
        let (node_name, window) = (&node.aggregation.node, &node.windows()[subject.kind]);
        let parts = [node_name.as_bytes(), subject.subject_id.as_bytes(), window.name.as_bytes()];
        let key = Hash128::of(self.hash_seed, &parts);
        if context.store(self.closing).get(&key).is_none_or(|waiting| waiting.at_ms > due_ms) {
            let (node, subject_id) = (node_name.clone(), subject.subject_id.clone());
            let closing = Closing { node, subject_id, window: window.id, at_ms: due_ms };
            context.store(self.closing).put(&key, due_ms, closing);
        }
    }

    /// Closes the windows of a subject that are due at this time.
    pub fn close(&mut self, context: &mut Context<'_, Actions>, node: &Node, subject: Subject<'_>, due_ms: i64) {
        let Some(rule) = &self.rules[subject.kind] else { return };
        let key = self.key(node, subject);
        let Some(spans) = context.store(self.store).get(&key) else { return };
        let changed = self.index.get(&key).map(|at| &mut self.changed[*at].1);
        let closed = match (node.aggregation.emit, changed) {
            (Emit::OnClose, _) => rule.due(spans, due_ms),
            (Emit::OnUpdate, None) => BTreeSet::new(),
            // What is closed is not absorbed any more, and is sent for the last time.
            (Emit::OnUpdate, Some(changed)) => {
                changed.emitted.retain(|(start_ms, _)| !rule.is_closed(spans, *start_ms, due_ms));
                changed.touched.extract_if(.., |start_ms| rule.is_closed(spans, *start_ms, due_ms)).collect()
            }
        };
        let windows = closed.into_iter().filter_map(|start_ms| Some((start_ms, rule.window(spans, start_ms)?)));
        let windows: Vec<_> = windows.collect();
        for (start_ms, (end_ms, values)) in windows {
            node.close(context, subject, (start_ms, end_ms), node.results(&values));
        }
        let Some(entry) = context.store(self.store).modify(&key) else { return };
        let Some(spans) = &mut *entry else { return };
        rule.forget(spans, due_ms);
        let (is_empty, next_ms) = (spans.0.is_empty(), rule.next_due_ms(spans, due_ms));
        if is_empty {
            *entry = None;
        }
        self.wait(context, node, subject, next_ms);
    }

    /// Sends the changed windows, and deletes those that were absorbed.
    pub fn flush(&mut self, context: &mut Context<'_, Actions>, node: &Node) {
        self.index.clear();
        for (key, Changed { subject_id, kind, emitted, touched }) in std::mem::take(&mut self.changed) {
            let Some(rule) = self.rules[kind].as_ref().filter(|_| node.aggregation.emit == Emit::OnUpdate) else {
                continue;
            };
            // All of them may be closed by now, and what they absorbed is still to be deleted.
            let nothing = Spans::default();
            let spans = context.store(self.store).get(&key).unwrap_or(&nothing);
            let absorbed = emitted.into_iter().filter(|(start_ms, _)| rule.window(spans, *start_ms).is_none());
            let absorbed: Vec<(i64, i64)> = absorbed.collect();
            let windows = touched.iter().filter_map(|start_ms| Some((*start_ms, rule.window(spans, *start_ms)?)));
            let windows: Vec<_> = windows.collect();
            let subject = Subject { subject_id: &subject_id, kind };
            absorbed.into_iter().for_each(|times| node.delete(context, subject, times));
            for (start_ms, (end_ms, values)) in windows {
                node.send(context, subject, (start_ms, end_ms), node.results(&values));
            }
        }
    }

    pub fn discard(&mut self) {
        self.changed.clear();
        self.index.clear();
    }
}
