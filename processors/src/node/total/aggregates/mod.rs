//! The aggregates of a `total` node: it adds up what `aggregate` nodes contribute, for all time and in windows, and emits
//! the values. Of `count` and `unique`, short forms of `aggregate`, it has the windows.

mod closed;
mod closing;
mod fixed;
mod node;
mod panes;
mod sessions;
mod short;
mod sliding;
mod spanned;
mod spans;
mod values;

pub(super) use short::{ShortClosingStore, Sketches, Sums, has_closing, has_sketches};

use crate::counting::aggregation::{AggregateWindow, Aggregation, Form, start_ms};
use crate::counting::windows::MINUTE_MS;
use crate::dataflow::Actions;
use crate::facts::{Emit, NodeFacts};
use closing::{Closing, ClosingHandle, ClosingStore};
use fixed::{Added, Fixed, FixedStore, WindowHandle};
use node::{Node, Subject};
use sessions::Sessions;
use sliding::Sliding;
use spanned::{Rule, SpanStore, Spanned};
use std::borrow::Cow;
use std::sync::Arc;
use tally_model::{Contribution, MetricValue, Partial, Visitors, WindowSpec};
use tally_streams::processor::Context;
use tally_streams::store::{DeltaStore, Hash128, StateStore, StoreHandle};
use tally_streams::topology::{BuildSite, StorePart, StoreSpec};
use values::Values;

/// Values for all time, by a hash of the subject.
type TotalStore = DeltaStore<Hash128, Values>;

/// The most windows that a commit closes; the next one goes on.
const CLOSED_PER_COMMIT: usize = 10_000;

/// The names of the stores of a `total` node for the aggregates of a node. No node's name contains a dot. The short forms
/// share their stores.
struct StoreNames {
    totals: String,
    windows: String,
    spans: String,
}

impl StoreNames {
    fn new(total: &str, node: &str) -> Self {
        let name = |what: &str| format!("{total}.{node}{what}");
        Self { totals: name(""), windows: name(".windows"), spans: name(".spans") }
    }
}

/// The store of everything that waits for the clock.
fn closing_name(total: &str) -> String {
    format!("{total}.closing")
}

/// The names of the stores of short forms, behind that of the `total` node.
pub(super) const SHORT_SUMS: &str = "windows";
pub(super) const SHORT_SKETCHES: &str = "window-sketches";
pub(super) const SHORT_CLOSING: &str = "closing";

/// The name of a store that the short forms share.
pub(super) fn short_name(total: &str, what: &str) -> String {
    format!("{total}-{what}")
}

fn is_fixed(window: &AggregateWindow) -> bool {
    window.fixed().is_some()
}

/// Whether some windows of a node wait for the clock one by one.
fn waits(aggregation: &Aggregation) -> bool {
    let Aggregation { windows, emit, .. } = aggregation;
    windows.iter().any(|window| *emit == Emit::OnClose || !is_fixed(window))
}

/// The stores that a `total` node needs for the aggregates of its inputs.
pub(super) fn stores(total: &str, inputs: &[&NodeFacts]) -> Vec<StoreSpec> {
    let mut stores = Vec::new();
    let aggregations = || inputs.iter().filter_map(|facts| facts.aggregation.as_ref());
    let aggregations = || aggregations().filter(|aggregation| aggregation.form == Form::Values);
    for aggregation in aggregations() {
        let names = StoreNames::new(total, &aggregation.node);
        let values = || aggregation.kept();
        let kinds = |fixed: bool| {
            let windows = aggregation.windows.iter().filter(move |window| is_fixed(window) == fixed);
            windows.map(AggregateWindow::kept)
        };
        let mut store = |name: String, kind, windows: Vec<StorePart>, make: fn() -> Box<dyn StateStore>| {
            stores.push(StoreSpec { name, kind, schema_version: 1, windows, make });
        };
        if aggregation.totals {
            store(names.totals, "aggregate", values().collect(), TotalStore::make);
        }
        if kinds(true).next().is_some() {
            store(names.windows, "aggregate by window", values().chain(kinds(true)).collect(), FixedStore::make);
        }
        if kinds(false).next().is_some() {
            store(names.spans, "aggregate by span", values().chain(kinds(false)).collect(), SpanStore::make);
        }
    }
    if aggregations().any(|aggregation| waits(aggregation)) {
        let (name, windows) = (closing_name(total), Vec::new());
        stores.push(StoreSpec { name, kind: "due", schema_version: 1, windows, make: ClosingStore::make });
    }
    stores
}

