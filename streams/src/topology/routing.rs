//! Where the values of each node go, and what a subtopology writes.

use super::cut::{Cut, Part};
use super::document::Span;
use super::edges::{DEAD_LETTERS, fits};
use super::fields::count;
use super::graph::Graph;
use super::node_section::NodeSection;
use super::report::Report;
use super::sections::Sections;
use super::topic_section::{Partitions, TopicSection};
use super::{Output, Repartition, Target};
use crate::processor::Dataflow;

/// Partitions of the root if the file has no number.
const PARTITIONS_DEFAULT: u32 = 16;

/// The outputs of a subtopology, and per node (in its order) and edge type the receivers.
pub(super) struct Routing {
    pub hops: Vec<Repartition>,
    pub outputs: Vec<Output>,
    pub dead_letters: Option<usize>,
    /// Nodes, in its order, that read its source.
    pub entries: Vec<usize>,
    pub routes: Vec<Vec<Vec<Target>>>,
    /// Per node and named output the receivers.
    pub named: Vec<Vec<Vec<Target>>>,
}

/// What routes are made from.
pub(super) struct Router<'a, 'r, D: Dataflow> {
    pub sections: &'a Sections<'r, D>,
    pub graph: &'a Graph,
    pub cut: &'a Cut,
    /// Partitions of the root, and of every task's source without another number.
    pub partitions: u32,
}

/// How many partitions the root has; None where the file is wrong about it.
pub(super) fn root_partitions<D: Dataflow>(sections: &Sections<'_, D>, root: usize) -> Option<u32> {
    partitions_of(&sections.topics[root], PARTITIONS_DEFAULT)
}

/// How many partitions a topic has.
pub(super) fn partitions_of(topic: &TopicSection, of_root: u32) -> Option<u32> {
    match topic.partitions {
        Partitions::AsRoot => Some(of_root),
        Partitions::Given(partitions, _) => Some(partitions),
        Partitions::Wrong => None,
    }
}

impl<D: Dataflow> Router<'_, '_, D> {
    /// Routes one subtopology; reports topics that it cannot write because of their partitions.
    pub fn route(&self, part: usize, report: &mut Report<'_>) -> Routing {
        let here = &self.cut.parts[part];
        let hops = (self.cut.parts.iter().filter(|other| other.upstream == Some(part)))
            .map(|other| Repartition {
                topic: other.source.as_str().into(),
                by: other.key.clone(),
                partitions: other.partitions.unwrap_or(self.partitions),
            })
            .collect();
        let mut routing = Routing {
            hops,
            outputs: Vec::new(),
            dead_letters: None,
            entries: Vec::new(),
            routes: Vec::new(),
            named: Vec::new(),
        };
        for (at, node) in here.nodes.iter().enumerate() {
            if !self.graph.nodes_read(*node).iter().any(|read| self.cut.homes[*read] == Some(part)) {
                routing.entries.push(at);
            }
            let mut routes = self.routes_to_nodes(*node, part, &routing);
            for topic in self.topics_of(*node) {
                let output = self.output(topic, here, &mut routing, report);
                let edge_type = edge_type_of::<D>(topic.value.as_deref());
                if let Some(targets) = edge_type.and_then(|edge_type| routes.get_mut(edge_type)) {
                    targets.push(Target::Output(output));
                }
            }
            routing.routes.push(routes);
            routing.named.push(self.named_routes(*node, part, report));
        }
        if let Some(topic) = self.topic(DEAD_LETTERS, D::RAW) {
            routing.dead_letters = Some(self.output(topic, here, &mut routing, report));
        }
        routing
    }

    fn routes_to_nodes(&self, node: usize, part: usize, routing: &Routing) -> Vec<Vec<Target>> {
        let mut routes = vec![Vec::new(); D::EDGE_TYPES.len()];
        let outputs = self.sections.nodes[node].outputs().unwrap_or_default();
        for (reader, section) in self.sections.nodes.iter().enumerate() {
            if !self.graph.reads_of(reader, node).any(|output| output.is_none()) {
                continue;
            }
            let takes = section.input().filter(|input| outputs.contains(input));
            let (Some(edge_type), Some(home)) = (edge_type_of::<D>(takes), self.cut.homes[reader]) else { continue };
            let target = if home == part {
                let at = self.cut.parts[part].nodes.iter().position(|other| *other == reader);
                at.map(Target::Node)
            } else {
                let source = &self.cut.parts[home].source;
                routing.hops.iter().position(|hop| *hop.topic == **source).map(Target::Hop)
            };
            // Readers behind the same hop share it.
            if let Some(target) = target.filter(|target| !routes[edge_type].contains(target)) {
                routes[edge_type].push(target);
            }
        }
        routes
    }

