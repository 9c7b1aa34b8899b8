//! What the nodes of a topology count: seen from totals, from the door and from the read side.

use crate::counting::windows::Emit;
use crate::item::Actions;
use crate::node::board::merge::Merge;
use crate::node::count::Count;
use crate::node::toggle::Toggle;
use crate::node::unique::Unique;
use std::collections::BTreeSet;
use tally_streams::topology::{Blueprint, Topology};

/// How a metric comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A sum of changes.
    Sum,
    /// Distinct actors: exact up to 256, an estimate above.
    Unique,
}

/// A metric of subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricSpec {
    /// Its name.
    pub name: String,
    /// How it comes about.
    pub kind: MetricKind,
    /// The windows it is counted in besides all time, in ms.
    pub windows_ms: Vec<i64>,
    /// When the values of its windows are sent on.
    pub emit: Emit,
}

/// What a node counts; nothing where it does not.
pub(crate) fn metrics_of(blueprint: &dyn Blueprint<Actions>) -> Vec<MetricSpec> {
    let any = blueprint.as_any();
    if let Some(toggle) = any.downcast_ref::<Toggle>() {
        toggle.metrics()
    } else if let Some(count) = any.downcast_ref::<Count>() {
        vec![count.metric()]
    } else if let Some(unique) = any.downcast_ref::<Unique>() {
        vec![unique.metric()]
    } else {
        Vec::new()
    }
}

/// The types of events that a node names.
pub(crate) fn event_types_of(blueprint: &dyn Blueprint<Actions>) -> Vec<String> {
    let any = blueprint.as_any();
    if let Some(toggle) = any.downcast_ref::<Toggle>() {
        toggle.event_types()
    } else if let Some(count) = any.downcast_ref::<Count>() {
        vec![count.event_type()]
    } else if let Some(unique) = any.downcast_ref::<Unique>() {
        vec![unique.event_type()]
    } else {
        Vec::new()
    }
}

/// Those among them whose order the database gives out.
pub(crate) fn owned_types_of(blueprint: &dyn Blueprint<Actions>) -> Vec<String> {
    let toggle = blueprint.as_any().downcast_ref::<Toggle>().filter(|toggle| toggle.is_owned());
    toggle.map(Toggle::event_types).unwrap_or_default()
}

/// The toggle that the database owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedToggle {
    /// What it counts; its node has the same name.
    pub metric: String,
    /// The type of event that switches on.
    pub on: String,
    /// The type of event that switches off.
    pub off: String,
}

/// The toggle of a topology that the database owns. There is one table, so there is at most one.
pub fn owned_toggle(topology: &Topology<Actions>) -> Option<OwnedToggle> {
    let mut nodes = topology.subtopologies.iter().flat_map(|subtopology| &subtopology.nodes);
    nodes.find_map(|node| node.blueprint.as_any().downcast_ref::<Toggle>()?.owned())
}

/// The types of events that switch something on or off, in a topology.
pub fn switches(topology: &Topology<Actions>) -> BTreeSet<String> {
    let nodes = topology.subtopologies.iter().flat_map(|subtopology| &subtopology.nodes);
    let toggles = nodes.filter_map(|node| node.blueprint.as_any().downcast_ref::<Toggle>());
    toggles.flat_map(Toggle::event_types).collect()
}

/// The names of the boards that a node writes: that of all, and one for each group. Nothing where it writes none.
pub fn boards(blueprint: &dyn Blueprint<Actions>) -> Vec<String> {
    blueprint.as_any().downcast_ref::<Merge>().map(Merge::boards).unwrap_or_default()
}

/// Every metric of a topology, by name.
pub fn metrics(topology: &Topology<Actions>) -> Vec<MetricSpec> {
    let nodes = topology.subtopologies.iter().flat_map(|subtopology| &subtopology.nodes);
    let mut metrics: Vec<_> = nodes.flat_map(|node| metrics_of(node.blueprint.as_ref())).collect();
    metrics.sort_by(|a, b| a.name.cmp(&b.name));
    metrics
}

/// Every type of event that a topology counts.
pub fn event_types(topology: &Topology<Actions>) -> BTreeSet<String> {
    let nodes = topology.subtopologies.iter().flat_map(|subtopology| &subtopology.nodes);
    nodes.flat_map(|node| event_types_of(node.blueprint.as_ref())).collect()
}