/// The aggregates of one node.
struct NodeAggregates {
    node: Node,
    totals: Option<StoreHandle<TotalStore>>,
    fixed: Option<Fixed>,
    spanned: Option<Spanned>,
}

impl NodeAggregates {
    fn new(
        total: &str,
        site: &BuildSite<'_, Actions>,
        aggregation: Aggregation,
        closing: Option<StoreHandle<ClosingStore>>,
    ) -> Self {
        let names = StoreNames::new(total, &aggregation.node);
        let on_close = closing.filter(|_| aggregation.emit == Emit::OnClose).map(ClosingHandle::Values);
        let fixed = aggregation.windows.iter().any(is_fixed).then(|| WindowHandle::Values(site.store(&names.windows)));
        let rules: Vec<_> = aggregation.windows.iter().map(|window| rule(&aggregation, window)).collect();
        let spanned = closing.filter(|_| rules.iter().any(Option::is_some));
        Self {
            totals: aggregation.totals.then(|| site.store(&names.totals)),
            fixed: fixed.map(|store| Fixed::new(store, on_close, site.hash_seed)),
            spanned: spanned.map(|closing| Spanned::new(site.store(&names.spans), closing, site.hash_seed, rules)),
            node: Node::new(site, aggregation),
        }
    }

    fn short(
        total: &str,
        site: &BuildSite<'_, Actions>,
        aggregation: Aggregation,
        closing: Option<StoreHandle<ShortClosingStore>>,
    ) -> Self {
        let on_close = closing.filter(|_| aggregation.emit == Emit::OnClose).map(ClosingHandle::Short);
        let store = (!aggregation.windows.is_empty()).then(|| match aggregation.counts_distinct() {
            true => WindowHandle::Sketches(site.store(&short_name(total, SHORT_SKETCHES))),
            false => WindowHandle::Sums(site.store(&short_name(total, SHORT_SUMS))),
        });
        Self {
            totals: None,
            fixed: store.map(|store| Fixed::new(store, on_close, site.hash_seed)),
            spanned: None,
            node: Node::new(site, aggregation),
        }
    }
}

/// See the module.
pub(super) struct Aggregates {
    nodes: Vec<NodeAggregates>,
    /// Everything that waits for the clock.
    closing: Vec<ClosingHandle>,
    hash_seed: u64,
    /// How many more windows the open transaction may close.
    left: usize,
    /// When the first window was due that is not closed yet; before any time where that is not known.
    owes: Option<i64>,
}

impl Aggregates {
    pub fn new(total: &str, site: &BuildSite<'_, Actions>) -> Self {
        let aggregations = site.inputs.iter().filter_map(|(_, facts)| facts.aggregation.as_ref());
        let aggregations: Vec<Aggregation> = aggregations.map(|aggregation| aggregation.placed(site)).collect();
        let of_form = |form| aggregations.iter().filter(move |aggregation| aggregation.form == form);
        let short = of_form(Form::Short).any(|aggregation| aggregation.emit == Emit::OnClose);
        let short = short.then(|| site.store(&short_name(total, SHORT_CLOSING)));
        let closing = of_form(Form::Values).any(waits).then(|| site.store(&closing_name(total)));
        let node = |aggregation: Aggregation| match aggregation.form {
            Form::Values => NodeAggregates::new(total, site, aggregation, closing),
            Form::Short => NodeAggregates::short(total, site, aggregation, short),
        };
        let nodes = aggregations.into_iter().map(node).collect();
        let closing = short.map(ClosingHandle::Short).into_iter().chain(closing.map(ClosingHandle::Values)).collect();
        Self { nodes, closing, hash_seed: site.hash_seed, left: CLOSED_PER_COMMIT, owes: None }
    }

