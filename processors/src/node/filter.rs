//! `type: filter`: passes the events for which a condition is true.

use crate::dataflow::Actions;
use crate::edge::EdgeType;
use crate::event_types::named;
use crate::expression::Expression;
use crate::facts::NodeFacts;
use crate::item::Item;
use crate::params::params;
use crate::{event_schema, written_fields};
use tally_streams::processor::{Context, Processor, Reject};
use tally_streams::topology::{Blueprint, BuildSite, NodeType, ParamError, Params, Parsed, StoreSpec};

/// The node type.
pub const NODE_TYPE: NodeType<Actions> = NodeType {
    name: "filter",
    about: "passes the events for which a condition is true",
    input: EdgeType::Event.name(),
    outputs: &[EdgeType::Event.name(), EdgeType::Verdict.name()],
    key: None,
    partitions: None,
    then: None,
    params: FilterParams::specs,
    parse,
};

params! {
    /// Parameters of `type: filter`.
    pub struct FilterParams {
        /// Types of the events that it takes; it drops others.
        #[param("list of event types", default = "all")]
        pub events: Option<Vec<String>>,
        /// [CEL](#cel-expressions) condition over the fields of an event: events for which it is false are dropped.
        #[param("CEL", name = "where", default = "every event passes")]
        pub condition: Option<String>,
        /// Fields of the events in the topics of `to`.
        #[param("list of fields", default = "all but `ip` and `user_agent`")]
        pub fields: Option<Vec<String>>,
    }
}

struct Filter {
    node: String,
    events: Vec<String>,
    condition: Option<Expression>,
    fields: Vec<String>,
}

fn parse(node: &str, params: &Params) -> Parsed<Actions> {
    let FilterParams { events, condition, fields } = params.parse()?;
    let mut errors = Vec::new();
    let (events, fields) = (named(events, &mut errors), written_fields::checked(fields, &mut errors));
    let condition = Expression::condition(condition, &mut errors);
    match errors.is_empty() {
        true => Ok(Box::new(Filter { node: node.to_owned(), events, condition, fields })),
        false => Err(errors),
    }
}

impl Blueprint<Actions> for Filter {
    fn facts(&self) -> NodeFacts {
        NodeFacts {
            takes_declared: self.events.is_empty(),
            event_types: self.events.clone(),
            passes: self.condition.clone(),
            written_fields: self.fields.clone(),
            ..NodeFacts::default()
        }
    }

    fn stores(&self) -> Vec<StoreSpec> {
        Vec::new()
    }

    fn check(&self, site: &BuildSite<'_, Actions>) -> Result<(), Vec<ParamError>> {
        let mut errors = event_schema::check_types(site, &self.events);
        errors.extend(event_schema::check_condition(&event_schema::reaching(site), self.condition.as_ref()));
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn build(&self, _: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        Box::new(FilterProcessor { node: self.node.clone(), condition: self.condition.clone() })
    }
}

struct FilterProcessor {
    node: String,
    condition: Option<Expression>,
}

impl Processor<Actions> for FilterProcessor {
    fn process(&mut self, context: &mut Context<'_, Actions>, item: &Item) -> Result<(), Reject<Item>> {
        let Some(action) = item.sent_event() else { return Ok(()) };
        let passes = self.condition.as_ref().map(|condition| condition.test(&action.event)).transpose();
        let passes = passes.map_err(|mistake| action.reject(context, &self.node, mistake.of("where")))?;
        if passes.unwrap_or(true) {
            context.pass();
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
events:
  read: { properties: { depth: int, utm: text? } }
topics:
  user-actions: { key: actor_id, value: event, partitions: 4 }
  deep-reads:   { key: actor_id, value: event, partitions: 4 }
  all-fields:   { key: actor_id, value: event, partitions: 4 }
  verdicts:     { key: actor_id, value: verdict, partitions: 4 }
  counters:     { key: subject_id, value: counters, partitions: 4 }
processors:
  valid: { type: decode, from: user-actions }
  deep:  { type: filter, from: valid, events: [read], where: 'properties.depth > 50', to: deep-reads, fields: [actor_id, subject_id, occurred_at, properties] }
  all:   { type: filter, from: deep, to: all-fields }
  views: { type: count, from: valid, event: view }
  sums:  { type: total, from: views, to: counters }
";

    fn driver() -> TopologyTestDriver<Actions> {
        let topology = Topology::load("test.yaml", TOPOLOGY, REGISTRY, SINK_TYPES);
        TopologyTestDriver::new(topology.unwrap_or_else(|e| panic!("{e}")))
    }

    fn pipe(driver: &mut TopologyTestDriver<Actions>, event_type: &str, properties: Value) {
        let event = json!({"event_id": "e1", "type": event_type, "actor_id": "u1", "subject_id": "article:7", "ip": "::1",
                           "duration_ms": 1, "properties": properties});
        driver.pipe("u1", event.to_string().as_bytes(), NOW_MS).unwrap();
    }

    fn written(driver: &mut TopologyTestDriver<Actions>, topic: &str) -> Vec<String> {
        let written = driver.read(topic);
        assert!(written.iter().all(|record| record.key == b"u1"));
        written.into_iter().map(|record| String::from_utf8(record.value).unwrap()).collect()
    }

    #[test]
    fn events_pass_by_their_type_and_the_condition() {
        let mut driver = driver();
        pipe(&mut driver, "read", json!({"depth": 51}));
        pipe(&mut driver, "read", json!({"depth": 50}));
        pipe(&mut driver, "view", json!({"depth": 51}));
        let expected = format!(
            r#"{{"actor_id":"u1","subject_id":"article:7","occurred_at":{NOW_MS},"properties":{{"depth":51}}}}"#
        );
        assert_eq!(written(&mut driver, "deep-reads"), [expected]);
        let expected = format!(
            r#"{{"event_id":"e1","type":"read","actor_id":"u1","subject_id":"article:7","occurred_at":{NOW_MS},"duration_ms":1,"properties":{{"depth":51}}}}"#
        );
        assert_eq!(written(&mut driver, "all-fields"), [expected]);
        assert_eq!(driver.read("verdicts"), []);
    }

    #[test]
    fn an_event_that_breaks_its_declaration_is_dead() {
        let mut driver = driver();
        for (properties, reason) in [
            (json!({"depth": "x"}), "`properties` has a wrong type: `depth` of `read` is int"),
            (json!({}), "`properties` lacks `depth`, which `read` needs: int"),
            (json!({"depth": 60, "x": 1}), "`properties` has a name that is not declared for `read`"),
        ] {
            pipe(&mut driver, "read", properties);
            let verdict = driver.read("verdicts").pop().unwrap().json();
            assert_eq!((&verdict["verdict"], &verdict["reason"]), (&json!("dead"), &json!(reason)));
        }
        assert_eq!(written(&mut driver, "deep-reads"), [""; 0]);
    }
}
