//! `type: toggle`: like and unlike, follow and unfollow.
//!
//! Per (actor, subject) the greatest effective time wins, and the later in the log wins a tie. Only a change of state
//! counts: +1 or -1, and a retraction carries the minute of what it retracts. So counts are never negative and an old
//! event that arrives late flips nothing.

use crate::expression::Expression;
use crate::item::{Action, Actions, Item};
use crate::metric::{MetricKind, MetricSpec};
use crate::windows::Emit;
use serde::Deserialize;
use std::any::Any;
use std::sync::Arc;
use tally_model::{Change, ChangeBody, Reaction, VerdictKind, check_event_type, check_subject_id};
use tally_streams::processor::{Context, Processor, Reject};
use tally_streams::store::{Hash128, KeyValueStore, StoreHandle, StoreValue};
use tally_streams::topology::{Blueprint, BuildSite, ParamError, Params, StoreSpec};

/// What a subject expression may name: what `on` and `off` share, so that both find the same subject.
const SUBJECT_FIELDS: &[&str] = &["actor_id", "subject_id"];

/// The parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToggleParams {
    /// The type of event that switches on.
    pub on: String,
    /// The type of event that switches off.
    pub off: String,
    /// What is counted, and for which subject; by default the node's name for `subject_id`.
    #[serde(default)]
    pub counts: Option<Vec<CountParams>>,
}

/// One of the counts of a toggle.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountParams {
    /// The metric's name.
    pub metric: String,
    /// CEL over `actor_id` and `subject_id`: the subject that it counts for.
    pub subject: String,
}

/// A checked `toggle` node.
pub struct Toggle {
    node: String,
    on: String,
    off: String,
    counts: Vec<Counted>,
}

#[derive(Clone)]
struct Counted {
    metric: Arc<str>,
    /// None is the event's own subject.
    subject: Option<Expression>,
}

/// For the registry.
pub fn parse(node: &str, params: &Params) -> Result<Box<dyn Blueprint<Actions>>, Vec<ParamError>> {
    let ToggleParams { on, off, counts } = params.parse()?;
    let mut errors = Vec::new();
    for (path, event_type) in [("on", &on), ("off", &off)] {
        if let Err(rule) = check_event_type(event_type) {
            errors.push(ParamError::new(path, rule));
        }
    }
    if on == off {
        errors.push(ParamError::new("off", "must differ from `on`"));
    }
    let counts =
        counts.unwrap_or_else(|| vec![CountParams { metric: node.to_owned(), subject: "subject_id".to_owned() }]);
    if counts.is_empty() {
        errors.push(ParamError::new("counts", "needs at least one count"));
    }
    let mut counted = Vec::new();
    for (i, CountParams { metric, subject }) in counts.iter().enumerate() {
        if let Err(rule) = check_event_type(metric) {
            errors.push(ParamError::new(format!("counts[{i}].metric"), rule));
        }
        let subject = match subject.trim() {
            "subject_id" => Ok(None),
            source => Expression::compile(source, SUBJECT_FIELDS).map(Some),
        };
        match subject {
            Ok(subject) => counted.push(Counted { metric: metric.as_str().into(), subject }),
            Err(e) => errors.push(ParamError::new(format!("counts[{i}].subject"), e)),
        }
    }
    match errors.is_empty() {
        true => Ok(Box::new(Toggle { node: node.to_owned(), on, off, counts: counted })),
        false => Err(errors),
    }
}

impl Toggle {
    pub(crate) fn metrics(&self) -> Vec<MetricSpec> {
        let metric = |counted: &Counted| MetricSpec {
            name: counted.metric.to_string(),
            kind: MetricKind::Sum,
            windows_ms: Vec::new(),
            emit: Emit::default(),
        };
        self.counts.iter().map(metric).collect()
    }

    pub(crate) fn event_types(&self) -> Vec<String> {
        vec![self.on.clone(), self.off.clone()]
    }

    pub(crate) fn takes(&self, event_type: &str) -> bool {
        self.on == event_type || self.off == event_type
    }
}

impl Blueprint<Actions> for Toggle {
    fn stores(&self) -> Vec<StoreSpec> {
        vec![StoreSpec {
            name: self.node.clone(),
            kind: "key-value",
            schema_version: 1,
            windows: Vec::new(),
            make: Switches::make,
        }]
    }

