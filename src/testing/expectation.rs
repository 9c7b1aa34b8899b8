//! Reads what a step expects.

use super::metric_value::WantedValue;
use super::moment::{relative, shown};
use super::names::{Metric, Names};
use super::step::json;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fmt;
use tally_model::{OutputType, parse_ms};
use tally_streams::topology::{Entry, Fields, Report, Span, Value, Yaml, suggest};

/// A part of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Totals: `SUBJECT METRIC`.
    Counters,
    /// Values of windows: `SUBJECT METRIC LENGTH START`.
    Windows,
    /// What is switched on: `ACTOR METRIC SUBJECT`.
    Reactions,
    /// Places of a board: their numbers.
    Boards,
    /// Events that were not counted, or are held: their ids.
    Verdicts,
    /// Records that a node rejected: their event ids.
    DeadLetters,
    /// New records of a topic.
    Records,
    /// Numbers of entries.
    Stores,
}

impl Section {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 8] = [
        Self::Counters,
        Self::Windows,
        Self::Reactions,
        Self::Boards,
        Self::Verdicts,
        Self::DeadLetters,
        Self::Records,
        Self::Stores,
    ];

    /// Its key in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counters => "counters",
            Self::Windows => "windows",
            Self::Reactions => "reactions",
            Self::Boards => "boards",
            Self::Verdicts => "verdicts",
            Self::DeadLetters => "dead_letters",
            Self::Records => "records",
            Self::Stores => "stores",
        }
    }

    /// The type of the topics that hold it, if there is one.
    fn output(self) -> Option<OutputType> {
        match self {
            Self::Counters => Some(OutputType::Counters),
            Self::Windows => Some(OutputType::CounterWindow),
            Self::Reactions => Some(OutputType::Reaction),
            Self::Boards => Some(OutputType::Ranking),
            Self::Verdicts => Some(OutputType::Verdict),
            Self::DeadLetters => Some(OutputType::Raw),
            Self::Records | Self::Stores => None,
        }
    }

    /// Whether an expected text need not have this end of what was found: a verdict its reason, a place its score, a dead
    /// letter anything after its beginning.
    pub fn may_be_left_out(self, rest: &str) -> bool {
        match self {
            Self::DeadLetters => true,
            Self::Boards | Self::Verdicts => rest.is_empty() || rest.starts_with(' '),
            _ => rest.is_empty(),
        }
    }

    /// Whether it holds what nodes drop.
    pub fn is_of_drops(self) -> bool {
        matches!(self, Self::Verdicts | Self::DeadLetters)
    }
}

/// A section, and the board, topic or store within it; empty where the section is one table.
pub type Scope = (Section, String);

/// What a value must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// This value of a metric.
    Value(WantedValue),
    /// This text.
    Text(String),
    /// A JSON object that has these fields with these values, and any others.
    Fields(Json),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "{value}"),
            Self::Text(text) => f.write_str(text),
            Self::Fields(fields) => write!(f, "{fields}"),
        }
    }
}

/// What a step expects.
#[derive(Debug)]
pub struct Expectation {
    /// The place of its keyword in the file.
    pub place: Span,
    /// Nothing else may be in the scopes.
    pub is_exact: bool,
    /// By scope and key: one value for each record.
    pub scopes: BTreeMap<Scope, BTreeMap<String, Vec<Wanted>>>,
}

impl Expectation {
    fn add(&mut self, scope: (Section, &str), key: String, wanted: Wanted) {
        let scope = (scope.0, scope.1.to_owned());
        self.scopes.entry(scope).or_default().entry(key).or_default().push(wanted);
    }
}

/// Reads the body of `expect` (`is_exact`) or `includes`.
pub fn read_expectation(
    yaml: &Yaml,
    place: Span,
    is_exact: bool,
    start_ms: i64,
    names: &Names,
    report: &mut Report<'_>,
) -> Option<Expectation> {
    let fields = Fields::read("an expectation", place, yaml, &Section::ALL.map(Section::name), report)?;
    let mut reader = Reader { expectation: Expectation { place, is_exact, scopes: BTreeMap::new() }, start_ms, names };
    if is_exact {
        // What is dropped must be expected wherever anything is.
        for section in [Section::Verdicts, Section::DeadLetters] {
            reader.expectation.scopes.insert((section, String::new()), BTreeMap::new());
        }
    }
    for entry in fields.entries() {
        reader.read_section(entry, report);
    }
    Some(reader.expectation)
}

