//! A topology as a Mermaid flowchart.

use super::{Target, Topology};
use crate::processor::Dataflow;
use std::collections::BTreeMap;
use std::fmt::Write;

impl<D: Dataflow> Topology<D> {
    /// A flowchart with a subgraph per subtopology. Ids are numbered: names of the file may be words of Mermaid.
    pub fn describe_mermaid(&self) -> String {
        let mut chart = Chart { text: "flowchart LR\n".into(), topics: BTreeMap::new() };
        chart.topic(&self.root);
        for (i, subtopology) in self.subtopologies.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = writeln!(chart.text, "  subgraph s{i}[\"{}\"]", subtopology.name);
            for (at, node) in subtopology.nodes.iter().enumerate() {
                let _ = writeln!(chart.text, "    s{i}n{at}[\"{}<br>{}\"]", node.name, node.type_name);
            }
            chart.text.push_str("  end\n");
        }
        for (i, subtopology) in self.subtopologies.iter().enumerate() {
            let source = chart.topic(&subtopology.source);
            for entry in &subtopology.entries {
                let _ = writeln!(chart.text, "  {source} --> s{i}n{entry}");
            }
            if let Some(output) = subtopology.dead_letters {
                let topic = chart.topic(&subtopology.outputs[output].topic);
                let _ = writeln!(chart.text, "  s{i} -.-> {topic}");
            }
            for (at, node) in subtopology.nodes.iter().enumerate() {
                let by_type = D::EDGE_TYPES.iter().copied().zip(&node.routes);
                let named = node.named.iter().map(|named| (named.name.as_str(), &named.route));
                for (label, route) in by_type.chain(named) {
                    for target in route.targets() {
                        let to = match *target {
                            Target::Node(node) => format!("s{i}n{node}"),
                            Target::Hop(hop) => chart.topic(&subtopology.hops[hop].topic),
                            Target::Output(output) => chart.topic(&subtopology.outputs[output].topic),
                        };
                        let _ = writeln!(chart.text, "  s{i}n{at} -->|{label}| {to}");
                    }
                }
            }
        }
        for (i, sink) in self.sinks.iter().enumerate() {
            let _ = writeln!(chart.text, "  k{i}[[\"{}<br>{}\"]]", sink.name, sink.kind);
            for topic in &sink.from {
                let topic = chart.topic(topic);
                let _ = writeln!(chart.text, "  {topic} --> k{i}");
            }
        }
        chart.text
    }
}

struct Chart {
    text: String,
    topics: BTreeMap<String, usize>,
}

impl Chart {
    /// The id of a topic; declares it when it is first met.
    fn topic(&mut self, name: &str) -> String {
        let next = self.topics.len();
        let number = *self.topics.entry(name.to_owned()).or_insert(next);
        if number == next {
            let _ = writeln!(self.text, "  t{number}[(\"{name}\")]");
        }
        format!("t{number}")
    }
}
