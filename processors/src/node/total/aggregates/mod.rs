//! The aggregates of a `total` node: it adds up what `aggregate` nodes contribute, for all time and in windows, and emits
//! the values.

mod closed;
mod closing;
mod fixed;
mod sessions;
mod sliding;
mod spanned;
mod spans;
mod values;

use crate::counting::aggregation::{AggregateValue, AggregateWindow, Aggregation, Ratio};
use crate::dataflow::Actions;
use crate::facts::{Emit, NodeFacts};
use crate::item::Item;
use closing::{Closing, ClosingStore};
use fixed::{Fixed, FixedStore};
use sessions::Sessions;
use sliding::Sliding;
use spanned::{Rule, SpanStore, Spanned};
use std::borrow::Cow;
use std::sync::Arc;
use tally_model::{Contribution, CounterWindow, MetricValue, Partial, WindowSpec};
use tally_streams::processor::Context;
use tally_streams::store::{DeltaStore, Hash128, StateStore, StoreHandle};
use tally_streams::topology::{BuildSite, StoreSpec};
use values::Values;

/// Values for all time, by a hash of the subject.
type TotalStore = DeltaStore<Hash128, Values>;

/// The most windows that a commit closes; the next one goes on.
const CLOSED_PER_COMMIT: usize = 10_000;

/// The names of the stores of a `total` node for the aggregates of a node. No node's name contains a dot.
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
    for aggregation in inputs.iter().filter_map(|facts| facts.aggregation.as_ref()) {
        let names = StoreNames::new(total, &aggregation.node);
        let values = || aggregation.kept();
        let kinds = |fixed: bool| {
            let windows = aggregation.windows.iter().filter(move |window| is_fixed(window) == fixed);
            windows.map(|window| window.name.to_string())
        };
        let mut store = |name: String, kind, windows: Vec<String>, make: fn() -> Box<dyn StateStore>| {
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
    if inputs.iter().filter_map(|facts| facts.aggregation.as_ref()).any(|aggregation| waits(aggregation)) {
        let (name, windows) = (closing_name(total), Vec::new());
        stores.push(StoreSpec { name, kind: "due", schema_version: 1, windows, make: ClosingStore::make });
    }
    stores
}

/// A subject, and the place of a window among those of its node.
#[derive(Clone, Copy)]
struct Subject<'a> {
    subject_id: &'a Arc<str>,
    kind: usize,
}

/// What a node computes, and how its values are emitted.
struct Node {
    aggregation: Arc<Aggregation>,
    /// The ids of the values.
    ids: Vec<u32>,
    /// The output for closed windows, if some node reads them.
    closed: Option<usize>,
}

impl Node {
    fn windows(&self) -> &[AggregateWindow] {
        &self.aggregation.windows
    }

    /// The result of each value.
    fn results(&self, values: &Values) -> Vec<MetricValue> {
        let of = |at: usize| values.result(self.ids[at], &self.aggregation.values[at]);
        let result = |(at, value): (usize, &AggregateValue)| match value.ratio() {
            Some(Ratio { dividend, divisor, .. }) => of(dividend).divided(&of(divisor), value.scale),
            None => of(at),
        };
        self.aggregation.values.iter().enumerate().map(result).collect()
    }

    /// The metrics that change when these values do.
    fn changed(&self, values: &[(u32, Partial)]) -> Vec<Arc<str>> {
        let is_changed = |at: usize| values.iter().any(|(known, _)| *known == self.ids[at]);
        let changed = self.aggregation.values.iter().enumerate().filter(|(at, value)| match value.ratio() {
            Some(Ratio { dividend, divisor, .. }) => is_changed(dividend) || is_changed(divisor),
            None => is_changed(*at),
        });
        changed.map(|(_, value)| value.metric.clone()).collect()
    }

