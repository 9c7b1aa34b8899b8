//! `type: unique`: distinct actors per subject, for all time and in windows. Exact up to 256, then an estimate (see
//! [`crate::Sketch`]).

use crate::counting::windows;
use crate::dataflow::Actions;
use crate::edge::EdgeType;
use crate::event_schema;
use crate::facts::{Emit, MetricKind, MetricSpec, NodeFacts};
use crate::item::Item;
use crate::params::{code, one_of, params};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tally_model::{Change, ChangeBody, ValueType, check_event_type};
use tally_streams::processor::{Context, Processor, Reject};
use tally_streams::topology::{Blueprint, BuildSite, ConfigDuration, NodeType, ParamError, Params, Parsed, StoreSpec};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The node type.
pub const NODE_TYPE: NodeType<Actions> = NodeType {
    name: "unique",
    about: "counts the distinct actors of each subject",
    input: EdgeType::Event.name(),
    outputs: &[EdgeType::Change.name()],
    key: None,
    partitions: None,
    then: None,
    params: UniqueParams::specs,
    parse,
};

params! {
    /// Parameters of `type: unique`.
    pub struct UniqueParams {
        /// Type of the events whose actors are counted.
        #[param("event type")]
        pub event: String,
        /// Field that identifies a visitor.
        #[param(one_of([VisitorField::ActorId]))]
        pub by: VisitorField,
        /// Lengths of the fixed windows, each once. All time is always counted.
        #[param("list of durations", default = "none", limits = windows::LIMITS)]
        #[serde(default)]
        pub windows: Vec<ConfigDuration>,
        /// When the value of a window is written.
        #[param(one_of([Emit::OnUpdate, Emit::OnClose]), default = code(Emit::default()), limits = windows::EMIT)]
        pub emit: Option<Emit>,
    }
}

/// Field that identifies a visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VisitorField {
    /// The actor.
    ActorId,
}

/// A checked `unique` node.
pub struct Unique {
    node: String,
    event: String,
    windows_ms: Vec<i64>,
    emit: Emit,
}

fn parse(node: &str, params: &Params) -> Parsed<Actions> {
    let UniqueParams { event, by: VisitorField::ActorId, windows, emit } = params.parse()?;
    let mut errors = Vec::new();
    if let Err(rule) = check_event_type(&event) {
        errors.push(ParamError::new("event", rule));
    }
    let windows_ms = windows::lengths_ms(&windows, emit, &mut errors);
    let emit = emit.unwrap_or_default();
    match errors.is_empty() {
        true => Ok(Box::new(Unique { node: node.to_owned(), event, windows_ms, emit })),
        false => Err(errors),
    }
}

impl Blueprint<Actions> for Unique {
    fn facts(&self) -> NodeFacts {
        let metric = MetricSpec {
            name: self.node.clone(),
            kind: MetricKind::Unique,
            value: ValueType::Integer,
            totals: true,
            windows: windows::tumbling(&self.windows_ms),
            emit: self.emit,
        };
        NodeFacts { metrics: vec![metric], event_types: vec![self.event.clone()], ..NodeFacts::default() }
    }

    fn stores(&self) -> Vec<StoreSpec> {
        Vec::new()
    }

    fn check(&self, site: &BuildSite<'_, Actions>) -> Result<(), Vec<ParamError>> {
        let errors = event_schema::refuse_closed(site);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn build(&self, site: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        Box::new(UniqueProcessor {
            metric: self.node.as_str().into(),
            windows_ms: self.windows_ms.clone(),
            hash_seed: site.hash_seed,
            late_after_ms: site.settings.late_after.as_millis() as i64,
        })
    }
}

struct UniqueProcessor {
    metric: Arc<str>,
    windows_ms: Vec<i64>,
    hash_seed: u64,
    late_after_ms: i64,
}

impl Processor<Actions> for UniqueProcessor {
    fn process(&mut self, context: &mut Context<'_, Actions>, item: &Item) -> Result<(), Reject<Item>> {
        let Item::Event(action) = item else { return Ok(()) };
        let hash = xxh3_64_with_seed(action.event.actor_id().as_bytes(), self.hash_seed);
        // What comes so late may belong to windows that are closed.
        let is_late = context.clock_ms() - action.effective_ms > self.late_after_ms;
        let windows = self.windows_ms.iter().filter(|_| !is_late);
        let windows = windows.map(|length_ms| Some((*length_ms, windows::start_ms(action.effective_ms, *length_ms))));
        for window in std::iter::once(None).chain(windows) {
            let body = ChangeBody::Visitor { window, hash };
            let (subject_id, metric) = (action.event.subject_id.clone(), self.metric.clone());
            context.forward(Item::Change(Change { subject_id, metric, body }));
        }
        Ok(())
    }
}
