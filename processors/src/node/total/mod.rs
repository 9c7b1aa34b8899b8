//! `type: total`: adds changes up, per subject and metric, for all time and in windows.
//!
//! Once per commit it emits one record with all totals of each changed subject, and one per changed window.

mod aggregates;
mod sketch;

pub use sketch::Sketch;

use crate::counting::aggregation::TOTAL;
use crate::counting::windows::HOUR_MS;
use crate::dataflow::Actions;
use crate::edge::EdgeType;
use crate::facts::{MetricKind, MetricSpec, NodeFacts};
use crate::item::Item;
use crate::params::NoParams;
use aggregates::{Aggregates, SHORT_CLOSING, SHORT_SKETCHES, SHORT_SUMS, ShortClosingStore, short_name};
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;
use tally_model::{Counters, Delta, MetricValue, OutputType, SubjectChanges, Visitors};
use tally_streams::processor::{Context, Processor, PunctuationType, Reject, Schedule};
use tally_streams::store::{AccumulatorStore, Hash128, KeyValueStore, StateStore, StoreHandle, StoreValue};
use tally_streams::topology::{Blueprint, BuildSite, NodeType, ParamError, Params, Parsed, StorePart, StoreSpec};
use xxhash_rust::xxh3::xxh3_64;

/// The node type.
pub const NODE_TYPE: NodeType<Actions> = NodeType {
    name: TOTAL,
    about: "adds up changes per subject, for all time and in windows",
    input: EdgeType::Change.name(),
    outputs: &[EdgeType::Counters.name(), EdgeType::CounterWindow.name()],
    key: Some("subject_id"),
    partitions: None,
    then: None,
    params: Vec::new,
    parse,
};

/// The store of visitors, behind the name of the node.
const SKETCHES: &str = "sketches";

/// A checked `total` node.
pub struct Total {
    node: String,
}

fn parse(node: &str, params: &Params) -> Parsed<Actions> {
    params.parse::<NoParams>()?;
    Ok(Box::new(Total { node: node.to_owned() }))
}

/// All totals of a subject, by metric.
type Totals = KeyValueStore<Arc<str>, SubjectTotals>;
/// Visitors by (subject, metric).
type Sketches = AccumulatorStore<Hash128, Sketch>;

/// Metrics are identified by a hash of their name, so a stored total needs no table of names.
#[derive(Clone, Debug, Default, PartialEq)]
struct SubjectTotals(Vec<(u32, i64)>);

fn metric_id(name: &str) -> u32 {
    xxh3_64(name.as_bytes()) as u32
}

impl SubjectTotals {
    fn get(&self, metric: u32) -> Option<i64> {
        self.0.iter().find(|(known, _)| *known == metric).map(|(_, value)| *value)
    }

