//! The events that reach a node: their types, and the properties that they have by then.

use crate::counting::aggregation::{AggregateValue, Aggregation, CLOSED, Function, WINDOW_END, WINDOW_START};
use crate::dataflow::Actions;
use crate::expression::{Expression, Properties, Property, Schema, Type};
use std::collections::BTreeMap;
use std::sync::Arc;
use tally_model::{EventDeclaration, MetricValue, PropertyKind, PropertyType, ValueType};
use tally_streams::topology::{BuildSite, ParamError, Read};

/// Checks the parameter `where` of a node against the events that it takes.
pub fn check_condition(schema: &Schema, condition: Option<&Expression>) -> Vec<ParamError> {
    check(schema, None, condition.map(|condition| ("where".to_owned(), condition)))
}

/// Checks expressions of a node, by their parameters, against the events that it takes and for which the condition holds.
pub fn check<'e>(
    schema: &Schema,
    condition: Option<&Expression>,
    expressions: impl IntoIterator<Item = (String, &'e Expression)>,
) -> Vec<ParamError> {
    let faults = expressions.into_iter().flat_map(|(path, expression)| {
        let faults = expression.check_where(schema, condition).err().unwrap_or_default();
        faults.into_iter().map(move |fault| fault.in_param(&path))
    });
    faults.collect()
}

/// Reports types in the parameter `events` that never reach the node.
pub fn check_types(site: &BuildSite<'_, Actions>, events: &[String]) -> Vec<ParamError> {
    check_reach(site, events.iter().enumerate().map(|(i, name)| (format!("events[{i}]"), name)))
}

/// Reports event types, by the parameters that name them, that never reach the node.
pub fn check_reach<'n>(
    site: &BuildSite<'_, Actions>,
    named: impl IntoIterator<Item = (String, &'n String)>,
) -> Vec<ParamError> {
    let Some(at) = site.place() else { return Vec::new() };
    let sent = Walk::new(site).sent_to(at);
    let sent: Vec<&str> = sent.types().collect();
    let unreached = named.into_iter().filter(|(_, name)| !sent.contains(&name.as_str()));
    let error = |(path, name): (String, &String)| {
        let error = ParamError::new(path, format!("events of the type `{name}` do not reach this node"));
        error.with_help(format!("its inputs pass on: {}", sent.join(", ")))
    };
    unreached.map(error).collect()
}

/// The events that a node takes.
pub fn reaching(site: &BuildSite<'_, Actions>) -> Schema {
    site.place().map(|at| Walk::new(site).taken_by(at)).unwrap_or_default()
}

/// The most decimals that a property of these events is declared with; None where it is no `decimal`, or a node sets it.
pub fn declared_decimals(site: &BuildSite<'_, Actions>, schema: &Schema, property: &str) -> Option<u8> {
    if site.nodes.iter().any(|(_, facts)| facts.derived.iter().any(|derived| derived.name == property)) {
        return None;
    }
    let declared = schema.types().filter_map(|name| site.declarations.get(name)?.properties.as_ref()?.get(property));
    let decimals = declared.filter_map(|declared| match declared.kind {
        PropertyKind::Decimal(decimals) => Some(decimals),
        PropertyKind::Int | PropertyKind::Float | PropertyKind::Text | PropertyKind::Bool => None,
    });
    decimals.max()
}

/// The node whose closed windows are read there.
fn closed<'a>(site: &BuildSite<'a, Actions>, read: &Read<'_>) -> Option<&'a Arc<Aggregation>> {
    site.nodes[read.node].1.aggregation.as_ref().filter(|_| read.output == Some(CLOSED))
}

/// Whether closed windows are read there.
pub fn gives_closed(site: &BuildSite<'_, Actions>, read: &Read<'_>) -> bool {
    closed(site, read).is_some()
}

