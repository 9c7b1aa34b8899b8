//! `type: toggle`: like and unlike, follow and unfollow.
//!
//! Per (actor, subject) the greatest effective time wins, the later in the log if equal. Only a change of state counts:
//! +1 or -1, and a retraction carries the minute of the event that it retracts. So counts are never negative, and a
//! late event cannot overwrite a newer state.
//!
//! With `owner: database` the API's transaction keeps the state in a table of its own, and assigns each change a number
//! under the row's lock. That number is then the order, and no reactions are emitted.

use crate::counting::counted_metric::{Act, CountedMetric};
use crate::dataflow::Actions;
use crate::edge::EdgeType;
use crate::event_schema;
use crate::event_types::EventTypes;
use crate::expression::{Expression, Wanted};
use crate::facts::{Emit, MetricKind, MetricSpec, NodeFacts, ToggleFacts};
use crate::item::{Action, Item};
use crate::mistake::Mistake;
use crate::params::{one_of, params};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tally_model::{Reaction, ValueType, check_event_type, check_subject_id};
use tally_streams::processor::{Context, Processor, Reject};
use tally_streams::store::{Hash128, KeyValueStore, StoreHandle, StoreValue};
use tally_streams::topology::{Blueprint, BuildSite, NodeType, ParamError, Params, Parsed, StoreSpec};

/// The node type.
pub const NODE_TYPE: NodeType<Actions> = NodeType {
    name: "toggle",
    about: "keeps a state per actor and subject, such as a like, and counts its changes",
    input: EdgeType::Event.name(),
    outputs: &[EdgeType::Change.name(), EdgeType::Reaction.name(), EdgeType::Verdict.name()],
    key: None,
    partitions: None,
    then: None,
    params: ToggleParams::specs,
    parse,
};

/// Fields that a subject expression may use: those that `on` and `off` share, so that both give the same subject.
const SUBJECT_FIELDS: &[&str] = &["actor_id", "subject_id"];

params! {
    /// Parameters of `type: toggle`.
    pub struct ToggleParams {
        /// Type of the events that switch on.
        #[param("event type")]
        pub on: String,
        /// Type of the events that switch off. Not the same as `on`.
        #[param("event type")]
        pub off: String,
        /// Metrics to count, each for a subject. At least one; not with `owner`.
        #[param("list of counts", default = "`[{ metric: <node>, subject: subject_id }]`", each = CountParams)]
        pub counts: Option<Vec<CountParams>>,
        /// Owner of the state. `database`: a transaction of the API, whose outbox is then the only source of these events.
        #[param(
            one_of([Owner::Database]),
            default = "the pipeline",
            limits = format!("Only for a toggle named `{OWNED_NAME}`.")
        )]
        pub owner: Option<Owner>,
    }
}

/// The owner of a toggle's state, if not the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// The API's transaction.
    Database,
}

/// The only name that a toggle of the database may have: that of its table and of its route.
const OWNED_NAME: &str = "collects";

params! {
    /// One of the counts of a toggle.
    pub struct CountParams {
        /// Name of the metric: a lower-case letter, then up to 31 of `a-z 0-9 _`.
        #[param("name")]
        pub metric: String,
        /// [CEL](#cel-expressions) expression over `actor_id` and `subject_id` that gives the id of the subject to count for.
        #[param("CEL")]
        pub subject: String,
    }
}

/// A checked `toggle` node.
pub struct Toggle {
    node: String,
    on: String,
    off: String,
    counts: Vec<Counted>,
    owner: Option<Owner>,
}

#[derive(Clone)]
struct Counted {
    metric: Arc<str>,
    /// None is the event's own subject.
    subject: Option<Expression>,
}

