//! Checks that the value type of each edge fits its reader, and that every topic has a writer or reader.

use super::cut::Cut;
use super::graph::{Graph, Input, input_name};
use super::node_section::NodeSection;
use super::report::Report;
use super::sections::Sections;
use super::topic_section::TopicSection;
use super::{NamedOutput, OnError, suggestion};
use crate::processor::Dataflow;
use std::collections::{BTreeMap, BTreeSet};

/// The topic of records that nodes reject.
pub(super) const DEAD_LETTERS: &str = "dead-letters";

/// Whether a node gives what a reader of it takes, as far as their types are known. `output` is the named one that is
/// read.
pub(super) fn fits<D: Dataflow>(reader: &NodeSection<'_, D>, read: &NodeSection<'_, D>, output: Option<usize>) -> bool {
    match (reader.input(), read.gives(output)) {
        (Some(input), Some(outputs)) => outputs.contains(&input),
        _ => true,
    }
}

/// Reports edges whose ends do not fit.
pub(super) fn check<D: Dataflow>(sections: &Sections<'_, D>, graph: &Graph, report: &mut Report<'_>) {
    let mut meant = BTreeSet::new();
    for (i, node) in sections.nodes.iter().enumerate() {
        match &graph.inputs[i] {
            Some(Input::Topic(topic)) if graph.root == Some(*topic) => {
                check_topic_input(node, *topic, sections, graph, report);
            }
            Some(Input::Nodes(reads)) => {
                let reads: Vec<_> = reads.iter().copied().zip(graph.outputs_read(i).iter().copied()).collect();
                check_node_inputs(node, &reads, sections, report);
            }
            // It reads nothing, or a topic that it cannot read whatever its type.
            _ => {}
        }
        check_outputs(node, &graph.writes[i], sections, graph, &mut meant, report);
        if let (Some(span), OnError::DeadLetter) = (node.on_error_given, node.on_error)
            && sections.complete
            && !sections.names.contains_key(DEAD_LETTERS)
        {
            let help = "declare it: `dead-letters: { key: raw, value: raw }`";
            report.add_with_help(span, "there is no topic `dead-letters`", help);
        }
    }
    check_reserved(sections, report);
    check_unused(sections, graph, &meant, report);
}

/// "`a` or `b`".
pub(super) fn alternatives(types: &[&str]) -> String {
    match types {
        [] => "nothing".into(),
        types => types.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or "),
    }
}

fn check_topic_input<D: Dataflow>(
    node: &NodeSection<'_, D>,
    root: usize,
    sections: &Sections<'_, D>,
    graph: &Graph,
    report: &mut Report<'_>,
) {
    let (Some(input), Some(name)) = (node.input(), input_name(node, 0)) else { return };
    if input != D::RAW {
        let message = format!(
            "node `{}` takes `{input}`, but topic `{}` gives records as they are (`{}`)",
            node.name.text,
            name.text,
            D::RAW
        );
        report.add(name.span, message, givers(node, input, sections));
        return;
    }
    // Records as they are may be anything. A topic that a node writes is a mistake already.
    let value = sections.topics[root].value.as_deref().filter(|value| ![D::ROOT, D::RAW].contains(value));
    if let Some(value) = value.filter(|_| !graph.writes.iter().any(|topics| topics.contains(&root))) {
        let message = format!("node `{}` cannot read `{}`, which holds `{value}`", node.name.text, name.text);
        report.add_with_help(name.span, message, format!("a topic that is read from outside has `value: {}`", D::ROOT));
    }
}

fn check_node_inputs<D: Dataflow>(
    node: &NodeSection<'_, D>,
    reads: &[(usize, Option<usize>)],
    sections: &Sections<'_, D>,
    report: &mut Report<'_>,
) {
    let Some(input) = node.input() else { return };
    for (at, (read, output)) in reads.iter().enumerate() {
        let read = &sections.nodes[*read];
        let (Some(outputs), Some(name)) = (read.gives(*output), input_name(node, at)) else { continue };
        if !fits(node, read, *output) && read.name.text != node.name.text {
            let gives = alternatives(&outputs);
            let message = format!("node `{}` takes `{input}`, but `{}` gives {gives}", node.name.text, name.text);
            report.add(name.span, message, givers(node, input, sections));
        }
    }
}

