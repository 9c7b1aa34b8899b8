//! `type: derive`: sets properties, and the subject, of events.

use crate::dataflow::Actions;
use crate::edge::EdgeType;
use crate::event_types::named;
use crate::expression::{Expression, FIELDS, Wanted};
use crate::facts::{DerivedProperty, NodeFacts};
use crate::item::{Action, Item};
use crate::mistake::Mistake;
use crate::params::params;
use crate::{event_schema, written_fields};
use std::collections::BTreeMap;
use tally_model::{Scalar, check_subject_id};
use tally_streams::processor::{Context, Processor, Reject};
use tally_streams::topology::{Blueprint, BuildSite, NodeType, ParamError, Params, Parsed, StoreSpec};

/// The most entries of `set`.
const SET_MAX: usize = 16;
/// The longest derived text, in bytes.
const TEXT_BYTES_MAX: usize = 1 << 10;
/// The longest name of a derived property.
const NAME_BYTES_MAX: usize = 64;
/// The entry of `set` that is no property.
const SUBJECT_ID: &str = "subject_id";

/// The node type.
pub const NODE_TYPE: NodeType<Actions> = NodeType {
    name: "derive",
    about: "sets properties, and the subject, of events",
    input: EdgeType::Event.name(),
    outputs: &[EdgeType::Event.name(), EdgeType::Verdict.name()],
    key: None,
    partitions: None,
    then: None,
    params: DeriveParams::specs,
    parse,
};

params! {
    /// Parameters of `type: derive`.
    pub struct DeriveParams {
        /// Types of the events that it takes; it drops others.
        #[param("list of event types", default = "all")]
        pub events: Option<Vec<String>>,
        /// [CEL](#cel-expressions) expressions by the name of the property that each sets; `subject_id` sets the subject. All see the
        /// event as it came. Null removes the property; an event whose subject is null is dropped.
        #[param("mapping of name to CEL", limits = "1 to 16 entries; texts of up to 1,024 bytes.")]
        pub set: BTreeMap<String, String>,
        /// Fields of the events in the topics of `to`.
        #[param("list of fields", default = "all but `ip` and `user_agent`")]
        pub fields: Option<Vec<String>>,
    }
}

struct Derive {
    node: String,
    events: Vec<String>,
    fields: Vec<String>,
    set: Set,
}

/// What a node sets.
#[derive(Clone, Default)]
struct Set {
    subject_id: Option<Expression>,
    properties: Vec<DerivedProperty>,
}

fn parse(node: &str, params: &Params) -> Parsed<Actions> {
    let DeriveParams { events, set, fields } = params.parse()?;
    let mut errors = Vec::new();
    let (events, fields) = (named(events, &mut errors), written_fields::checked(fields, &mut errors));
    if set.is_empty() || set.len() > SET_MAX {
        errors.push(ParamError::new("set", format!("needs 1 to {SET_MAX} entries")));
    }
    let mut parsed = Set::default();
    for (name, source) in set {
        let path = format!("set.{name}");
        let is_subject = name == SUBJECT_ID;
        if FIELDS.contains(&name.as_str()) && !is_subject {
            let help = "`set` sets properties and `subject_id`; the other fields of an event stay";
            errors.push(ParamError::new(path, format!("`{name}` is a field of the event")).with_help(help));
            continue;
        }
        if !is_property_name(&name) {
            errors.push(ParamError::new(
                path,
                "the name of a property is a letter, then up to 63 letters, digits and `_`",
            ));
            continue;
        }
        let wanted = if is_subject { Wanted::Text } else { Wanted::Scalar };
        let compiled = Expression::compile(&source, FIELDS, wanted);
        let checked = compiled.and_then(|expression| match is_subject {
            true => expression.subject_kinds().map(|_| expression),
            false => Ok(expression),
        });
        match checked {
            Ok(expression) if is_subject => parsed.subject_id = Some(expression),
            Ok(value) => parsed.properties.push(DerivedProperty { name, value }),
            Err(faults) => errors.extend(faults.into_iter().map(|fault| fault.in_param(&path))),
        }
    }
    match errors.is_empty() {
        true => Ok(Box::new(Derive { node: node.to_owned(), events, fields, set: parsed })),
        false => Err(errors),
    }
}

