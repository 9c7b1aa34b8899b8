//! `topology.yaml` -> a checked graph.
//!
//! [`Topology::load`] reads the whole file and reports everything that is wrong with it at once. What it returns can be
//! run as it is: edge types fit, names are unique, subtopologies are cut where the key changes.
//!
//! Other files of YAML report their mistakes in the same way: [`Yaml::parse`] and [`Fields`] read them, and [`Report`]
//! collects what is wrong.

mod alias_section;
mod cut;
mod declarations;
mod describe;
mod deserializer;
mod diagnostics;
mod document;
mod duration;
mod edges;
mod fault;
mod fields;
mod fingerprint;
mod graph;
mod internal_topics;
mod kinds;
mod load;
mod mermaid;
mod node_section;
mod params;
mod parse;
mod reads;
mod report;
mod routing;
mod sections;
mod sink_section;
mod sink_url;
mod size;
mod store_part;
mod suggestion;
mod topic_section;
mod written;

pub use diagnostics::{Diagnostic, Diagnostics};
pub use document::{Entry, Mapping, Span, Value, Yaml};
pub use duration::{ConfigDuration, parse_duration};
pub use fields::{Fields, Name, count, is_name};
pub use fingerprint::{Difference, Fate, Fingerprint, PlannedStore};
pub use kinds::Route;
pub use params::{ParamError, ParamSpec, Params};
pub use reads::Read;
pub use report::Report;
pub use sink_url::{SinkUrl, UnsetVariable};
pub use size::ConfigBytes;
pub use store_part::StorePart;
pub use suggestion::help as suggest;

use crate::log::TopicSpec;
use crate::processor::{Dataflow, Processor};
use crate::store::{StateStore, StoreHandle};
use reads::{inputs_of, read_by};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A node type of the registry: one row per type, one table for all.
pub struct NodeType<D: Dataflow> {
    /// As in `type: dedupe`.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// The edge type it takes; `raw` for records of an outside topic.
    pub input: &'static str,
    /// The edge types it forwards.
    pub outputs: &'static [&'static str],
    /// The key its input must be partitioned by if the file has no `by`; None keeps the upstream's. A node with a key
    /// other than its upstream's starts a new subtopology, behind a repartition topic.
    pub key: Option<&'static str>,
    /// How many partitions the repartition topic of such a subtopology has; None: as many as the root.
    pub partitions: Option<u32>,
    /// The type of a second node that every node of this type implies: named `<node>.<type>`, it takes the same
    /// parameters, reads the node, and writes to the file's `to`.
    pub then: Option<&'static NodeType<D>>,
    /// Describes the node's own parameters, for the reference.
    pub params: fn() -> Vec<ParamSpec>,
    /// Parses and checks the node's own parameters (everything but type, from, to, on_error; `by` only where `key` is set).
    pub parse: fn(node: &str, params: &Params) -> Parsed<D>,
}

/// A node's parameters, checked, or everything that is wrong with them.
pub type Parsed<D> = Result<Box<dyn Blueprint<D>>, Vec<ParamError>>;

/// A node's checked parameters: what processors are made from, one per task.
pub trait Blueprint<D: Dataflow>: Send + Sync {
    /// The stores that its processors need.
    fn stores(&self) -> Vec<StoreSpec>;
    /// Those that it needs behind nodes with these facts, where they have a say; [`Blueprint::stores`] otherwise. What no
    /// input asks for must not be there: a new store is something that has to be accepted.
    fn stores_behind(&self, _inputs: &[&D::Facts]) -> Vec<StoreSpec> {
        self.stores()
    }
    /// What other nodes and the application need of this node.
    fn facts(&self) -> D::Facts {
        D::Facts::default()
    }
    /// Checks that need the rest of the graph. An error's path is empty or within the node's parameters.
    fn check(&self, _site: &BuildSite<'_, D>) -> Result<(), Vec<ParamError>> {
        Ok(())
    }
    /// The windows of its stores that other nodes decide, by store; part of the fingerprint beside [`StoreSpec::windows`].
    fn store_windows(&self, _site: &BuildSite<'_, D>) -> BTreeMap<String, Vec<StorePart>> {
        BTreeMap::new()
    }
    /// Outputs that readers choose by name: `from: <node>.<output>`.
    fn named_outputs(&self) -> Vec<NamedOutput> {
        Vec::new()
    }
    /// Makes the processor of one task.
    fn build(&self, site: &BuildSite<'_, D>) -> Box<dyn Processor<D>>;
}

/// An output of a node that readers choose by name. What goes there is what the processor passes to
/// [`Context::forward_to`](crate::processor::Context::forward_to).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedOutput {
    /// Its name: a lower-case letter, then letters, digits, `_` and `-`.
    pub name: String,
    /// The edge type of its values.
    pub value: &'static str,
    /// The type of the node that sends it: the one that reads this node. None where this node does.
    pub sent_by: Option<&'static str>,
}

