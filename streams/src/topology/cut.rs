//! Cuts the graph into subtopologies, where the key changes.

use super::edges::fits;
use super::graph::{Graph, Input, input_name};
use super::report::Report;
use super::sections::Sections;
use super::topic_section::{TopicSection, is_topic_name};
use crate::processor::Dataflow;
use std::collections::BTreeMap;

/// Each is a repartition topic, a changelog and a task per partition.
const PARTS_MAX: usize = 64;

/// The subtopologies, and the nodes of each.
pub(super) struct Cut {
    /// The root's first; each behind the one it is fed from.
    pub parts: Vec<Part>,
    /// Per node of the file; None where the file is wrong about it.
    pub homes: Vec<Option<usize>>,
}

/// A subtopology to be.
pub(super) struct Part {
    pub name: String,
    /// The topic it reads.
    pub source: String,
    /// Where that is written; None for the root.
    pub upstream: Option<usize>,
    /// What its source is keyed by.
    pub key: String,
    /// How many partitions its source has; None: as many as the root.
    pub partitions: Option<u32>,
    /// Nodes of the file, in the order records flow.
    pub nodes: Vec<usize>,
}

/// A node whose inputs are in two subtopologies: places in its `from`, and the parts they are in.
type Torn = (usize, [(usize, usize); 2]);

impl Cut {
    /// None where no node reads a topic.
    pub fn new<D: Dataflow>(sections: &Sections<'_, D>, graph: &Graph, report: &mut Report<'_>) -> Option<Self> {
        let root = &sections.topics[graph.root?];
        let root_part = Part {
            name: root.name.text.clone(),
            source: root.name.text.clone(),
            upstream: None,
            key: root.key_text(),
            partitions: None,
            nodes: Vec::new(),
        };
        let mut cut = Self { parts: vec![root_part], homes: vec![None; sections.nodes.len()] };
        let mut torn = Vec::new();
        for node in graph.order.iter().copied() {
            if let Some(base) = cut.base(node, graph, &mut torn)
                && let Some(node_type) = sections.nodes[node].node_type
            {
                let home = match &sections.nodes[node].key {
                    Some(key) if *key != cut.parts[base].key || D::REKEYED.contains(&node_type.input) => {
                        cut.behind(base, key, node_type.partitions)
                    }
                    _ => Some(base),
                };
                match home {
                    Some(home) => cut.parts[home].nodes.push(node),
                    None => {
                        let message = format!("this would be subtopology number {}", PARTS_MAX + 1);
                        report.add_with_help(sections.nodes[node].name.span, message, "use fewer keys");
                    }
                }
                cut.homes[node] = home;
            }
        }
        cut.name_all(&sections.settings.application);
        for (node, inputs) in torn {
            cut.report_torn(node, inputs, sections, graph, report);
        }
        cut.check_names(sections, report);
        Some(cut)
    }

    /// The subtopology that a node's inputs are in.
    fn base(&self, node: usize, graph: &Graph, torn: &mut Vec<Torn>) -> Option<usize> {
        let reads = match graph.inputs[node].as_ref()? {
            Input::Topic(topic) => return (graph.root == Some(*topic)).then_some(0),
            Input::Nodes(reads) => reads,
        };
        let homes: Option<Vec<usize>> = reads.iter().map(|read| self.homes[*read]).collect();
        let homes = homes?;
        let first = *homes.first()?;
        match homes.iter().position(|home| *home != first) {
            None => Some(first),
            Some(at) => {
                torn.push((node, [(0, first), (at, homes[at])]));
                None
            }
        }
    }

    /// One repartition topic for a subtopology and key, so one subtopology that reads it. None where there are too many.
    /// Where its nodes want different numbers of partitions, the smallest is enough for all.
    fn behind(&mut self, base: usize, key: &str, partitions: Option<u32>) -> Option<usize> {
        let found = self.parts.iter().position(|part| part.upstream == Some(base) && part.key == key);
        if found.is_none() && self.parts.len() < PARTS_MAX {
            let (name, source) = (String::new(), String::new());
            let (key, nodes) = (key.to_owned(), Vec::new());
            self.parts.push(Part { name, source, upstream: Some(base), key, partitions, nodes });
            return Some(self.parts.len() - 1);
        }
        if let Some(part) = found.map(|found| &mut self.parts[found]) {
            part.partitions = part.partitions.into_iter().chain(partitions).min();
        }
        found
    }

