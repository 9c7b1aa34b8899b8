//! The topics of a file, as written.

use super::document::{Entry, Span};
use super::fields::{Fields, Name, is_name};
use super::report::Report;
use super::suggestion;
use crate::log::Cleanup;
use std::time::Duration;

const KEYS: &[&str] = &["key", "value", "partitions", "partition_by", "cleanup", "retention", "retention_bytes"];
const PARTITIONS_MAX: u32 = 1024;
/// Less would be gone before it is read.
const BYTES_MIN: u64 = 64 << 20;

/// A topic of the file.
pub(super) struct TopicSection {
    pub name: Name,
    /// The parts of the key; empty where the file is wrong about it.
    pub key: Vec<String>,
    /// What partitions are computed from.
    pub partition_by: Vec<String>,
    /// The edge type of its values; None where the file is wrong about it.
    pub value: Option<String>,
    pub partitions: Partitions,
    pub cleanup: Cleanup,
    pub retention: Option<Duration>,
    pub retention_bytes: Option<u64>,
}

/// A topic's partitions in the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Partitions {
    /// Nothing: as many as the root has.
    AsRoot,
    /// A number and its position.
    Given(u32, Span),
    /// Something that is no number of partitions, already reported.
    Wrong,
}

impl TopicSection {
    /// A topic that is not in the file.
    pub fn added(name: &str, value: &str) -> Self {
        Self {
            name: Name { text: name.to_owned(), span: Span::default() },
            key: Vec::new(),
            partition_by: Vec::new(),
            value: Some(value.to_owned()),
            partitions: Partitions::AsRoot,
            cleanup: Cleanup::Delete,
            retention: None,
            retention_bytes: None,
        }
    }

    pub fn read(entry: &Entry, edge_types: &[&'static str], report: &mut Report<'_>) -> Self {
        let name = Name { text: entry.key.clone(), span: entry.key_span };
        if !is_topic_name(&name.text) {
            let message = format!("`{}` cannot be the name of a topic", name.text);
            report.add_with_help(name.span, message, "1 to 249 of `A-Z a-z 0-9 . _ -`, and neither `.` nor `..`");
        }
        let owner = format!("topic `{}`", name.text);
        let Some(fields) = Fields::read(owner, name.span, &entry.value, KEYS, report) else {
            // Its name still counts as known, so its readers and writers get no errors.
            return Self {
                name,
                key: Vec::new(),
                partition_by: Vec::new(),
                value: None,
                partitions: Partitions::Wrong,
                cleanup: Cleanup::Delete,
                retention: None,
                retention_bytes: None,
            };
        };

        let help = "what its records are keyed by: `key: actor_id`, or a list of parts";
        let key = fields.require("key", help, report).and_then(|key| key.names(report));
        let key = key.map(|key| key_parts(key, report)).unwrap_or_default();
        let partition_by = match fields.get("partition_by").map(|names| names.names(report)) {
            None => key.clone(),
            Some(names) => names.map(|names| parts_of(&names, &key, report)).unwrap_or_default(),
        };
        let help = format!("the edge type of its values, one of: {}", edge_types.join(", "));
        let value = fields.require("value", &help, report).and_then(|value| value.text(report));
        let value = value.and_then(|value| {
            let known = edge_types.contains(&value.text.as_str());
            if !known {
                let help = suggestion::help(&value.text, edge_types.iter().copied(), "edge types");
                report.add(value.span, format!("unknown edge type `{}`", value.text), help);
            }
            known.then_some(value.text)
        });
        let partitions = match fields.get("partitions") {
            None => Partitions::AsRoot,
            Some(yaml) => match yaml.integer(1..=PARTITIONS_MAX, report) {
                Some(number) => Partitions::Given(number, yaml.span),
                None => Partitions::Wrong,
            },
        };
        let cleanup = fields
            .get("cleanup")
            .map(|cleanup| cleanup.choice(&Cleanup::ALL.map(|known| (known.name(), known)), report));
        let any = Duration::from_millis(1)..=Duration::MAX;
        let retention = fields.get("retention").and_then(|retention| retention.duration(any, report));
        let retention_bytes = fields.get("retention_bytes").and_then(|bytes| bytes.bytes(BYTES_MIN, report));
        for name in ["retention", "retention_bytes"] {
            if let (Some(Some(Cleanup::Compact)), Some(yaml)) = (cleanup, fields.get(name)) {
                let why = "a topic with `cleanup: compact` keeps the newest record of a key";
                let help = format!("`cleanup: compact_and_delete`, or no `{name}`");
                report.add_with_help(yaml.span, format!("`{name}` has no effect: {why}"), help);
            }
        }
        let cleanup = cleanup.flatten().unwrap_or(Cleanup::Delete);
        Self { name, key, partition_by, value, partitions, cleanup, retention, retention_bytes }
    }

    /// What subtopologies call its key.
    pub fn key_text(&self) -> String {
        self.partition_by.join(",")
    }
}

/// As Kafka has it.
pub(super) fn is_topic_name(text: &str) -> bool {
    (1..=249).contains(&text.len())
        && text != "."
        && text != ".."
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

fn key_parts(key: Vec<Name>, report: &mut Report<'_>) -> Vec<String> {
    let mut parts = Vec::new();
    for part in key {
        check_key(&part, report);
        parts.push(part.text);
    }
    parts
}

fn parts_of(names: &[Name], key: &[String], report: &mut Report<'_>) -> Vec<String> {
    for name in names.iter().filter(|name| !key.is_empty() && !key.contains(&name.text)) {
        let help = suggestion::help(&name.text, key.iter().map(String::as_str), "parts");
        report.add(name.span, format!("`{}` is no part of the key", name.text), help);
    }
    names.iter().map(|name| name.text.clone()).collect()
}

/// The names of keys become part of the names of subtopologies and topics. Without a `-` these are unambiguous.
pub(super) fn check_key(name: &Name, report: &mut Report<'_>) -> bool {
    let sound = is_name(&name.text, "_");
    if !sound {
        let message = format!("`{}` cannot be the name of a key", name.text);
        report.add_with_help(name.span, message, "a lower case letter, then up to 63 of `a-z 0-9 _`");
    }
    sound
}