fn parse(node: &str, params: &Params) -> Parsed<Actions> {
    let ToggleParams { on, off, counts, owner } = params.parse()?;
    let mut errors = Vec::new();
    for (path, event_type) in [("on", &on), ("off", &off)] {
        if let Err(rule) = check_event_type(event_type) {
            errors.push(ParamError::new(path, rule));
        }
    }
    if on == off {
        errors.push(ParamError::new("off", "must differ from `on`"));
    }
    if owner.is_some() && node != OWNED_NAME {
        let rule = format!("only a toggle named `{OWNED_NAME}`, like the table, may be the database's");
        errors.push(ParamError::new("owner", rule));
    }
    if owner.is_some() && counts.is_some() {
        errors.push(ParamError::new("counts", "must be left out where the database is the owner: it counts as well"));
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
            source => Expression::compile(source, SUBJECT_FIELDS, Wanted::Text).map(Some),
        };
        match subject {
            Ok(subject) => counted.push(Counted { metric: metric.as_str().into(), subject }),
            Err(faults) => {
                let path = format!("counts[{i}].subject");
                errors.extend(faults.into_iter().map(|fault| fault.in_param(&path)));
            }
        }
    }
    match errors.is_empty() {
        true => Ok(Box::new(Toggle { node: node.to_owned(), on, off, counts: counted, owner })),
        false => Err(errors),
    }
}

impl Toggle {
    fn is_owned(&self) -> bool {
        self.owner == Some(Owner::Database)
    }
}

impl Blueprint<Actions> for Toggle {
    fn facts(&self) -> NodeFacts {
        let metric = |counted: &Counted| MetricSpec {
            name: counted.metric.to_string(),
            kind: MetricKind::Sum,
            value: ValueType::Integer,
            totals: true,
            windows: Vec::new(),
            emit: Emit::default(),
        };
        let (on, off) = (self.on.clone(), self.off.clone());
        NodeFacts {
            metrics: self.counts.iter().map(metric).collect(),
            event_types: vec![on.clone(), off.clone()],
            toggle: Some(ToggleFacts { on, off, owned: self.is_owned() }),
            ..NodeFacts::default()
        }
    }

    fn stores(&self) -> Vec<StoreSpec> {
        vec![StoreSpec {
            name: self.node.clone(),
            // What orders the events is part of what the state means.
            kind: if self.is_owned() { "key-value by sequence" } else { "key-value" },
            schema_version: 1,
            windows: Vec::new(),
            make: Switches::make,
        }]
    }

    fn check(&self, site: &BuildSite<'_, Actions>) -> Result<(), Vec<ParamError>> {
        let others = site.nodes.iter().filter(|(name, _)| self.is_owned() && *name != self.node);
        let errors = others.flat_map(|(name, other)| {
            let paths = [("on", &self.on), ("off", &self.off)].into_iter();
            let paths = paths.filter(move |(_, kind)| other.event_types.contains(kind));
            // The relay may write an event twice, and only this node detects it.
            paths.map(move |(path, kind)| ParamError::new(path, format!("`{kind}` is taken by `{name}` as well")))
        });
        let errors: Vec<_> = errors.chain(event_schema::refuse_closed(site)).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn build(&self, site: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        let counted = |counted: &Counted| (counted.clone(), CountedMetric::new(counted.metric.clone(), site));
        Box::new(ToggleProcessor {
            node: self.node.clone(),
            on: EventTypes::new(site).kind(&self.on),
            counts: self.counts.iter().map(counted).collect(),
            switches: site.store(&self.node),
            hash_seed: site.hash_seed,
        })
    }
}

/// The state per (actor, subject).
type Switches = KeyValueStore<Hash128, Switch>;

#[derive(Clone, Debug, PartialEq)]
struct Switch {
    active: bool,
    /// The greatest effective time so far; where the database is the owner, the greatest number.
    order: i64,
    /// The effective time of the event that switched it on last.
    since_ms: i64,
    /// The group that this event named; 0 if it named none with a board.
    group: u32,
}

impl StoreValue for Switch {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.active));
        out.extend_from_slice(&self.order.to_le_bytes());
        out.extend_from_slice(&self.since_ms.to_le_bytes());
        if self.group != 0 {
            out.extend_from_slice(&self.group.to_le_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (active, rest) = bytes.split_first()?;
        let (order, rest) = rest.split_first_chunk::<8>()?;
        let (since, group) = rest.split_first_chunk::<8>()?;
        let group = if group.is_empty() { 0 } else { u32::from_le_bytes(group.try_into().ok()?) };
        let (order, since_ms) = (i64::from_le_bytes(*order), i64::from_le_bytes(*since));
        Some(Self { active: *active == 1, order, since_ms, group })
    }
}