/// The nodes whose closed windows reach a node without another one that closes windows in between; none where it takes
/// events that were sent.
pub fn closed_before<'a>(site: &BuildSite<'a, Actions>, node: usize) -> Vec<&'a Aggregation> {
    let before = site.reads[node].iter().flat_map(|read| match closed(site, read) {
        Some(aggregation) => vec![&**aggregation],
        None => closed_before(site, read.node),
    });
    before.collect()
}

/// Reports that a node which takes only events that were sent reads closed windows.
pub fn refuse_closed(site: &BuildSite<'_, Actions>) -> Vec<ParamError> {
    let closed = site.place().and_then(|at| closed_before(site, at).first().map(|closed| closed.closed_name()));
    let error = |name: String| {
        let message = format!("takes events that were sent, and `{name}` gives closed windows");
        ParamError::new("", message).with_help("filter, derive, route and aggregate take closed windows")
    };
    closed.map(error).into_iter().collect()
}

/// The properties of the closed windows of a node.
fn closed_windows(aggregation: &Aggregation) -> Schema {
    let value = |value: &AggregateValue| {
        let kind = match (value.function, value.value_type()) {
            (Function::First | Function::Last, _) => Type::Any,
            (_, ValueType::Integer) => Type::Int,
            (_, ValueType::Decimal { .. }) => Type::Float,
            (_, ValueType::Text) => Type::Text,
        };
        let optional = value.kind().of_nothing() == MetricValue::Null;
        (value.name().to_owned(), Property { kind, optional })
    };
    let time = |name: &str| (name.to_owned(), Property { kind: Type::Int, optional: false });
    let properties = aggregation.values.iter().map(value).chain([WINDOW_START, WINDOW_END].map(time));
    Schema::new(BTreeMap::from([(aggregation.closed_name(), Some(properties.collect()))]))
}

/// A walk from a node to the root; what a node passes on is found once.
struct Walk<'a, 'b> {
    site: &'a BuildSite<'b, Actions>,
    passed_on: BTreeMap<usize, Schema>,
}

impl<'a, 'b> Walk<'a, 'b> {
    fn new(site: &'a BuildSite<'b, Actions>) -> Self {
        Self { site, passed_on: BTreeMap::new() }
    }

    fn sent_to(&mut self, node: usize) -> Schema {
        let reads = self.site.reads[node].clone();
        let read = reads.into_iter().map(|read| match closed(self.site, &read) {
            Some(aggregation) => closed_windows(aggregation),
            None => self.passed_on_by(read.node),
        });
        let read = read.reduce(Schema::or);
        read.unwrap_or_else(|| {
            let properties = |kind: &String| self.site.declarations.get(kind).and_then(properties_of);
            Schema::new(self.site.kinds.iter().map(|kind| (kind.clone(), properties(kind))).collect())
        })
    }

    fn taken_by(&mut self, node: usize) -> Schema {
        self.sent_to(node).of_types(&self.site.nodes[node].1.event_types)
    }

    fn passed_on_by(&mut self, node: usize) -> Schema {
        if let Some(known) = self.passed_on.get(&node) {
            return known.clone();
        }
        let taken = self.taken_by(node);
        let passes = self.site.nodes[node].1.passes.as_ref();
        let mut schema = passes.map_or_else(|| taken.clone(), |condition| condition.passed(&taken));
        for derived in &self.site.nodes[node].1.derived {
            // A mistake in the expression is reported at its own node.
            let property = derived.value.check(&taken).unwrap_or(Property { kind: Type::Any, optional: false });
            schema.derive(&derived.name, property);
        }
        self.passed_on.insert(node, schema.clone());
        schema
    }
}

fn properties_of(declaration: &EventDeclaration) -> Properties {
    let property = |(name, declared): (&String, &PropertyType)| {
        let kind = match declared.kind {
            PropertyKind::Int => Type::Int,
            PropertyKind::Decimal(_) | PropertyKind::Float => Type::Float,
            PropertyKind::Text => Type::Text,
            PropertyKind::Bool => Type::Bool,
        };
        (name.clone(), Property { kind, optional: declared.optional })
    };
    declaration.properties.as_ref().map(|properties| properties.iter().map(property).collect())
}
