//! Why a part of the tree is not what a struct wants, in words that fit a configuration file.

use super::document::Value;
use super::suggestion;
use serde::de::{Error, Expected, Unexpected};
use std::fmt;

/// One step of a path into the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// Why a tree does not make the wanted value.
#[derive(Debug)]
pub(super) struct Fault {
    pub kind: FaultKind,
    pub message: String,
    pub help: Option<String>,
    /// Innermost step first: it grows on the way out.
    steps: Vec<Step>,
}

/// The kind of the mistake.
#[derive(Debug)]
pub(super) enum FaultKind {
    /// The path's last step is a key that the struct does not have.
    UnknownKey { known: &'static [&'static str] },
    /// The mapping at the path lacks this key.
    MissingKey(&'static str),
    /// The value at the path is wrong.
    Value,
}

impl Fault {
    fn new(kind: FaultKind, message: String, help: Option<String>) -> Self {
        Self { kind, message, help, steps: Vec::new() }
    }

    pub fn within(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// From the root of the tree.
    pub fn path(&self) -> Vec<Step> {
        self.steps.iter().rev().cloned().collect()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(FaultKind::Value, message.to_string(), None)
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        let help = match found {
            Unexpected::Bool(value) if expected.contains("string") => Some(format!("write it in quotes: \"{value}\"")),
            Unexpected::Unsigned(value) if expected.contains("string") => {
                Some(format!("write it in quotes: \"{value}\""))
            }
            _ => None,
        };
        let message = format!("expected {}, found {}", wanted(&expected), describe(found));
        Self::new(FaultKind::Value, message, help)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let message = format!("expected {}, found {}", wanted(&expected.to_string()), describe(found));
        Self::new(FaultKind::Value, message, None)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let help = suggestion::help(variant, expected.iter().copied(), "values");
        Self::new(FaultKind::Value, format!("unknown value `{variant}`"), help)
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self::new(FaultKind::UnknownKey { known }, format!("unknown key `{field}`"), None)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(FaultKind::MissingKey(field), format!("`{field}` is missing"), None)
    }
}

/// The name of a Rust type in the words of a configuration file.
fn wanted(expected: &str) -> String {
    let range = match expected {
        "u8" => (0, u64::from(u8::MAX)),
        "u16" => (0, u64::from(u16::MAX)),
        "u32" => (0, u64::from(u32::MAX)),
        "u64" | "usize" => (0, u64::MAX),
        "i8" | "i16" | "i32" | "i64" | "isize" => return "a whole number".into(),
        "f32" | "f64" => return "a number".into(),
        "a boolean" => return "true or false".into(),
        "a sequence" => return "a list".into(),
        "a map" => return "a mapping".into(),
        other if other.starts_with("struct ") => return "a mapping".into(),
        other if other.starts_with("enum ") || other == "variant identifier" => return "one of a few names".into(),
        other => return other.into(),
    };
    format!("a whole number from {} to {}", range.0, range.1)
}

fn describe(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => Value::Bool(value).to_string(),
        Unexpected::Unsigned(value) => Value::Integer(value.into()).to_string(),
        Unexpected::Signed(value) => Value::Integer(value.into()).to_string(),
        Unexpected::Float(value) => Value::Float(value).to_string(),
        Unexpected::Str(value) => format!("the string `{value}`"),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map | Unexpected::StructVariant => "a mapping".into(),
        other => other.to_string(),
    }
}
