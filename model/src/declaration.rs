//! Declared event types: the properties that events of a type have, and whether their actor may be anonymous.

use crate::SCALE_MAX;
use crate::event::Scalar;
use std::collections::BTreeMap;
use std::fmt;

/// What the names of anonymous actors begin with: the ingest API makes them.
pub const ANONYMOUS_PREFIX: &str = "anon:";
/// Whole numbers up to here are exact as a float, in units of the last digit of a `decimal`.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// How much of a wrong text is repeated, in bytes.
const TEXT_BYTES_MAX: usize = 64;

/// The type of a declared property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyKind {
    /// A whole number.
    Int,
    /// A number with at most so many digits behind the point, and at most 15 in all: exact, whatever reads it.
    Decimal(u8),
    /// Any number.
    Float,
    /// Text.
    Text,
    /// true or false.
    Bool,
}

/// A declared property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropertyType {
    /// Its type.
    pub kind: PropertyKind,
    /// Whether an event may lack it.
    pub optional: bool,
}

/// What is declared about the events of a type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventDeclaration {
    /// All properties that an event may have; None where it may have any.
    pub properties: Option<BTreeMap<String, PropertyType>>,
    /// Whether the actor may be anonymous; None where it is not declared.
    pub anonymous: Option<bool>,
}

/// How an event breaks the declaration of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclarationError {
    /// The field: `properties` or `actor_id`.
    pub field: &'static str,
    /// The broken rule, the same text for the same rule.
    pub reason: String,
    /// What the event has.
    pub found: Option<String>,
}

impl PropertyKind {
    /// Reads `int`, `decimal(2)`, `float`, `text`, `bool`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "int" => Some(Self::Int),
            "float" => Some(Self::Float),
            "text" => Some(Self::Text),
            "bool" => Some(Self::Bool),
            _ => {
                let scale = text.strip_prefix("decimal(")?.strip_suffix(')')?.parse().ok()?;
                (1..=SCALE_MAX).contains(&scale).then_some(Self::Decimal(scale))
            }
        }
    }

    fn takes(self, value: &Scalar) -> bool {
        match (self, value) {
            (Self::Int, Scalar::Int(_))
            | (Self::Float, Scalar::Int(_) | Scalar::Float(_))
            | (Self::Text, Scalar::Text(_))
            | (Self::Bool, Scalar::Bool(_)) => true,
            (Self::Decimal(scale), Scalar::Int(value)) => is_exact(*value as f64, scale),
            (Self::Decimal(scale), Scalar::Float(value)) => is_exact(*value, scale),
            _ => false,
        }
    }
}

/// Whether the shortest text of a number has at most so many digits behind the point, and few enough in all.
fn is_exact(value: f64, scale: u8) -> bool {
    let text = value.to_string();
    let digits = text.split_once('.').map_or(0, |(_, digits)| digits.len());
    digits <= usize::from(scale) && value.abs() * 10f64.powi(i32::from(scale)) < EXACT_MAX
}

impl fmt::Display for PropertyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int => f.write_str("int"),
            Self::Decimal(scale) => write!(f, "decimal({scale})"),
            Self::Float => f.write_str("float"),
            Self::Text => f.write_str("text"),
            Self::Bool => f.write_str("bool"),
        }
    }
}

impl EventDeclaration {
    /// Checks the properties of an event, and makes floats of whole numbers where the declaration has floats, so that a
    /// property has one type.
    pub fn check_properties(
        &self,
        event_type: &str,
        properties: &mut BTreeMap<String, Scalar>,
    ) -> Result<(), DeclarationError> {
        let Some(declared) = &self.properties else { return Ok(()) };
        let error = |reason: String, found| Err(DeclarationError { field: "properties", reason, found });
        for (name, value) in properties.iter_mut() {
            let Some(PropertyType { kind, .. }) = declared.get(name) else {
                let reason = format!("has a name that is not declared for `{event_type}`");
                return error(reason, Some(format!("`{}`", cut(name))));
            };
            if !kind.takes(value) {
                return error(format!("has a wrong type: `{name}` of `{event_type}` is {kind}"), Some(shown(value)));
            }
            if let (PropertyKind::Float | PropertyKind::Decimal(_), Scalar::Int(whole)) = (kind, &*value) {
                *value = Scalar::Float(*whole as f64);
            }
        }
        let missing = declared.iter().find(|(name, property)| !property.optional && !properties.contains_key(*name));
        match missing {
            None => Ok(()),
            Some((name, PropertyType { kind, .. })) => {
                error(format!("lacks `{name}`, which `{event_type}` needs: {kind}"), None)
            }
        }
    }

