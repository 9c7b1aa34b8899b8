//! From the text of a file to a topology.

use super::alias_section;
use super::cut::{Cut, changelog};
use super::declarations;
use super::document::Yaml;
use super::edges::{self, alternatives};
use super::graph::Graph;
use super::kinds::{self, Taken};
use super::reads::{inputs_of, read_by};
use super::report::Report;
use super::routing::{Router, Routing, partitions_of, root_partitions};
use super::sections::{Declared, Sections};
use super::sink_section::SinkSection;
use super::{
    BuildSite, Diagnostics, NamedOutput, NamedRoute, Node, NodeType, Output, Route, Sink, SinkType, StoreSpec,
    Subtopology, Target, Topic, Topology, suggestion,
};
use crate::log::TopicSpec;
use crate::processor::Dataflow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl<D: Dataflow> Topology<D> {
    /// Reads and checks a file. `file_name` is for messages only.
    ///
    /// Reports everything that is wrong at once, but nothing that only follows from something else: a node with an
    /// unknown type causes no errors at its readers.
    pub fn load<S: SinkType>(
        file_name: &str,
        text: &str,
        registry: &[NodeType<D>],
        sink_types: &[S],
    ) -> Result<Self, Diagnostics> {
        Self::load_with(file_name, text, registry, sink_types, false)
    }

    /// Reads and checks a file as [`Topology::load`] does. The topology also writes what its nodes drop where the file has
    /// no topic for that: a test sees it.
    pub fn load_with_drops<S: SinkType>(
        file_name: &str,
        text: &str,
        registry: &[NodeType<D>],
        sink_types: &[S],
    ) -> Result<Self, Diagnostics> {
        Self::load_with(file_name, text, registry, sink_types, true)
    }

    fn load_with<S: SinkType>(
        file_name: &str,
        text: &str,
        registry: &[NodeType<D>],
        sink_types: &[S],
        with_drops: bool,
    ) -> Result<Self, Diagnostics> {
        let mut report = Report::new(file_name, text);
        let loaded = Self::load_into(text, registry, sink_types, with_drops, &mut report);
        loaded.filter(|_| report.is_empty()).ok_or_else(|| report.finish())
    }

    fn load_into<S: SinkType>(
        text: &str,
        registry: &[NodeType<D>],
        sink_types: &[S],
        with_drops: bool,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        let yaml = Yaml::parse(text, report)?;
        if yaml.is_empty() {
            let help = "a topology has the keys application, topics, processors and sinks";
            report.add_with_help(yaml.span, "the file is empty", help);
            return None;
        }
        let mut sections = Sections::read(&yaml, registry, sink_types, report)?;
        let graph = Graph::resolve(&sections, report);
        edges::check(&sections, &graph, report);
        check_sinks(&sections, sink_types, report);
        check_kinds(&sections, &graph, report);
        if with_drops {
            // After the checks of what the file has.
            sections.add_topics_of_drops();
        }
        let cut = Cut::new(&sections, &graph, report);
        if let Some(cut) = &cut {
            edges::check_writers(&sections, &graph, cut, report);
        }
        let partitions = graph.root.and_then(|root| root_partitions(&sections, root));
        let (cut, partitions) = (cut?, partitions?);
        let router = Router { sections: &sections, graph: &graph, cut: &cut, partitions };
        let routings: Vec<Routing> = (0..cut.parts.len()).map(|part| router.route(part, report)).collect();
        let stores: Vec<Vec<StoreSpec>> =
            (0..cut.parts.len()).map(|part| stores(part, &sections, &graph, &cut, report)).collect();
        let declarations: BTreeMap<String, D::Declaration> = (sections.declarations.drain(..))
            .filter_map(|section| Some((section.name.text, section.declaration?)))
            .collect();
        check_blueprints(&sections, &graph, &cut, &stores, &declarations, report);
        if report.is_empty() {
            edges::check_unread(&sections, &graph, report);
        }
        if report.is_empty() { assemble(sections, declarations, cut, routings, stores, partitions) } else { None }
    }
}

fn check_sinks<D: Dataflow, S: SinkType>(sections: &Sections<'_, D>, sink_types: &[S], report: &mut Report<'_>) {
    let values_of = |sink: &SinkSection| sink_types.iter().find(|known| Some(known.name()) == sink.kind).map(S::values);
    let all = sections.sinks.iter().flat_map(|sink| sink.from.iter().map(move |name| (sink, name)));
    for (sink, name) in all {
        match sections.names.get(&name.text) {
            Some(Declared::Topic(topic)) => {
                if let Some(value) = sections.topics[*topic].value.as_deref()
                    && let Some(values) = values_of(sink).filter(|values| !values.contains(&value))
                {
                    let message =
                        format!("sink `{}` cannot read `{}`, which holds `{value}`", sink.name.text, name.text);
                    let kind = sink.kind.unwrap_or_default();
                    let help = format!("a sink of `type: {kind}` stores topics of {}", alternatives(&values));
                    report.add_with_help(name.span, message, help);
                }
            }
            Some(Declared::Ambiguous) => {}
            Some(_) => {
                let message = format!("`{}` is no topic; a sink reads topics", name.text);
                report.add_with_help(name.span, message, "let the node write a topic, and read that");
            }
            None if !sections.complete => {}
            None => {
                let topics = sections.topics.iter().map(|topic| topic.name.text.as_str());
                let help = suggestion::help(&name.text, topics, "topics");
                report.add(name.span, format!("unknown topic `{}`", name.text), help);
            }
        }
    }
}