struct Reader<'a> {
    expectation: Expectation,
    start_ms: i64,
    names: &'a Names,
}

impl Reader<'_> {
    fn read_section(&mut self, entry: &Entry, report: &mut Report<'_>) {
        // An unknown key was reported already.
        let Some(section) = Section::ALL.into_iter().find(|section| section.name() == entry.key) else { return };
        if let Some(output) = section.output().filter(|output| !self.names.values.contains(output)) {
            let message = format!("the topology has no topic with `value: {}`", output.name());
            report.add_with_help(entry.key_span, message, "these results go nowhere: add the topic");
            return;
        }
        if matches!(section, Section::Counters | Section::Windows | Section::Reactions) {
            self.expectation.scopes.entry((section, String::new())).or_default();
        }
        for (name, value) in mapping(&entry.value, section.name(), report) {
            match section {
                Section::Counters => self.read_counters(name, value, report),
                Section::Windows => self.read_windows(name, value, report),
                Section::Reactions => self.read_reactions(name, value, report),
                Section::Boards => self.read_board(name, value, report),
                Section::Verdicts | Section::DeadLetters => self.read_texts(section, name, value, report),
                Section::Records => self.read_records(name, value, report),
                Section::Stores => self.read_store(name, value, report),
            }
        }
    }

    fn metric(&self, name: &str, span: Span, report: &mut Report<'_>) -> Option<&Metric> {
        let known = self.names.metrics.get(name);
        if known.is_none() {
            let help = suggest(name, self.names.metrics.keys().map(String::as_str), "metrics");
            report.add(span, format!("unknown metric `{name}`"), help);
        }
        known
    }

    fn read_counters(&mut self, subject: &Entry, value: &Yaml, report: &mut Report<'_>) {
        for (metric, value) in mapping(value, "the counters of a subject", report) {
            let Some(known) = self.metric(&metric.key, metric.key_span, report) else { continue };
            if let Some(wanted) = WantedValue::read(value, known.of_nothing.clone(), report) {
                let key = format!("{} {}", subject.key, metric.key);
                self.expectation.add((Section::Counters, ""), key, Wanted::Value(wanted));
            }
        }
    }

    fn read_windows(&mut self, subject: &Entry, value: &Yaml, report: &mut Report<'_>) {
        for (window, value) in mapping(value, "the windows of a subject", report) {
            let Some((metric, name)) = window.key.split_once(' ') else {
                let message = format!("expected a metric and a window, found `{}`", window.key);
                report.add_with_help(window.key_span, message, "write it as `views 1h: { +0s: 3 }`");
                continue;
            };
            let Some(known) = self.metric(metric, window.key_span, report) else { continue };
            let of_nothing = known.of_nothing.clone();
            let Some(name) = known.window(metric, name, window.key_span, report) else { continue };
            for (start, value) in mapping(value, "the values of windows by their start", report) {
                let start_ms = relative(&start.key, self.start_ms).or_else(|| parse_ms(&start.key));
                let Some(start_ms) = start_ms else {
                    let message = format!("expected the start of a window, found `{}`", start.key);
                    report.add_with_help(start.key_span, message, "write `+1h`, from the start of the case, or a time");
                    continue;
                };
                if let Some(wanted) = WantedValue::read(value, of_nothing.clone(), report) {
                    let key = format!("{} {metric} {name} {}", subject.key, shown(start_ms, self.start_ms));
                    self.expectation.add((Section::Windows, ""), key, Wanted::Value(wanted));
                }
            }
        }
    }

    fn read_reactions(&mut self, actor: &Entry, value: &Yaml, report: &mut Report<'_>) {
        for (toggle, value) in mapping(value, "the reactions of an actor", report) {
            if !self.names.toggles.contains(&toggle.key) {
                let help = suggest(&toggle.key, self.names.toggles.iter().map(String::as_str), "toggles");
                report.add(toggle.key_span, format!("unknown toggle `{}`", toggle.key), help);
                continue;
            }
            for subject in list(value) {
                if let Some(subject) = subject.text(report) {
                    let key = format!("{} {} {}", actor.key, toggle.key, subject.text);
                    self.expectation.add((Section::Reactions, ""), key, Wanted::Text("on".to_owned()));
                }
            }
        }
    }

    fn read_board(&mut self, board: &Entry, value: &Yaml, report: &mut Report<'_>) {
        if !self.names.boards.contains(&board.key) {
            let help = suggest(&board.key, self.names.boards.iter().map(String::as_str), "boards");
            report.add(board.key_span, format!("unknown board `{}`", board.key), help);
            return;
        }
        let scope = (Section::Boards, board.key.as_str());
        self.expectation.scopes.entry((scope.0, board.key.clone())).or_default();
        match &value.value {
            Value::Map(places) => {
                for (place, entry) in (1..).zip(&places.entries) {
                    let score = match &entry.value.value {
                        Value::Integer(score) => score.to_string(),
                        Value::Float(score) => score.to_string(),
                        other => {
                            report.add(entry.value.span, format!("expected a score, found {other}"), None);
                            continue;
                        }
                    };
                    self.expectation.add(scope, place.to_string(), Wanted::Text(format!("{} {score}", entry.key)));
                }
            }
            _ => {
                for (place, subject) in (1..).zip(list(value)) {
                    if let Some(subject) = subject.text(report) {
                        self.expectation.add(scope, place.to_string(), Wanted::Text(subject.text));
                    }
                }
            }
        }
    }

    fn read_texts(&mut self, section: Section, id: &Entry, value: &Yaml, report: &mut Report<'_>) {
        for text in list(value) {
            let Some(text) = text.text(report) else { continue };
            let first = text.text.split(' ').next().unwrap_or_default();
            if section == Section::Verdicts && !VERDICTS.contains(&first) {
                let help = suggest(first, VERDICTS.iter().copied(), "verdicts");
                report.add(text.span, format!("unknown verdict `{first}`"), help);
                continue;
            }
            self.expectation.add((section, ""), id.key.clone(), Wanted::Text(text.text));
        }
    }

    fn read_records(&mut self, topic: &Entry, value: &Yaml, report: &mut Report<'_>) {
        if !self.names.topics.contains(&topic.key) {
            let help = suggest(&topic.key, self.names.topics.iter().map(String::as_str), "topics");
            let sections = || {
                format!(
                    "totals, windows and so on have sections of their own: {}",
                    Section::ALL.map(Section::name).join(", ")
                )
            };
            let help = help.or_else(|| Some(sections()));
            report.add(topic.key_span, format!("`{}` is no topic of records", topic.key), help);
            return;
        }
        let scope = (Section::Records, topic.key.as_str());
        self.expectation.scopes.entry((scope.0, topic.key.clone())).or_default();
        for record in list(value) {
            match json(record, report) {
                Some(fields @ Json::Object(_)) => self.expectation.add(scope, String::new(), Wanted::Fields(fields)),
                Some(_) => report.add(record.span, format!("expected a record, found {}", record.value), None),
                None => {}
            }
        }
    }

    fn read_store(&mut self, store: &Entry, value: &Yaml, report: &mut Report<'_>) {
        if !self.names.stores.contains(&store.key) {
            let help = suggest(&store.key, self.names.stores.iter().map(String::as_str), "stores");
            report.add(store.key_span, format!("unknown store `{}`", store.key), help);
            return;
        }
        if let Some(number) = integer(value, report) {
            self.expectation.add((Section::Stores, &store.key), String::new(), Wanted::Text(number.to_string()));
        }
    }
}

