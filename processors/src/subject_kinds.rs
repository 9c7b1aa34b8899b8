//! The kinds of subjects that nodes count. A record of `counters` is all that there is of a subject, so a subject has one
//! `total`. What is computed from closed windows goes to another `total` than what is computed from events: their subjects
//! must be of different kinds.

use crate::dataflow::Actions;
use crate::event_schema::gives_closed;
use crate::expression::SubjectKind;
use crate::facts::NodeFacts;
use std::collections::BTreeSet;
use tally_streams::topology::{BuildSite, ParamError};

/// Kinds of subjects.
#[derive(Clone, Debug, PartialEq)]
enum Kinds {
    /// Those of events that are sent, which may be any.
    Any,
    /// These.
    Named(BTreeSet<String>),
}

impl Kinds {
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Named(mut kinds), Self::Named(others)) => {
                kinds.extend(others);
                Self::Named(kinds)
            }
            _ => Self::Any,
        }
    }

    /// What both have, for a message; None where they have nothing in common.
    fn shared(&self, other: &Self) -> Option<String> {
        let kind = match (self, other) {
            (Self::Any, Self::Any) => return Some("any subject".to_owned()),
            (Self::Named(kinds), Self::Any) | (Self::Any, Self::Named(kinds)) => kinds.first()?,
            (Self::Named(kinds), Self::Named(others)) => kinds.intersection(others).next()?,
        };
        Some(format!("a subject of the kind `{kind}`"))
    }
}

/// Reports nodes with totals of subjects that this node counts as well, for another `total`.
pub fn check(site: &BuildSite<'_, Actions>) -> Vec<ParamError> {
    let Some(at) = site.place() else { return Vec::new() };
    let level = level(site, at);
    let has_totals = |facts: &NodeFacts| {
        !facts.metrics.is_empty() && facts.aggregation.as_ref().is_none_or(|aggregation| aggregation.totals)
    };
    if level == 0 || !has_totals(site.nodes[at].1) {
        return Vec::new();
    }
    let kinds = counted_by(site, at);
    // Of two nodes, the one behind more closed windows reports.
    let others =
        (0..site.nodes.len()).filter(|other| has_totals(site.nodes[*other].1) && self::level(site, *other) < level);
    let error = |other: usize| {
        let shared = kinds.shared(&counted_by(site, other))?;
        let (name, node) = (site.nodes[other].0, site.node);
        let message = format!(
            "`{name}` and `{node}` may both count {shared}, whose totals two nodes of type `total` would write"
        );
        Some(ParamError::new("", message).with_help("`totals: false` at one of them, or another kind of subjects"))
    };
    others.filter_map(error).collect()
}

/// How many times windows close between the events that are sent and a node.
fn level(site: &BuildSite<'_, Actions>, node: usize) -> usize {
    let of_read = site.reads[node].iter().map(|read| level(site, read.node) + usize::from(gives_closed(site, read)));
    of_read.max().unwrap_or(0)
}

/// The kinds of the subjects that a node counts for, or that the events have which it passes on.
fn counted_by(site: &BuildSite<'_, Actions>, node: usize) -> Kinds {
    let Some(kinds) = &site.nodes[node].1.subject_kinds else { return taken_by(site, node) };
    let of = |kind: &SubjectKind| match kind {
        SubjectKind::Literal(kind) => Kinds::Named(BTreeSet::from([kind.clone()])),
        SubjectKind::Own => taken_by(site, node),
    };
    kinds.iter().map(of).reduce(Kinds::or).unwrap_or_else(|| Kinds::Named(BTreeSet::new()))
}

/// The kinds of the subjects of the events that a node takes.
fn taken_by(site: &BuildSite<'_, Actions>, node: usize) -> Kinds {
    let read = site.reads[node].iter().map(|read| counted_by(site, read.node));
    read.reduce(Kinds::or).unwrap_or(Kinds::Any)
}
