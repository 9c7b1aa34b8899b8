//! `type: route`: splits events over named outputs; the first route that matches takes the event.

use crate::dataflow::Actions;
use crate::edge::EdgeType;
use crate::event_schema;
use crate::event_types::named;
use crate::expression::{Expression, FIELDS, Wanted};
use crate::facts::NodeFacts;
use crate::item::Item;
use crate::params::params;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use std::fmt;
use tally_streams::processor::{Context, Processor, Reject};
use tally_streams::topology::{
    Blueprint, BuildSite, NamedOutput, NodeType, ParamError, Params, Parsed, StoreSpec, is_name,
};

/// The most routes of a node.
const ROUTES_MAX: usize = 32;

/// The node type.
pub const NODE_TYPE: NodeType<Actions> = NodeType {
    name: "route",
    about: "splits events over named outputs",
    input: EdgeType::Event.name(),
    outputs: &[EdgeType::Verdict.name()],
    key: None,
    partitions: None,
    then: None,
    params: RouteParams::specs,
    parse,
};

params! {
    /// Parameters of `type: route`.
    pub struct RouteParams {
        /// Types of the events that it takes; it drops others.
        #[param("list of event types", default = "all")]
        pub events: Option<Vec<String>>,
        /// [CEL](#cel-expressions) conditions by the name of the output, in the order in which they are tried. The first that is true
        /// takes the event; `true` takes the rest. An event that none takes is dropped.
        #[param("mapping of name to CEL or `true`", limits = "1 to 32 entries.")]
        pub routes: Routes,
    }
}

/// The routes in the order of the file.
#[derive(Clone, Debug)]
pub struct Routes(Vec<(String, RouteParam)>);

/// The condition of a route.
#[derive(Clone, Debug)]
enum RouteParam {
    Rest,
    Condition(String),
}

impl<'de> Deserialize<'de> for Routes {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Routes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of names to conditions")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Routes, A::Error> {
                let mut routes = Vec::new();
                while let Some(route) = map.next_entry()? {
                    routes.push(route);
                }
                Ok(Routes(routes))
            }
        }
        de.deserialize_map(InOrder)
    }
}

impl<'de> Deserialize<'de> for RouteParam {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct Condition;
        impl Visitor<'_> for Condition {
            type Value = RouteParam;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a CEL condition or `true`")
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<RouteParam, E> {
                match value {
                    true => Ok(RouteParam::Rest),
                    false => Err(E::custom("a route that is `false` takes no event: leave it out")),
                }
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<RouteParam, E> {
                Ok(RouteParam::Condition(value.to_owned()))
            }
        }
        de.deserialize_any(Condition)
    }
}

struct Split {
    node: String,
    events: Vec<String>,
    /// None takes the rest.
    routes: Vec<(String, Option<Expression>)>,
}

fn parse(node: &str, params: &Params) -> Parsed<Actions> {
    let RouteParams { events, routes: Routes(routes) } = params.parse()?;
    let mut errors = Vec::new();
    let events = named(events, &mut errors);
    if routes.is_empty() || routes.len() > ROUTES_MAX {
        errors.push(ParamError::new("routes", format!("needs 1 to {ROUTES_MAX} entries")));
    }
    let (mut parsed, mut rest): (Vec<_>, Option<String>) = (Vec::new(), None);
    for (name, route) in routes {
        let path = format!("routes.{name}");
        if !is_name(&name, "_-") {
            errors.push(ParamError::new(
                path.as_str(),
                "the name of an output is a lower case letter, then up to 63 of `a-z 0-9 _ -`",
            ));
        }
        if let Some(rest) = &rest {
            errors.push(ParamError::new(path.as_str(), format!("no event gets here: `{rest}` takes the rest")));
        }
        match route {
            RouteParam::Rest => {
                rest = Some(name.clone());
                parsed.push((name, None));
            }
            RouteParam::Condition(source) => match Expression::compile(&source, FIELDS, Wanted::Bool) {
                Ok(condition) => parsed.push((name, Some(condition))),
                Err(faults) => errors.extend(faults.into_iter().map(|fault| fault.in_param(&path))),
            },
        }
    }
    match errors.is_empty() {
        true => Ok(Box::new(Split { node: node.to_owned(), events, routes: parsed })),
        false => Err(errors),
    }
}

