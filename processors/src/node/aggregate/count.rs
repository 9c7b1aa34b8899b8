//! `type: count`: a short form of `aggregate` with one value, the number of events of a type.

use super::Aggregate;
use super::short::Short;
use crate::counting::aggregation::Function;
use crate::counting::windows;
use crate::dataflow::Actions;
use crate::edge::EdgeType;
use crate::expression::Expression;
use crate::facts::Emit;
use crate::params::{code, one_of, params};
use tally_streams::topology::{ConfigDuration, NodeType, Params, Parsed};

/// The node type.
pub const NODE_TYPE: NodeType<Actions> = NodeType {
    name: "count",
    about: "counts events of one type",
    input: EdgeType::Event.name(),
    outputs: &[EdgeType::Change.name(), EdgeType::Verdict.name()],
    key: None,
    partitions: None,
    then: None,
    params: CountParams::specs,
    parse,
};

params! {
    /// Parameters of `type: count`.
    pub struct CountParams {
        /// Type of the events to count.
        #[param("event type")]
        pub event: String,
        /// [CEL](#cel-expressions) condition over the fields of an event: events for which it is false are not counted.
        #[param("CEL", name = "where", default = "every event counts")]
        pub condition: Option<String>,
        /// Lengths of the fixed windows, each once. All time is always counted.
        #[param("list of durations", default = "none", limits = windows::LIMITS)]
        #[serde(default)]
        pub windows: Vec<ConfigDuration>,
        /// When the value of a window is written.
        #[param(one_of([Emit::OnUpdate, Emit::OnClose]), default = code(Emit::default()), limits = windows::EMIT)]
        pub emit: Option<Emit>,
    }
}

fn parse(node: &str, params: &Params) -> Parsed<Actions> {
    let CountParams { event, condition, windows, emit } = params.parse()?;
    let mut errors = Vec::new();
    let condition = Expression::condition(condition, &mut errors);
    let short = Short { event, windows, emit, function: Function::Count, argument: None };
    short.check(node, errors).map(|aggregate| Box::new(Aggregate { condition, ..aggregate }) as _)
}

#[cfg(test)]
mod tests {
    use crate::{Actions, REGISTRY};
    use serde_json::{Value, json};
    use tally_sinks::SINK_TYPES;
    use tally_streams::testkit::{TopologyTestDriver, Written};
    use tally_streams::topology::Topology;
    use tally_testkit::NOW_MS;

    const TOPOLOGY: &str = "
application: test
topics:
  events:   { key: actor_id, value: event, partitions: 4 }
  counters: { key: subject_id, value: counters, partitions: 4 }
  windows:  { key: [subject_id, metric, window, start], partition_by: subject_id, value: counter, partitions: 4 }
  verdicts: { key: actor_id, value: verdict, partitions: 4 }
processors:
  valid:  { type: decode, from: events }
  deep:   { type: count, from: valid, event: read, where: 'properties.depth > 2', windows: [1h] }
  totals: { type: total, from: deep, to: [counters, windows] }
";

    fn driver() -> TopologyTestDriver<Actions> {
        let topology = Topology::load("test.yaml", TOPOLOGY, REGISTRY, SINK_TYPES);
        TopologyTestDriver::new(topology.unwrap_or_else(|e| panic!("{e}")))
    }

    fn read(driver: &mut TopologyTestDriver<Actions>, properties: Value) {
        let event = json!({"event_id": "e1", "type": "read", "actor_id": "u1", "subject_id": "article:7",
                           "duration_ms": 1, "properties": properties});
        driver.pipe("u1", event.to_string().as_bytes(), NOW_MS).unwrap();
    }

    #[test]
    fn events_count_for_all_time_and_in_windows_where_the_condition_holds() {
        let mut driver = driver();
        [3, 2, 4].into_iter().for_each(|depth| read(&mut driver, json!({"depth": depth})));
        let counters = driver.read("counters").last().map(Written::json).unwrap();
        assert_eq!(counters["counters"], json!({"deep": 2}));
        let window = driver.read("windows").last().map(Written::json).unwrap();
        assert_eq!((&window["metric"], &window["value"]), (&json!("deep"), &json!(2)));
        assert_eq!(driver.read("verdicts"), []);
    }

    #[test]
    fn an_event_for_which_the_condition_fails_is_rejected() {
        let mut driver = driver();
        read(&mut driver, json!({}));
        let verdict = driver.read("verdicts").last().map(Written::json).unwrap();
        assert_eq!((&verdict["verdict"], &verdict["node"]), (&json!("dead"), &json!("deep")));
        assert_eq!(verdict["reason"], "`where` No such key");
        assert_eq!(driver.read("counters"), []);
    }
}
