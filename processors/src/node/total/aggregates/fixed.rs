//! Tumbling and hopping windows of a node: which ones have changed, when their values are sent, and when they are forgotten.
//! Hopping windows share [panes](super::panes).

use super::closing::{ClosingHandle, Window};
use super::panes::Panes;
use super::short::{Sketches, Sums};
use super::values::Values;
use super::{Node, Subject};
use crate::counting::windows::HOUR_MS;
use crate::dataflow::Actions;
use crate::node::total::sketch::Sketch;
use hashbrown::hash_map::Entry as MapEntry;
use hashbrown::{HashMap, HashSet};
use std::sync::Arc;
use tally_model::{MetricValue, Partial};
use tally_streams::processor::Context;
use tally_streams::store::{DeltaStore, Hash128, SegmentHash, StoreHandle, StoreKey};

/// Values by window, or by pane. The segment is the minute of the end of its last window: no setting decides it.
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

/// What the store has an entry for: a window of a subject, or a pane of hopping windows.
struct Entry {
    subject_id: Arc<str>,
    /// The place of the windows among those of the node.
    kind: usize,
    /// The starts of the first and the last window. Of one window they are equal.
    starts: (i64, i64),
    /// Its key in the store, and the segment that it expires with.
    key: SegmentHash,
}

