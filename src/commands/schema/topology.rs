//! The JSON Schema of topology files: what an editor completes and underlines while `tally check` decides.

use serde_json::{Map, Value, json};
use tally_processors::{DeclarationParams, REGISTRY, TOPIC_TYPES};
use tally_sinks::SINK_TYPES;
use tally_streams::log::Cleanup;
use tally_streams::topology::{NodeType, ParamSpec, SinkType};

/// The schema of a file.
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "topology.yaml",
        "type": "object",
        "required": ["application", "topics", "processors"],
        "additionalProperties": false,
        "properties": {
            "application": {"type": "string", "pattern": "^[a-z][a-z0-9-]{0,63}$"},
            "topic_prefix": {"type": "string", "maxLength": 64},
            "commit_interval": duration(),
            "late_after": duration(),
            "idle_margin": duration(),
            "cloud_event_types": {"type": ["object", "null"], "additionalProperties": {"type": "string"}},
            "events": {"type": ["object", "null"], "additionalProperties": declaration()},
            "topics": {"type": "object", "minProperties": 1, "additionalProperties": topic()},
            "processors": {"type": "object", "minProperties": 1, "additionalProperties": node()},
            "sinks": {"type": ["object", "null"], "additionalProperties": sink()},
        },
    })
}

fn duration() -> Value {
    json!({"type": "string", "pattern": "^([0-9]+(d|h|ms|m|s) ?)+$"})
}

