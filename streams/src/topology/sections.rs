//! The sections of a file, as written, and their names.

use super::alias_section::{self, AliasSection};
use super::declarations::{self, DeclarationSection};
use super::document::{Entry, Yaml};
use super::edges::DEAD_LETTERS;
use super::fields::{Fields, Name, is_name};
use super::node_section::NodeSection;
use super::report::Report;
use super::sink_section::SinkSection;
use super::topic_section::{TopicSection, is_topic_name};
use super::{NamedOutput, NodeType, Settings, SinkType};
use crate::processor::Dataflow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const KEYS: &[&str] = &[
    "application",
    "topic_prefix",
    "commit_interval",
    "late_after",
    "idle_margin",
    "cloud_event_types",
    "events",
    "topics",
    "processors",
    "sinks",
];
/// Every entry is compared with every other.
const ENTRIES_MAX: usize = 1_000;
const COMMIT_INTERVAL_MIN: Duration = Duration::from_millis(1);
const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(10);
const COMMIT_INTERVAL_DEFAULT: Duration = Duration::from_millis(50);
const LATE_AFTER_MIN: Duration = Duration::from_secs(60);
const IDLE_MARGIN_MAX: Duration = Duration::from_secs(60 * 60);
const IDLE_MARGIN_DEFAULT: Duration = Duration::from_secs(1);
const LATE_AFTER_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// A file's sections. What the file is wrong about is missing or None, and reported.
pub(super) struct Sections<'r, D: Dataflow> {
    pub settings: Settings,
    pub topics: Vec<TopicSection>,
    pub nodes: Vec<NodeSection<'r, D>>,
    pub sinks: Vec<SinkSection>,
    pub aliases: Vec<AliasSection>,
    pub declarations: Vec<DeclarationSection<D>>,
    /// All three share their names.
    pub names: BTreeMap<String, Declared>,
    /// Whether topics and nodes could be read: otherwise an unknown name is not a mistake.
    pub complete: bool,
}

/// The section that a name refers to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Declared {
    /// By its place in [`Sections::topics`].
    Topic(usize),
    /// By its place in [`Sections::nodes`].
    Node(usize),
    /// A named output, by its node's place, and its own among the outputs of that.
    Output(usize, usize),
    /// A named output, by its node's place, that the one node of a type which reads it would send, if there were one.
    Unsent(usize, &'static str),
    Sink,
    /// Several things, which is reported; a use of the name may mean any of them.
    Ambiguous,
}

impl<'r, D: Dataflow> Sections<'r, D> {
    /// None where the file is no mapping at all.
    pub fn read<S: SinkType>(
        yaml: &Yaml,
        registry: &'r [NodeType<D>],
        sink_types: &[S],
        report: &mut Report<'_>,
    ) -> Option<Self> {
        let fields = Fields::read("the file", yaml.span, yaml, KEYS, report)?;
        let settings = settings(&fields, report);
        let topics = fields.require("topics", "what is read and written: `topics:` with a name and a key each", report);
        let processors = fields.require("processors", "the nodes: `processors:` with a name and a type each", report);
        let topics = entries("topics", topics, report);
        let processors = entries("processors", processors, report);
        let complete = topics.is_some() && processors.is_some();
        let topics = topics.unwrap_or_default().iter();
        let topics = topics.map(|entry| TopicSection::read(entry, D::EDGE_TYPES, report)).collect();
        let nodes = processors.unwrap_or_default().iter();
        let nodes = nodes.map(|entry| NodeSection::read(entry, registry, report)).collect();
        let sinks = fields.get("sinks").filter(|sinks| !sinks.is_empty());
        let sinks = entries("sinks", sinks, report).unwrap_or_default().iter();
        let sinks = sinks.map(|entry| SinkSection::read(entry, sink_types, report)).collect();
        let aliases = alias_section::read(fields.get("cloud_event_types"), report);
        let declarations = declarations::read(fields.get("events"), report);
        let names = BTreeMap::new();
        let mut sections = Self { settings, topics, nodes, sinks, aliases, declarations, names, complete };
        sections.name_all(report);
        // They cannot be named in the file: they come after the names are checked.
        let implied: Vec<_> = sections.nodes.iter_mut().filter_map(NodeSection::implied).collect();
        sections.nodes.extend(implied);
        sections.name_outputs(report);
        Some(sections)
    }

