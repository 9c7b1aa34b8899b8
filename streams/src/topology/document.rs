//! The YAML file as a tree in which every key and value has its position.

use super::fault::Step;
use super::report::Report;
use std::collections::HashMap;
use std::fmt;

/// A place in the file: lines and columns from 1, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// Characters; for a list or mapping that of its bracket, or 0.
    pub length: u32,
}

/// A value and its place. Within an alias: the place where the anchor defines it.
#[derive(Clone, Debug)]
pub struct Yaml {
    /// Its place.
    pub span: Span,
    /// The value.
    pub value: Value,
}

/// A value by YAML 1.2; `yes`, `no`, `on` and `off` are strings.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing.
    Null,
    /// true or false.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// Text.
    String(String),
    /// A list.
    List(Vec<Yaml>),
    /// A mapping.
    Map(Mapping),
    /// Set aside while the rest is searched for further mistakes.
    Removed,
}

/// A mapping whose keys are strings and unique.
#[derive(Clone, Debug, Default)]
pub struct Mapping {
    /// Those with a valid key, in the order of the file.
    pub entries: Vec<Entry>,
    /// Entries that were left out.
    refused: Vec<Refused>,
}

/// An entry that was left out, by its key.
#[derive(Clone, Debug)]
struct Refused {
    span: Span,
    cause: Refusal,
    message: String,
}

/// Why an entry was left out.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Refusal {
    /// Its key is no string.
    Nameless,
    /// Its key occurs before.
    Twice,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The place of the key.
    pub key_span: Span,
    /// The value.
    pub value: Yaml,
}

impl Mapping {
    /// A mapping of entries whose keys are known to be unique.
    pub(super) fn of(entries: Vec<Entry>) -> Self {
        Self { entries, refused: Vec::new() }
    }

    /// The entry of a key.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Whether there was a key that is no string.
    pub(super) fn has_nameless(&self) -> bool {
        self.refused.iter().any(|refused| refused.cause == Refusal::Nameless)
    }

    /// `lines` are those of the keys so far.
    pub(super) fn push(&mut self, key: Yaml, value: Yaml, lines: &mut HashMap<String, u32>) {
        let Value::String(text) = key.value else {
            let message = format!("a key must be a string, but this is {}", key.value);
            self.refused.push(Refused { span: key.span, cause: Refusal::Nameless, message });
            return;
        };
        if let Some(line) = lines.get(&text) {
            let message = format!("`{text}` is here twice; first on line {line}");
            self.refused.push(Refused { span: key.span, cause: Refusal::Twice, message });
            return;
        }
        lines.insert(text.clone(), key.span.line);
        self.entries.push(Entry { key: text, key_span: key.span, value });
    }

    fn report_refused(&self, report: &mut Report<'_>) {
        for Refused { span, cause, message } in &self.refused {
            let help = match cause {
                Refusal::Nameless => "put it in quotes",
                Refusal::Twice => "keep one of the two",
            };
            report.add_with_help(*span, message, help);
        }
        self.entries.iter().for_each(|entry| entry.value.report_refused(report));
    }
}

impl Yaml {
    /// Whether it was set aside.
    pub(super) fn is_removed(&self) -> bool {
        matches!(self.value, Value::Removed)
    }

    /// Nothing, or a mapping of nothing.
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Map(mapping) => mapping.entries.is_empty() && mapping.refused.is_empty(),
            _ => false,
        }
    }

    /// Sets a part aside; whether it was there.
    pub(super) fn remove(&mut self, path: &[Step]) -> bool {
        let part = path.iter().try_fold(self, |yaml, step| match (&mut yaml.value, step) {
            (Value::Map(mapping), Step::Key(key)) => {
                mapping.entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.value)
            }
            (Value::List(items), Step::Index(index)) => items.get_mut(*index),
            _ => None,
        });
        match part {
            Some(part) if !part.is_removed() => {
                part.value = Value::Removed;
                true
            }
            _ => false,
        }
    }

    pub(super) fn report_refused(&self, report: &mut Report<'_>) {
        match &self.value {
            Value::List(items) => items.iter().for_each(|item| item.report_refused(report)),
            Value::Map(mapping) => mapping.report_refused(report),
            _ => {}
        }
    }
}

impl fmt::Display for Value {
    /// The kind of the value, as in "found …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null | Value::Removed => f.write_str("nothing"),
            Value::Bool(value) => write!(f, "`{value}`"),
            Value::Integer(value) => write!(f, "the number {value}"),
            Value::Float(value) => write!(f, "the number {value}"),
            Value::String(value) => write!(f, "the string `{value}`"),
            Value::List(_) => f.write_str("a list"),
            Value::Map(_) => f.write_str("a mapping"),
        }
    }
}