    /// The readers of each named output. They keep the key: behind a hop, values do not show which output they come from.
    fn named_routes(&self, node: usize, part: usize, report: &mut Report<'_>) -> Vec<Vec<Target>> {
        let section = &self.sections.nodes[node];
        let mut routes = vec![Vec::new(); section.named_outputs.len()];
        for (reader, other) in self.sections.nodes.iter().enumerate() {
            let fits = |output: &usize| fits(other, section, Some(*output));
            for output in self.graph.reads_of(reader, node).flatten().filter(fits) {
                let at = self.cut.parts[part].nodes.iter().position(|other| *other == reader);
                match at {
                    Some(at) => routes[output].push(Target::Node(at)),
                    None if self.cut.homes[reader].is_some() => {
                        let name = section.name_of(&section.named_outputs[output]);
                        let message = format!("node `{}` reads `{name}` by another key", other.name.text);
                        let span = other.from.iter().flatten().find(|from| from.text == name);
                        let span = span.map_or(other.name.span, |from| from.span);
                        report.add_with_help(
                            span,
                            message,
                            "read it with a node that keeps the key, and read that node",
                        );
                    }
                    None => {}
                }
            }
        }
        routes
    }

    /// Topics that a node writes: those of its `to`, and the side output.
    fn topics_of(&self, node: usize) -> Vec<&TopicSection> {
        let section: &NodeSection<'_, D> = &self.sections.nodes[node];
        let written = self.graph.writes[node].iter().map(|topic| &self.sections.topics[*topic]);
        // A topic of another type is reported elsewhere, and its partitions are no mistake of this check.
        let takes = |topic: &&TopicSection| {
            topic.value.as_deref().zip(section.outputs()).is_none_or(|(value, outputs)| outputs.contains(&value))
        };
        let mut topics: Vec<&TopicSection> = written.filter(takes).collect();
        let side = D::SIDE_OUTPUT;
        let writes_side = section.outputs().is_some_and(|outputs| outputs.contains(&side.value));
        if let Some(side) = self.topic(side.topic, side.value).filter(|_| writes_side)
            && !topics.iter().any(|topic| topic.name == side.name)
        {
            topics.push(side);
        }
        topics
    }

    fn topic(&self, name: &str, value: &str) -> Option<&TopicSection> {
        let mut topics = self.sections.topics.iter();
        topics.find(|topic| topic.name.text == name && topic.value.as_deref() == Some(value))
    }

    /// The output for a topic, one per subtopology.
    fn output(&self, topic: &TopicSection, here: &Part, routing: &mut Routing, report: &mut Report<'_>) -> usize {
        let name = topic.name.text.as_str();
        if let Some(at) = routing.outputs.iter().position(|output| *output.topic == *name) {
            return at;
        }
        let partitions = partitions_of(topic, self.partitions).unwrap_or(self.partitions);
        let raw = topic.value.as_deref() == Some(D::RAW);
        // Dead letters are written by tasks of the root alone.
        let tasks = here.partitions.filter(|_| !raw).unwrap_or(self.partitions);
        let same_number = partitions == tasks;
        if !same_number && !raw {
            report_partitions(topic, partitions, here, tasks, report);
        }
        // The side output is keyed like the root: behind a hop its values leave a task for some other partition.
        let elsewhere = name == D::SIDE_OUTPUT.topic && here.key != self.cut.parts[0].key;
        let co_partitioned = same_number && !elsewhere;
        routing.outputs.push(Output { topic: name.into(), partitions, co_partitioned });
        routing.outputs.len() - 1
    }
}

fn report_partitions(topic: &TopicSection, partitions: u32, here: &Part, tasks: u32, report: &mut Report<'_>) {
    let span: Span = match topic.partitions {
        Partitions::Given(_, span) => span,
        _ => topic.name.span,
    };
    let message = format!(
        "topic `{}` has {}, but subtopology `{}`, which writes it, reads {}: progress is kept per partition",
        topic.name.text,
        count(partitions, "partition"),
        here.name,
        tasks
    );
    report.add_with_help(span, message, format!("`partitions: {tasks}`"));
}

fn edge_type_of<D: Dataflow>(name: Option<&str>) -> Option<usize> {
    D::EDGE_TYPES.iter().position(|edge_type| Some(*edge_type) == name)
}
