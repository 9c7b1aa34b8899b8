//! The known keys of a mapping, and values of a wanted kind.

use super::document::{Entry, Mapping, Span, Value, Yaml};
use super::duration::{ConfigDuration, parse_duration};
use super::report::Report;
use super::size::{ConfigBytes, FORMS, parse_bytes};
use super::suggestion;
use std::collections::HashSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A name in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// The name.
    pub text: String,
    /// Its place.
    pub span: Span,
}

/// A mapping that has these keys and no others.
pub struct Fields<'y> {
    mapping: &'y Mapping,
    /// The owner of the fields, for messages: "topic `counters`".
    owner: String,
    /// The place at which a missing key is reported.
    span: Span,
    /// Keys that a misspelt one stands for: they are not missing as well.
    meant: Vec<&'static str>,
}

impl<'y> Fields<'y> {
    /// Reports other keys. None, and a report, where the value is no mapping.
    pub fn read(
        owner: impl Into<String>,
        span: Span,
        yaml: &'y Yaml,
        known: &[&'static str],
        report: &mut Report<'_>,
    ) -> Option<Self> {
        let mut fields = Self::open(owner, span, yaml, report)?;
        for entry in &fields.mapping.entries {
            if !known.contains(&entry.key.as_str()) {
                let help = suggestion::help(&entry.key, known.iter().copied(), "keys");
                report.add(entry.key_span, format!("unknown key `{}`", entry.key), help);
                fields.meant.extend(suggestion::closest(&entry.key, known.iter().copied()));
            }
        }
        Some(fields)
    }

    /// Accepts any key. None, and a report, if the value is not a mapping.
    pub fn open(owner: impl Into<String>, span: Span, yaml: &'y Yaml, report: &mut Report<'_>) -> Option<Self> {
        let owner = owner.into();
        match &yaml.value {
            Value::Map(mapping) => Some(Self { mapping, owner, span, meant: Vec::new() }),
            other => {
                report.add(yaml.span, format!("{owner} must be a mapping, but this is {other}"), None);
                None
            }
        }
    }

    /// All entries, in the order of the file.
    pub fn entries(&self) -> &'y [Entry] {
        &self.mapping.entries
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&'y Yaml> {
        self.mapping.get(key).map(|entry| &entry.value)
    }

    /// A required key.
    pub fn require(&self, key: &str, help: &str, report: &mut Report<'_>) -> Option<&'y Yaml> {
        let value = self.get(key);
        // A key that is no string may be meant to be this one.
        if value.is_none() && !self.meant.contains(&key) && !self.mapping.has_nameless() {
            report.add_with_help(self.span, format!("{} has no `{key}`", self.owner), help);
        }
        value
    }
}

impl Yaml {
    /// Text; reports anything else.
    pub fn text(&self, report: &mut Report<'_>) -> Option<Name> {
        match &self.value {
            Value::String(text) => Some(Name { text: text.clone(), span: self.span }),
            other => {
                let help = match other {
                    Value::Bool(value) => Some(format!("write it in quotes: \"{value}\"")),
                    Value::Integer(value) => Some(format!("write it in quotes: \"{value}\"")),
                    _ => None,
                };
                report.add(self.span, format!("expected a name, found {other}"), help);
                None
            }
        }
    }

    /// A name or a list of at least one. Names that are there twice are reported and left out.
    ///
    /// None if one of them is not a valid name.
    pub fn names(&self, report: &mut Report<'_>) -> Option<Vec<Name>> {
        let Value::List(items) = &self.value else {
            return self.text(report).map(|name| vec![name]);
        };
        if items.is_empty() {
            report.add(self.span, "expected a name or a list of names, but the list is empty", None);
            return None;
        }
        let (mut names, mut seen, mut sound) = (Vec::new(), HashSet::new(), true);
        for item in items {
            match item.text(report) {
                Some(name) if !seen.insert(name.text.clone()) => {
                    report.add(name.span, format!("`{}` is in this list twice", name.text), None);
                }
                Some(name) => names.push(name),
                None => sound = false,
            }
        }
        sound.then_some(names)
    }

    /// A duration within a range; reports anything else.
    pub fn duration(&self, range: RangeInclusive<Duration>, report: &mut Report<'_>) -> Option<Duration> {
        let parsed = match &self.value {
            Value::String(text) => parse_duration(text),
            // The same text for `5` as for `"5"`.
            Value::Integer(number) => parse_duration(&number.to_string()),
            other => Err(format!("expected a duration such as 5s, found {other}")),
        };
        match parsed {
            Ok(duration) if range.contains(&duration) => Some(duration),
            Ok(duration) => {
                let (min, max) = (ConfigDuration(*range.start()), ConfigDuration(*range.end()));
                let text = self.text(report).map(|name| name.text).unwrap_or_default();
                let message = match duration < min.0 {
                    true => format!("`{text}` is too short; at least {min}"),
                    false => format!("`{text}` is too long; at most {max}"),
                };
                report.add(self.span, message, None);
                None
            }
            Err(message) => {
                report.add(self.span, message, None);
                None
            }
        }
    }

    /// A whole number within a range; reports anything else.
    pub fn integer(&self, range: RangeInclusive<u32>, report: &mut Report<'_>) -> Option<u32> {
        let value = match self.value {
            Value::Integer(value) => u32::try_from(value).ok().filter(|value| range.contains(value)),
            _ => None,
        };
        if value.is_none() {
            let (min, max) = (range.start(), range.end());
            report.add(self.span, format!("expected a whole number from {min} to {max}, found {}", self.value), None);
        }
        value
    }

    /// A number of bytes with a binary unit, such as `20GiB`.
    pub fn bytes(&self, min: u64, report: &mut Report<'_>) -> Option<u64> {
        let parsed = match &self.value {
            Value::String(text) => parse_bytes(text),
            other => Err(format!("expected {FORMS}, found {other}")),
        };
        match parsed {
            Ok(ConfigBytes(bytes)) if bytes >= min => return Some(bytes),
            Ok(_) => {
                report.add(self.span, format!("{} is too little; at least {}", self.value, ConfigBytes(min)), None)
            }
            Err(message) => report.add(self.span, message, None),
        }
        None
    }

    /// One of the given words.
    pub fn choice<T: Copy>(&self, choices: &[(&'static str, T)], report: &mut Report<'_>) -> Option<T> {
        let name = self.text(report)?;
        let found = choices.iter().find(|(word, _)| *word == name.text);
        if found.is_none() {
            let help = suggestion::help(&name.text, choices.iter().map(|(word, _)| *word), "values");
            report.add(self.span, format!("unknown value `{}`", name.text), help);
        }
        found.map(|(_, value)| *value)
    }
}

/// Whether a text is a name: `[a-z][a-z0-9]*` of 1 to 64 characters, with `also` allowed behind the first.
pub fn is_name(text: &str, also: &str) -> bool {
    let mut chars = text.chars();
    text.len() <= 64
        && chars.next().is_some_and(|c| c.is_ascii_lowercase())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || also.contains(c))
}

/// "1 partition", "3 partitions".
pub fn count(number: impl TryInto<u64> + Display + Copy, what: &str) -> String {
    format!("{number} {what}{}", if number.try_into().is_ok_and(|number| number == 1) { "" } else { "s" })
}
