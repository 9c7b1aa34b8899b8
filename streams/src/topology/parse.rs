//! Parses text into the tree.

use super::document::{Mapping, Span, Value, Yaml};
use super::report::Report;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error, Options, Spanned};
use std::collections::HashMap;
use std::fmt;

/// Far above what a pipeline needs; what is larger is some other file.
const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Bounds time and memory, with aliases written out.
const NODES_MAX: usize = 100_000;

impl Yaml {
    /// Reads a file. Reports keys that are no strings or there twice; None where there is no tree at all.
    pub fn parse(text: &str, report: &mut Report<'_>) -> Option<Self> {
        let start = Span { line: 1, column: 1, length: 0 };
        if text.len() > FILE_BYTES_MAX {
            let message = format!("the file has {} bytes; at most {FILE_BYTES_MAX} are read", text.len());
            report.add_with_help(start, message, "is this the right file?");
            return None;
        }
        match serde_saphyr::from_str_with_options::<Self>(text, options()) {
            Ok(yaml) => {
                yaml.report_refused(report);
                Some(yaml)
            }
            Err(error) => {
                let (message, help) = describe(&error);
                report.add(error.location().map_or(start, place), message, help);
                None
            }
        }
    }
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: NODES_MAX,
            max_events: 4 * NODES_MAX,
            max_merge_keys: 1_000,
            // One anchor may serve every node; what aliases write out is limited below.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: NODES_MAX,
            max_replay_stack_depth: 16,
        },
        emit_comments: false,
        // Both come here, so that the second is reported along with everything else.
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        // `on: like` is an ordinary key.
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    }
}

fn place(location: serde_saphyr::Location) -> Span {
    let [line, column, length] = [location.line(), location.column(), location.span().len()]
        .map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    Span { line, column, length }
}

/// The parser's error for people who do not call it from Rust.
fn describe(error: &Error) -> (String, Option<String>) {
    match error {
        Error::MultipleDocuments { .. } => ("a second document begins here; a file is one document".into(), None),
        Error::RecursiveReferencesRequireWeakTypes { .. } => ("an alias within its own anchor".into(), None),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            ("with its aliases written out the file is too large".into(), Some("use fewer aliases".into()))
        }
        Error::AliasError { error, .. } => describe(error),
        Error::Budget { .. } => ("the file has more values, or deeper ones, than any topology".into(), None),
        error => {
            let text = error.to_string();
            let text = match error.location() {
                Some(at) => text.replace(&format!(" at line {}, column {}", at.line(), at.column()), ""),
                None => text,
            };
            (text, None)
        }
    }
}

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { span: place(spanned.defined), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let (mut mapping, mut lines) = (Mapping::default(), HashMap::new());
        while let Some((key, value)) = entries.next_entry::<Yaml, Yaml>()? {
            mapping.push(key, value, &mut lines);
        }
        Ok(Value::Map(mapping))
    }
}
