//! The graph: names of the file resolved to nodes and topics, in the order records flow.

use super::edges::{DEAD_LETTERS, fits};
use super::fields::Name;
use super::node_section::NodeSection;
use super::report::Report;
use super::sections::{Declared, Sections};
use super::suggestion;
use crate::processor::Dataflow;
use std::collections::BTreeSet;

/// The edges of the file.
pub(super) struct Graph {
    /// Per node; None where the file is wrong about it.
    pub inputs: Vec<Option<Input>>,
    /// Per node, for each node that it reads: the named output that it reads there.
    outputs_read: Vec<Vec<Option<usize>>>,
    /// Per node: the topics it writes, as far as they exist.
    pub writes: Vec<Vec<usize>>,
    /// The topic that is read from outside.
    pub root: Option<usize>,
    /// Nodes in the order records flow, without those in or behind a circle.
    pub order: Vec<usize>,
    /// Names in `from` and `to` that are unknown or ambiguous.
    pub unknown: Vec<String>,
}

/// What a node reads.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Input {
    Topic(usize),
    Nodes(Vec<usize>),
}

impl Graph {
    /// Resolves every name, and reports invalid ones.
    pub fn resolve<D: Dataflow>(sections: &Sections<'_, D>, report: &mut Report<'_>) -> Self {
        let mut graph = Self {
            inputs: Vec::new(),
            outputs_read: Vec::new(),
            writes: Vec::new(),
            root: None,
            order: Vec::new(),
            unknown: Vec::new(),
        };
        for node in &sections.nodes {
            let writes = graph.writes_of(node, sections, report);
            graph.writes.push(writes);
            let (input, outputs) = graph.input_of(node, sections, report).unzip();
            graph.inputs.push(input);
            graph.outputs_read.push(outputs.unwrap_or_default());
        }
        graph.find_root(sections, report);
        graph.sort(sections, report);
        graph
    }

    /// The nodes that a node reads.
    pub fn nodes_read(&self, node: usize) -> &[usize] {
        match &self.inputs[node] {
            Some(Input::Nodes(nodes)) => nodes,
            _ => &[],
        }
    }

    /// The named outputs that a node reads, in the order of [`Graph::nodes_read`]; None where it reads the node itself.
    pub fn outputs_read(&self, node: usize) -> &[Option<usize>] {
        &self.outputs_read[node]
    }

    /// Per node, whether values of every kind get there: no node on some way from the root takes only some kinds.
    pub fn open<D: Dataflow>(&self, sections: &Sections<'_, D>) -> Vec<bool> {
        let mut open = vec![false; self.inputs.len()];
        for node in &self.order {
            let passes = |read: &usize| open[*read] && D::kinds_taken(&sections.nodes[*read].facts).is_empty();
            open[*node] = self.nodes_read(*node).is_empty() || self.nodes_read(*node).iter().any(passes);
        }
        open
    }

    /// The outputs of a node that another one reads.
    pub fn reads_of(&self, reader: usize, read: usize) -> impl Iterator<Item = Option<usize>> {
        let reads = self.nodes_read(reader).iter().zip(self.outputs_read(reader));
        reads.filter(move |(node, _)| **node == read).map(|(_, output)| *output)
    }

    fn input_of<D: Dataflow>(
        &mut self,
        node: &NodeSection<'_, D>,
        sections: &Sections<'_, D>,
        report: &mut Report<'_>,
    ) -> Option<(Input, Vec<Option<usize>>)> {
        let (mut topics, mut nodes, mut sound) = (Vec::new(), Vec::new(), true);
        for name in node.from.as_deref()? {
            match sections.names.get(&name.text) {
                Some(Declared::Topic(topic)) => topics.push((*topic, name)),
                Some(Declared::Node(node)) => nodes.push((*node, None, name)),
                Some(Declared::Output(node, output)) => nodes.push((*node, Some(*output), name)),
                other => {
                    match other {
                        Some(Declared::Sink) => {
                            let message = format!("`{}` is a sink; a node reads a topic or nodes", name.text);
                            report.add(name.span, message, None);
                        }
                        Some(Declared::Unsent(of, sender)) => {
                            let of = &sections.nodes[*of].name.text;
                            let message = format!("`{}` comes from the `{sender}` that reads `{of}`", name.text);
                            let help = format!("let exactly one node of type `{sender}` read `{of}`");
                            report.add_with_help(name.span, message, help);
                        }
                        None if sections.complete && !sections.may_be_output(&name.text) => {
                            let others = sections.inputs().filter(|other| *other != node.name.text);
                            let help = suggestion::help(&name.text, others, "inputs");
                            report.add(name.span, format!("unknown input `{}`", name.text), help);
                        }
                        _ => {}
                    }
                    self.unknown.push(name.text.clone());
                    sound = false;
                }
            }
        }
        let help = "`from` is one topic, or one or more nodes";
        match (topics.as_slice(), nodes.as_slice()) {
            ([(_, topic), ..], [(.., other), ..]) => {
                let message =
                    format!("node `{}` reads topic `{}` and node `{}`", node.name.text, topic.text, other.text);
                report.add_with_help(topic.span.max(other.span), message, help);
                None
            }
            ([(_, first), (_, second), ..], []) => {
                let message =
                    format!("node `{}` reads two topics, `{}` and `{}`", node.name.text, first.text, second.text);
                report.add_with_help(second.span, message, help);
                None
            }
            _ if !sound => None,
            ([(topic, _)], []) => Some((Input::Topic(*topic), Vec::new())),
            _ => {
                let (nodes, outputs) = nodes.into_iter().map(|(node, output, _)| (node, output)).unzip();
                Some((Input::Nodes(nodes), outputs))
            }
        }
    }