    fn entry(&mut self, metric: u32) -> &mut i64 {
        let at = self.0.iter().position(|(known, _)| *known == metric).unwrap_or_else(|| {
            self.0.push((metric, 0));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }
}

impl StoreValue for SubjectTotals {
    /// Metric (u32 LE) and value (i64 LE) each.
    fn encode(&self, out: &mut Vec<u8>) {
        for (metric, value) in &self.0 {
            out.extend_from_slice(&metric.to_le_bytes());
            out.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (entries, rest) = bytes.as_chunks::<12>();
        let entry = |bytes: &[u8; 12]| {
            let (metric, value) = bytes.split_first_chunk::<4>()?;
            Some((u32::from_le_bytes(*metric), i64::from_le_bytes(value.try_into().ok()?)))
        };
        rest.is_empty().then(|| entries.iter().map(entry).collect::<Option<_>>()).flatten().map(Self)
    }
}

impl Total {
    fn store_name(&self, what: &str) -> String {
        short_name(&self.node, what)
    }

    /// The metrics that change by deltas and visitors.
    fn metrics(&self, site: &BuildSite<'_, Actions>) -> Vec<(String, MetricSpec)> {
        let counting = site.inputs.iter().filter(|(_, facts)| facts.counts_by_changes());
        metrics_of(counting)
    }
}

/// The metrics of nodes, each with the node.
fn metrics_of<'a>(nodes: impl Iterator<Item = &'a (&'a str, &'a NodeFacts)>) -> Vec<(String, MetricSpec)> {
    let of_node = |(node, facts): &(&str, &NodeFacts)| {
        let node = (*node).to_owned();
        facts.metrics.clone().into_iter().map(move |metric| (node.clone(), metric))
    };
    nodes.flat_map(of_node).collect()
}

fn store(name: String, kind: &'static str, make: fn() -> Box<dyn StateStore>) -> StoreSpec {
    StoreSpec { name, kind, schema_version: 1, windows: Vec::new(), make }
}

impl Blueprint<Actions> for Total {
    fn stores(&self) -> Vec<StoreSpec> {
        vec![
            store(self.node.clone(), "key-value", Totals::make),
            store(self.store_name(SHORT_SUMS), "window", aggregates::Sums::make),
            store(self.store_name(SKETCHES), "accumulator", Sketches::make),
        ]
    }

    fn stores_behind(&self, inputs: &[&NodeFacts]) -> Vec<StoreSpec> {
        let counting = || inputs.iter().filter(|facts| facts.counts_by_changes());
        let metrics = || counting().flat_map(|facts| &facts.metrics);
        let mut stores = self.stores();
        if aggregates::has_sketches(metrics()) {
            stores.push(store(self.store_name(SHORT_SKETCHES), "window-accumulator", aggregates::Sketches::make));
        }
        if aggregates::has_closing(metrics()) {
            stores.push(store(self.store_name(SHORT_CLOSING), "due", ShortClosingStore::make));
        }
        stores.extend(aggregates::stores(&self.node, inputs));
        stores
    }

    fn check(&self, site: &BuildSite<'_, Actions>) -> Result<(), Vec<ParamError>> {
        let metrics = metrics_of(site.inputs.iter());
        let mut errors = Vec::new();
        for (i, (node, metric)) in metrics.iter().enumerate() {
            let same = |(_, earlier): &&(String, MetricSpec)| metric_id(&earlier.name) == metric_id(&metric.name);
            if let Some((other, earlier)) = metrics[..i].iter().find(same) {
                let message = match earlier.name == metric.name {
                    true => format!("`{other}` and `{node}` both count the metric `{}`", metric.name),
                    false => format!("the metrics `{}` and `{}` share a hash: rename one", earlier.name, metric.name),
                };
                errors.push(ParamError::new("", message));
            }
        }
        if let Some((node, metric)) = metrics.iter().find(|(_, metric)| !metric.windows.is_empty())
            && !site.writes.contains(&OutputType::CounterWindow.name())
        {
            let message =
                format!("the windows of `{}` would go nowhere: no topic of `counter` is written", metric.name);
            let help = format!("name one in `to`, such as `counter-windows`, or remove `windows` from `{node}`");
            errors.push(ParamError::new("", message).with_help(help));
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn store_windows(&self, site: &BuildSite<'_, Actions>) -> BTreeMap<String, Vec<StorePart>> {
        let mut windows = BTreeMap::from([(self.store_name(SHORT_SUMS), Vec::new())]);
        for (_, spec) in self.metrics(site) {
            let store = if spec.kind == MetricKind::Unique { SHORT_SKETCHES } else { SHORT_SUMS };
            let of_metric = spec.tumbling_ms().map(|window_ms| StorePart::OfMetric {
                metric: spec.name.clone(),
                minutes: window_ms.unsigned_abs() / 60_000,
            });
            windows.entry(self.store_name(store)).or_default().extend(of_metric);
        }
        windows
    }

    fn build(&self, site: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        let metrics = self.metrics(site);
        let aggregates = Aggregates::new(&self.node, site);
        let metric = |(node, spec): (String, MetricSpec)| {
            (spec.name.clone(), Metric { id: metric_id(&spec.name), spec, node: aggregates.place_of(&node) })
        };
        let metrics: HashMap<_, _, _> = metrics.into_iter().map(metric).collect();
        let mut named: Vec<_> =
            metrics.values().map(|metric: &Metric| (metric.spec.name.clone(), metric.id, metric.spec.kind)).collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        Box::new(TotalProcessor {
            metrics,
            named,
            totals: site.store(&self.node),
            aggregates,
            sketches: site.store(&self.store_name(SKETCHES)),
            hash_seed: site.hash_seed,
            changed: Vec::new(),
            changed_index: HashMap::default(),
        })
    }
}

struct Metric {
    id: u32,
    spec: MetricSpec,
    /// The place of its node among the aggregates, if that is a short form.
    node: Option<usize>,
}

struct TotalProcessor {
    metrics: HashMap<String, Metric, ahash::RandomState>,
    /// Their names, ids and kinds, by name.
    named: Vec<(String, u32, MetricKind)>,
    totals: StoreHandle<Totals>,
    aggregates: Aggregates,
    sketches: StoreHandle<Sketches>,
    hash_seed: u64,
    /// Subjects that changed since the last commit, in order of first change.
    changed: Vec<Changed>,
    changed_index: HashMap<Arc<str>, usize, ahash::RandomState>,
}

/// What changed of a subject since the last commit.
struct Changed {
    subject_id: Arc<str>,
    /// In order of first change.
    metrics: Vec<Arc<str>>,
    /// Sketches that are to be counted, with their metric.
    sketches: Vec<(Hash128, u32)>,
}

impl Changed {
    fn mark(&mut self, metric: &Arc<str>) {
        if !self.metrics.contains(metric) {
            self.metrics.push(metric.clone());
        }
    }
}

impl TotalProcessor {
    /// The entry of a subject that changes now.
    fn changed(&mut self, subject_id: &Arc<str>) -> &mut Changed {
        let at = *self.changed_index.entry(subject_id.clone()).or_insert_with(|| {
            self.changed.push(Changed { subject_id: subject_id.clone(), metrics: Vec::new(), sketches: Vec::new() });
            self.changed.len() - 1
        });
        &mut self.changed[at]
    }

    fn add_deltas(&mut self, context: &mut Context<'_, Actions>, subject_id: &Arc<str>, deltas: &[Delta]) {
        let known = || deltas.iter().filter_map(|delta| Some((delta, self.metrics.get(&*delta.metric)?)));
        if known().next().is_none() {
            return;
        }
        let totals = context.store(self.totals).modify(subject_id).get_or_insert_default();
        known().for_each(|(delta, metric)| *totals.entry(metric.id) += delta.delta);
        for delta in deltas {
            let Some(metric) = self.metrics.get(&*delta.metric) else { continue };
            if let Some(node) = metric.node.filter(|_| !delta.total_only) {
                self.aggregates.add_delta(context, node, subject_id, (delta.minute, delta.delta));
            }
        }
        let metrics: Vec<_> = known().map(|(delta, _)| &delta.metric).collect();
        let changed = self.changed(subject_id);
        metrics.into_iter().for_each(|metric| changed.mark(metric));
    }

    fn add_visitors(&mut self, context: &mut Context<'_, Actions>, subject_id: &Arc<str>, visitors: &Visitors) {
        // Visitors of other metrics are for boards, which need the actors.
        let metric = self.metrics.get(&*visitors.metric).filter(|metric| metric.spec.kind == MetricKind::Unique);
        let Some(metric) = metric else { return };
        if let Some(window) = visitors.window {
            let Some(node) = metric.node else { return };
            return self.aggregates.add_visitors(context, node, subject_id, window, visitors);
        }
        let id = metric.id;
        let key = Hash128::of(self.hash_seed, &[subject_id.as_bytes(), visitors.metric.as_bytes()]);
        if context.store(self.sketches).add(&key, &visitors.hashes).is_none() {
            return;
        }
        // Its value is computed at the commit, since an estimate costs more than an addition.
        context.store(self.totals).modify(subject_id).get_or_insert_default().entry(id);
        let changed = self.changed(subject_id);
        changed.mark(&visitors.metric);
        if !changed.sketches.contains(&(key, id)) {
            changed.sketches.push((key, id));
        }
    }

    fn counters(&self, context: &mut Context<'_, Actions>, changed: Changed) -> Counters {
        let Changed { subject_id, metrics, sketches } = changed;
        let (as_of_ms, version) = (context.clock_ms().max(0), context.version());
        for (key, id) in sketches {
            let count = context.store(self.sketches).get(&key).map_or(0, Sketch::count);
            *context.store(self.totals).modify(&subject_id).get_or_insert_default().entry(id) = count;
        }
        let totals = context.store(self.totals).get(&subject_id);
        let known =
            self.named.iter().filter_map(|(name, id, kind)| Some((name, kind, MetricValue::from(totals?.get(*id)?))));
        let approximate = known.clone().filter(|(_, kind, value)| kind.is_estimate(value));
        let mut approximate: Vec<String> = approximate.map(|(name, ..)| name.clone()).collect();
        let mut counters: BTreeMap<String, MetricValue> = known.map(|(name, _, value)| (name.clone(), value)).collect();
        self.aggregates.totals(context, &subject_id, |metric, value, is_estimate| {
            counters.insert(metric.to_string(), value);
            approximate.extend(is_estimate.then(|| metric.to_string()));
        });
        Counters {
            approximate,
            counters,
            subject_id: subject_id.to_string(),
            changed: metrics.iter().map(|metric| metric.to_string()).collect(),
            as_of_ms,
            version,
        }
    }
}

impl Processor<Actions> for TotalProcessor {
    fn process(&mut self, context: &mut Context<'_, Actions>, item: &Item) -> Result<(), Reject<Item>> {
        match item {
            Item::Changes(SubjectChanges { subject_id, deltas, visitors }) => {
                self.add_deltas(context, subject_id, deltas);
                visitors.iter().for_each(|visitors| self.add_visitors(context, subject_id, visitors));
            }
            Item::Contribution(contribution) => {
                let metrics = self.aggregates.add(context, contribution);
                if !metrics.is_empty() {
                    let changed = self.changed(&contribution.subject_id);
                    metrics.iter().for_each(|metric| changed.mark(metric));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn schedules(&self) -> Vec<Schedule> {
        // Closing windows are sent before they are deleted: punctuators fire in this order.
        let timer = self.aggregates.need_timer().then_some(Schedule { kind: PunctuationType::Timer, interval_ms: 1 });
        let clock = Schedule { kind: PunctuationType::Clock, interval_ms: HOUR_MS };
        timer.into_iter().chain([clock]).collect()
    }

    fn punctuate(&mut self, context: &mut Context<'_, Actions>, _kind: PunctuationType, time_ms: i64) {
        self.aggregates.close(context, time_ms);
    }

    fn flush(&mut self, context: &mut Context<'_, Actions>) {
        for changed in std::mem::take(&mut self.changed) {
            let counters = self.counters(context, changed);
            context.forward(Item::Counters(counters));
        }
        self.changed_index.clear();
        self.aggregates.flush(context);
    }

    fn owes_since(&self) -> Option<i64> {
        self.aggregates.owes_since()
    }

    fn discard(&mut self) {
        self.changed.clear();
        self.changed_index.clear();
        self.aggregates.discard();
    }
}