const VERDICTS: &[&str] = &["duplicate", "limited", "late", "dead", "held", "released"];

/// The entries of a mapping; nothing is an empty one, and anything else is reported.
fn mapping<'y>(yaml: &'y Yaml, what: &str, report: &mut Report<'_>) -> Vec<(&'y Entry, &'y Yaml)> {
    match &yaml.value {
        Value::Map(mapping) => mapping.entries.iter().map(|entry| (entry, &entry.value)).collect(),
        Value::Null => Vec::new(),
        Value::List(items) if items.is_empty() => Vec::new(),
        other => {
            report.add(yaml.span, format!("expected a mapping for {what}, found {other}"), None);
            Vec::new()
        }
    }
}

/// The items of a list; anything else is a list of itself.
fn list(yaml: &Yaml) -> Vec<&Yaml> {
    match &yaml.value {
        Value::List(items) => items.iter().collect(),
        Value::Null => Vec::new(),
        _ => vec![yaml],
    }
}

fn integer(yaml: &Yaml, report: &mut Report<'_>) -> Option<i64> {
    let number = match &yaml.value {
        Value::Integer(number) => i64::try_from(*number).ok(),
        _ => None,
    };
    if number.is_none() {
        report.add(yaml.span, format!("expected a whole number, found {}", yaml.value), None);
    }
    number
}