    /// Adds the topics of what nodes drop, verdicts and dead letters, where the file has none.
    pub fn add_topics_of_drops(&mut self) {
        for (name, value) in [(D::SIDE_OUTPUT.topic, D::SIDE_OUTPUT.value), (DEAD_LETTERS, D::RAW)] {
            if !self.topics.iter().any(|topic| topic.name.text == name) {
                self.topics.push(TopicSection::added(name, value));
            }
        }
    }

    /// Everything that a node could read.
    pub fn inputs(&self) -> impl Iterator<Item = &str> {
        let nodes = self.nodes.iter().filter(|node| node.implied_by.is_none());
        let nodes = nodes.map(|node| node.name.text.as_str());
        let outputs = self.names.iter().filter(|(_, declared)| matches!(declared, Declared::Output(..)));
        let outputs = outputs.map(|(name, _)| name.as_str());
        let topics = self.topics.iter().map(|topic| topic.name.text.as_str()).filter(|name| is_topic_name(name));
        let mut seen = BTreeSet::new();
        nodes.filter(|name| is_name(name, "_-")).chain(outputs).chain(topics).filter(move |name| seen.insert(*name))
    }

    /// Whether a name may be that of an output of a node whose parameters are wrong.
    pub fn may_be_output(&self, name: &str) -> bool {
        let node = name.rsplit_once('.').map(|(node, _)| node);
        self.nodes.iter().any(|known| known.blueprint.is_none() && Some(known.name_in_file()) == node)
    }

    fn name_outputs(&mut self, report: &mut Report<'_>) {
        let of_node =
            |(at, node): (usize, &NodeSection<'r, D>)| (0..node.named_outputs.len()).map(move |place| (at, place));
        let outputs: Vec<_> = self.nodes.iter().enumerate().flat_map(of_node).collect();
        for (at, place) in outputs {
            let node = &self.nodes[at];
            let output = &node.named_outputs[place];
            let name = node.name_of(output);
            if let Some(topic) = self.topics.iter().find(|topic| topic.name.text == name) {
                let message =
                    format!("a topic cannot be named `{name}`: that is an output of node `{}`", node.name_in_file());
                report.add(topic.name.span, message, None);
                self.names.insert(name, Declared::Ambiguous);
                continue;
            }
            let declared = match output.sent_by {
                None => Declared::Output(at, place),
                Some(sender) => self.sent_by(at, sender, NamedOutput { name: name.clone(), sent_by: None, ..*output }),
            };
            self.names.insert(name, declared);
        }
    }

    /// Gives an output of a node to the one node of a type that reads it.
    fn sent_by(&mut self, of: usize, sender: &'static str, output: NamedOutput) -> Declared {
        let name = &self.nodes[of].name.text;
        let sends = |node: &NodeSection<'r, D>| {
            let is_type = node.node_type.is_some_and(|node_type| node_type.name == sender);
            is_type && node.from.iter().flatten().any(|from| from.text == *name)
        };
        let senders: Vec<usize> = (0..self.nodes.len()).filter(|at| sends(&self.nodes[*at])).collect();
        let [sender] = senders[..] else { return Declared::Unsent(of, sender) };
        let outputs = &mut self.nodes[sender].named_outputs;
        outputs.push(output);
        Declared::Output(sender, outputs.len() - 1)
    }

