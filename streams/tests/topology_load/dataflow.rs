//! A minimal pipeline with a node type for every case that the loader distinguishes.

use serde::Deserialize;
use std::collections::BTreeMap;
use tally_streams::processor::{
    Context, Dataflow, Hop, OutputProgress, OutputRecord, Processor, Reject, RootProgress, SideOutput,
};
use tally_streams::topology::{
    Blueprint, BuildSite, ConfigDuration, Diagnostics, NodeType, ParamError, Params, SinkType, StorePart, StoreSpec,
    Topology,
};

pub struct Test;

impl Dataflow for Test {
    const EDGE_TYPES: &'static [&'static str] = &["event", "change", "counters", "ranking", "verdict", "raw", "top"];
    const RAW: &'static str = "raw";
    const ROOT: &'static str = "event";
    const SIDE_OUTPUT: SideOutput = SideOutput { topic: "verdicts", value: "verdict" };
    const REQUEST_HEADER: &'static str = "b";
    type Value = usize;
    type Hop = Nothing;
    type Facts = ();
    type Declaration = ();

    fn declare(_: &str, params: &Params) -> Result<(), Vec<ParamError>> {
        params.parse::<NoParams>().map(drop)
    }

    fn takes_declared(_: &()) -> bool {
        true
    }

    fn written_key(edge_type: &str) -> Option<&'static str> {
        (edge_type == "event").then_some("actor_id")
    }

    fn edge_type(value: &usize) -> usize {
        *value
    }

    fn write(_: &usize, _: &(), _: &mut OutputRecord) {}

    const PROGRESS_HEADER: &'static str = "progress";

    fn encode_progress(_: &OutputProgress<'_>) -> Vec<u8> {
        Vec::new()
    }

    fn write_progress(_: &str, _: u16, _: &[RootProgress], _: i64, _: &mut OutputRecord) {}
}

/// No value ever flows here.
#[derive(Default)]
pub struct Nothing;

impl Hop<usize> for Nothing {
    fn add(&mut self, _: &usize) {}
    fn is_empty(&self) -> bool {
        true
    }
    fn size_bytes(&self) -> usize {
        0
    }
    fn drain(&mut self, _: u32, _: usize, _: &mut dyn FnMut(u32, Vec<u8>)) {}
    fn clear(&mut self) {}
    fn decode(_: &[u8], _: &mut dyn FnMut(usize)) -> Result<(), String> {
        Ok(())
    }
}