struct ToggleProcessor {
    node: String,
    /// The kind of events that switch on; all other kinds switch off.
    on: Option<usize>,
    counts: Vec<(Counted, CountedMetric)>,
    switches: StoreHandle<Switches>,
    hash_seed: u64,
}

impl ToggleProcessor {
    /// The subjects that expressions name, in the order of the counts, before anything is changed: an invalid one rejects
    /// the event as a whole.
    fn derived(&self, context: &Context<'_, Actions>, action: &Action) -> Result<Vec<Arc<str>>, Reject<Item>> {
        let derive = |expression: &Expression| {
            let subject = expression.text(&action.event)?;
            match check_subject_id(&subject) {
                Ok(()) => Ok(subject.into()),
                Err(rule) => Err(Mistake::new(format!("the subject {rule}"), format!("`{subject}`"))),
            }
        };
        self.counts
            .iter()
            .filter_map(|(counted, _)| Some((counted, counted.subject.as_ref()?)))
            .map(|(counted, expression)| {
                derive(expression).map_err(|mistake: Mistake| {
                    action.reject(context, &self.node, mistake.at(&format!("count `{}`", counted.metric)))
                })
            })
            .collect()
    }
}

impl Processor<Actions> for ToggleProcessor {
    fn process(&mut self, context: &mut Context<'_, Actions>, item: &Item) -> Result<(), Reject<Item>> {
        let Item::Event(action) = item else { return Ok(()) };
        let (event, time_ms) = (&action.event, action.effective_ms);
        let active = Some(action.kind) == self.on;
        let mut derived = self.derived(context, action)?.into_iter();
        let key = Hash128::of(self.hash_seed, &[event.actor_id().as_bytes(), event.subject_id.as_bytes()]);
        let before = context.store(self.switches).get(&key).cloned();
        let order = action.seq.unwrap_or(time_ms);
        let is_old = |before: &Switch| match action.seq {
            // A number is assigned once, so a repeated number means a repeated event.
            Some(seq) => seq <= before.order,
            None => time_ms < before.order,
        };
        if before.as_ref().is_some_and(is_old) {
            return Ok(());
        }
        let (was_active, since_ms, group) =
            before.map_or((false, time_ms, 0), |before| (before.active, before.since_ms, before.group));
        // Boards group all counts of a toggle by one property; a count ignores groups that it does not know.
        let named = || self.counts.iter().map(|(_, metric)| metric.group_of(event)).find(|group| *group != 0);
        let (since_ms, group) =
            if active && !was_active { (time_ms, named().unwrap_or_default()) } else { (since_ms, group) };
        context.store(self.switches).put(&key, Switch { active, order, since_ms, group });
        if active == was_active {
            return Ok(());
        }
        let act = Act { event, since_ms, delta: if active { 1 } else { -1 }, group };
        for (counted, metric) in &self.counts {
            let own = counted.subject.as_ref().and_then(|_| derived.next());
            metric.forward(context, own.as_ref().unwrap_or(&event.subject_id), &act);
        }
        if action.seq.is_some() {
            return Ok(());
        }
        let (append_time_ms, version) = (context.origin().append_time_ms, context.version());
        context.forward(Item::Reaction(Reaction {
            actor_id: event.actor_id().to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_bytes_are_what_they_have_always_been() {
        let of = |group| Switch { active: true, order: 0x0102, since_ms: -1, group };
        let alone = b"\x01\x02\x01\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff";
        for (group, bytes) in [(0, alone.to_vec()), (7, [&alone[..], b"\x07\0\0\0"].concat())] {
            let (switch, mut encoded) = (of(group), Vec::new());
            switch.encode(&mut encoded);
            assert_eq!(encoded, bytes);
            assert_eq!(Switch::decode(&bytes), Some(switch));
        }
        for wrong in [&b""[..], &alone[..16], &[&alone[..], b"\x07"].concat()] {
            assert_eq!(Switch::decode(wrong), None, "{wrong:?}");
        }
    }
}
