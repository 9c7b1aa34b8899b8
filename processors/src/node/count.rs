//! `type: count`: every event of a type counts one, for all time and in windows.

use crate::counting::counted_metric::{Act, CountedMetric};
use crate::counting::windows;
use crate::dataflow::Actions;
use crate::edge::EdgeType;
use crate::expression::{Expression, FIELDS};
use crate::facts::{Emit, MetricKind, MetricSpec, NodeFacts};
use crate::item::Item;
use crate::mistake::Mistake;
use crate::params::{code, one_of, params};
use tally_model::{VerdictKind, check_event_type};
use tally_streams::processor::{Context, Processor, Reject};
use tally_streams::topology::{Blueprint, BuildSite, ConfigDuration, NodeType, ParamError, Params, Parsed, StoreSpec};

/// The node type.
pub const NODE_TYPE: NodeType<Actions> = NodeType {
    name: "count",
    about: "every event of a type counts one",
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

/// A checked `count` node.
pub struct Count {
    node: String,
    event: String,
    condition: Option<Expression>,
    windows_ms: Vec<i64>,
    emit: Emit,
}

fn parse(node: &str, params: &Params) -> Parsed<Actions> {
    let CountParams { event, condition, windows, emit } = params.parse()?;
    let mut errors = Vec::new();
    if let Err(rule) = check_event_type(&event) {
        errors.push(ParamError::new("event", rule));
    }
    let condition = condition.map(|source| Expression::compile(&source, FIELDS)).transpose();
    let condition = condition.unwrap_or_else(|e| {
        errors.push(ParamError::new("where", e));
        None
    });
    let windows_ms = windows::lengths_ms(&windows, emit, &mut errors);
    let emit = emit.unwrap_or_default();
    match errors.is_empty() {
        true => Ok(Box::new(Count { node: node.to_owned(), event, condition, windows_ms, emit })),
        false => Err(errors),
    }
}

impl Blueprint<Actions> for Count {
    fn facts(&self) -> NodeFacts {
        let (name, windows_ms) = (self.node.clone(), self.windows_ms.clone());
        let metric = MetricSpec { name, kind: MetricKind::Sum, windows_ms, emit: self.emit };
        NodeFacts { metrics: vec![metric], event_types: vec![self.event.clone()], ..NodeFacts::default() }
    }

    fn stores(&self) -> Vec<StoreSpec> {
        Vec::new()
    }

    fn build(&self, site: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        Box::new(CountProcessor {
            node: self.node.clone(),
            metric: CountedMetric::new(self.node.as_str().into(), site),
            condition: self.condition.clone(),
            late_after_ms: site.settings.late_after.as_millis() as i64,
        })
    }
}

struct CountProcessor {
    node: String,
    metric: CountedMetric,
    condition: Option<Expression>,
    late_after_ms: i64,
}

impl Processor<Actions> for CountProcessor {
    fn process(&mut self, context: &mut Context<'_, Actions>, item: &Item) -> Result<(), Reject<Item>> {
        let Item::Event(action) = item else { return Ok(()) };
        if let Some(condition) = &self.condition {
            match condition.test(&action.event) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(Mistake { reason, detail }) => {
                    let reason = format!("`where` {reason}");
                    let verdict = action.verdict(context, VerdictKind::Dead, &self.node, reason.clone());
                    return Err(Reject { reason, detail, verdict: Some(Box::new(verdict)) });
                }
            }
        }
        let act = Act {
            event: &action.event,
            since_ms: action.effective_ms,
            total_only: context.clock_ms() - action.effective_ms > self.late_after_ms,
            delta: 1,
            group: self.metric.group_of(&action.event),
        };
        self.metric.forward(context, &action.event.subject_id, &act);
        Ok(())
    }
}