/// Help for a node whose input gives something else.
fn givers<D: Dataflow>(node: &NodeSection<'_, D>, input: &str, sections: &Sections<'_, D>) -> Option<String> {
    if input == D::RAW {
        return Some("records as they are come from a topic".into());
    }
    let others = sections.nodes.iter().filter(|other| other.name.text != node.name.text);
    let givers: Vec<String> = others
        .flat_map(|other| {
            let itself = other.outputs().is_some_and(|outputs| outputs.contains(&input));
            // One that a reader of the node sends is only meant by those who name it.
            let is_own = |output: &&NamedOutput| output.sent_by.is_none() && !output.name.contains('.');
            let outputs = other.named_outputs.iter().filter(|output| output.value == input).filter(is_own);
            let outputs = outputs.map(|output| other.name_of(output));
            itself.then(|| other.name.text.clone()).into_iter().chain(outputs)
        })
        .take(8)
        .collect();
    (!givers.is_empty()).then(|| format!("nodes that give `{input}`: {}", givers.join(", ")))
}

/// Names in `meant` the topics that a node with a wrong `to` could write instead.
fn check_outputs<D: Dataflow>(
    node: &NodeSection<'_, D>,
    writes: &[usize],
    sections: &Sections<'_, D>,
    graph: &Graph,
    meant: &mut BTreeSet<usize>,
    report: &mut Report<'_>,
) {
    let Some(outputs) = node.outputs() else { return };
    check_keys::<D>(writes, sections, report);
    let fits = |topic: usize| sections.topics[topic].value.as_deref().is_none_or(|value| outputs.contains(&value));
    let others: Vec<usize> = (0..sections.topics.len()).filter(|topic| fits(*topic)).collect();
    for topic in writes.iter().copied().filter(|topic| !fits(*topic) || graph.root == Some(*topic)) {
        meant.extend(others.iter().copied());
        let TopicSection { name, value, .. } = &sections.topics[topic];
        let to = node.to.iter().flatten().find(|to| to.text == name.text);
        let (Some(to), Some(value)) = (to, value.as_deref().filter(|_| graph.root != Some(topic))) else { continue };
        let gives = alternatives(outputs);
        let message =
            format!("topic `{}` holds `{value}`, but node `{}` gives {gives}", name.text, node.name_in_file());
        let names: Vec<&str> = others.iter().map(|topic| sections.topics[*topic].name.text.as_str()).take(8).collect();
        let help = (!names.is_empty()).then(|| format!("topics for what it gives: {}", names.join(", ")));
        report.add(to.span, message, help);
    }
}

/// Some values have one key, whatever the topic says.
fn check_keys<D: Dataflow>(writes: &[usize], sections: &Sections<'_, D>, report: &mut Report<'_>) {
    for topic in writes.iter().map(|topic| &sections.topics[*topic]) {
        if let Some(value) = topic.value.as_deref()
            && let Some(key) = D::written_key(value)
            && !topic.key.is_empty()
            && topic.key != [key]
        {
            let message = format!("topic `{}` holds `{value}` that nodes write, whose key is `{key}`", topic.name.text);
            report.add_with_help(topic.name.span, message, format!("`key: {key}`"));
        }
    }
}

/// Topics that are written without a `to` must hold the values written there.
fn check_reserved<D: Dataflow>(sections: &Sections<'_, D>, report: &mut Report<'_>) {
    for (reserved, wanted) in [(D::SIDE_OUTPUT.topic, D::SIDE_OUTPUT.value), (DEAD_LETTERS, D::RAW)] {
        let topic = sections.topics.iter().find(|topic| topic.name.text == reserved);
        let value = topic.and_then(|topic| topic.value.as_deref());
        if let (Some(topic), Some(value)) = (topic, value.filter(|value| *value != wanted)) {
            let message = format!("topic `{reserved}` takes `{wanted}` from every node, so it cannot hold `{value}`");
            report.add_with_help(topic.name.span, message, format!("`value: {wanted}`, or another name"));
        }
    }
}