/// A type of sinks that the application has, as far as the loader needs to know it.
pub trait SinkType {
    /// As in `type: database`.
    fn name(&self) -> &'static str;
    /// What its addresses may begin with, without the colon.
    fn schemes(&self) -> &'static [&'static str];
    /// The edge types of the topics that it stores.
    fn values(&self) -> Vec<&'static str>;
    /// Checks an address of such a scheme. An error names the mistake and does not quote the address.
    fn check(&self, url: &str) -> Result<(), String>;
}

/// What a store is. Name (unique within the subtopology, `<node>` or `<node>-<what>`), kind, schema version and windows
/// are part of the fingerprint.
#[derive(Clone)]
pub struct StoreSpec {
    /// See above.
    pub name: String,
    /// Like `key-value` or `window`.
    pub kind: &'static str,
    /// Raised when the encoding of keys or values changes.
    pub schema_version: u32,
    /// What else decides the content, like window lengths; part of the fingerprint.
    pub windows: Vec<StorePart>,
    /// Makes it, empty.
    pub make: fn() -> Box<dyn StateStore>,
}

/// What a blueprint can see when it builds.
pub struct BuildSite<'a, D: Dataflow> {
    /// The node's name.
    pub node: &'a str,
    /// The application's settings.
    pub settings: &'a Settings,
    /// Name and facts of the nodes named in `from`, in that order, each once.
    pub inputs: Vec<(&'a str, &'a D::Facts)>,
    /// Name and facts of all nodes of the topology, in the order records flow.
    pub nodes: Vec<(&'a str, &'a D::Facts)>,
    /// For each of these nodes what it reads, each once.
    pub reads: Vec<Vec<Read<'a>>>,
    /// The node's named outputs that are read, each with its place; those that readers of it send are theirs. None are
    /// known before it runs.
    pub outputs: Vec<(&'a str, usize)>,
    /// The edge types of the topics that the node writes.
    pub writes: Vec<&'a str>,
    /// See [`Topology::kinds`].
    pub kinds: &'a [String],
    /// See [`Topology::declarations`].
    pub declarations: &'a BTreeMap<String, D::Declaration>,
    /// Where this node's stores stand among the task's, by name.
    pub stores: BTreeMap<String, usize>,
    /// How many tasks write what this node's subtopology reads; 0 for the root's.
    pub upstream_tasks: u32,
    /// Secret seed for hashes, the same for the whole life of a generation.
    pub hash_seed: u64,
    /// The secret of the log's control record: what it signs comes from this service.
    pub secret: [u8; 32],
}

impl<D: Dataflow> BuildSite<'_, D> {
    /// The handle of a store declared in [`Blueprint::stores`] under this name.
    pub fn store<S: StateStore>(&self, name: &str) -> StoreHandle<S> {
        // A name that was not declared is a mistake in the node type, found by its first test.
        StoreHandle::at(self.stores.get(name).copied().unwrap_or(usize::MAX))
    }

    /// The place of a named output for [`Context::forward_to`](crate::processor::Context), if something reads it. An output
    /// that this node sends for another one has the name `<node>.<output>`.
    pub fn output(&self, name: &str) -> Option<usize> {
        self.outputs.iter().find(|(known, _)| *known == name).map(|(_, place)| *place)
    }

    /// The node's place in [`BuildSite::nodes`].
    pub fn place(&self) -> Option<usize> {
        self.nodes.iter().position(|(name, _)| *name == self.node)
    }
}