/// What nodes take is known only where all of them could be read.
fn check_kinds<D: Dataflow>(sections: &Sections<'_, D>, graph: &Graph, report: &mut Report<'_>) {
    if sections.complete && sections.nodes.iter().all(|node| node.blueprint.is_some()) {
        let facts = sections.nodes.iter().map(|node| &node.facts);
        let takes_all =
            sections.nodes.iter().zip(graph.open(sections)).any(|(node, open)| open && D::takes_declared(&node.facts));
        let taken: BTreeSet<&String> = facts.clone().flat_map(|facts| D::kinds_taken(facts)).collect();
        if !takes_all {
            declarations::check(&sections.declarations, &sections.nodes, &taken, report);
        }
        let mut known: BTreeSet<String> = facts.flat_map(D::types_from_outside).collect();
        let declared = sections.declarations.iter().map(|section| &section.name.text);
        known.extend(declared.filter(|name| !taken.contains(name)).cloned());
        alias_section::check(&sections.aliases, &known, report);
    }
}

/// The stores of a subtopology, by name.
fn stores<D: Dataflow>(
    part: usize,
    sections: &Sections<'_, D>,
    graph: &Graph,
    cut: &Cut,
    report: &mut Report<'_>,
) -> Vec<StoreSpec> {
    let mut stores: BTreeMap<String, (StoreSpec, &str)> = BTreeMap::new();
    for at in cut.parts[part].nodes.iter().copied() {
        let node = &sections.nodes[at];
        let inputs: Vec<_> = graph.nodes_read(at).iter().map(|read| &sections.nodes[*read].facts).collect();
        for store in node.blueprint.iter().flat_map(|blueprint| blueprint.stores_behind(&inputs)) {
            if let Some((_, other)) = stores.get(&store.name) {
                let message = format!("nodes `{other}` and `{}` both have a store `{}`", node.name.text, store.name);
                report.add_with_help(node.name.span, message, "give this node another name");
                continue;
            }
            stores.insert(store.name.clone(), (store, &node.name.text));
        }
    }
    stores.into_values().map(|(store, _)| store).collect()
}

/// Checks every node's type against the graph around it. Only if that graph is complete: a type that misses a node
/// which is merely wrong would report a mistake that does not exist.
fn check_blueprints<D: Dataflow>(
    sections: &Sections<'_, D>,
    graph: &Graph,
    cut: &Cut,
    stores: &[Vec<StoreSpec>],
    declarations: &BTreeMap<String, D::Declaration>,
    report: &mut Report<'_>,
) {
    let in_flow: Vec<usize> = cut.parts.iter().flat_map(|part| part.nodes.iter().copied()).collect();
    let blueprints: Option<Vec<_>> = in_flow.iter().map(|node| sections.nodes[*node].blueprint.as_deref()).collect();
    let Some(blueprints) = blueprints.filter(|all| all.len() == sections.nodes.len()) else { return };
    let published = |node: &usize| (sections.nodes[*node].name.text.as_str(), &sections.nodes[*node].facts);
    let all: Vec<_> = in_flow.iter().map(published).collect();
    let kinds = kinds::of_nodes::<D>(all.iter().map(|(_, facts)| *facts), declarations.keys());
    let reads_of =
        |node: &usize| read_by(sections.nodes[*node].from.iter().flatten().map(|name| name.text.as_str()), &all);
    let reads: Vec<_> = in_flow.iter().map(reads_of).collect();
    for ((node, blueprint), own) in in_flow.iter().zip(blueprints).zip(&reads) {
        let stores_here = cut.homes[*node].map_or(&[][..], |home| &stores[home]);
        let inputs = inputs_of(own, &all);
        let behind: Vec<_> = inputs.iter().map(|(_, facts)| *facts).collect();
        let handles = blueprint.stores_behind(&behind).into_iter().filter_map(|store| {
            let at = stores_here.iter().position(|other| other.name == store.name)?;
            Some((store.name, at))
        });
        let site = BuildSite {
            node: &sections.nodes[*node].name.text,
            settings: &sections.settings,
            inputs,
            nodes: all.clone(),
            reads: reads.clone(),
            writes: graph.writes[*node].iter().filter_map(|topic| sections.topics[*topic].value.as_deref()).collect(),
            outputs: Vec::new(),
            kinds: &kinds,
            declarations,
            stores: handles.collect(),
            // Tasks, hashes and secrets are a matter of running.
            upstream_tasks: 0,
            hash_seed: 0,
            secret: [0; 32],
        };
        if let Err(errors) = blueprint.check(&site) {
            sections.nodes[*node].report_params(errors, report);
        }
    }
}

