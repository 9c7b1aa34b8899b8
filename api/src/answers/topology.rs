//! The graph that the process runs, as it is answered.

use serde::Serialize;
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