    fn name_all(&mut self, report: &mut Report<'_>) {
        let topics = self.topics.iter().enumerate().map(|(i, topic)| (&topic.name, Declared::Topic(i)));
        let nodes = self.nodes.iter().enumerate().map(|(i, node)| (&node.name, Declared::Node(i)));
        let sinks = self.sinks.iter().map(|sink| (&sink.name, Declared::Sink));
        let mut first: BTreeMap<&str, (&str, u32)> = BTreeMap::new();
        for (name, declared) in topics.chain(nodes).chain(sinks) {
            let what = declared.what();
            if !matches!(declared, Declared::Topic(_)) && !is_name(&name.text, "_-") {
                let message = format!("`{}` cannot be the name of a {what}", name.text);
                report.add_with_help(name.span, message, "a lower case letter, then up to 63 of `a-z 0-9 _ -`");
            }
            match first.get(name.text.as_str()) {
                Some((earlier, line)) => {
                    report_twice(name, what, earlier, *line, report);
                    self.names.insert(name.text.clone(), Declared::Ambiguous);
                }
                None => {
                    self.names.insert(name.text.clone(), declared);
                    first.insert(&name.text, (what, name.span.line));
                }
            }
        }
    }
}

impl Declared {
    fn what(self) -> &'static str {
        match self {
            Declared::Topic(_) => "topic",
            Declared::Node(_) => "node",
            Declared::Output(..) | Declared::Unsent(..) => "output",
            Declared::Sink => "sink",
            Declared::Ambiguous => "name",
        }
    }
}

fn report_twice(name: &Name, what: &str, earlier: &str, line: u32, report: &mut Report<'_>) {
    let message = format!("a {what} cannot be named `{}`: that is the {earlier} of line {line}", name.text);
    report.add_with_help(name.span, message, "topics, nodes and sinks share their names");
}

fn settings(fields: &Fields<'_>, report: &mut Report<'_>) -> Settings {
    let help = "the prefix of its consumer groups and internal topics: `application: tally`";
    let application = fields.require("application", help, report).and_then(|yaml| yaml.text(report));
    if let Some(name) = application.as_ref().filter(|name| !is_name(&name.text, "-")) {
        let message = format!("`{}` cannot be the name of an application", name.text);
        report.add_with_help(name.span, message, "a lower case letter, then up to 63 of `a-z 0-9 -`");
    }
    let topic_prefix = fields.get("topic_prefix").and_then(|yaml| yaml.text(report));
    if let Some(prefix) = topic_prefix.as_ref().filter(|prefix| !is_prefix(&prefix.text)) {
        let message = format!("`{}` cannot be the prefix of topics", prefix.text);
        report.add_with_help(prefix.span, message, "up to 64 of `A-Z a-z 0-9 . _ -`, like `staging.`");
    }
    let commit_interval = fields.get("commit_interval");
    let commit_interval =
        commit_interval.and_then(|yaml| yaml.duration(COMMIT_INTERVAL_MIN..=COMMIT_INTERVAL_MAX, report));
    let late_after = fields.get("late_after").and_then(|yaml| yaml.duration(LATE_AFTER_MIN..=Duration::MAX, report));
    let idle_margin =
        fields.get("idle_margin").and_then(|yaml| yaml.duration(Duration::ZERO..=IDLE_MARGIN_MAX, report));
    Settings {
        application: application.map(|name| name.text).unwrap_or_default(),
        topic_prefix: topic_prefix.map(|prefix| prefix.text).unwrap_or_default(),
        commit_interval: commit_interval.unwrap_or(COMMIT_INTERVAL_DEFAULT),
        late_after: late_after.unwrap_or(LATE_AFTER_DEFAULT),
        idle_margin: idle_margin.unwrap_or(IDLE_MARGIN_DEFAULT),
    }
}

/// Whether the text can be the prefix of topic names.
fn is_prefix(text: &str) -> bool {
    text.len() <= 64 && is_topic_name(&format!("{text}x"))
}

/// The entries of a section; an empty section is a mistake.
pub(super) fn entries<'y>(section: &str, yaml: Option<&'y Yaml>, report: &mut Report<'_>) -> Option<&'y [Entry]> {
    let yaml = yaml?;
    if yaml.is_empty() {
        report.add(yaml.span, format!("`{section}` is empty"), None);
        return None;
    }
    let entries = Fields::open(format!("`{section}`"), yaml.span, yaml, report)?.entries();
    if entries.len() > ENTRIES_MAX {
        let message = format!("`{section}` has {} entries; at most {ENTRIES_MAX} are read", entries.len());
        report.add(yaml.span, message, None);
        return None;
    }
    Some(entries)
}