fn is_property_name(name: &str) -> bool {
    let mut chars = name.chars();
    name.len() <= NAME_BYTES_MAX
        && chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl Blueprint<Actions> for Derive {
    fn facts(&self) -> NodeFacts {
        let (event_types, written_fields) = (self.events.clone(), self.fields.clone());
        let derived = self.set.properties.clone();
        let subject = self.set.subject_id.as_ref();
        NodeFacts {
            takes_declared: event_types.is_empty(),
            event_types,
            written_fields,
            derived,
            // They were found when it was parsed.
            subject_kinds: subject.map(|subject| subject.subject_kinds().unwrap_or_default()),
            ..NodeFacts::default()
        }
    }

    fn stores(&self) -> Vec<StoreSpec> {
        Vec::new()
    }

    fn check(&self, site: &BuildSite<'_, Actions>) -> Result<(), Vec<ParamError>> {
        let mut errors = event_schema::check_types(site, &self.events);
        let properties = self.set.properties.iter().map(|derived| (format!("set.{}", derived.name), &derived.value));
        let subject = self.set.subject_id.iter().map(|subject| (format!("set.{SUBJECT_ID}"), subject));
        errors.extend(event_schema::check(&event_schema::reaching(site), None, properties.chain(subject)));
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn build(&self, _: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        Box::new(DeriveProcessor { node: self.node.clone(), set: self.set.clone() })
    }
}

struct DeriveProcessor {
    node: String,
    set: Set,
}

impl Set {
    /// The event with all that is set; None where its subject is null.
    fn apply(&self, action: &Action) -> Result<Option<Action>, Mistake> {
        let subject_id = match &self.subject_id {
            None => action.event.subject_id.clone(),
            Some(expression) => {
                let subject = expression.text_or_null(&action.event).map_err(|mistake| within(SUBJECT_ID, mistake))?;
                let Some(subject) = subject else { return Ok(None) };
                match check_subject_id(&subject) {
                    Ok(()) => subject.into(),
                    Err(rule) => return Err(Mistake::new(format!("the subject {rule}"), format!("`{subject}`"))),
                }
            }
        };
        let values = self.properties.iter().map(|DerivedProperty { name, value }| {
            let value = value.scalar(&action.event).map_err(|mistake| within(name, mistake))?;
            match &value {
                Some(Scalar::Text(text)) if text.len() > TEXT_BYTES_MAX => {
                    let rule = format!("must have at most {TEXT_BYTES_MAX} bytes");
                    Err(within(name, Mistake::new(rule, format!("{} bytes", text.len()))))
                }
                _ => Ok((name, value)),
            }
        });
        let values = values.collect::<Result<Vec<_>, Mistake>>()?;
        let mut action = Action { ..action.clone() };
        action.event.subject_id = subject_id;
        for (name, value) in values {
            match value {
                Some(value) => drop(action.event.properties.insert(name.clone(), value)),
                None => drop(action.event.properties.remove(name)),
            }
        }
        Ok(Some(action))
    }
}

fn within(name: &str, mistake: Mistake) -> Mistake {
    mistake.of(&format!("set.{name}"))
}

impl Processor<Actions> for DeriveProcessor {
    fn process(&mut self, context: &mut Context<'_, Actions>, item: &Item) -> Result<(), Reject<Item>> {
        let Some(action) = item.sent_event() else { return Ok(()) };
        let derived = self.set.apply(action).map_err(|mistake| action.reject(context, &self.node, mistake))?;
        if let Some(action) = derived {
            context.forward(Item::Event(action));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Actions, REGISTRY};
    use serde_json::{Value, json};
    use tally_sinks::SINK_TYPES;
    use tally_streams::testkit::TopologyTestDriver;
    use tally_streams::topology::Topology;
    use tally_testkit::NOW_MS;

    const TOPOLOGY: &str = "
application: test
topics:
  user-actions: { key: actor_id, value: event, partitions: 4 }
  tagged-reads: { key: actor_id, value: event, partitions: 4 }
  counters:     { key: subject_id, value: counters, partitions: 4 }
  verdicts:     { key: actor_id, value: verdict, partitions: 4 }
processors:
  valid:  { type: decode, from: user-actions }
  tagged: { type: derive, from: valid, events: [read], to: tagged-reads, fields: [subject_id, properties],
            set: { campaign: \"has(properties.utm) ? properties.utm : 'none'\", utm: 'null', twice: properties.n * 2,
                   subject_id: \"has(properties.drop) ? null : 'campaign:' + (has(properties.utm) ? properties.utm : 'none')\" } }
  reads:  { type: count, from: tagged, event: read, where: \"properties.campaign != 'x'\" }
  totals: { type: total, from: reads, to: counters }
";

    fn driver() -> TopologyTestDriver<Actions> {
        let topology = Topology::load("test.yaml", TOPOLOGY, REGISTRY, SINK_TYPES);
        TopologyTestDriver::new(topology.unwrap_or_else(|e| panic!("{e}")))
    }

    fn read(driver: &mut TopologyTestDriver<Actions>, properties: Value) -> Vec<Value> {
        let event = json!({"event_id": "e1", "type": "read", "actor_id": "u1", "subject_id": "article:7", "duration_ms": 1,
                           "properties": properties});
        driver.pipe("u1", event.to_string().as_bytes(), NOW_MS).unwrap();
        driver.read("tagged-reads").iter().map(|written| written.json()).collect()
    }

    #[test]
    fn properties_and_subject_are_set_from_the_event_as_it_came() {
        let mut driver = driver();
        let derived = json!({"subject_id": "campaign:s", "properties": {"campaign": "s", "n": 2, "twice": 4}});
        assert_eq!(read(&mut driver, json!({"n": 2, "utm": "s"})), [derived]);
        let derived = json!({"subject_id": "campaign:none", "properties": {"campaign": "none", "n": 3, "twice": 6}});
        assert_eq!(read(&mut driver, json!({"n": 3})), [derived]);
        let counted: Vec<Value> = driver.read("counters").iter().map(|written| written.json()).collect();
        let counted: Vec<_> = counted.iter().map(|json| (&json["subject_id"], &json["counters"]["reads"])).collect();
        assert_eq!(counted, [(&json!("campaign:s"), &json!(1)), (&json!("campaign:none"), &json!(1))]);
    }

    #[test]
    fn an_event_without_a_subject_is_dropped_and_one_with_a_wrong_subject_is_dead() {
        let mut driver = driver();
        assert_eq!(read(&mut driver, json!({"n": 1, "drop": true})), [Value::Null; 0]);
        assert_eq!(driver.read("verdicts"), []);
        for (properties, reason) in [
            (json!({"n": 1, "utm": "a b"}), "the subject must not contain braces, whitespace or control characters"),
            (json!({"utm": "s"}), "`set.twice` No such key"),
            (json!({"n": 1, "utm": "x".repeat(1025)}), "the subject must have at most 128 bytes"),
        ] {
            assert_eq!(read(&mut driver, properties), [Value::Null; 0]);
            let verdict = driver.read("verdicts").pop().unwrap().json();
            assert_eq!((&verdict["verdict"], &verdict["reason"]), (&json!("dead"), &json!(reason)));
        }
    }
}