/// The application's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Prefix of consumer groups, changelogs and repartition topics.
    pub application: String,
    /// What stands before the names of the file's topics in the log.
    pub topic_prefix: String,
    /// How often a thread commits at most.
    pub commit_interval: Duration,
    /// Events that arrive longer after their time are late.
    pub late_after: Duration,
    /// How far the clock of an idle task stays behind the wall.
    pub idle_margin: Duration,
}

/// What a node does with a value that it rejects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// Write the record to the topic `dead-letters` (the default).
    #[default]
    DeadLetter,
    /// Count it, go on.
    Skip,
    /// Stop the thread.
    Halt,
}

/// A checked topology.
pub struct Topology<D: Dataflow> {
    /// The application's settings.
    pub settings: Settings,
    /// Every topic of the file, by its name in the log, as everywhere in here.
    pub topics: BTreeMap<String, Topic>,
    /// The topic that is read from outside. All its partitions are the driver's.
    pub root: Arc<str>,
    /// In the order records flow: the root's first.
    pub subtopologies: Vec<Arc<Subtopology<D>>>,
    /// Every kind of values that some node takes without taking all, or that is declared, sorted. See [`Dataflow::kinds_taken`].
    pub kinds: Vec<String>,
    /// What the file declares about kinds, by name.
    pub declarations: BTreeMap<String, D::Declaration>,
    /// Sinks, in the order of the file.
    pub sinks: Vec<Sink>,
    /// What CloudEvents call types of events, and the types that are meant.
    pub cloud_event_types: BTreeMap<String, String>,
}

impl<D: Dataflow> Topology<D> {
    /// Name and facts of every node, in the order records flow.
    pub fn facts(&self) -> impl Iterator<Item = (&str, &D::Facts)> {
        self.nodes().map(|node| (&*node.name, &node.facts))
    }

    fn nodes(&self) -> impl Iterator<Item = &Node<D>> {
        self.subtopologies.iter().flat_map(|subtopology| &subtopology.nodes)
    }

    /// What the blueprint of a node can see; without a secret, which is a matter of running.
    pub fn build_site<'a>(&'a self, subtopology: &'a Subtopology<D>, node: usize, hash_seed: u64) -> BuildSite<'a, D> {
        let this = &subtopology.nodes[node];
        let nodes: Vec<_> = self.facts().collect();
        let reads: Vec<Vec<Read<'_>>> = self.nodes().map(|node| node.reads(&nodes)).collect();
        let inputs = inputs_of(&this.reads(&nodes), &nodes);
        let is_read = |(_, named): &(usize, &'a NamedRoute)| !named.route.targets().is_empty();
        let outputs = this.named.iter().enumerate().filter(is_read);
        let outputs = outputs.map(|(place, named)| (named.name.as_str(), place)).collect();
        let behind: Vec<_> = inputs.iter().map(|(_, facts)| *facts).collect();
        let stores = this.blueprint.stores_behind(&behind).into_iter().filter_map(|store| {
            let index = subtopology.stores.iter().position(|known| known.name == store.name)?;
            Some((store.name, index))
        });
        let is_written = |route: &Route| route.targets().iter().any(|target| matches!(target, Target::Output(_)));
        let writes = D::EDGE_TYPES.iter().zip(&this.routes).filter(|(_, route)| is_written(route));
        BuildSite {
            node: &this.name,
            settings: &self.settings,
            inputs,
            nodes,
            reads,
            writes: writes.map(|(value, _)| *value).collect(),
            outputs,
            kinds: &self.kinds,
            declarations: &self.declarations,
            stores: stores.collect(),
            upstream_tasks: subtopology.upstream.map_or(0, |upstream| self.subtopologies[upstream].partitions),
            hash_seed,
            secret: [0; 32],
        }
    }
}

/// A topic of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    /// The topics that the log must have.
    pub spec: TopicSpec,
    /// The parts of the key, as written.
    pub key: Vec<String>,
    /// What the partition is computed from: `partition_by`, or the whole key.
    pub partition_by: Vec<String>,
    /// The edge type of its values.
    pub value: String,
}