impl WindowHandle {
    fn hash(self, hash_seed: u64, node: &Node, subject: Subject<'_>, (from_ms, to_ms): (i64, i64)) -> Hash128 {
        let (subject_id, from, to) = (subject.subject_id.as_bytes(), from_ms.to_le_bytes(), to_ms.to_le_bytes());
        let window = &node.windows()[subject.kind];
        match self {
            Self::Values(_) if from_ms == to_ms => Hash128::of(hash_seed, &[subject_id, window.name.as_bytes(), &from]),
            Self::Values(_) => Hash128::of(hash_seed, &[subject_id, window.name.as_bytes(), &from, &to]),
            Self::Sums(_) | Self::Sketches(_) => {
                let (name, size) = (node.aggregation.node.as_bytes(), panes(node, subject.kind).size_ms.to_le_bytes());
                Hash128::of(hash_seed, &[subject_id, name, &size, &from])
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

    /// Adds to an entry that is kept for some time; whether that may have changed it.
    fn add(self, context: &mut Context<'_, Actions>, key: &SegmentHash, keep_until_ms: i64, added: Added<'_>) -> bool {
        match (self, added) {
            (Self::Values(store), Added::Values(values)) => match context.store(store).modify(key) {
                Some(slot) => {
                    slot.get_or_insert_default().add(values);
                    true
                }
                None => false,
            },
            (Self::Sums(store), Added::Delta(delta)) => {
                context.store(store).upsert(&key.hash, keep_until_ms, delta, |value| *value += delta);
                true
            }
            (Self::Sketches(store), Added::Visitors(hashes)) => context.store(store).add(key, hashes).is_some(),
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

/// Size and step of the windows at a place among those of a node.
fn panes(node: &Node, kind: usize) -> Panes {
    let (size_ms, every_ms) = node.windows()[kind].fixed().unwrap_or_default();
    Panes { size_ms, every_ms }
}

/// See the module.
pub(super) struct Fixed {
    store: WindowHandle,
    /// Where windows wait whose values are sent when they close; None if they are sent when they change.
    closing: Option<ClosingHandle>,
    hash_seed: u64,
    /// What changed since the last commit and is to be sent with it, in order of first change.
    changed: Vec<Entry>,
    /// All entries that changed since then.
    seen: HashSet<Hash128, <Hash128 as StoreKey>::Hasher>,
    /// The first segment that has not expired.
    first_segment: u64,
}

impl Fixed {
    pub fn new(store: WindowHandle, closing: Option<ClosingHandle>, hash_seed: u64) -> Self {
        Self { store, closing, hash_seed, changed: Vec::new(), seen: HashSet::default(), first_segment: 0 }
    }

    /// It expires with its last window.
    fn key(&self, node: &Node, subject: Subject<'_>, starts: (i64, i64)) -> SegmentHash {
        let hash = self.store.hash(self.hash_seed, node, subject, starts);
        let end_ms = starts.1 + panes(node, subject.kind).size_ms;
        SegmentHash { segment: self.store.segment(end_ms, node.aggregation.grace_ms), hash }
    }

    /// Adds to all windows that begin from the first of these times to the second.
    pub fn add(
        &mut self,
        context: &mut Context<'_, Actions>,
        node: &Node,
        subject: Subject<'_>,
        starts: (i64, i64),
        added: Added<'_>,
    ) {
        let panes = panes(node, subject.kind);
        if panes.is_pane(starts) {
            return self.add_to(context, node, subject, starts, added);
        }
        for start_ms in panes.starts(starts) {
            self.add_to(context, node, subject, (start_ms, start_ms), added);
        }
    }

    fn add_to(
        &mut self,
        context: &mut Context<'_, Actions>,
        node: &Node,
        subject: Subject<'_>,
        starts: (i64, i64),
        added: Added<'_>,
    ) {
        let (key, panes) = (self.key(node, subject, starts), panes(node, subject.kind));
        let keep_until_ms = starts.1 + panes.size_ms + node.aggregation.grace_ms;
        if !self.store.add(context, &key, keep_until_ms, added) || !self.seen.insert(key.hash) {
            return;
        }
        let Some(closing) = self.closing else {
            let (subject_id, kind) = (subject.subject_id.clone(), subject.kind);
            return self.changed.push(Entry { subject_id, kind, starts, key });
        };
        for start_ms in panes.starts(starts) {
            let window = Window { subject, start_ms, end_ms: start_ms + panes.size_ms };
            closing.wait_for(context, self.hash_seed, node, window, key.hash);
        }
    }

    /// Sends the final values of a window.
    pub fn close(&self, context: &mut Context<'_, Actions>, node: &Node, subject: Subject<'_>, start_ms: i64) {
        for (start_ms, results) in self.results(context, node, subject, &[start_ms]) {
            let end_ms = start_ms + panes(node, subject.kind).size_ms;
            node.close(context, subject, (start_ms, end_ms), results);
        }
    }

    /// Sends the changed windows.
    pub fn flush(&mut self, context: &mut Context<'_, Actions>, node: &Node) {
        let changed = std::mem::take(&mut self.changed);
        self.send(context, node, changed);
        self.seen.clear();
    }

    fn send(&self, context: &mut Context<'_, Actions>, node: &Node, changed: Vec<Entry>) {
        // The panes of a subject share windows, and each window is sent once: these are the starts of all of them.
        let mut sent: Vec<(Entry, Vec<i64>)> = Vec::new();
        let mut places: HashMap<(Arc<str>, usize), usize, ahash::RandomState> = HashMap::default();
        for entry in changed {
            let panes = panes(node, entry.kind);
            if !panes.has_panes() {
                sent.push((entry, Vec::new()));
                continue;
            }
            let starts = panes.starts(entry.starts);
            match places.entry((entry.subject_id.clone(), entry.kind)) {
                MapEntry::Occupied(at) => sent[*at.get()].1.extend(starts),
                MapEntry::Vacant(at) => {
                    at.insert(sent.len());
                    sent.push((entry, starts.collect()));
                }
            }
        }
        for (Entry { subject_id, kind, starts: (start_ms, _), key }, mut starts) in sent {
            let (subject, size_ms) = (Subject { subject_id: &subject_id, kind }, panes(node, kind).size_ms);
            if starts.is_empty() {
                if let Some(results) = self.store.results(context, node, &key) {
                    node.send(context, subject, (start_ms, start_ms + size_ms), results);
                }
                continue;
            }
            starts.sort_unstable();
            starts.dedup();
            for (start_ms, results) in self.results(context, node, subject, &starts) {
                node.send(context, subject, (start_ms, start_ms + size_ms), results);
            }
        }
    }

    /// The results of windows that begin at these times, ascending.
    fn results(
        &self,
        context: &mut Context<'_, Actions>,
        node: &Node,
        subject: Subject<'_>,
        starts: &[i64],
    ) -> Vec<(i64, Vec<MetricValue>)> {
        let panes = panes(node, subject.kind);
        if let WindowHandle::Values(store) = self.store
            && panes.has_panes()
        {
            let windows = panes.combine(starts, |starts, add| {
                context.store(store).get(&self.key(node, subject, starts)).into_iter().for_each(add);
            });
            return windows.into_iter().filter_map(|(start, values)| Some((start, node.results(&values?)))).collect();
        }
        let one = |start_ms: &i64| {
            let key = self.key(node, subject, (*start_ms, *start_ms));
            Some((*start_ms, self.store.results(context, node, &key)?))
        };
        starts.iter().filter_map(one).collect()
    }

    /// Forgets the windows that are closed by the clock.
    pub fn expire(&mut self, context: &mut Context<'_, Actions>, node: &Node, clock_ms: i64) {
        let grace_ms = node.aggregation.grace_ms;
        let first = self.store.first_segment(clock_ms, grace_ms);
        if first <= self.first_segment {
            return;
        }
        // Changes in windows that are forgotten now are still unsent.
        let (store, mut unsent) = (self.store, Vec::new());
        for Entry { subject_id, kind, starts, key } in &mut self.changed {
            let panes = panes(node, *kind);
            let is_forgotten = |start_ms: &i64| store.segment(start_ms + panes.size_ms, grace_ms) < first;
            if let Some(last_ms) = panes.starts(*starts).take_while(is_forgotten).last() {
                let (subject_id, kind, key) = (subject_id.clone(), *kind, *key);
                unsent.push(Entry { subject_id, kind, starts: (starts.0, last_ms), key });
                starts.0 = last_ms + panes.every_ms;
            }
        }
        self.changed.retain(|entry| entry.starts.0 <= entry.starts.1);
        self.send(context, node, unsent);
        store.expire(context, first);
        self.first_segment = first;
    }

    pub fn discard(&mut self) {
        self.changed.clear();
        self.seen.clear();
        self.first_segment = 0;
    }
}
