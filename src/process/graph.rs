//! The topology as the graph that the API serves.

use std::collections::BTreeMap;
use std::sync::Arc;
use tally_api::{GraphEdge, GraphNode, GraphSubtopology, NodeKind, TopologyAnswer};
use tally_model::OutputType;
use tally_processors::Actions;
use tally_streams::processor::Dataflow;
use tally_streams::topology::{Subtopology, Target, Topology};

/// The whole graph, in the order records flow.
pub fn graph(topology: &Topology<Actions>) -> TopologyAnswer {
    let mut graph = TopologyAnswer { application: topology.settings.application.clone(), ..TopologyAnswer::default() };
    graph.nodes.extend(topology.topics.iter().map(|(name, topic)| GraphNode {
        partitions: Some(topic.spec.partitions),
        ..node(topic_id(name), name, NodeKind::Topic, &topic.value)
    }));
    for subtopology in &topology.subtopologies {
        add(&mut graph, subtopology);
    }
    for sink in &topology.sinks {
        let id = format!("sink:{}", sink.name);
        for topic in &sink.from {
            let value = topology.topics.get(topic).map_or("", |topic| &topic.value);
            graph.edges.push(edge(topic_id(topic), id.clone(), value));
        }
        graph.nodes.push(node(id, &sink.name, NodeKind::Sink, sink.kind));
    }
    graph
}

fn add(graph: &mut TopologyAnswer, subtopology: &Arc<Subtopology<Actions>>) {
    graph.subtopologies.push(GraphSubtopology {
        name: subtopology.name.to_string(),
        source: subtopology.source.to_string(),
        key: subtopology.key.clone(),
        partitions: subtopology.partitions,
        stores: subtopology.stores.iter().map(|store| store.name.clone()).collect(),
    });
    // Two nodes may write to one hop, and a node may write several types to one topic.
    let mut edges = BTreeMap::new();
    for entry in &subtopology.entries {
        let node = &subtopology.nodes[*entry];
        edges.insert((topic_id(&subtopology.source), processor_id(&node.name)), node.input);
    }
    for from in &subtopology.nodes {
        graph.nodes.push(GraphNode {
            subtopology: Some(subtopology.name.to_string()),
            ..node(processor_id(&from.name), &from.name, NodeKind::Processor, from.type_name)
        });
        // Every processor may write verdicts; drawn, they would hide everything else.
        let named = from.named.iter().map(|named| (&named.value, &named.route));
        let routes = Actions::EDGE_TYPES.iter().zip(&from.routes).chain(named);
        for (value, route) in routes.filter(|(value, _)| **value != OutputType::Verdict.name()) {
            for target in route.targets() {
                let to = match *target {
                    Target::Node(node) => processor_id(&subtopology.nodes[node].name),
                    Target::Hop(hop) => topic_id(&subtopology.hops[hop].topic),
                    Target::Output(output) => topic_id(&subtopology.outputs[output].topic),
                };
                edges.insert((processor_id(&from.name), to), value);
            }
        }
    }
    graph.edges.extend(edges.into_iter().map(|((from, to), value)| edge(from, to, value)));
    graph.nodes.extend(subtopology.hops.iter().map(|hop| GraphNode {
        partitions: Some(hop.partitions),
        ..node(topic_id(&hop.topic), &hop.topic, NodeKind::Repartition, &hop.by)
    }));
}

fn node(id: String, name: &str, kind: NodeKind, type_name: &str) -> GraphNode {
    GraphNode { id, name: name.to_owned(), kind, type_name: type_name.to_owned(), subtopology: None, partitions: None }
}

fn edge(from: String, to: String, value: &str) -> GraphEdge {
    GraphEdge { from, to, value: value.to_owned() }
}

fn topic_id(name: &str) -> String {
    format!("topic:{name}")
}

fn processor_id(name: &str) -> String {
    format!("processor:{name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tally_processors::REGISTRY;
    use tally_sinks::SINK_TYPES;

    #[test]
    fn every_edge_joins_nodes_and_everything_is_reached_from_the_root() {
        let text = include_str!("../../topology.yaml");
        let graph = graph(&Topology::load("topology.yaml", text, REGISTRY, SINK_TYPES).unwrap());
        let ids: BTreeSet<_> = graph.nodes.iter().map(|node| node.id.as_str()).collect();
        assert_eq!(ids.len(), graph.nodes.len(), "an id twice");
        for edge in &graph.edges {
            assert!(ids.contains(&*edge.from) && ids.contains(&*edge.to), "{edge:?}");
        }
        let mut reached = BTreeSet::from(["topic:user-actions"]);
        while let Some(edge) = graph.edges.iter().find(|e| reached.contains(&*e.from) && !reached.contains(&*e.to)) {
            reached.insert(&edge.to);
        }
        let beside: Vec<_> = ids.difference(&reached).collect();
        assert_eq!(beside, [&"topic:dead-letters", &"topic:verdicts"], "only these have no edge of their own");
        let joins = |from: &str, to: &str, value: &str| graph.edges.contains(&edge(from.into(), to.into(), value));
        assert!(joins("processor:valid", "processor:fresh", "event"));
        assert!(joins("processor:likes", "topic:tally-user-actions-by-subject_id-repartition", "change"));
        assert!(joins("topic:counters", "sink:database", "counters"));
        assert!(joins("processor:hot.merge", "topic:rankings", "ranking"));
        assert_eq!(graph.subtopologies[0].name, "user-actions");
    }
}
