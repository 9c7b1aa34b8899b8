//! `type: aggregate`: values computed from events, per subject, for all time and in windows.
//!
//! This node decides what depends on the record: whether it counts, for which subjects, what it adds to each value, and
//! which windows are still open for it. It sends that as a [`Contribution`], which commutes with all others; the `total`
//! behind the hop adds contributions up and emits the values.

mod argument;
mod closed;
mod limit;
mod params;
mod subjects;
mod values;
mod windows;

use crate::counting::aggregation::{AggregateValue, Aggregation, CLOSED, Function, TOTAL};
use crate::counting::counted_metric::{Act, CountedMetric};
use crate::dataflow::Actions;
use crate::edge::EdgeType;
use crate::event_schema;
use crate::expression::{Expression, Schema, SubjectKind};
use crate::facts::{MetricSpec, NodeFacts};
use crate::item::{Action, Item};
use crate::mistake::Mistake;
use crate::subject_kinds;
use argument::Argument;
use limit::{Limit, Places, SubjectLimit, is_other};
use params::AggregateParams;
use std::sync::Arc;
use tally_model::{Contribution, Event, Partial, SessionRule, Slot, check_subject_id};
use tally_streams::processor::{Context, Processor, PunctuationType, Reject, Schedule};
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

const HOUR_MS: i64 = 3_600_000;

/// A checked `aggregate` node.
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
        vec![NamedOutput { name, value, sent_by: Some(TOTAL) }]
    }

    fn check(&self, site: &BuildSite<'_, Actions>) -> Result<(), Vec<ParamError>> {
        let mut errors = event_schema::check_types(site, &self.event_types);
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
        errors.extend(closed::check(&self.aggregation, self.limit.is_some(), site));
        errors.extend(subject_kinds::check(site));
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn build(&self, site: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        let Aggregation { node, values, windows, .. } = &*self.aggregation;
        let values = values.iter().zip(&self.arguments);
        Box::new(AggregateProcessor {
            node: node.clone(),
            condition: self.condition.clone(),
            subjects: self.subjects.clone(),
            values: values.map(|(value, argument)| (value.id(), value.clone(), argument.clone())).collect(),
            windows: windows.iter().map(|window| (window.id, window.session_rule())).collect(),
            scored: self.scored(site),
            limit: self.limit.map(|limit| SubjectLimit {
                limit,
                store: site.store(node),
                hash_seed: site.hash_seed,
                excess: 0,
            }),
            late: vec![0; windows.len()],
            aggregation: self.aggregation.clone(),
            hash_seed: site.hash_seed,
        })
    }
}

impl Aggregate {
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