    /// Checks the actor of an event.
    pub fn check_actor(&self, event_type: &str, actor_id: &str) -> Result<(), DeclarationError> {
        match self.anonymous == Some(false) && actor_id.starts_with(ANONYMOUS_PREFIX) {
            true => {
                let reason = format!("must not be anonymous for `{event_type}`");
                Err(DeclarationError { field: "actor_id", reason, found: Some(format!("`{}`", cut(actor_id))) })
            }
            false => Ok(()),
        }
    }
}

impl fmt::Display for DeclarationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        match &self.found {
            Some(found) => write!(f, ", found {found}"),
            None => Ok(()),
        }
    }
}

fn shown(value: &Scalar) -> String {
    match value {
        Scalar::Bool(value) => value.to_string(),
        Scalar::Int(value) => format!("the number {value}"),
        Scalar::Float(value) => format!("the number {value}"),
        Scalar::Text(text) => format!("the text `{}`", cut(text)),
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declaration() -> EventDeclaration {
        let property = |(name, kind, optional): (&str, &str, bool)| {
            (name.to_owned(), PropertyType { kind: PropertyKind::parse(kind).unwrap(), optional })
        };
        let properties = [
            ("depth", "int", false),
            ("price", "decimal(2)", true),
            ("share", "float", true),
            ("section", "text", true),
            ("ad", "bool", true),
        ];
        EventDeclaration { properties: Some(properties.map(property).into_iter().collect()), anonymous: Some(false) }
    }

    fn check(json: &str) -> Result<String, String> {
        let mut properties = serde_json::from_str(json).unwrap();
        declaration().check_properties("read", &mut properties).map_err(|error| error.to_string())?;
        Ok(serde_json::to_string(&properties).unwrap())
    }

    #[test]
    fn properties_are_those_that_are_declared() {
        for (json, expected) in [
            (r#"{"depth":3}"#, Ok(r#"{"depth":3}"#)),
            (r#"{"ad":true,"depth":3,"section":"x"}"#, Ok(r#"{"ad":true,"depth":3,"section":"x"}"#)),
            (r#"{"depth":3,"price":12.34,"share":2}"#, Ok(r#"{"depth":3,"price":12.34,"share":2.0}"#)),
            (r#"{"depth":3,"price":-12}"#, Ok(r#"{"depth":3,"price":-12.0}"#)),
            (r#"{"depth":"deep"}"#, Err("has a wrong type: `depth` of `read` is int, found the text `deep`")),
            (r#"{"depth":3.5}"#, Err("has a wrong type: `depth` of `read` is int, found the number 3.5")),
            (
                r#"{"depth":3,"price":12.345}"#,
                Err("has a wrong type: `price` of `read` is decimal(2), found the number 12.345"),
            ),
            (
                r#"{"depth":3,"price":1e15}"#,
                Err("has a wrong type: `price` of `read` is decimal(2), found the number 1000000000000000"),
            ),
            (r#"{"depth":3,"ad":"yes"}"#, Err("has a wrong type: `ad` of `read` is bool, found the text `yes`")),
            (r#"{"depth":3,"section":1}"#, Err("has a wrong type: `section` of `read` is text, found the number 1")),
            (r#"{"depth":3,"dpeth":1}"#, Err("has a name that is not declared for `read`, found `dpeth`")),
            (r#"{"section":"x"}"#, Err("lacks `depth`, which `read` needs: int")),
        ] {
            assert_eq!(check(json), expected.map(str::to_owned).map_err(str::to_owned), "{json}");
        }
        let any = EventDeclaration::default();
        assert_eq!(any.check_properties("read", &mut BTreeMap::from([("x".into(), Scalar::Int(1))])), Ok(()));
    }

    #[test]
    fn an_actor_may_have_to_be_known() {
        let check = |actor: &str| declaration().check_actor("comment", actor).map_err(|error| error.to_string());
        assert_eq!(check("u1"), Ok(()));
        assert_eq!(check("anon:77"), Err("must not be anonymous for `comment`, found `anon:77`".to_owned()));
        assert_eq!(EventDeclaration::default().check_actor("view", "anon:77"), Ok(()));
    }

    #[test]
    fn kinds_have_one_spelling() {
        for kind in ["int", "decimal(2)", "decimal(9)", "float", "text", "bool"] {
            assert_eq!(PropertyKind::parse(kind).map(|kind| kind.to_string()).as_deref(), Some(kind));
        }
        for wrong in ["string", "decimal", "decimal(0)", "decimal(10)", "decimal(2", "int?", ""] {
            assert_eq!(PropertyKind::parse(wrong), None, "{wrong}");
        }
    }
}
