//! The graph that the process runs, as it is answered.

use serde::Serialize;
use utoipa::ToSchema;

/// The pipeline as a graph: whoever draws it needs nothing else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct TopologyAnswer {
    /// Prefix of consumer groups, changelogs and repartition topics.
    pub application: String,
    /// The parts that tasks are made of, in the order records flow.
    pub subtopologies: Vec<GraphSubtopology>,
    /// Topics, processors and sinks.
    pub nodes: Vec<GraphNode>,
    /// Who passes what on to whom. What every processor writes to verdicts and dead letters is not among them.
    pub edges: Vec<GraphEdge>,
}

/// A part of the graph without a hop inside.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct GraphSubtopology {
    /// After what it reads.
    pub name: String,
    /// The topic it reads.
    pub source: String,
    /// What that topic is partitioned by.
    pub key: String,
    /// Its tasks.
    pub partitions: u32,
    /// Its state stores.
    pub stores: Vec<String>,
}

/// A topic, a processor or a sink.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct GraphNode {
    /// `topic:`, `processor:` or `sink:` and the name: what edges name it by.
    pub id: String,
    /// As in the file, in the metrics and in the log.
    pub name: String,
    /// What it is.
    pub kind: NodeKind,
    /// Of a processor and a sink its `type`; of a topic the type of its values.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Where a processor belongs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub subtopology: Option<String>,
    /// Of a topic.
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
    /// The edge type: what kind of values.
    pub value: String,
}