    /// Emits the values of a window. Times are those of its start and of the first millisecond behind it.
    fn send(
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
    fn close(
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
    fn delete(&self, context: &mut Context<'_, Actions>, subject: Subject<'_>, times: (i64, i64)) {
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

/// The aggregates of one node.
struct NodeAggregates {
    node: Node,
    totals: Option<StoreHandle<TotalStore>>,
    fixed: Option<Fixed>,
    spanned: Option<Spanned>,
}

/// See the module.
pub(super) struct Aggregates {
    nodes: Vec<NodeAggregates>,
    closing: Option<StoreHandle<ClosingStore>>,
    hash_seed: u64,
    /// How many more windows the open transaction may close.
    left: usize,
    /// When the first window was due that is not closed yet; before any time where that is not known.
    owes: Option<i64>,
}

impl Aggregates {
    pub fn new(total: &str, site: &BuildSite<'_, Actions>) -> Self {
        let aggregations: Vec<_> = site.inputs.iter().filter_map(|(_, facts)| facts.aggregation.clone()).collect();
        let closing = aggregations.iter().any(|aggregation| waits(aggregation));
        let closing = closing.then(|| site.store::<ClosingStore>(&closing_name(total)));
        let node = |aggregation: Arc<Aggregation>| {
            let names = StoreNames::new(total, &aggregation.node);
            let fixed = aggregation.windows.iter().any(is_fixed);
            let rules: Vec<_> = aggregation.windows.iter().map(|window| rule(&aggregation, window)).collect();
            let spanned = closing.filter(|_| rules.iter().any(Option::is_some));
            NodeAggregates {
                totals: aggregation.totals.then(|| site.store(&names.totals)),
                fixed: fixed.then(|| Fixed::new(site.store(&names.windows), closing, site.hash_seed)),
                spanned: spanned.map(|closing| Spanned::new(site.store(&names.spans), closing, site.hash_seed, rules)),
                node: Node {
                    ids: aggregation.values.iter().map(AggregateValue::id).collect(),
                    closed: site.output(&aggregation.closed_name()),
                    aggregation,
                },
            }
        };
        let nodes = aggregations.into_iter().map(node).collect();
        Self { nodes, closing, hash_seed: site.hash_seed, left: CLOSED_PER_COMMIT, owes: None }
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn key(&self, subject_id: &str) -> Hash128 {
        Hash128::of(self.hash_seed, &[subject_id.as_bytes()])
    }

    /// Adds what events contribute; returns the metrics of which a total has changed.
    pub fn add(&mut self, context: &mut Context<'_, Actions>, one: &Contribution) -> Vec<Arc<str>> {
        let (key, subject_id) = (self.key(&one.subject_id), &one.subject_id);
        // Contributions may still arrive for a node, a window or a value that the topology no longer has.
        let Some(found) = self.nodes.iter_mut().find(|known| known.node.aggregation.node == one.node) else {
            return Vec::new();
        };
        let NodeAggregates { node, totals, fixed, spanned } = found;
        let is_known = |(id, _): &&(u32, Partial)| node.ids.contains(id);
        let values = match one.values.iter().all(|value| is_known(&value)) {
            true => Cow::Borrowed(one.values.as_slice()),
            false => one.values.iter().filter(is_known).cloned().collect(),
        };
        for slot in &one.slots {
            let Some(kind) = node.windows().iter().position(|window| window.id == slot.window) else { continue };
            let subject = Subject { subject_id, kind };
            match (fixed.as_mut().filter(|_| is_fixed(&node.windows()[kind])), spanned.as_mut()) {
                (Some(fixed), _) => fixed.add(context, node, subject, slot, &values),
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
        self.owes = self.closing.and_then(|closing| context.store(closing).next_due_ms(clock_ms));
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
        let Some(closing) = self.closing else { return };
        while self.left > 0 {
            let Some((due_ms, waiting)) = context.store(closing).take_due(clock_ms) else { return };
            self.left -= 1;
            let Closing { node, subject_id, window, at_ms } = waiting;
            let Some(found) = self.nodes.iter_mut().find(|known| known.node.aggregation.node == node) else { continue };
            let NodeAggregates { node, fixed, spanned, .. } = found;
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
        if self.closing.is_some() && self.left > 0 {
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
        self.owes = self.closing.map(|_| i64::MIN);
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