/// A part of the topology without a hop inside: one task per partition of its source.
pub struct Subtopology<D: Dataflow> {
    /// After what it reads: `user-actions`, `by-subject_id`.
    pub name: Arc<str>,
    /// The topic it reads.
    pub source: Arc<str>,
    /// What its source is partitioned by: the root topic's key, or the key of the hop.
    pub key: String,
    /// None for the root; otherwise the index of the subtopology that writes `source`.
    pub upstream: Option<usize>,
    /// Partitions of the source, so the number of tasks.
    pub partitions: u32,
    /// `<application>-<name>-changelog`.
    pub changelog: Arc<str>,
    /// In the order records flow.
    pub nodes: Vec<Node<D>>,
    /// Nodes that read the source.
    pub entries: Vec<usize>,
    /// Per edge type: where such values of the source go. Several nodes may read one hop, and each is given its own.
    pub entry_routes: Vec<Route>,
    /// Repartition topics it writes.
    pub hops: Vec<Repartition>,
    /// Output topics it writes.
    pub outputs: Vec<Output>,
    /// The output that takes dead letters, if the file declares the topic `dead-letters`.
    pub dead_letters: Option<usize>,
    /// All stores of its nodes: sorted by name, so that an index means the same in every build of the same file.
    pub stores: Vec<StoreSpec>,
}

/// A repartition topic: `<application>-<source subtopology>-by-<key>-repartition`.
#[derive(Clone, Debug, PartialEq)]
pub struct Repartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The key.
    pub by: String,
    /// How many.
    pub partitions: u32,
}

/// An output topic of a subtopology.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// The topic.
    pub topic: Arc<str>,
    /// How many.
    pub partitions: u32,
    /// Whether its partitions are those of the task, so that progress marks mean something there.
    pub co_partitioned: bool,
}

/// A node of the graph.
pub struct Node<D: Dataflow> {
    /// Its name in the file.
    pub name: Arc<str>,
    /// Its type in the registry.
    pub type_name: &'static str,
    /// Whether it does not stand in the file: another node implies it.
    pub implied: bool,
    /// The edge type it takes.
    pub input: &'static str,
    /// Its parameters.
    pub blueprint: Box<dyn Blueprint<D>>,
    /// What the blueprint publishes.
    pub facts: D::Facts,
    /// The nodes, outputs of nodes or topics that it reads, as in the file.
    pub from: Vec<String>,
    /// Per edge type: where such values go.
    pub routes: Vec<Route>,
    /// The readers of its named outputs.
    pub named: Vec<NamedRoute>,
    /// What happens to values it cannot take.
    pub on_error: OnError,
}

impl<D: Dataflow> Node<D> {
    fn reads<'a>(&'a self, nodes: &[(&str, &D::Facts)]) -> Vec<Read<'a>> {
        read_by(self.from.iter().map(String::as_str), nodes)
    }
}

/// A named output and its readers.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedRoute {
    /// The output's name.
    pub name: String,
    /// The edge type of its values.
    pub value: &'static str,
    /// The readers.
    pub route: Route,
}

/// Where a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Another node of the subtopology.
    Node(usize),
    /// [`Subtopology::hops`].
    Hop(usize),
    /// [`Subtopology::outputs`].
    Output(usize),
}

/// A sink of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// Its name.
    pub name: String,
    /// [`SinkType::name`] of its type.
    pub kind: &'static str,
    /// Where it writes, if the file names that.
    pub url: Option<SinkUrl>,
    /// The topics it reads.
    pub from: Vec<String>,
    /// The most records of a batch.
    pub records_max: usize,
    /// How long a batch waits for more.
    pub linger: Duration,
}