    /// Whether they are to be closed whenever the clock moves; else an hour is often enough to forget closed windows.
    pub fn need_timer(&self) -> bool {
        !self.closing.is_empty() || self.nodes.iter().any(|known| known.node.aggregation.form == Form::Values)
    }

    /// The place of a node among them.
    pub fn place_of(&self, node: &str) -> Option<usize> {
        self.nodes.iter().position(|known| *known.node.aggregation.node == *node)
    }

    /// Adds to the windows of a `count` node that hold a minute.
    pub fn add_delta(
        &mut self,
        context: &mut Context<'_, Actions>,
        at: usize,
        subject_id: &Arc<str>,
        (minute, delta): (i64, i64),
    ) {
        let NodeAggregates { node, fixed: Some(fixed), .. } = &mut self.nodes[at] else { return };
        for (kind, size_ms) in node.tumbling_ms() {
            let start_ms = start_ms(minute * MINUTE_MS, size_ms);
            fixed.add(context, node, Subject { subject_id, kind }, (start_ms, start_ms), Added::Delta(delta));
        }
    }

    /// Adds to a window of a `unique` node, its length and start.
    pub fn add_visitors(
        &mut self,
        context: &mut Context<'_, Actions>,
        at: usize,
        subject_id: &Arc<str>,
        (length_ms, start_ms): (i64, i64),
        visitors: &Visitors,
    ) {
        let NodeAggregates { node, fixed: Some(fixed), .. } = &mut self.nodes[at] else { return };
        // Changes may still arrive for a window that the topology no longer has.
        let Some((kind, _)) = node.tumbling_ms().find(|(_, size_ms)| *size_ms == length_ms) else { return };
        let added = Added::Visitors(&visitors.hashes);
        fixed.add(context, node, Subject { subject_id, kind }, (start_ms, start_ms), added);
    }

    fn key(&self, subject_id: &str) -> Hash128 {
        Hash128::of(self.hash_seed, &[subject_id.as_bytes()])
    }

    /// Adds what events contribute; returns the metrics of which a total has changed.
    pub fn add(&mut self, context: &mut Context<'_, Actions>, one: &Contribution) -> Vec<Arc<str>> {
        let (key, subject_id) = (self.key(&one.subject_id), &one.subject_id);
        // Contributions may still arrive for a node, a window or a value that the topology no longer has.
        let Some(at) = self.place_of(&one.node) else { return Vec::new() };
        let NodeAggregates { node, totals, fixed, spanned } = &mut self.nodes[at];
        let is_known = |(id, _): &&(u32, Partial)| node.ids.contains(id);
        let values = match one.values.iter().all(|value| is_known(&value)) {
            true => Cow::Borrowed(one.values.as_slice()),
            false => one.values.iter().filter(is_known).cloned().collect(),
        };
        for slot in &one.slots {
            let Some(kind) = node.windows().iter().position(|window| window.id == slot.window) else { continue };
            let subject = Subject { subject_id, kind };
            match (fixed.as_mut().filter(|_| is_fixed(&node.windows()[kind])), spanned.as_mut()) {
                (Some(fixed), _) => {
                    fixed.add(context, node, subject, (slot.from_ms, slot.to_ms), Added::Values(&values))
                }
                (None, Some(spanned)) => spanned.add(context, node, subject, slot, &values),
                (None, None) => {}
            }
        }
        let Some(store) = totals else { return Vec::new() };
        if let Some(total) = context.store(*store).modify(&key) {
            total.get_or_insert_default().add(&values);
        }
        node.changed(&values)
    }

