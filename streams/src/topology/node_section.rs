//! The nodes of a file, as written.

use super::document::{Entry, Mapping, Span};
use super::fields::{Fields, Name};
use super::params::Params;
use super::report::Report;
use super::topic_section::check_key;
use super::{Blueprint, NamedOutput, NodeType, OnError, ParamError, suggestion};
use crate::processor::Dataflow;

const KEYS: &[&str] = &["type", "from", "to", "on_error"];
const KEYS_WITH_BY: &[&str] = &["type", "from", "to", "on_error", "by"];
const ON_ERROR: &[(&str, OnError)] =
    &[("dead-letter", OnError::DeadLetter), ("skip", OnError::Skip), ("halt", OnError::Halt)];

/// A node of the file.
pub(super) struct NodeSection<'r, D: Dataflow> {
    pub name: Name,
    /// The node of the file that implies this one.
    pub implied_by: Option<String>,
    /// None where the file is wrong about it.
    pub node_type: Option<&'r NodeType<D>>,
    /// Nodes or a topic; None where the file is wrong about it.
    pub from: Option<Vec<Name>>,
    /// Topics; None where the file is wrong about it.
    pub to: Option<Vec<Name>>,
    /// The key that its input must have; None keeps the key of the input.
    pub key: Option<String>,
    pub on_error: OnError,
    /// The position in the file.
    pub on_error_given: Option<Span>,
    pub params: Params,
    /// None where the file is wrong about its parameters.
    pub blueprint: Option<Box<dyn Blueprint<D>>>,
    /// The facts that the blueprint publishes; the default without one.
    pub facts: D::Facts,
    /// The named outputs of the blueprint; none without one.
    pub named_outputs: Vec<NamedOutput>,
}

impl<'r, D: Dataflow> NodeSection<'r, D> {
    pub fn read(entry: &Entry, registry: &'r [NodeType<D>], report: &mut Report<'_>) -> Self {
        let name = Name { text: entry.key.clone(), span: entry.key_span };
        let mut section = Self {
            params: Params::new(entry.value.span, Mapping::default(), KEYS),
            name,
            implied_by: None,
            node_type: None,
            from: None,
            to: None,
            key: None,
            on_error: OnError::default(),
            on_error_given: None,
            blueprint: None,
            facts: D::Facts::default(),
            named_outputs: Vec::new(),
        };
        let (owner, span) = (format!("node `{}`", section.name.text), section.name.span);
        let Some(fields) = Fields::open(owner, span, &entry.value, report) else {
            return section;
        };
        // A misspelt `type` or `from` would otherwise be a parameter of whatever type this is.
        let misspelt: Vec<(&str, &'static str)> = (["type", "from"].into_iter())
            .filter(|key| fields.get(key).is_none())
            .filter_map(|key| {
                let mut others = fields.entries().iter().map(|entry| entry.key.as_str());
                others
                    .find(|other| suggestion::closest(other, KEYS_WITH_BY.iter().copied()) == Some(key))
                    .map(|other| (other, key))
            })
            .collect();
        for entry in fields.entries() {
            if let Some((other, key)) = misspelt.iter().find(|(other, _)| *other == entry.key) {
                let help = format!("did you mean `{key}`?");
                report.add_with_help(entry.key_span, format!("unknown key `{other}`"), help);
            }
        }
        let mut required = |key: &'static str, help: &str| match misspelt.iter().any(|(_, meant)| *meant == key) {
            true => None,
            false => fields.require(key, help, report),
        };
        let kind = required("type", &format!("one of: {}", type_names(registry).collect::<Vec<_>>().join(", ")));
        let from = required("from", "what it reads: a topic, a node or a list of nodes");
        section.node_type = kind.and_then(|kind| kind.text(report)).and_then(|kind| {
            let found = registry.iter().find(|node_type| node_type.name == kind.text);
            if found.is_none() {
                let help = suggestion::help(&kind.text, type_names(registry), "node types");
                report.add(kind.span, format!("unknown node type `{}`", kind.text), help);
            }
            found
        });
        section.from = from.and_then(|from| from.names(report));
        section.to = fields.get("to").map_or(Some(Vec::new()), |to| to.names(report));
        if let Some(yaml) = fields.get("on_error") {
            section.on_error = yaml.choice(ON_ERROR, report).unwrap_or_default();
            section.on_error_given = Some(yaml.span);
        }

        let type_key = section.node_type.and_then(|node_type| node_type.key);
        let by = fields.get("by").filter(|_| type_key.is_some()).and_then(|by| by.text(report));
        let by = by.filter(|by| check_key(by, report)).map(|by| by.text);
        section.key = by.or(type_key.map(str::to_owned));
        let node_keys = if type_key.is_some() { KEYS_WITH_BY } else { KEYS };
        let own = |entry: &&Entry| {
            !node_keys.contains(&entry.key.as_str()) && misspelt.iter().all(|(other, _)| *other != entry.key)
        };
        let mapping = Mapping::of(fields.entries().iter().filter(own).cloned().collect());
        section.params = Params::new(entry.value.span, mapping, node_keys);
        section.parse_params(report);
        section
    }