    /// The values that boards rank by: those are sent to them as changes as well.
    fn scored(&self, site: &BuildSite<'_, Actions>) -> Vec<(usize, CountedMetric)> {
        let is_wanted = |value: &AggregateValue| {
            let mut wants = site.nodes.iter().flat_map(|(_, facts)| &facts.wants);
            wants.any(|want| want.metric == value.metric)
        };
        let values = self.aggregation.values.iter().enumerate().filter(|(_, value)| is_wanted(value));
        values.map(|(at, value)| (at, CountedMetric::new(value.metric.clone(), site))).collect()
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

struct AggregateProcessor {
    node: Arc<str>,
    aggregation: Arc<Aggregation>,
    condition: Option<Expression>,
    /// None is the event's own subject.
    subjects: Vec<Option<Expression>>,
    /// Id, value and argument.
    values: Vec<(u32, AggregateValue, Option<Argument>)>,
    /// Id, and how sessions are joined.
    windows: Vec<(u32, Option<SessionRule>)>,
    /// The values that boards rank by, by their places among the values.
    scored: Vec<(usize, CountedMetric)>,
    limit: Option<SubjectLimit>,
    /// By window, how many records came too late for it since the last commit.
    late: Vec<u64>,
    hash_seed: u64,
}

impl AggregateProcessor {
    /// The subjects that an event counts for, each once.
    fn subjects(&self, event: &Event) -> Result<Vec<Arc<str>>, Mistake> {
        let mut subjects: Vec<Arc<str>> = Vec::with_capacity(self.subjects.len());
        let mut add = |subject_id: Arc<str>| {
            if !subjects.contains(&subject_id) {
                subjects.push(subject_id);
            }
        };
        for subject in &self.subjects {
            let Some(expression) = subject else {
                add(event.subject_id.clone());
                continue;
            };
            for id in expression.texts(event).map_err(|mistake| mistake.of("subject"))? {
                if let Err(rule) = check_subject_id(&id) {
                    return Err(Mistake::new(format!("the subject {rule}"), format!("`{id}`")));
                }
                add(id.into());
            }
        }
        Ok(subjects)
    }

    /// What an event adds to each value in which it takes part.
    fn values(&self, context: &Context<'_, Actions>, action: &Action) -> Result<Vec<(u32, Partial)>, Mistake> {
        let origin = context.origin();
        let order = (action.effective_ms, origin.partition, origin.offset);
        let mut partials = Vec::with_capacity(self.values.len());
        for (id, value, argument) in &self.values {
            let partial = match argument {
                // It is computed from other values.
                _ if matches!(value.function, Function::Ratio(_)) => None,
                None => Some(Partial::Count(1)),
                Some(argument) => argument
                    .partial(value, &action.event, order, self.hash_seed)
                    .map_err(|mistake| mistake.of(&format!("values.{}", value.name())))?,
            };
            partials.extend(partial.map(|partial| (*id, partial)));
        }
        Ok(partials)
    }

    /// What an event adds to the scores of boards, by [`AggregateProcessor::scored`].
    fn deltas(&self, values: &[(u32, Partial)]) -> Result<Vec<i64>, Mistake> {
        let delta = |(at, _): &(usize, CountedMetric)| {
            let (id, value, _) = &self.values[*at];
            match values.iter().find(|(known, _)| known == id) {
                Some((_, Partial::Count(count))) => Ok(*count as i64),
                Some((_, Partial::Sum(sum))) => i32::try_from(*sum).map(i64::from).map_err(|_| {
                    let mistake = Mistake::new("must have at most 31 bits, since a board ranks by it", sum.to_string());
                    mistake.of(&format!("values.{}", value.name()))
                }),
                _ => Ok(0),
            }
        };
        self.scored.iter().map(delta).collect()
    }

    fn contribute(&mut self, context: &mut Context<'_, Actions>, action: &Action) -> Result<(), Mistake> {
        if let Some(condition) = &self.condition
            && !condition.test(&action.event).map_err(|mistake| mistake.of("where"))?
        {
            return Ok(());
        }
        let values = self.values(context, action)?;
        let subjects = self.subjects(&action.event)?;
        if subjects.is_empty() {
            return Ok(());
        }
        let deltas = self.deltas(&values)?;
        // Of an event that was held back this is the time of its release.
        let append_ms = context.clock_ms();
        let Aggregation { windows, grace_ms, .. } = &*self.aggregation;
        let mut slots = Vec::with_capacity(windows.len());
        for ((kind, late), (window, session)) in windows.iter().zip(&mut self.late).zip(&self.windows) {
            let (open, closed) = kind.open_for(action.effective_ms, append_ms, *grace_ms);
            *late += closed;
            let slot = |(from_ms, to_ms)| Slot { window: *window, from_ms, to_ms, session: *session };
            slots.extend(open.map(slot));
        }
        // A rejected event takes no place: from here on, nothing fails.
        let subjects = match &mut self.limit {
            Some(limit) => limit.admit(context, subjects),
            None => subjects,
        };
        for subject_id in subjects {
            // What stands for many subjects has no place on a board.
            let is_ranked = self.limit.is_none() || !is_other(&subject_id);
            for ((_, metric), delta) in self.scored.iter().zip(&deltas).filter(|_| is_ranked) {
                let (event, since_ms, delta) = (&action.event, action.effective_ms, *delta);
                metric.forward(context, &subject_id, &Act { event, since_ms, delta, group: metric.group_of(event) });
            }
            let (node, slots, values) = (self.node.clone(), slots.clone(), values.clone());
            context.forward(Item::Contribution(Contribution { subject_id, node, slots, values }));
        }
        Ok(())
    }
}

impl Processor<Actions> for AggregateProcessor {
    fn process(&mut self, context: &mut Context<'_, Actions>, item: &Item) -> Result<(), Reject<Item>> {
        let Some(action) = item.sent_event() else { return Ok(()) };
        self.contribute(context, action).map_err(|mistake| action.reject(context, &self.node, mistake))
    }

    fn schedules(&self) -> Vec<Schedule> {
        self.limit.iter().map(|_| Schedule { kind: PunctuationType::Clock, interval_ms: HOUR_MS }).collect()
    }

    fn punctuate(&mut self, context: &mut Context<'_, Actions>, _kind: PunctuationType, time_ms: i64) {
        if let Some(limit) = &self.limit {
            context.store(limit.store).expire(time_ms);
        }
    }

    fn discard(&mut self) {
        // What is done again is counted again.
        self.late.fill(0);
        if let Some(limit) = &mut self.limit {
            limit.excess = 0;
        }
    }

    fn take_late(&mut self) -> Vec<(Arc<str>, u64)> {
        let late = self.aggregation.windows.iter().zip(&mut self.late);
        let late = late.filter(|(_, count)| **count > 0);
        late.map(|(window, count)| (window.name.clone(), std::mem::take(count))).collect()
    }

    fn take_over_limit(&mut self) -> u64 {
        self.limit.as_mut().map_or(0, |limit| std::mem::take(&mut limit.excess))
    }
}