    fn build(&self, site: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        Box::new(ToggleProcessor {
            node: self.node.clone(),
            on: self.on.clone(),
            off: self.off.clone(),
            counts: self.counts.clone(),
            switches: site.store(&self.node),
            hash_seed: site.hash_seed,
            late_after_ms: site.settings.late_after.as_millis() as i64,
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The state per (actor, subject).
type Switches = KeyValueStore<Hash128, Switch>;

#[derive(Clone, Debug, PartialEq)]
struct Switch {
    active: bool,
    /// The greatest effective time so far.
    time_ms: i64,
    /// The effective time of the event that switched it on last.
    since_ms: i64,
}

impl StoreValue for Switch {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.active));
        out.extend_from_slice(&self.time_ms.to_le_bytes());
        out.extend_from_slice(&self.since_ms.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (active, rest) = bytes.split_first()?;
        let (time, since) = rest.split_first_chunk::<8>()?;
        let time_ms = i64::from_le_bytes(*time);
        Some(Self { active: *active == 1, time_ms, since_ms: i64::from_le_bytes(since.try_into().ok()?) })
    }
}

struct ToggleProcessor {
    node: String,
    on: String,
    off: String,
    counts: Vec<Counted>,
    switches: StoreHandle<Switches>,
    hash_seed: u64,
    late_after_ms: i64,
}

impl ToggleProcessor {
    /// The subjects of all counts, before anything is changed: one that is invalid takes the event out as a whole.
    fn subjects(&self, context: &Context<'_, Actions>, action: &Action) -> Result<Vec<Arc<str>>, Reject<Item>> {
        let subject = |counted: &Counted| {
            let Some(expression) = &counted.subject else { return Ok(action.event.subject_id.clone()) };
            let subject = expression.text(&action.event)?;
            match check_subject_id(&subject) {
                Ok(()) => Ok(subject.into()),
                Err(rule) => Err(format!("the subject `{subject}` {rule}")),
            }
        };
        self.counts
            .iter()
            .map(|counted| {
                subject(counted).map_err(|reason| {
                    let reason = format!("count `{}`: {reason}", counted.metric);
                    let verdict = action.verdict(context, VerdictKind::Dead, &self.node, reason.clone());
                    Reject { reason, verdict: Some(Box::new(verdict)) }
                })
            })
            .collect()
    }
}

impl Processor<Actions> for ToggleProcessor {
    fn process(&mut self, context: &mut Context<'_, Actions>, item: &Item) -> Result<(), Reject<Item>> {
        let Item::Event(action) = item else { return Ok(()) };
        let (event, time_ms) = (&action.event, action.effective_ms);
        let active = *event.event_type == *self.on;
        if !active && *event.event_type != *self.off {
            return Ok(());
        }
        let subjects = self.subjects(context, action)?;
        let key = Hash128::of(self.hash_seed, &[event.actor_id.as_bytes(), event.subject_id.as_bytes()]);
        let before = context.store(self.switches).get(&key).cloned();
        if before.as_ref().is_some_and(|before| time_ms < before.time_ms) {
            return Ok(());
        }
        let (was_active, since_ms) = before.map_or((false, time_ms), |before| (before.active, before.since_ms));
        let since_ms = if active && !was_active { time_ms } else { since_ms };
        context.store(self.switches).put(&key, Switch { active, time_ms, since_ms });
        if active == was_active {
            return Ok(());
        }
        let (append_time_ms, clock_ms) = (context.origin().append_time_ms, context.clock_ms());
        for (counted, subject_id) in self.counts.iter().zip(subjects) {
            let body = ChangeBody::Delta {
                minute: since_ms.div_euclid(60_000),
                total_only: clock_ms - since_ms > self.late_after_ms,
                delta: if active { 1 } else { -1 },
            };
            context.forward(Item::Change(Change { subject_id, metric: counted.metric.clone(), body }));
        }
        let version = context.version();
        context.forward(Item::Reaction(Reaction {
            actor_id: event.actor_id.to_string(),
            metric: self.node.clone(),
            subject_id: event.subject_id.to_string(),
            active,
            occurred_at_ms: time_ms,
            appended_at_ms: append_time_ms,
            version,
        }));
        Ok(())
    }
}
