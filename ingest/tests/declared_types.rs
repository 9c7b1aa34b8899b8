//! Events of declared types: what breaks the declaration is rejected, each event on its own.

mod fixture;

use fixture::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tally_ingest::http::event_schema;
use tally_ingest::{EventTypes, IngestConfig};
use tally_model::{EventDeclaration, PropertyKind, PropertyType};

fn declared() -> EventTypes {
    let property = |(name, kind, optional): (&str, &str, bool)| {
        (name.to_owned(), PropertyType { kind: PropertyKind::parse(kind).unwrap(), optional })
    };
    let properties = [("depth", "int", false), ("utm", "text", true), ("price", "decimal(2)", true)];
    let read = EventDeclaration { properties: Some(properties.map(property).into()), anonymous: Some(true) };
    let comment = EventDeclaration { properties: None, anonymous: Some(false) };
    types().named(["comment"]).declared(BTreeMap::from([("read".into(), read), ("comment".into(), comment)]))
}

fn read(properties: Value) -> Value {
    json!({"event_id": "e1", "type": "read", "actor_id": "u1", "subject_id": "article:7", "duration_ms": 5,
           "properties": properties})
}

fn comment(actor_id: Option<&str>) -> Value {
    let mut event = json!({"event_id": "e1", "type": "comment", "subject_id": "article:7", "properties": {"any": 1}});
    if let Some(actor_id) = actor_id {
        event["actor_id"] = json!(actor_id);
    }
    event
}

#[tokio::test]
async fn an_event_that_breaks_its_declaration_is_rejected_with_property_type_and_value() {
    let bed = Bed::with(IngestConfig { types: declared(), ..config() });
    for (event, error) in [
        (read(json!({"depth": 3})), None),
        (read(json!({"depth": 3, "utm": "spring", "price": 12.34})), None),
        (comment(Some("u1")), None),
        (
            read(json!({"depth": "deep"})),
            Some("`properties` has a wrong type: `depth` of `read` is int, found the text `deep`"),
        ),
        (
            read(json!({"depth": 3, "price": 1.234})),
            Some("`properties` has a wrong type: `price` of `read` is decimal(2), found the number 1.234"),
        ),
        (
            read(json!({"depth": 3, "dpeth": 3})),
            Some("`properties` has a name that is not declared for `read`, found `dpeth`"),
        ),
        (read(json!({"utm": "spring"})), Some("`properties` lacks `depth`, which `read` needs: int")),
        (comment(None), Some("`actor_id` is required")),
        (comment(Some("anon:7")), Some("`actor_id` must not be anonymous for `comment`, found `anon:7`")),
    ] {
        let answer = bed.post(event.to_string()).await;
        match error {
            None => assert_eq!(answer.status, 202, "{event}: {}", answer.body),
            Some(error) => {
                assert_eq!((answer.status, &answer.body["rejected"][0]["error"]), (422, &json!(error)));
            }
        }
    }
    let batch = json!([read(json!({"depth": 3})), read(json!({})), comment(Some("u1"))]);
    let answer = bed.post(batch.to_string()).await;
    assert_eq!((answer.status, &answer.body["accepted"]), (202, &json!(2)));
    assert_eq!(answer.body["rejected"][0]["index"], 1);
}

#[test]
fn the_schema_of_an_event_has_the_declared_properties() {
    let schema = event_schema(&declared());
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let rules = schema["allOf"].as_array().unwrap();
    assert_eq!(rules.len(), 1, "a type that takes any properties has no rule");
    assert_eq!(rules[0]["if"]["properties"]["type"]["const"], "read");
    let properties = &rules[0]["then"]["properties"]["properties"];
    assert_eq!(rules[0]["then"]["required"], json!(["properties"]));
    assert_eq!(properties["required"], json!(["depth"]));
    assert_eq!(properties["additionalProperties"], false);
    assert_eq!(properties["properties"]["depth"]["type"], "integer");
    assert!(!schema.to_string().contains("$ref"), "it needs no other document");
    assert_eq!(event_schema(&types())["allOf"], Value::Null);
}