    /// The second node, if its type has one. From here on the topics in `to` are its own.
    pub fn implied(&mut self) -> Option<Self> {
        let second = self.node_type?.then?;
        let blueprint = match &self.blueprint {
            // Mistakes in the parameters were reported for the first node.
            Some(_) => (second.parse)(&self.name.text, &self.params).ok(),
            None => None,
        };
        let facts = blueprint.as_ref().map(|blueprint| blueprint.facts()).unwrap_or_default();
        let named_outputs = blueprint.as_ref().map(|blueprint| blueprint.named_outputs()).unwrap_or_default();
        Some(Self {
            name: Name { text: format!("{}.{}", self.name.text, second.name), span: self.name.span },
            implied_by: Some(self.name.text.clone()),
            node_type: Some(second),
            from: Some(vec![self.name.clone()]),
            to: self.to.replace(Vec::new()),
            key: second.key.map(str::to_owned),
            on_error: self.on_error,
            on_error_given: None,
            params: self.params.clone(),
            blueprint,
            facts,
            named_outputs,
        })
    }

    /// The name in the file.
    pub fn name_in_file(&self) -> &str {
        self.implied_by.as_deref().unwrap_or(&self.name.text)
    }

    /// What readers call one of its outputs. One that it sends for another node has that node's name in its own.
    pub fn name_of(&self, output: &NamedOutput) -> String {
        match output.name.contains('.') {
            true => output.name.clone(),
            false => format!("{}.{}", self.name_in_file(), output.name),
        }
    }

    fn parse_params(&mut self, report: &mut Report<'_>) {
        let Some(node_type) = self.node_type else { return };
        match (node_type.parse)(&self.name.text, &self.params) {
            Ok(blueprint) => {
                self.facts = blueprint.facts();
                self.named_outputs = blueprint.named_outputs();
                self.blueprint = Some(blueprint);
            }
            Err(errors) if errors.is_empty() => {
                let message = format!("type `{}` refuses the parameters of this node without a reason", node_type.name);
                report.add(self.name.span, message, None);
            }
            Err(errors) => self.report_params(errors, report),
        }
    }

    /// Reports the mistakes that the node's type finds in its parameters.
    pub fn report_params(&self, errors: Vec<ParamError>, report: &mut Report<'_>) {
        for error in errors {
            self.params.report(error, &format!("node `{}`", self.name.text), self.name.span, report);
        }
    }

    /// Where a text stands among its parameters.
    pub fn place_of(&self, text: &str) -> Option<Span> {
        self.params.place_of(text)
    }

    /// The edge type it takes, if its type is known.
    pub fn input(&self) -> Option<&'static str> {
        self.node_type.map(|node_type| node_type.input)
    }

    /// The edge types that a reader of this output gets: None is the node itself. None where they are not known.
    pub fn gives(&self, output: Option<usize>) -> Option<Vec<&'static str>> {
        match output {
            Some(output) => self.named_outputs.get(output).map(|output| vec![output.value]),
            None => self.outputs().map(<[_]>::to_vec),
        }
    }

    /// The edge types it gives, if its type is known.
    pub fn outputs(&self) -> Option<&'static [&'static str]> {
        self.node_type.map(|node_type| node_type.outputs)
    }
}

fn type_names<D: Dataflow>(registry: &[NodeType<D>]) -> impl Iterator<Item = &'static str> {
    registry.iter().map(|node_type| node_type.name)
}