    fn writes_of<D: Dataflow>(
        &mut self,
        node: &NodeSection<'_, D>,
        sections: &Sections<'_, D>,
        report: &mut Report<'_>,
    ) -> Vec<usize> {
        let mut writes = Vec::new();
        for name in node.to.iter().flatten() {
            let (message, help) = match sections.names.get(&name.text) {
                Some(Declared::Topic(topic)) => {
                    writes.push(*topic);
                    continue;
                }
                Some(Declared::Node(_) | Declared::Output(..) | Declared::Unsent(..)) => {
                    let help = "a node names what it reads in its own `from`";
                    (format!("`{}` is a node; `to` names topics", name.text), Some(help.to_owned()))
                }
                Some(Declared::Sink) => {
                    let help = "a sink names the topics it reads in its own `from`";
                    (format!("`{}` is a sink; `to` names topics", name.text), Some(help.to_owned()))
                }
                Some(Declared::Ambiguous) => (String::new(), None),
                None => {
                    let topics = sections.topics.iter().map(|topic| topic.name.text.as_str());
                    (format!("unknown topic `{}`", name.text), suggestion::help(&name.text, topics, "topics"))
                }
            };
            self.unknown.push(name.text.clone());
            if !message.is_empty() && sections.complete {
                report.add(name.span, message, help);
            }
        }
        writes
    }

    fn find_root<D: Dataflow>(&mut self, sections: &Sections<'_, D>, report: &mut Report<'_>) {
        let reads: Vec<(usize, usize)> = (self.inputs.iter().enumerate())
            .filter_map(|(node, input)| match input {
                Some(Input::Topic(topic)) => Some((node, *topic)),
                _ => None,
            })
            .collect();
        let writer = |topic: usize| self.writes.iter().position(|writes| writes.contains(&topic));
        let root = reads.iter().find(|(_, topic)| writer(*topic).is_none()).or(reads.first()).copied();
        let Some((first_reader, root)) = root else { return };
        self.root = Some(root);
        let root_name = &sections.topics[root].name.text;
        let mut root_in_doubt = false;
        if [D::SIDE_OUTPUT.topic, DEAD_LETTERS].contains(&root_name.as_str())
            && let Some(name) = input_name(&sections.nodes[first_reader], 0)
        {
            let message = format!("topic `{root_name}` is written by every node, so no node can read it");
            report.add_with_help(name.span, message, "read the topic that events come from");
            root_in_doubt = true;
        }
        for (node, topic) in reads.iter().filter(|(_, topic)| *topic != root) {
            let Some(name) = input_name(&sections.nodes[*node], 0) else { continue };
            match writer(*topic) {
                Some(writer) => {
                    let writer = &sections.nodes[writer].name.text;
                    let message = format!("topic `{}` is written by node `{writer}`", name.text);
                    report.add_with_help(name.span, message, format!("read the node: `from: {writer}`"));
                }
                None => {
                    let first_reader = &sections.nodes[first_reader].name.text;
                    let message = format!("topic `{}` is read, but `{first_reader}` reads `{root_name}`", name.text);
                    report.add_with_help(name.span, message, "exactly one topic is read from outside");
                }
            }
        }
        for node in sections.nodes.iter() {
            for name in node.to.iter().flatten().filter(|name| name.text == *root_name) {
                let message = format!("topic `{}` is read from outside; no node can write it", name.text);
                report.add_with_help(name.span, message, "declare another topic for what this node gives");
                // Perhaps the reader should read another one.
                root_in_doubt = true;
            }
        }
        if root_in_doubt {
            // Stands for no topic in particular.
            self.unknown.push(String::new());
        }
    }