fn names() -> Value {
    json!({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": true}]})
}

fn topic() -> Value {
    json!({
        "type": "object",
        "required": ["key", "value"],
        "additionalProperties": false,
        "properties": {
            "key": names(),
            "value": {"enum": TOPIC_TYPES},
            "partition_by": names(),
            "partitions": {"type": "integer", "minimum": 1, "maximum": 1024},
            "cleanup": {"enum": Cleanup::ALL.map(Cleanup::name)},
            "retention": duration(),
            "retention_bytes": {"type": "string"},
        },
    })
}

fn sink() -> Value {
    let types: Vec<&str> = SINK_TYPES.iter().map(SinkType::name).collect();
    json!({
        "type": "object",
        "required": ["type", "from"],
        "properties": {"type": {"enum": types}, "from": names(), "url": {"type": "string"}, "batch": {"type": "object"}},
    })
}

fn declaration() -> Value {
    let mut schema = params(&DeclarationParams::specs());
    schema["type"] = json!(["object", "null"]);
    schema["additionalProperties"] = json!(false);
    schema["properties"]["properties"]["additionalProperties"] =
        json!({"type": "string", "pattern": "^(int|decimal\\([1-9]\\)|float|text|bool)\\??$"});
    schema
}

/// A node: the keys that all have, and by its type those of its parameters.
fn node() -> Value {
    let types: Vec<&str> = REGISTRY.iter().map(|node_type| node_type.name).collect();
    let about: Vec<String> = REGISTRY.iter().map(|NodeType { name, about, .. }| format!("`{name}` {about}")).collect();
    let by_type: Vec<Value> = (REGISTRY.iter())
        .map(|node_type| {
            let mut then = params(&(node_type.params)());
            let keys = [("type", json!(true)), ("from", json!(true)), ("to", json!(true)), ("on_error", json!(true))];
            let by = node_type.key.map(|_| ("by", json!({"type": "string"})));
            for (key, schema) in keys.into_iter().chain(by) {
                then["properties"][key] = schema;
            }
            then["additionalProperties"] = json!(false);
            json!({"if": {"properties": {"type": {"const": node_type.name}}}, "then": then})
        })
        .collect();
    json!({
        "type": "object",
        "required": ["type", "from"],
        "properties": {
            "type": {"enum": types, "description": about.join("; ")},
            "from": names(),
            "to": names(),
            "on_error": {"enum": ["dead-letter", "skip", "halt"]},
        },
        "allOf": by_type,
    })
}

/// An object with these parameters, nested ones included.
fn params(specs: &[ParamSpec]) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for spec in specs.iter().filter(|spec| !spec.path.contains("[].")) {
        let prefix = format!("{}[].", spec.path);
        let within = specs.iter().filter_map(|inner| {
            let path = inner.path.strip_prefix(&prefix)?.to_owned();
            Some(ParamSpec { path, ..inner.clone() })
        });
        let within: Vec<ParamSpec> = within.collect();
        let mut schema = of_kind(&spec.kind);
        if !within.is_empty() {
            schema = json!({"type": "array", "items": params(&within)});
            schema["items"]["additionalProperties"] = json!(false);
        }
        schema["description"] = json!(spec.about);
        properties.insert(spec.path.clone(), schema);
        if spec.default.is_none() {
            required.push(spec.path.clone());
        }
    }
    json!({"type": "object", "properties": properties, "required": required})
}

/// The schema of a parameter by the words of the reference. Words that have no schema allow anything: `tally check` knows
/// the rest.
fn of_kind(kind: &str) -> Value {
    let values: Vec<&str> = kind.split(", ").filter_map(|value| value.strip_prefix('`')?.strip_suffix('`')).collect();
    match kind {
        "`true`, `false`" | "bool" => json!({"type": "boolean"}),
        "number" => json!({"type": "number"}),
        "duration" => duration(),
        "list of durations" => json!({"type": "array", "items": duration()}),
        "string" | "name" | "event type" | "CEL" => json!({"type": "string"}),
        "mapping of metric to weight" => json!({"type": "object", "additionalProperties": {"type": "number"}}),
        "mapping of name to CEL" | "mapping of name to type" => {
            json!({"type": "object", "additionalProperties": {"type": "string"}})
        }
        "mapping of name to CEL or `true`" => {
            json!({"type": "object", "additionalProperties": {"oneOf": [{"type": "string"}, {"const": true}]}})
        }
        _ if kind.starts_with("list of ") => json!({"type": "array"}),
        _ if !values.is_empty() && values.len() == kind.split(", ").count() => json!({"enum": values}),
        _ => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_type_has_its_parameters() {
        let schema = schema();
        let node = &schema["properties"]["processors"]["additionalProperties"];
        for node_type in REGISTRY {
            let rule = node["allOf"]
                .as_array()
                .unwrap()
                .iter()
                .find(|rule| rule["if"]["properties"]["type"]["const"] == node_type.name);
            let then = &rule.unwrap()["then"];
            for spec in (node_type.params)().iter().filter(|spec| !spec.path.contains("[].")) {
                assert!(then["properties"][&spec.path]["description"].is_string(), "{} {}", node_type.name, spec.path);
                let required = then["required"].as_array().unwrap().contains(&json!(spec.path));
                assert_eq!(required, spec.default.is_none(), "{} {}", node_type.name, spec.path);
            }
        }
        let count = &node["allOf"]
            .as_array()
            .unwrap()
            .iter()
            .find(|rule| rule["if"]["properties"]["type"]["const"] == "count")
            .unwrap()["then"];
        assert_eq!(count["properties"]["emit"]["enum"], json!(["on_update", "on_close"]));
        assert_eq!(count["properties"]["windows"]["items"]["type"], "string");
        let rules = node["allOf"]
            .as_array()
            .unwrap()
            .iter()
            .find(|rule| rule["if"]["properties"]["type"]["const"] == "rate_check")
            .unwrap();
        let rule = &rules["then"]["properties"]["rules"]["items"];
        assert_eq!(
            (&rule["properties"]["per"], &rule["additionalProperties"]),
            (
                &{
                    let mut per = duration();
                    per["description"] = json!("Length of the window. From 1s to 24h.");
                    per
                },
                &json!(false)
            )
        );
    }

    /// The shipped file has no key that the schema does not know.
    #[test]
    fn the_shipped_file_fits() {
        let schema = schema();
        let text = include_str!("../../../topology.yaml");
        let keys = text.lines().filter(|line| !line.starts_with([' ', '#']) && line.contains(':'));
        for key in keys.filter_map(|line| line.split(':').next()) {
            assert!(schema["properties"][key].is_object(), "{key}");
        }
    }
}
