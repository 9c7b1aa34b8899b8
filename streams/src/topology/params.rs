//! A node's own parameters, checked against a struct of the node type.

use super::Diagnostics;
use super::deserializer::TreeDeserializer;
use super::document::{Mapping, Span, Value, Yaml};
use super::fault::{Fault, FaultKind, Step};
use super::report::Report;
use super::suggestion;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// How many mistakes of one node are looked for.
const FAULTS_MAX: usize = 50;

/// A node's own parameters: everything but the keys that every node has.
#[derive(Clone, Debug)]
pub struct Params {
    yaml: Yaml,
    /// Keys that every node may have; here only because one of them may be misspelt.
    node_keys: &'static [&'static str],
    /// Paths of keys that no struct knew: the caret belongs under the key then, not under its value.
    unknown: RefCell<BTreeSet<String>>,
}

/// A parameter of a node type, as the reference shows it. Texts are Markdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamSpec {
    /// Its path among the node's parameters: `windows`, or `rules[].per` for a parameter of a list's items.
    pub path: String,
    /// Its type, in words: `list of durations`.
    pub kind: String,
    /// The default; None if the parameter is required.
    pub default: Option<String>,
    /// Its meaning, and its limits.
    pub about: String,
}

/// A mistake in a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamError {
    /// Where: like `rules[0].per`; empty for the node as a whole.
    pub path: String,
    /// The mistake.
    pub message: String,
    /// The remedy.
    pub help: Option<String>,
    /// Where in the text that stands there: the first character, from 0, and how many. None: the whole value.
    pub within: Option<(u32, u32)>,
}

impl ParamError {
    /// Without help.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), help: None, within: None }
    }

    /// With help.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Params {
    pub(super) fn new(span: Span, mapping: Mapping, node_keys: &'static [&'static str]) -> Self {
        Self { yaml: Yaml { span, value: Value::Map(mapping) }, node_keys, unknown: RefCell::default() }
    }

    /// Parses a snippet like `{ max: 3, per: 5s }`, for the tests of a node type.
    pub fn from_yaml(text: &str) -> Result<Self, Diagnostics> {
        let mut report = Report::new("params", text);
        let yaml = Yaml::parse(text, &mut report);
        let start = Span { line: 1, column: 1, length: 1 };
        let mapping = match yaml.map(|yaml| yaml.value) {
            Some(Value::Map(mapping)) => mapping,
            Some(Value::Null) => Mapping::default(),
            Some(value) => {
                report.add(start, format!("expected a mapping of parameters, found {value}"), None);
                Mapping::default()
            }
            None => Mapping::default(),
        };
        if report.is_empty() { Ok(Self::new(start, mapping, &[])) } else { Err(report.finish()) }
    }

    /// Parses the struct of a node type; with `deny_unknown_fields` it finds misspelt keys, nested ones too.
    ///
    /// serde stops at the first mistake. The mistaken part is then set aside and the rest parsed again, so the error
    /// holds every mistake that does not follow from another.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Vec<ParamError>> {
        let mut fault = match T::deserialize(TreeDeserializer(&self.yaml)) {
            Ok(params) => return Ok(params),
            Err(fault) => fault,
        };
        let mut rest = self.yaml.clone();
        let mut set_aside: Vec<SetAside> = Vec::new();
        let mut errors = Vec::new();
        for _ in 0..FAULTS_MAX {
            let path = fault.path();
            let meant = self.meant(&fault, &path);
            if !set_aside.iter().any(|earlier| earlier.explains(&fault, &path)) {
                errors.push(self.error(&fault, &path));
            }
            if path.is_empty() || !rest.remove(&path) {
                break;
            }
            let unknown = matches!(fault.kind, FaultKind::UnknownKey { .. });
            set_aside.push(SetAside { path, unknown, meant });
            fault = match T::deserialize(TreeDeserializer(&rest)) {
                Ok(_) => break,
                Err(fault) => fault,
            };
        }
        Err(errors)
    }

    /// Reports an error of these parameters. The owner, like "node `likes`", stands at `place`.
    pub(super) fn report(&self, error: ParamError, owner: &str, place: Span, report: &mut Report<'_>) {
        let ParamError { path, message, help, within } = error;
        let unknown = self.unknown.borrow().contains(&path);
        let found = if path.is_empty() { None } else { locate(&self.yaml, &path, unknown) };
        let part = found.and_then(|(span, text)| report.part(span, text?, within?));
        let span = part.or(found.map(|(span, _)| span));
        let message = match path.as_str() {
            _ if unknown => message,
            "" => format!("{owner}: {message}"),
            _ => format!("`{path}`: {message}"),
        };
        report.add(span.unwrap_or(place), message, help);
    }

    /// Where a text stands among them.
    pub(super) fn place_of(&self, text: &str) -> Option<Span> {
        place_of(&self.yaml, text)
    }

    /// The key that a misspelt one stands for.
    fn meant(&self, fault: &Fault, path: &[Step]) -> Option<&'static str> {
        match (&fault.kind, path.last()) {
            (FaultKind::UnknownKey { known }, Some(Step::Key(key))) => suggestion::closest(key, known.iter().copied()),
            _ => None,
        }
    }

    fn error(&self, fault: &Fault, path: &[Step]) -> ParamError {
        let rendered = render(path);
        let (message, help) = match (&fault.kind, path.last()) {
            (FaultKind::UnknownKey { known }, Some(Step::Key(key))) => {
                self.unknown.borrow_mut().insert(rendered.clone());
                let node_keys = if path.len() == 1 { self.node_keys } else { &[] };
                let known = known.iter().chain(node_keys).copied();
                (format!("unknown key `{key}`"), suggestion::help(key, known, "keys"))
            }
            _ => (fault.message.clone(), fault.help.clone()),
        };
        ParamError { path: rendered, message, help, within: None }
    }
}

