//! `type: aggregate`: values computed from events, per subject, for all time and in windows.
//!
//! This node decides what depends on the record: whether it counts, for which subjects, what it adds to each value, and
//! which windows are still open for it. It sends that as a [`Contribution`](tally_model::Contribution), which commutes with
//! all others; the `total` behind the hop adds contributions up and emits the values.
//!
//! [`count`] and [`unique`] are short forms. What differs by their older formats is said in
//! [`Form`](crate::counting::aggregation::Form).

mod argument;
mod closed;
pub mod count;
mod limit;
mod params;
mod processor;
mod short;
mod subjects;
pub mod unique;
mod values;
mod windows;

use crate::counting::aggregation::{AggregateValue, Aggregation, CLOSED, Form, Function, TOTAL};
use crate::counting::counted_metric::CountedMetric;
use crate::dataflow::Actions;
use crate::edge::EdgeType;
use crate::event_schema;
use crate::expression::{Expression, Schema, SubjectKind};
use crate::facts::{MetricSpec, NodeFacts};
use crate::subject_kinds;
use argument::Argument;
use limit::{Limit, Places, SubjectLimit};
use params::AggregateParams;
use processor::{AggregateProcessor, Parts};
use std::sync::Arc;
use tally_streams::processor::Processor;
use tally_streams::topology::{Blueprint, BuildSite, NamedOutput, NodeType, ParamError, Params, Parsed, StoreSpec};

/// The node type.
pub const NODE_TYPE: NodeType<Actions> = NodeType {
    name: "aggregate",
    about: "computes values from events, such as sums, quantiles and distinct counts, for all time and in windows",
    input: EdgeType::Event.name(),
    outputs: &[EdgeType::Change.name(), EdgeType::Verdict.name()],
    key: None,
    partitions: None,
    then: None,
    params: AggregateParams::specs,
    parse,
};

/// A checked `aggregate` node, or a short form of it.
pub struct Aggregate {
    aggregation: Arc<Aggregation>,
    event_types: Vec<String>,
    condition: Option<Expression>,
    /// None is the event's own subject.
    subjects: Vec<Option<Expression>>,
    /// How many subjects each task takes; None for any number.
    limit: Option<Limit>,
    /// The kinds of the subjects, if they are private.
    private_kinds: Vec<String>,
    /// The argument of each value; none for a number of events, and for a ratio.
    arguments: Vec<Option<Argument>>,
}

fn parse(node: &str, params: &Params) -> Parsed<Actions> {
    params.parse::<AggregateParams>()?.check(node).map(|aggregate| Box::new(aggregate) as _)
}

impl Blueprint<Actions> for Aggregate {
    fn facts(&self) -> NodeFacts {
        let windows: Vec<_> = self.aggregation.windows.iter().map(|window| window.spec).collect();
        let metric = |value: &AggregateValue| MetricSpec {
            name: value.metric.to_string(),
            kind: value.kind(),
            value: value.value_type(),
            totals: self.aggregation.totals,
            windows: windows.clone(),
            emit: self.aggregation.emit,
        };
        NodeFacts {
            metrics: self.aggregation.values.iter().map(metric).collect(),
            takes_declared: self.event_types.is_empty(),
            event_types: self.event_types.clone(),
            aggregation: Some(self.aggregation.clone()),
            private_kinds: self.private_kinds.clone(),
            subject_kinds: Some(self.subject_kinds()),
            ..NodeFacts::default()
        }
    }

    fn stores(&self) -> Vec<StoreSpec> {
        let name = self.aggregation.node.to_string();
        let places = StoreSpec { name, kind: "window", schema_version: 1, windows: Vec::new(), make: Places::make };
        self.limit.map(|_| places).into_iter().collect()
    }

    fn named_outputs(&self) -> Vec<NamedOutput> {
        let (name, value) = (CLOSED.to_owned(), EdgeType::Event.name());
        let closed = NamedOutput { name, value, sent_by: Some(TOTAL) };
        (self.aggregation.form == Form::Values).then_some(closed).into_iter().collect()
    }