fn named(output: Output, in_log: impl Fn(String) -> String) -> Output {
    Output { topic: in_log(output.topic.to_string()).into(), ..output }
}

fn entry_routes<D: Dataflow>(entries: &[usize], nodes: &[Node<D>], kinds: usize, taken: &[Taken]) -> Vec<Route> {
    let route = |edge_type: &&str| {
        let readers = entries.iter().copied().filter(|entry| nodes[*entry].input == *edge_type);
        Route::new(readers.map(Target::Node).collect(), kinds, taken)
    };
    D::EDGE_TYPES.iter().map(route).collect()
}

fn named_routes(
    outputs: Vec<NamedOutput>,
    readers: Vec<Vec<Target>>,
    kinds: usize,
    taken: &[Taken],
) -> Vec<NamedRoute> {
    let named = outputs.into_iter().zip(readers).map(|(output, readers)| NamedRoute {
        name: output.name,
        value: output.value,
        route: Route::new(readers, kinds, taken),
    });
    named.collect()
}

/// Builds the topology from the checked parts; None if a check has missed a mistake.
fn assemble<D: Dataflow>(
    sections: Sections<'_, D>,
    declarations: BTreeMap<String, D::Declaration>,
    cut: Cut,
    routings: Vec<Routing>,
    stores: Vec<Vec<StoreSpec>>,
    partitions: u32,
) -> Option<Topology<D>> {
    let application = &sections.settings.application;
    // Topics of the file have their prefix from here on; the names of nodes and of internal topics stay.
    let in_log = |name: String| match sections.names.get(&name) {
        Some(Declared::Topic(_)) => format!("{}{name}", sections.settings.topic_prefix),
        _ => name,
    };
    let kinds = kinds::of_nodes::<D>(sections.nodes.iter().map(|node| &node.facts), declarations.keys());
    let mut nodes: Vec<_> = sections.nodes.into_iter().map(Some).collect();
    let mut subtopologies = Vec::new();
    let root: Arc<str> = in_log(cut.parts.first()?.source.clone()).into();
    for ((part, routing), stores) in cut.parts.into_iter().zip(routings).zip(stores) {
        let taken: Vec<_> = part.nodes.iter().map(|node| nodes[*node].as_ref()).collect::<Option<_>>()?;
        let taken: Vec<Taken> = taken.into_iter().map(|section| Taken::new::<D>(&section.facts, &kinds)).collect();
        let mut here = Vec::new();
        for ((node, routes), named) in part.nodes.into_iter().zip(routing.routes).zip(routing.named) {
            let section = nodes.get_mut(node)?.take()?;
            let node_type = section.node_type?;
            here.push(Node {
                name: section.name.text.into(),
                type_name: node_type.name,
                implied: section.implied_by.is_some(),
                input: node_type.input,
                blueprint: section.blueprint?,
                facts: section.facts,
                from: section.from?.into_iter().map(|name| in_log(name.text)).collect(),
                routes: routes.into_iter().map(|targets| Route::new(targets, kinds.len(), &taken)).collect(),
                named: named_routes(section.named_outputs, named, kinds.len(), &taken),
                on_error: section.on_error,
            });
        }
        subtopologies.push(Arc::new(Subtopology {
            changelog: changelog(application, &part.name).into(),
            name: part.name.into(),
            source: in_log(part.source).into(),
            key: part.key,
            upstream: part.upstream,
            partitions: part.partitions.unwrap_or(partitions),
            entry_routes: entry_routes(&routing.entries, &here, kinds.len(), &taken),
            nodes: here,
            entries: routing.entries,
            hops: routing.hops,
            outputs: routing.outputs.into_iter().map(|output| named(output, in_log)).collect(),
            dead_letters: routing.dead_letters,
            stores,
        }));
    }
    let mut topics = BTreeMap::new();
    for topic in sections.topics {
        let name = in_log(topic.name.text.clone());
        let spec = TopicSpec {
            name: name.clone(),
            partitions: partitions_of(&topic, partitions)?,
            cleanup: topic.cleanup,
            retention: topic.retention,
            retention_bytes: topic.retention_bytes,
        };
        let (key, partition_by, value) = (topic.key, topic.partition_by, topic.value?);
        topics.insert(name, Topic { spec, key, partition_by, value });
    }
    let mut sinks = Vec::new();
    for sink in sections.sinks {
        sinks.push(Sink {
            name: sink.name.text,
            kind: sink.kind?,
            url: sink.url,
            from: sink.from.into_iter().map(|name| in_log(name.text)).collect(),
            records_max: sink.records_max as usize,
            linger: sink.linger,
        });
    }
    let aliases = sections.aliases.into_iter().map(|alias| (alias.name.text, alias.meant.text)).collect();
    Some(Topology {
        settings: sections.settings,
        topics,
        root,
        subtopologies,
        kinds,
        declarations,
        sinks,
        cloud_event_types: aliases,
    })
}