    /// Names each subtopology `by-<key>`. If several have the same key, the one nearest to the root, then the first by
    /// name, gets that name, and the others are `<source>-by-<key>`. So a name depends on the graph, never on the order
    /// of the file.
    fn name_all(&mut self, application: &str) {
        let mut names: BTreeMap<String, usize> = BTreeMap::from([(self.parts[0].name.clone(), 0)]);
        let mut level = vec![0];
        while !level.is_empty() {
            let mut next: Vec<usize> = (0..self.parts.len())
                .filter(|part| self.parts[*part].upstream.is_some_and(|upstream| level.contains(&upstream)))
                .collect();
            next.sort_by_key(|part| {
                let upstream = self.parts[*part].upstream.map(|upstream| self.parts[upstream].name.clone());
                (upstream, self.parts[*part].key.clone())
            });
            for part in &next {
                let upstream = self.parts[*part].upstream.map(|upstream| self.parts[upstream].name.clone());
                let (upstream, key) = (upstream.unwrap_or_default(), self.parts[*part].key.clone());
                let short = format!("by-{key}");
                let name = if names.contains_key(&short) { format!("{upstream}-{short}") } else { short };
                names.insert(name.clone(), *part);
                self.parts[*part].name = name;
                self.parts[*part].source = format!("{application}-{upstream}-by-{key}-repartition");
            }
            level = next;
        }
    }

    fn report_torn<D: Dataflow>(
        &self,
        node: usize,
        [(a, in_a), (b, in_b)]: [(usize, usize); 2],
        sections: &Sections<'_, D>,
        graph: &Graph,
        report: &mut Report<'_>,
    ) {
        let (reads, outputs) = (graph.nodes_read(node), graph.outputs_read(node));
        let node = &sections.nodes[node];
        let fits = |at: usize| reads.get(at).is_some_and(|read| fits(node, &sections.nodes[*read], outputs[at]));
        if !fits(a) || !fits(b) {
            // It named the wrong node, and gets an error.
            return;
        }
        let (Some(a), Some(b)) = (input_name(node, a), input_name(node, b)) else { return };
        let message = format!(
            "node `{}` reads `{}` in subtopology `{}` and `{}` in `{}`",
            node.name.text, a.text, self.parts[in_a].name, b.text, self.parts[in_b].name
        );
        report.add_with_help(b.span, message, "all inputs of a node must come from one subtopology");
    }

    /// Internal topics are named after the file's: they must differ from those, and be legal themselves.
    fn check_names<D: Dataflow>(&self, sections: &Sections<'_, D>, report: &mut Report<'_>) {
        let application = &sections.settings.application;
        let root = sections.topics.iter().find(|topic| topic.name.text == self.parts[0].name);
        if let Some(root) = root.filter(|root| root.name.text.starts_with("by-")) {
            let message = format!("`{}` cannot be the name of the topic that is read", root.name.text);
            report.add_with_help(root.name.span, message, "`by-…` is how subtopologies behind it are named");
        }
        let hops = self.parts.iter().skip(1).map(|part| part.source.clone());
        let internal: Vec<String> = (self.parts.iter().map(|part| changelog(application, &part.name)))
            .chain(hops)
            .chain([control(application), idle(application)])
            .collect();
        let prefix = &sections.settings.topic_prefix;
        let is_internal = |topic: &&TopicSection| internal.contains(&format!("{prefix}{}", topic.name.text));
        for topic in sections.topics.iter().filter(is_internal) {
            let message = format!("`{}` is the name of an internal topic", topic.name.text);
            report.add_with_help(topic.name.span, message, format!("choose one without the prefix `{application}-`"));
        }
        let too_long = internal.iter().filter(|name| name.len() > 249).max_by_key(|name| name.len());
        if let (Some(name), Some(root)) = (too_long, root.filter(|root| is_topic_name(&root.name.text))) {
            let message = format!("an internal topic named after this one would have a name of {} bytes", name.len());
            report.add_with_help(root.name.span, message, "topics have names of at most 249; choose a shorter one");
        }
    }
}

/// The topic of a subtopology's state.
pub(super) fn changelog(application: &str, subtopology: &str) -> String {
    format!("{application}-{subtopology}-changelog")
}

/// The topic of moves of the clock without a record.
pub(super) fn idle(application: &str) -> String {
    format!("{application}-idle")
}

/// The topic of the tasks' progress.
pub(super) fn progress(application: &str) -> String {
    format!("{application}-progress")
}

/// The topic of generations.
pub(super) fn control(application: &str) -> String {
    format!("{application}-control")
}