    /// The totals of a subject: metric, value, and whether it is an estimate.
    pub fn totals(
        &self,
        context: &mut Context<'_, Actions>,
        subject_id: &str,
        mut each: impl FnMut(&Arc<str>, MetricValue, bool),
    ) {
        let key = self.key(subject_id);
        for NodeAggregates { node, totals, .. } in &self.nodes {
            let Some(values) = totals.and_then(|store| context.store(store).get(&key)) else { continue };
            for (value, result) in node.aggregation.values.iter().zip(node.results(values)) {
                let is_estimate = value.kind().is_estimate(&result);
                each(&value.metric, result, is_estimate);
            }
        }
    }

    /// Closes what is due by the clock, the earliest first, as far as one commit goes; then forgets closed windows.
    pub fn close(&mut self, context: &mut Context<'_, Actions>, clock_ms: i64) {
        self.close_due(context, clock_ms);
        self.owes = self.closing.iter().filter_map(|closing| closing.next_due_ms(context, clock_ms)).min();
        if self.owes.is_some() {
            // Windows that are still to be emitted must not be forgotten.
            return;
        }
        for NodeAggregates { node, fixed, .. } in &mut self.nodes {
            if let Some(fixed) = fixed {
                fixed.expire(context, node, clock_ms);
            }
        }
    }

    fn close_due(&mut self, context: &mut Context<'_, Actions>, clock_ms: i64) {
        while self.left > 0 {
            let due = self.closing.iter().find_map(|closing| closing.take_due(context, clock_ms));
            let Some((due_ms, waiting)) = due else { return };
            self.left -= 1;
            let Closing { node, subject_id, window, at_ms } = waiting;
            let Some(at) = self.place_of(&node) else { continue };
            let NodeAggregates { node, fixed, spanned, .. } = &mut self.nodes[at];
            let Some(kind) = node.windows().iter().position(|known| known.id == window) else { continue };
            let subject = Subject { subject_id: &subject_id, kind };
            match (fixed.as_ref().filter(|_| is_fixed(&node.windows()[kind])), spanned.as_mut()) {
                (Some(fixed), _) => fixed.close(context, node, subject, at_ms),
                (None, Some(spanned)) => spanned.close(context, node, subject, due_ms),
                (None, None) => {}
            }
        }
    }

    /// Goes on closing where the last commit ended, and emits what has changed.
    pub fn flush(&mut self, context: &mut Context<'_, Actions>) {
        // Also what a task that has just opened owes.
        if !self.closing.is_empty() && self.left > 0 {
            let clock_ms = context.clock_ms();
            self.close(context, clock_ms);
        }
        for NodeAggregates { node, fixed, spanned, .. } in &mut self.nodes {
            if let Some(fixed) = fixed {
                fixed.flush(context, node);
            }
            if let Some(spanned) = spanned {
                spanned.flush(context, node);
            }
        }
        self.left = CLOSED_PER_COMMIT;
    }

    /// When the first window was due that is not closed, where more are due than one commit closes.
    pub fn owes_since(&self) -> Option<i64> {
        self.owes
    }

    pub fn discard(&mut self) {
        for NodeAggregates { fixed, spanned, .. } in &mut self.nodes {
            if let Some(fixed) = fixed {
                fixed.discard();
            }
            if let Some(spanned) = spanned {
                spanned.discard();
            }
        }
        // Whether the last commit had left something is not known any more: the next one finds out.
        self.owes = (!self.closing.is_empty()).then_some(i64::MIN);
        self.left = CLOSED_PER_COMMIT;
    }
}

/// How the windows of a kind follow from events; None for fixed ones.
fn rule(aggregation: &Aggregation, window: &AggregateWindow) -> Option<Box<dyn Rule>> {
    let grace_ms = aggregation.grace_ms;
    match window.spec {
        WindowSpec::Tumbling { .. } | WindowSpec::Hopping { .. } => None,
        WindowSpec::Session { .. } => window.session_rule().map(|rule| Box::new(Sessions { rule, grace_ms }) as _),
        WindowSpec::Sliding { size_ms } => {
            Some(Box::new(Sliding { size_ms, grace_ms, on_close: aggregation.emit == Emit::OnClose }))
        }
    }
}