/// A part of the tree that was taken out, to look for mistakes in the rest.
struct SetAside {
    path: Vec<Step>,
    unknown: bool,
    meant: Option<&'static str>,
}

impl SetAside {
    /// Whether a fault at `path` may be nothing but the consequence of this part's absence.
    fn explains(&self, fault: &Fault, path: &[Step]) -> bool {
        let Some((Step::Key(key), parent)) = self.path.split_last() else {
            return self.path.starts_with(path);
        };
        match &fault.kind {
            FaultKind::MissingKey(missing) if parent == path => key == missing || self.meant == Some(missing),
            // An unknown key was no part of the struct: nothing can miss it.
            _ => !self.unknown && self.path.starts_with(path),
        }
    }
}

fn render(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.extend([".", key]),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// The first value that is this text.
fn place_of(yaml: &Yaml, text: &str) -> Option<Span> {
    match &yaml.value {
        Value::String(found) if found == text => Some(yaml.span),
        Value::List(items) => items.iter().find_map(|item| place_of(item, text)),
        Value::Map(mapping) => mapping.entries.iter().find_map(|entry| place_of(&entry.value, text)),
        _ => None,
    }
}

/// Finds a rendered path in the tree, and the text there. A key may itself have dots in it, so the keys that exist decide
/// how to read it.
fn locate<'y>(yaml: &'y Yaml, path: &str, key_itself: bool) -> Option<(Span, Option<&'y str>)> {
    if path.is_empty() {
        let text = match &yaml.value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        };
        return Some((yaml.span, text));
    }
    match &yaml.value {
        Value::Map(mapping) => mapping.entries.iter().find_map(|entry| {
            let rest = path.strip_prefix(entry.key.as_str())?;
            match rest.strip_prefix('.') {
                _ if rest.is_empty() && key_itself => Some((entry.key_span, None)),
                Some(rest) if !rest.is_empty() => locate(&entry.value, rest, key_itself),
                None if rest.is_empty() || rest.starts_with('[') => locate(&entry.value, rest, key_itself),
                _ => None,
            }
        }),
        Value::List(items) => {
            let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
            let item = items.get(index.parse::<usize>().ok()?)?;
            locate(item, rest.strip_prefix('.').unwrap_or(rest), key_itself)
        }
        _ => None,
    }
}
