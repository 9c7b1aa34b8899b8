//! A topology with one `aggregate` node, events in whole seconds, and what it writes in one line each.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use tally_processors::{Actions, REGISTRY};
use tally_sinks::SINK_TYPES;
use tally_streams::testkit::{TopologyTestDriver, Written};
use tally_streams::topology::Topology;

pub const SECOND: i64 = 1_000;
/// The midnight at which the seconds of most tests begin.
pub const MIDNIGHT: i64 = 1_795_219_200_000;

pub const TOPOLOGY: &str = "
application: test
late_after: 48h
topics:
  events:       { key: actor_id, value: event, partitions: PARTITIONS }
  counters:     { key: subject_id, value: counters, partitions: PARTITIONS }
  windows:      { key: [subject_id, metric, window, start], partition_by: subject_id, value: counter, partitions: PARTITIONS }
  verdicts:     { key: actor_id, value: verdict, partitions: PARTITIONS }
  dead-letters: { key: raw, value: raw, partitions: 1 }
RANKINGSprocessors:
  valid:  { type: decode, from: events }
";

pub struct Case {
    pub driver: TopologyTestDriver<Actions>,
    /// Second 0.
    base: i64,
    events: usize,
}

impl Case {
    /// A node `agg` with these parameters.
    pub fn new(parameters: &str) -> Self {
        Self::of(&format!("  agg: {{ type: aggregate, from: valid, events: [view], {parameters} }}\n"), "agg", MIDNIGHT)
    }

    /// The same near 1970.
    pub fn at_1970(parameters: &str) -> Self {
        let node = format!("  agg: {{ type: aggregate, from: valid, events: [view], {parameters} }}\n");
        Self::of(&node, "agg", 0)
    }

    /// Nodes, and those that the totals read.
    pub fn of(nodes: &str, read: &str, base: i64) -> Self {
        // A topic that nothing writes is a mistake.
        let rankings = "  rankings: { key: board, value: ranking, partitions: 1 }\n";
        let rankings = if nodes.contains("to: rankings") { rankings } else { "" };
        let text = TOPOLOGY.replace("PARTITIONS", "1").replace("RANKINGS", rankings);
        let text = format!("{text}{nodes}  totals: {{ type: total, from: [{read}], to: [counters, windows] }}\n");
        let topology = Topology::load("test.yaml", &text, REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}"));
        Self { driver: TopologyTestDriver::new(topology), base, events: 0 }
    }

    /// A view of a subject at a second, appended at another one.
    pub fn view(&mut self, subject: &str, second: f64, appended: f64) {
        self.with(subject, second, appended, json!({}));
    }

    /// The same with properties.
    pub fn with(&mut self, subject: &str, second: f64, appended: f64, properties: Value) {
        self.raw(subject, second, appended, &properties.to_string());
    }

    /// The same with properties as they are sent.
    pub fn raw(&mut self, subject: &str, second: f64, appended: f64, properties: &str) {
        self.events += 1;
        let (id, time) = (self.events, self.time(second));
        let event = format!(
            r#"{{"event_id":"e{id}","type":"view","actor_id":"u1","subject_id":"{subject}","occurred_at":{time},"properties":{properties}}}"#
        );
        self.driver.pipe("u1", event.as_bytes(), self.time(appended)).unwrap();
    }

    pub fn time(&self, second: f64) -> i64 {
        self.base + (second * SECOND as f64).round() as i64
    }

    /// The clock moves to a second.
    pub fn clock(&mut self, second: f64) {
        let time = self.time(second);
        self.driver.advance_clock(time).unwrap();
    }

    fn second(&self, time: &Value) -> f64 {
        (time.as_i64().unwrap() - self.base) as f64 / SECOND as f64
    }

    /// The windows that were written since the last call: `subject value start..end = value`, in seconds.
    pub fn windows(&mut self) -> Vec<String> {
        let records = self.driver.read("windows");
        let line = |written: &Written| {
            let window = written.json();
            let start = &window["window_start_ms"];
            let end = match window["window_end_ms"].as_i64() {
                Some(end) => json!(end),
                None => json!(start.as_i64().unwrap() + window["window_ms"].as_i64().unwrap()),
            };
            let name = window["metric"].as_str().unwrap().split_once('.').unwrap().1;
            let subject = window["subject_id"].as_str().unwrap();
            let value = if window["deleted"] == true { "deleted".to_owned() } else { window["value"].to_string() };
            format!("{subject} {name} {}..{} = {value}", self.second(start), self.second(&end))
        };
        records.iter().map(line).collect()
    }

    /// The last totals of each subject since the last call.
    pub fn totals(&mut self) -> BTreeMap<String, Value> {
        let records = self.driver.read("counters");
        let total = |written: &Written| {
            let total = written.json();
            (total["subject_id"].as_str().unwrap().to_owned(), total["counters"].clone())
        };
        records.iter().map(total).collect()
    }

    /// The reasons and details of the dead letters since the last call.
    pub fn dead(&mut self) -> Vec<String> {
        let header = |letter: &Written, name: &str| {
            let header = letter.headers.iter().find(|(known, _)| known == name);
            String::from_utf8(header.map(|(_, value)| value.clone()).unwrap_or_default()).unwrap()
        };
        let letters = self.driver.read("dead-letters");
        letters.iter().map(|letter| format!("{}: {}", header(letter, "reason"), header(letter, "detail"))).collect()
    }

    /// How many records came too late since the last call, by window.
    pub fn late(&mut self) -> Vec<(String, u64)> {
        self.driver.late().into_iter().map(|((_, window), count)| (window, count)).collect()
    }
}