impl Blueprint<Actions> for Split {
    fn facts(&self) -> NodeFacts {
        let event_types = self.events.clone();
        NodeFacts { takes_declared: event_types.is_empty(), event_types, ..NodeFacts::default() }
    }

    fn stores(&self) -> Vec<StoreSpec> {
        Vec::new()
    }

    fn named_outputs(&self) -> Vec<NamedOutput> {
        let output = |name: &String| NamedOutput { name: name.clone(), value: EdgeType::Event.name(), sent_by: None };
        self.routes.iter().map(|(name, _)| output(name)).collect()
    }

    fn check(&self, site: &BuildSite<'_, Actions>) -> Result<(), Vec<ParamError>> {
        let mut errors = event_schema::check_types(site, &self.events);
        let conditions =
            self.routes.iter().filter_map(|(name, route)| Some((format!("routes.{name}"), route.as_ref()?)));
        errors.extend(event_schema::check(&event_schema::reaching(site), None, conditions));
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn build(&self, _: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        Box::new(RouteProcessor { node: self.node.clone(), routes: self.routes.clone() })
    }
}

struct RouteProcessor {
    node: String,
    routes: Vec<(String, Option<Expression>)>,
}

impl Processor<Actions> for RouteProcessor {
    fn process(&mut self, context: &mut Context<'_, Actions>, item: &Item) -> Result<(), Reject<Item>> {
        let Some(action) = item.sent_event() else { return Ok(()) };
        for (output, (name, condition)) in self.routes.iter().enumerate() {
            let taken = condition.as_ref().map(|condition| condition.test(&action.event)).transpose();
            let taken = taken.map_err(|mistake| {
                let mistake = mistake.of(&format!("routes.{name}"));
                action.reject(context, &self.node, mistake)
            })?;
            if taken.unwrap_or(true) {
                context.pass_to(output);
                break;
            }
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
  counters:     { key: subject_id, value: counters, partitions: 4 }
  verdicts:     { key: actor_id, value: verdict, partitions: 4 }
processors:
  valid:  { type: decode, from: user-actions }
  split:  { type: route, from: valid, routes: { web: \"properties.app == 'web'\", tests: \"properties.app == 'test'\", rest: true } }
  web:    { type: count, from: split.web, event: view }
  other:  { type: count, from: [split.rest, split.web], event: view }
  twice:  { type: count, from: [valid, split.web], event: view }
  totals: { type: total, from: [web, other, twice], to: counters }
";

    fn view(driver: &mut TopologyTestDriver<Actions>, properties: Value) -> Value {
        let event = json!({"event_id": "e1", "type": "view", "actor_id": "u1", "subject_id": "article:7", "properties": properties});
        driver.pipe("u1", event.to_string().as_bytes(), NOW_MS).unwrap();
        driver.read("counters").pop().map(|written| written.json()["counters"].clone()).unwrap_or_default()
    }

    #[test]
    fn the_first_route_that_matches_takes_the_event() {
        let topology = Topology::load("test.yaml", TOPOLOGY, REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}"));
        let chart = topology.describe_mermaid();
        assert!(chart.contains("s0n1 -->|web| s0n2") && chart.contains("s0n1 -->|rest| s0n3"), "{chart}");
        assert!(topology.describe_text().contains("split.rest split.web"), "{}", topology.describe_text());
        let mut driver = TopologyTestDriver::new(topology);
        // An event that reaches a node by two ways is processed twice.
        assert_eq!(view(&mut driver, json!({"app": "web"})), json!({"other": 1, "twice": 2, "web": 1}));
        assert_eq!(view(&mut driver, json!({"app": "test"})), json!({"other": 1, "twice": 3, "web": 1}));
        assert_eq!(view(&mut driver, json!({"app": "ios"})), json!({"other": 2, "twice": 4, "web": 1}));
    }

    #[test]
    fn an_event_for_which_a_condition_fails_is_rejected() {
        let topology = Topology::load("test.yaml", TOPOLOGY, REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}"));
        let mut driver = TopologyTestDriver::new(topology);
        view(&mut driver, json!({}));
        let verdict = driver.read("verdicts").pop().unwrap().json();
        assert_eq!((&verdict["node"], &verdict["reason"]), (&json!("split"), &json!("`routes.web` No such key")));
    }
}