    fn check(&self, site: &BuildSite<'_, Actions>) -> Result<(), Vec<ParamError>> {
        let mut errors = self.check_types(site);
        let (schema, condition) = (event_schema::reaching(site), self.condition.as_ref());
        errors.extend(event_schema::check_condition(&schema, condition));
        errors.extend(event_schema::check(&schema, condition, self.subject_expressions()));
        for (value, argument) in self.aggregation.values.iter().zip(&self.arguments) {
            let Some(argument) = argument else { continue };
            let path = format!("values.{}.{}", value.name(), value.function.name());
            let faults = event_schema::check(&schema, condition, [(path, argument.expression())]).into_iter();
            errors.extend(faults.map(|fault| match argument.property() {
                Some(_) => ParamError { within: None, ..fault },
                None => fault,
            }));
            errors.extend(check_scale(site, &schema, value, argument));
        }
        if self.aggregation.form == Form::Values {
            errors.extend(closed::check(&self.aggregation, self.limit.is_some(), site));
        }
        errors.extend(subject_kinds::check(site));
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn build(&self, site: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        let aggregation = self.aggregation.placed(site);
        let ids = aggregation.values.iter().map(AggregateValue::id);
        Box::new(AggregateProcessor {
            condition: self.condition.clone(),
            subjects: self.subjects.clone(),
            arguments: ids.zip(self.arguments.iter().cloned()).collect(),
            changes: self.changes(site),
            limit: self.limit.map(|limit| SubjectLimit {
                limit,
                store: site.store(&aggregation.node),
                hash_seed: site.hash_seed,
                excess: 0,
            }),
            late: vec![0; aggregation.windows.len()],
            hash_seed: site.hash_seed,
            parts: Parts::default(),
            aggregation,
        })
    }
}

impl Aggregate {
    /// A short form takes one type of events, and only events that were sent.
    fn check_types(&self, site: &BuildSite<'_, Actions>) -> Vec<ParamError> {
        let closed = match self.aggregation.form {
            Form::Values => return event_schema::check_types(site, &self.event_types),
            Form::Short => event_schema::refuse_closed(site),
        };
        if closed.is_empty() {
            event_schema::check_reach(site, self.event_types.iter().map(|event| ("event".to_owned(), event)))
        } else {
            closed
        }
    }

    /// Where it counts for the event's own subject, that is one of them.
    fn subject_kinds(&self) -> Vec<SubjectKind> {
        subjects::kinds(&self.subjects)
    }

    /// The expressions of subjects, each with its parameter.
    fn subject_expressions(&self) -> impl Iterator<Item = (String, &Expression)> {
        let several = self.subjects.len() > 1;
        let subject = move |(i, subject)| {
            let path = if several { format!("subject[{i}]") } else { "subject".to_owned() };
            Option::<&Expression>::map(subject, |subject| (path, subject))
        };
        self.subjects.iter().map(Option::as_ref).enumerate().filter_map(subject)
    }

    /// The values that are sent as changes, by their places: all of a short form, and those that boards rank by.
    fn changes(&self, site: &BuildSite<'_, Actions>) -> Vec<(usize, CountedMetric)> {
        let Aggregation { values, form, .. } = &*self.aggregation;
        let is_wanted = |value: &AggregateValue| {
            let mut wants = site.nodes.iter().flat_map(|(_, facts)| &facts.wants);
            wants.any(|want| want.metric == value.metric)
        };
        let sent = values.iter().enumerate().filter(|(_, value)| *form == Form::Short || is_wanted(value));
        sent.map(|(at, value)| (at, CountedMetric::new(value.metric.clone(), site))).collect()
    }
}

/// A value must hold the decimals that its property is declared with.
fn check_scale(
    site: &BuildSite<'_, Actions>,
    schema: &Schema,
    value: &AggregateValue,
    argument: &Argument,
) -> Option<ParamError> {
    let property = argument.property().filter(|_| value.function != Function::Distinct)?;
    let decimals =
        event_schema::declared_decimals(site, schema, property).filter(|decimals| *decimals > value.scale)?;
    let message = format!("`{property}` is declared with {decimals} decimals, and the value has {}", value.scale);
    Some(ParamError::new(format!("values.{}", value.name()), message).with_help(format!("`scale: {decimals}`")))
}