/// What a node passes on must be read or written, or it has no effect. For a topology in which all else is right: a mistake
/// elsewhere may be why nothing reads a node.
pub(super) fn check_unread<D: Dataflow>(sections: &Sections<'_, D>, graph: &Graph, report: &mut Report<'_>) {
    let is_read = |node: usize| (0..sections.nodes.len()).any(|reader| graph.nodes_read(reader).contains(&node));
    for (i, node) in sections.nodes.iter().enumerate() {
        let Some(outputs) = node.outputs() else { continue };
        let passes_on: Vec<&str> = outputs.iter().copied().filter(|value| D::INTERMEDIATE.contains(value)).collect();
        if passes_on.is_empty() || is_read(i) || node.to.as_ref().is_none_or(|to| !to.is_empty()) {
            continue;
        }
        let takes = |taker: &&NodeSection<'_, D>| taker.input().is_some_and(|input| passes_on.contains(&input));
        let takers = sections.nodes.iter().filter(|taker| taker.name.text != node.name.text).filter(takes);
        let takers: Vec<&str> = takers.map(|taker| taker.name_in_file()).take(8).collect();
        let help = match takers.is_empty() {
            true => "remove it, or write a topic (`to: …`)".to_owned(),
            false => {
                format!("name it in `from` of a node that takes {}: {}", alternatives(&passes_on), takers.join(", "))
            }
        };
        let message = format!("no node reads `{}`, and it writes no topic: it has no effect", node.name_in_file());
        report.add_with_help(node.name.span, message, help);
    }
}

/// Two writers would replace each other's values. Those of different subtopologies cannot become one; their types know
/// whether they write the same keys.
pub(super) fn check_writers<D: Dataflow>(
    sections: &Sections<'_, D>,
    graph: &Graph,
    cut: &Cut,
    report: &mut Report<'_>,
) {
    for (i, topic) in sections.topics.iter().enumerate() {
        let Some(value) = topic.value.as_deref().filter(|value| D::ONE_WRITER.contains(value)) else { continue };
        let gives = |node: &NodeSection<'_, D>| node.outputs().is_none_or(|outputs| outputs.contains(&value));
        let writers =
            (0..sections.nodes.len()).filter(|at| graph.writes[*at].contains(&i) && gives(&sections.nodes[*at]));
        let mut first_of: BTreeMap<usize, usize> = BTreeMap::new();
        for writer in writers {
            // Without a home, the file is wrong about it.
            let Some(home) = cut.homes[writer] else { continue };
            let Some(first) = first_of.get(&home) else {
                first_of.insert(home, writer);
                continue;
            };
            let other = &sections.nodes[writer];
            let Some(to) = other.to.iter().flatten().find(|to| to.text == topic.name.text) else { continue };
            let name = sections.nodes[*first].name_in_file();
            let message =
                format!("topic `{}` is written by `{name}`, and a record of `{value}` is whole", topic.name.text);
            report.add_with_help(to.span, message, format!("let `{name}` read the inputs of this node as well"));
        }
    }
}

/// A topic that is neither written nor read, unless a wrong name may mean it.
fn check_unused<D: Dataflow>(
    sections: &Sections<'_, D>,
    graph: &Graph,
    meant: &BTreeSet<usize>,
    report: &mut Report<'_>,
) {
    let topics = || sections.topics.iter().map(|topic| topic.name.text.as_str());
    let close: Vec<&str> = graph.unknown.iter().filter_map(|name| suggestion::closest(name, topics())).collect();
    // Without a suggestion it may stand for any topic; a node without `from` or `to` may use any as well.
    let vague = graph.unknown.len() > close.len()
        || !sections.complete
        || sections.nodes.iter().any(|node| node.from.is_none() || node.to.is_none());
    if vague {
        return;
    }
    let named: BTreeSet<&str> = (sections.nodes.iter())
        .flat_map(|node| node.from.iter().flatten().chain(node.to.iter().flatten()))
        .map(|name| name.text.as_str())
        .collect();
    let side = D::SIDE_OUTPUT;
    let writes_side = |node: &NodeSection<'_, D>| node.outputs().is_none_or(|outputs| outputs.contains(&side.value));
    for (i, topic) in sections.topics.iter().enumerate() {
        let name = topic.name.text.as_str();
        let implicit = name == DEAD_LETTERS || name == side.topic && sections.nodes.iter().any(writes_side);
        let excused = meant.contains(&i) || close.contains(&name) || topic.value.is_none();
        if implicit || excused || named.contains(name) {
            continue;
        }
        let message = format!("no node reads or writes topic `{name}`");
        let help = match name == side.topic {
            true => format!("no node gives {name}; remove the topic"),
            false => format!("write it (`to: {name}` at a node), or remove it"),
        };
        report.add_with_help(topic.name.span, message, help);
    }
}
