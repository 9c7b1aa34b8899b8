//! The graph that the process runs, as it is answered.

use super::window::window_name;
use crate::config::{ApiConfig, Metric};
use serde::Serialize;
use tally_model::ValueType;
use utoipa::ToSchema;

/// The pipeline as a graph, with everything that is needed to draw it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct TopologyAnswer {
    /// Prefix of consumer groups, changelogs and repartition topics.
    pub application: String,
    /// The parts that tasks consist of, in the order of the data flow.
    pub subtopologies: Vec<GraphSubtopology>,
    /// Topics, processors and sinks.
    pub nodes: Vec<GraphNode>,
    /// The data flow between nodes, without the edges of every processor to verdicts and dead letters.
    pub edges: Vec<GraphEdge>,
    /// The metrics of subjects, by name.
    pub metrics: Vec<GraphMetric>,
}

/// A metric of subjects.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct GraphMetric {
    /// Its name.
    pub name: String,
    /// What its values are, apart from null.
    #[serde(rename = "type")]
    pub value_type: GraphValueType,
    /// Decimals: the digits behind the point.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub scale: Option<u8>,
    /// The windows that it has besides all time, as requests name them.
    pub windows: Vec<String>,
}

/// What the values of a metric are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GraphValueType {
    /// Integers.
    Integer,
    /// Decimals.
    Decimal,
    /// Texts.
    Text,
}

impl TopologyAnswer {
    /// With the metrics of the same topology.
    pub fn with_metrics(self, config: &ApiConfig) -> Self {
        Self { metrics: config.metrics.iter().map(|metric| GraphMetric::of(metric, config)).collect(), ..self }
    }
}

impl GraphMetric {
    fn of(metric: &Metric, config: &ApiConfig) -> Self {
        let (value_type, scale) = match metric.value_type {
            ValueType::Integer => (GraphValueType::Integer, None),
            ValueType::Decimal { scale } => (GraphValueType::Decimal, Some(scale)),
            ValueType::Text => (GraphValueType::Text, None),
        };
        let windows = config.windows.iter().filter(|(_, metrics)| metrics.contains(&metric.name));
        let windows = windows.map(|(window, _)| window_name(*window)).collect();
        Self { name: metric.name.clone(), value_type, scale, windows }
    }
}

/// A part of the graph between repartition topics.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct GraphSubtopology {
    /// Named after its source.
    pub name: String,
    /// The topic it reads.
    pub source: String,
    /// The key that partitions the source.
    pub key: String,
    /// Its tasks.
    pub partitions: u32,
    /// Its state stores.
    pub stores: Vec<String>,
}

/// A topic, a processor or a sink.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct GraphNode {
    /// `topic:`, `processor:` or `sink:` and the name, as referenced by edges.
    pub id: String,
    /// As in the file, in the metrics and in the log.
    pub name: String,
    /// What it is.
    pub kind: NodeKind,
    /// Processors and sinks: their `type`; topics: the type of their values.
    #[serde(rename = "type")]
    pub type_name: String,
    /// The subtopology of a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub subtopology: Option<String>,
    /// Partitions of a topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub partitions: Option<u32>,
}

/// What a node of the graph is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// A topic of the file.
    Topic,
    /// A topic between two subtopologies.
    Repartition,
    /// A processor.
    Processor,
    /// A sink.
    Sink,
}

/// Something that flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct GraphEdge {
    /// The id of a node.
    pub from: String,
    /// The id of a node.
    pub to: String,
    /// The type of the values.
    pub value: String,
}
