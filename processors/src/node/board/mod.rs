//! `type: board`: the subjects with the highest scores, exactly.
//!
//! Each board node compiles to two processors. Beside the totals, [`subjects`] keeps the score of every subject of its
//! partition and forwards the top whenever it has changed. Behind a second hop, [`merge`] combines the tops of all
//! partitions into one board.

mod actors;
mod decay;
mod merge;
mod params;
mod sent;
mod slots;
#[cfg(test)]
mod slots_tests;
mod subjects;

use crate::counting::counted_metric::group_tag;
use crate::dataflow::Actions;
use crate::edge::EdgeType;
use crate::facts::{Groups, MetricKind, MetricSpec, MetricWant, NodeFacts};
use params::{BoardParams, Rules};
use sent::{Sent, sent_name};
use slots::Aging;
use std::sync::Arc;
use subjects::{Scores, SubjectBoard};
use tally_model::ValueType;
use tally_streams::processor::Processor;
use tally_streams::topology::{Blueprint, BuildSite, NodeType, ParamError, Params, Parsed, StoreSpec, suggest};

/// The node type.
pub const NODE_TYPE: NodeType<Actions> = NodeType {
    name: "board",
    about: "ranks subjects by a weighted score that decays, or that counts within a window",
    input: EdgeType::Change.name(),
    outputs: &[EdgeType::Top.name()],
    key: Some("subject_id"),
    partitions: None,
    then: Some(&merge::NODE_TYPE),
    params: BoardParams::specs,
    parse,
};

/// A checked `board` node.
pub struct Board {
    node: String,
    rules: Arc<Rules>,
    /// See [`decay::weights`]; empty without a half-life.
    decay: Arc<[u64]>,
}

fn parse(node: &str, params: &Params) -> Parsed<Actions> {
    let rules = Rules::new(params.parse::<BoardParams>()?)?;
    let decay = match rules.scoring.aging {
        Aging::HalfLife => decay::weights(rules.slot_minutes as u64),
        Aging::Window { .. } | Aging::Trend { .. } => Arc::new([]),
    };
    Ok(Box::new(Board { node: node.to_owned(), rules: Arc::new(rules), decay }))
}

impl Board {
    fn check_metric(&self, name: &str, site: &BuildSite<'_, Actions>) -> Option<ParamError> {
        let counts = |(_, facts): &&(&str, &NodeFacts)| facts.metrics.iter().any(|metric| metric.name == name);
        let mut all = site.nodes.iter().filter(counts);
        let error = |message: String| ParamError::new(format!("score.{name}"), message);
        let Some((node, facts)) = site.inputs.iter().find(counts) else {
            let help = match all.next() {
                Some((node, _)) => Some(format!("`{node}` does: `from: […, {node}]`")),
                None => suggest(name, input_metrics(site).map(|metric| metric.name.as_str()), "metrics"),
            };
            let error = error(format!("no node in `from` counts `{name}`"));
            return Some(ParamError { help, ..error });
        };
        if let Some((other, _)) = all.find(|(other, _)| other != node) {
            return Some(error(format!("`{node}` and `{other}` both count `{name}`")));
        }
        let metric = facts.metrics.iter().find(|metric| metric.name == name)?;
        if metric.kind != MetricKind::Unique && (metric.kind, metric.value) != (MetricKind::Sum, ValueType::Integer) {
            let message = format!("`{name}` is neither a count nor a sum of whole numbers; a board adds up changes");
            return Some(error(message));
        }
        if !facts.private_kinds.is_empty() {
            return Some(error(format!("`{node}` is private: its subjects have no place on boards")));
        }
        let unique = metric.kind == MetricKind::Unique;
        unique.then(|| error(format!("`{name}` counts distinct actors; a board adds up changes")))
    }

    /// A counting node stores one group.
    fn check_groups(&self, Groups { property, values }: &Groups, site: &BuildSite<'_, Actions>) -> Option<ParamError> {
        let wants = || site.nodes.iter().flat_map(|(node, facts)| facts.wants.iter().map(move |want| (node, want)));
        let mut of_inputs =
            input_metrics(site).flat_map(|metric| wants().filter(|(_, want)| *want.metric == metric.name));
        of_inputs.find_map(|(node, MetricWant { metric, groups, .. })| {
            let groups = groups.as_ref()?;
            if groups.property != *property {
                let message = format!("`{node}` groups `{metric}` by `properties.{}`", groups.property);
                let help = "what is counted remembers one group: take the same property, or another metric";
                return Some(ParamError::new("group", message).with_help(help));
            }
            let same = |value: &&String| groups.values.iter().any(|v| v != *value && group_tag(v) == group_tag(value));
            let value = values.iter().find(same)?;
            Some(ParamError::new("groups", format!("`{value}` and a value of `{node}` share a hash: rename one")))
        })
    }
}

/// The metrics of the nodes in `from`.
fn input_metrics<'a>(site: &'a BuildSite<'_, Actions>) -> impl Iterator<Item = &'a MetricSpec> {
    site.inputs.iter().flat_map(|(_, facts)| &facts.metrics)
}

impl Blueprint<Actions> for Board {
    fn facts(&self) -> NodeFacts {
        let Rules { weights, scoring, groups, .. } = &*self.rules;
        let want = |(metric, _): &(Arc<str>, i64)| MetricWant {
            metric: metric.clone(),
            actors: scoring.actors_min > 0,
            groups: groups.clone(),
        };
        NodeFacts { wants: weights.iter().map(want).collect(), ..NodeFacts::default() }
    }

    fn stores(&self) -> Vec<StoreSpec> {
        let scores = (self.node.clone(), "ranked", self.rules.windows(), Scores::make as fn() -> _);
        let sent = (sent_name(&self.node), "key-value", Vec::new(), Sent::make as fn() -> _);
        let spec = |(name, kind, windows, make)| StoreSpec { name, kind, schema_version: 1, windows, make };
        [scores, sent].map(spec).into()
    }

    fn check(&self, site: &BuildSite<'_, Actions>) -> Result<(), Vec<ParamError>> {
        let names = || self.rules.weights.iter().map(|(name, _)| &**name);
        let mut errors: Vec<_> = names().filter_map(|name| self.check_metric(name, site)).collect();
        if errors.is_empty() {
            let idle =
                site.inputs.iter().filter(|(_, facts)| names().all(|n| facts.metrics.iter().all(|m| m.name != n)));
            let error = |(node, _): &(&str, &NodeFacts)| {
                let message = format!("reads `{node}`, and `score` has nothing that it counts");
                ParamError::new("", message).with_help("give it a weight, or take it out of `from`")
            };
            errors.extend(idle.map(error));
        }
        for (i, kind) in self.rules.kinds.iter().flatten().enumerate() {
            let private = site.nodes.iter().find(|(_, facts)| facts.private_kinds.contains(kind));
            errors.extend(private.map(|(node, _)| {
                let message = format!("`{node}` makes subjects of kind `{kind}` private: they have no place on boards");
                ParamError::new(format!("kinds[{i}]"), message)
            }));
        }
        errors.extend(self.rules.groups.as_ref().and_then(|groups| self.check_groups(groups, site)));
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn build(&self, site: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        Box::new(SubjectBoard::new(self.rules.clone(), self.decay.clone(), site))
    }
}
