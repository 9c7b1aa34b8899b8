//! The section `events` of a file: declared event types.

use crate::params::params;
use std::collections::BTreeMap;
use tally_model::{EventDeclaration, PROPERTIES_MAX, PropertyKind, PropertyType, check_event_type};
use tally_streams::topology::{ParamError, Params, suggest};

/// The types of properties, for messages and the reference.
pub const KINDS: [&str; 5] = ["int", "decimal(2)", "float", "text", "bool"];

params! {
    /// The declaration of an event type.
    pub struct DeclarationParams {
        /// All properties that an event may have, each with its type: `int`, `decimal(2)` (digits behind the point, 1 to 9; at most
        /// 15 digits in all), `float`, `text` or `bool`. With `?` behind it, an event may lack the property.
        #[param("mapping of name to type", default = "any properties")]
        pub properties: Option<BTreeMap<String, String>>,
        /// Whether the actor may be anonymous. `true`: `actor_id` may be left out. `false`: `actor_id` is required, and must not
        /// begin with `anon:`.
        #[param("`true`, `false`", default = "`actor_id` may be left out for `view`, `read` and `api_call`")]
        pub anonymous: Option<bool>,
    }
}

/// Reads the declaration of a type.
pub fn parse(event_type: &str, params: &Params) -> Result<EventDeclaration, Vec<ParamError>> {
    let DeclarationParams { properties, anonymous } = params.parse()?;
    let mut errors = Vec::new();
    if let Err(rule) = check_event_type(event_type) {
        errors.push(ParamError::new("", format!("the name of an event type {rule}")));
    }
    if properties.as_ref().is_some_and(|properties| properties.len() > PROPERTIES_MAX) {
        errors.push(ParamError::new(
            "properties",
            format!("has more than {PROPERTIES_MAX} entries: no event may have more"),
        ));
    }
    let properties = properties.map(|properties| {
        let typed = properties.into_iter().filter_map(|(name, written)| {
            let (kind, optional) = written.strip_suffix('?').map_or((written.as_str(), false), |kind| (kind, true));
            let Some(parsed) = PropertyKind::parse(kind) else {
                let error = ParamError::new(format!("properties.{name}"), format!("unknown type `{written}`"));
                errors.push(ParamError { help: meant(kind), ..error });
                return None;
            };
            Some((name, PropertyType { kind: parsed, optional }))
        });
        typed.collect()
    });
    if errors.is_empty() { Ok(EventDeclaration { properties, anonymous }) } else { Err(errors) }
}

/// The type that a word from another language means, or one that is spelt like it.
fn meant(kind: &str) -> Option<String> {
    let synonym = match kind.to_ascii_lowercase().as_str() {
        "integer" | "long" | "int64" | "bigint" => Some("int"),
        "string" | "str" | "varchar" => Some("text"),
        "number" | "double" | "real" => Some("float"),
        "boolean" => Some("bool"),
        _ => None,
    };
    synonym.map(|kind| format!("did you mean `{kind}`?")).or_else(|| suggest(kind, KINDS, "types"))
}
