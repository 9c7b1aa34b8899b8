//! The fields of events that a node writes to topics.

use crate::expression::FIELDS;
use tally_streams::topology::{ParamError, suggest};

/// Fields that are only written where `fields` names them: they are personal.
const ONLY_BY_NAME: &[&str] = &["ip", "user_agent"];

/// The parameter, checked.
pub fn checked(fields: Option<Vec<String>>, errors: &mut Vec<ParamError>) -> Vec<String> {
    let Some(fields) = fields else { return Vec::new() };
    if fields.is_empty() {
        errors.push(ParamError::new("fields", "needs at least one field, or is left out"));
    }
    for (i, field) in fields.iter().enumerate() {
        let path = format!("fields[{i}]");
        if !FIELDS.contains(&field.as_str()) {
            let error = ParamError::new(path, format!("unknown field `{field}`"));
            errors.push(ParamError { help: suggest(field, FIELDS.iter().copied(), "fields"), ..error });
        } else if fields[..i].contains(field) {
            errors.push(ParamError::new(path, "is named twice"));
        }
    }
    fields
}

/// Whether a node with these fields writes a field.
pub fn is_written(fields: &[String], field: &str) -> bool {
    match fields {
        [] => !ONLY_BY_NAME.contains(&field),
        named => named.iter().any(|named| named == field),
    }
}
