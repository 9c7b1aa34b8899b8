//! The metrics and event types of a topology, for the ingest API and the read side.

use crate::counting::aggregation::Aggregation;
use crate::dataflow::Actions;
use crate::facts::{MetricSpec, NodeFacts};
use std::collections::BTreeSet;
use std::time::Duration;
use tally_model::WindowSpec;
use tally_streams::topology::Topology;

/// The toggle that the database owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedToggle {
    /// The metric; its node has the same name.
    pub metric: String,
    /// The type of event that switches on.
    pub on: String,
    /// The type of event that switches off.
    pub off: String,
}

/// The toggle of a topology that the database owns. There is one table, so there is at most one.
pub fn owned_toggle(topology: &Topology<Actions>) -> Option<OwnedToggle> {
    topology.facts().find_map(|(node, facts)| {
        let toggle = facts.toggle.as_ref().filter(|toggle| toggle.owned)?;
        Some(OwnedToggle { metric: node.to_owned(), on: toggle.on.clone(), off: toggle.off.clone() })
    })
}

/// The types of events that switch something on or off, in a topology.
pub fn switches(topology: &Topology<Actions>) -> BTreeSet<String> {
    event_types_of(topology.facts().map(|(_, facts)| facts).filter(|facts| facts.toggle.is_some()))
}

/// Every type of event that a node of a topology takes, or that is declared.
pub fn event_types(topology: &Topology<Actions>) -> BTreeSet<String> {
    let mut types = event_types_of(topology.facts().map(|(_, facts)| facts));
    types.extend(topology.declarations.keys().cloned());
    types
}

fn event_types_of<'a>(facts: impl Iterator<Item = &'a NodeFacts>) -> BTreeSet<String> {
    facts.flat_map(|facts| &facts.event_types).cloned().collect()
}

/// The kinds of subjects that only callers with scope `admin` may read.
pub fn private_kinds(topology: &Topology<Actions>) -> BTreeSet<String> {
    topology.facts().flat_map(|(_, facts)| &facts.private_kinds).cloned().collect()
}

/// The windows that have a `keep`: the metrics, the kind of windows, and for how long they are kept.
pub fn kept_windows(topology: &Topology<Actions>) -> impl Iterator<Item = (Vec<String>, WindowSpec, Duration)> {
    let aggregations = topology.facts().filter_map(|(_, facts)| facts.aggregation.as_deref());
    aggregations.flat_map(|Aggregation { values, windows, .. }| {
        let metrics: Vec<_> = values.iter().map(|value| value.metric.to_string()).collect();
        windows.iter().filter_map(move |window| Some((metrics.clone(), window.spec, window.keep?)))
    })
}

/// Every metric of a topology, by name.
pub fn metrics(topology: &Topology<Actions>) -> Vec<MetricSpec> {
    let mut metrics: Vec<_> = topology.facts().flat_map(|(_, facts)| &facts.metrics).cloned().collect();
    metrics.sort_by(|a, b| a.name.cmp(&b.name));
    metrics
}