impl Processor<Test> for Nothing {
    fn process(&mut self, _: &mut Context<'_, Test>, _: &usize) -> Result<(), Reject<usize>> {
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    pub event: String,
    #[serde(default)]
    pub windows: Vec<ConfigDuration>,
    pub store: Option<String>,
    #[serde(default = "one")]
    pub schema: u32,
}

fn one() -> u32 {
    1
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    pub rules: Vec<Rule>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub name: String,
    pub max: u32,
    #[serde(deserialize_with = "ConfigDuration::positive")]
    pub per: ConfigDuration,
    #[serde(default)]
    pub excess: Excess,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Excess {
    #[default]
    Drop,
    Hold,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    pub score: BTreeMap<String, f64>,
    pub top: u32,
}

/// The parameters of a node that these tests check.
struct Plan {
    stores: Vec<StoreSpec>,
    /// Names that must be among the node's inputs, which only the graph can check.
    inputs: Vec<String>,
}

impl Blueprint<Test> for Plan {
    fn stores(&self) -> Vec<StoreSpec> {
        self.stores.clone()
    }

    fn check(&self, site: &BuildSite<'_, Test>) -> Result<(), Vec<ParamError>> {
        let unknown = self.inputs.iter().filter(|name| site.inputs.iter().all(|(input, _)| input != name));
        let errors: Vec<ParamError> = unknown
            .map(|name| ParamError::new(format!("score.{name}"), format!("`{}` does not read `{name}`", site.node)))
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn build(&self, _: &BuildSite<'_, Test>) -> Box<dyn Processor<Test>> {
        Box::new(Nothing)
    }
}

fn store(name: String, schema_version: u32, windows: Vec<StorePart>) -> StoreSpec {
    StoreSpec { name, kind: "key-value", schema_version, windows, make: || unreachable!("nothing runs here") }
}

type Parsed = tally_streams::topology::Parsed<Test>;

fn plain(_: &str, params: &Params) -> Parsed {
    params.parse::<NoParams>()?;
    Ok(Box::new(Plan { stores: Vec::new(), inputs: Vec::new() }))
}

fn stateful(node: &str, params: &Params) -> Parsed {
    params.parse::<NoParams>()?;
    Ok(Box::new(Plan { stores: vec![store(node.to_owned(), 1, Vec::new())], inputs: Vec::new() }))
}

fn count(node: &str, params: &Params) -> Parsed {
    let params: Count = params.parse()?;
    if params.event.is_empty() {
        return Err(vec![ParamError::new("event", "must not be empty")]);
    }
    let windows = params.windows.iter().map(|window| StorePart::Rule(window.to_string())).collect();
    let store = store(params.store.unwrap_or(node.to_owned()), params.schema, windows);
    Ok(Box::new(Plan { stores: vec![store], inputs: Vec::new() }))
}

fn limit(_: &str, params: &Params) -> Parsed {
    let params: Limit = params.parse()?;
    if params.rules.is_empty() {
        return Err(vec![ParamError::new("", "needs a rule").with_help("`rules: [{ name: …, max: …, per: … }]`")]);
    }
    Ok(Box::new(Plan { stores: Vec::new(), inputs: Vec::new() }))
}

fn board(_: &str, params: &Params) -> Parsed {
    let params: Board = params.parse()?;
    if params.top == 0 {
        return Err(vec![ParamError::new("top", "must be at least 1")]);
    }
    Ok(Box::new(Plan { stores: Vec::new(), inputs: params.score.into_keys().collect() }))
}

/// The node that a board implies: it has a store.
fn leaders(node: &str, params: &Params) -> Parsed {
    params.parse::<Board>()?;
    Ok(Box::new(Plan { stores: vec![store(node.to_owned(), 1, Vec::new())], inputs: Vec::new() }))
}

pub const REGISTRY: &[NodeType<Test>] = &[
    node_type("decode", "raw", &["event", "verdict"], None, plain),
    node_type("dedupe", "event", &["event", "verdict"], None, stateful),
    node_type("limit", "event", &["event", "verdict"], None, limit),
    node_type("count", "event", &["change"], None, count),
    node_type("total", "change", &["counters"], Some("subject_id"), stateful),
    node_type("board", "change", &["ranking"], Some("subject_id"), board),
    node_type("merge", "ranking", &["ranking"], Some("board"), stateful),
    // A node of this type implies a second one.
    NodeType { then: Some(&SUM_UP), ..node_type("leaders", "change", &["top"], Some("subject_id"), board) },
    // Takes what `total` and `dedupe` give, to nest subtopologies at will.
    node_type("again", "counters", &["counters"], Some("subject_id"), plain),
];

const SUM_UP: NodeType<Test> =
    NodeType { partitions: Some(1), ..node_type("sum-up", "top", &["ranking"], Some("board"), leaders) };

const fn node_type(
    name: &'static str,
    input: &'static str,
    outputs: &'static [&'static str],
    key: Option<&'static str>,
    parse: fn(&str, &Params) -> Parsed,
) -> NodeType<Test> {
    NodeType { name, about: "", input, outputs, key, partitions: None, then: None, params: Vec::new, parse }
}

/// A type of sinks: its name and schemes. Addresses with a blank are wrong.
pub struct TestSink(&'static str, &'static [&'static str]);

impl SinkType for TestSink {
    fn name(&self) -> &'static str {
        self.0
    }

    fn schemes(&self) -> &'static [&'static str] {
        self.1
    }

    fn values(&self) -> Vec<&'static str> {
        vec!["counters", "ranking", "verdict", "raw"]
    }

    fn check(&self, url: &str) -> Result<(), String> {
        if url.contains(' ') { Err("it has a blank".into()) } else { Ok(()) }
    }
}

pub const SINK_TYPES: &[TestSink] = &[TestSink("database", &["sqlite", "mysql"]), TestSink("cache", &["redis"])];

/// Two subtopologies, every kind of section, no mistakes.
pub const GOOD: &str = "\
application: test
late_after: 2h

topics:
  actions:      { key: actor_id,   value: event, partitions: 4 }
  counters:     { key: subject_id, value: counters, cleanup: compact }
  rankings:     { key: [board, subject_id], partition_by: board, value: ranking, cleanup: compact_and_delete, retention: 90d }
  verdicts:     { key: actor_id,   value: verdict, retention: 1d }
  dead-letters: { key: raw,        value: raw, partitions: 1, retention: 14d }

processors:
  valid:  { type: decode, from: actions, on_error: dead-letter }
  fresh:  { type: dedupe, from: valid }
  calm:   { type: limit,  from: fresh, rules: [
              { name: burst,  max: 60, per: 10s },
              { name: toggle, max: 1,  per: 5s, excess: hold } ] }
  likes:  { type: count,  from: calm, event: like, on_error: halt }
  views:  { type: count,  from: calm, event: view, windows: [1h, 1d] }
  totals: { type: total,  from: [likes, views], to: counters }
  hot:    { type: board,  from: [likes, views], score: { likes: 4, views: 0.1 }, top: 100, to: rankings }

sinks:
  database: { type: database, from: [counters, rankings], batch: { records_max: 500, linger: 100ms } }
  cache:    { type: cache, from: counters }
";

pub fn load(text: &str) -> Result<Topology<Test>, Diagnostics> {
    Topology::load("topology.yaml", text, REGISTRY, SINK_TYPES)
}

/// The good file with one part, which must be there exactly once, replaced.
pub fn changed(from: &str, to: &str) -> String {
    changed_in(GOOD, from, to)
}

/// A file with one part, which must be there exactly once, replaced.
pub fn changed_in(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "`{from}` is not there once");
    text.replace(from, to)
}