    /// Kahn's algorithm; among nodes that could come next the first of the file does.
    fn sort<D: Dataflow>(&mut self, sections: &Sections<'_, D>, report: &mut Report<'_>) {
        let mut readers = vec![Vec::new(); self.inputs.len()];
        let mut waits: Vec<usize> = (0..self.inputs.len()).map(|node| self.nodes_read(node).len()).collect();
        for node in 0..self.inputs.len() {
            self.nodes_read(node).iter().for_each(|read| readers[*read].push(node));
        }
        let mut ready: BTreeSet<usize> = (0..waits.len()).filter(|node| waits[*node] == 0).collect();
        while let Some(node) = ready.pop_first() {
            self.order.push(node);
            for reader in &readers[node] {
                waits[*reader] -= 1;
                if waits[*reader] == 0 {
                    ready.insert(*reader);
                }
            }
        }
        self.report_circles(&waits, sections, report);
    }

    /// A node that still waits is in a cycle or behind one: following any waiting input leads into it.
    fn report_circles<D: Dataflow>(&self, waits: &[usize], sections: &Sections<'_, D>, report: &mut Report<'_>) {
        let mut seen_from: Vec<Option<usize>> = vec![None; waits.len()];
        for start in (0..waits.len()).filter(|node| waits[*node] > 0) {
            let (mut path, mut node) = (Vec::new(), start);
            while seen_from[node].is_none() {
                seen_from[node] = Some(start);
                path.push(node);
                let Some(next) = self.nodes_read(node).iter().find(|read| waits[**read] > 0) else { break };
                node = *next;
            }
            if seen_from[node] == Some(start)
                && let Some(at) = path.iter().position(|passed| *passed == node)
            {
                self.report_circle(&path[at..], sections, report);
            }
        }
    }

    fn report_circle<D: Dataflow>(&self, circle: &[usize], sections: &Sections<'_, D>, report: &mut Report<'_>) {
        let first = circle.iter().enumerate().min_by_key(|(_, node)| **node).map_or(0, |(at, _)| at);
        let name = |at: usize| &sections.nodes[circle[(first + at) % circle.len()]].name;
        let reads = |at: usize| {
            let (reader, read) = (circle[at], circle[(at + 1) % circle.len()]);
            self.reads_of(reader, read).any(|output| fits(&sections.nodes[reader], &sections.nodes[read], output))
        };
        if circle.len() > 1 && (0..circle.len()).any(|at| !reads(at)) {
            // A reader named the wrong node, and gets an error.
            return;
        }
        let names: Vec<String> = (0..=circle.len()).map(|at| format!("`{}`", name(at).text)).collect();
        let message = match circle {
            [_] => format!("node {} reads itself", names[0]),
            _ => format!("nodes read each other in a circle: {}", names.join(" reads ")),
        };
        let names_next = |from: &&Name| from.text.split('.').next() == Some(name(1).text.as_str());
        let from = sections.nodes[circle[first]].from.iter().flatten().find(names_next);
        // An output that a reader of the node sends does not show whom it is read from.
        let sent = circle.iter().flat_map(|node| sections.nodes[*node].from.iter().flatten()).find_map(|from| {
            let Some(Declared::Output(sender, place)) = sections.names.get(&from.text) else { return None };
            let sender = circle.contains(sender).then(|| &sections.nodes[*sender])?;
            let is_of_other = sender.named_outputs[*place].name == from.text;
            is_of_other.then(|| {
                (
                    from,
                    format!(
                        "`{}` comes from `{}`, which cannot read what follows from it",
                        from.text, sender.name.text
                    ),
                )
            })
        });
        match sent {
            Some((from, help)) => report.add_with_help(from.span, message, help),
            None => {
                let span = from.map_or(name(0).span, |from| from.span);
                report.add_with_help(span, message, "records flow one way only");
            }
        }
    }
}

/// The name behind a node's input, by its place in `from`.
pub(super) fn input_name<'s, D: Dataflow>(node: &'s NodeSection<'_, D>, at: usize) -> Option<&'s Name> {
    node.from.as_ref().and_then(|from| from.get(at))
}
