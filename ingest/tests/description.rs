//! The ingest API against its description: of events made of the schemas' own limits, it takes exactly those that the schemas
//! take.

mod fixture;

use fixture::{Bed, NOW_MS, request, service, types};
use regex::Regex;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What the schemas use of JSON Schema 2020-12, and nothing else: an unknown keyword fails the test.
struct Schemas(Map<String, Value>);

impl Schemas {
    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => &self.0[reference.strip_prefix("#/components/schemas/").unwrap()],
            None => schema,
        }
    }

    fn takes(&self, schema: &Value, value: &Value) -> bool {
        let schema = self.resolve(schema);
        let keywords = schema.as_object().unwrap().iter();
        keywords.into_iter().all(|(keyword, rule)| self.keyword(schema, keyword, rule, value))
    }

    fn keyword(&self, schema: &Value, keyword: &str, rule: &Value, value: &Value) -> bool {
        let bound = || rule.as_u64().unwrap() as usize;
        let (text, object) = (value.as_str(), value.as_object());
        match keyword {
            "description" | "example" => true,
            "type" => match rule.as_array() {
                Some(names) => names.iter().any(|name| is_of_type(name.as_str().unwrap(), value)),
                None => is_of_type(rule.as_str().unwrap(), value),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "const" => rule == value,
            "oneOf" => rule.as_array().unwrap().iter().filter(|one| self.takes(one, value)).count() == 1,
            "minimum" => value.as_i64().is_none_or(|number| number >= rule.as_i64().unwrap()),
            "maximum" => value.as_i64().is_none_or(|number| number <= rule.as_i64().unwrap()),
            "minLength" => text.is_none_or(|text| text.chars().count() >= bound()),
            "maxLength" => text.is_none_or(|text| text.chars().count() <= bound()),
            "not" => !self.takes(rule, value),
            "x-time-ms-min" => moment_ms(value).is_none_or(|ms| ms >= rule.as_i64().unwrap()),
            "x-ahead-ms-max" => moment_ms(value).is_none_or(|ms| ms <= NOW_MS + rule.as_i64().unwrap()),
            "x-utf8-bytes-max" => text.is_none_or(|text| text.len() <= bound()),
            "pattern" => text.is_none_or(|text| Regex::new(rule.as_str().unwrap()).unwrap().is_match(text)),
            "format" => match rule.as_str().unwrap() {
                "date-time" => text.is_none_or(|text| tally_model::parse_ms(text).is_some()),
                "ip" => text.is_none_or(|text| text.parse::<IpAddr>().is_ok()),
                "int64" => true,
                other => panic!("format {other}"),
            },
            "required" => object.is_none_or(|object| {
                rule.as_array().unwrap().iter().all(|name| object.contains_key(name.as_str().unwrap()))
            }),
            "properties" => object.is_none_or(|object| {
                let known = rule.as_object().unwrap().iter();
                known.into_iter().all(|(name, schema)| object.get(name).is_none_or(|value| self.takes(schema, value)))
            }),
            "additionalProperties" => object.is_none_or(|object| {
                let others = object.iter().filter(|(name, _)| schema["properties"].get(name).is_none());
                others.into_iter().all(|(_, value)| rule != &json!(false) && self.takes(rule, value))
            }),
            "maxProperties" => object.is_none_or(|object| object.len() <= bound()),
            "if" => match self.takes(rule, value) {
                true => schema.get("then").is_none_or(|then| self.takes(then, value)),
                false => schema.get("else").is_none_or(|other| self.takes(other, value)),
            },
            "then" | "else" => true,
            other => panic!("keyword {other}"),
        }
    }

    /// Values on both sides of every limit of a schema.
    fn candidates(&self, schema: &Value) -> Vec<Value> {
        let schema = self.resolve(schema);
        let mut found = vec![json!(null), json!(true), json!(1.5), json!("plain"), json!([]), json!({}), json!([{}])];
        found.extend(
            ["", " ", "x y", "2026-11-21T08:00:00Z", "2026-11-21", "203.0.113.9", "::1", "1.0", "text/xml"]
                .map(Value::from),
        );
        found.extend(schema.get("example").cloned());
        found.extend(schema["enum"].as_array().into_iter().flatten().cloned());
        let bounds = ["minimum", "maximum"].map(|bound| [&schema[bound], &schema["not"][bound]]);
        let mut bounds: Vec<_> = bounds.iter().flatten().filter_map(|bound| bound.as_i64()).collect();
        let ahead_ms = schema["x-ahead-ms-max"].as_i64().map(|ahead_ms| NOW_MS + ahead_ms);
        bounds.extend(ahead_ms.filter(|_| schema["type"] == "integer"));
        found.extend(bounds.into_iter().flat_map(|bound| {
            [json!(bound - 1), json!(bound), json!(bound + 1), json!(bound as f64 + 0.5), json!(bound.to_string())]
        }));
        if schema["format"] == "date-time" {
            let limits = [Some(0), schema["x-time-ms-min"].as_i64(), ahead_ms].into_iter().flatten();
            found.extend(limits.flat_map(|ms| [ms - 1, ms, ms + 1]).map(|ms| tally_model::format_ms(ms).into()));
            found.extend(TIMES.iter().copied().map(Value::from));
        }
        if let Some(length) = schema["maxLength"].as_u64() {
            let example = schema["example"].as_str().unwrap_or_default();
            let of_length = |length: usize, padding: &str| {
                let padding = padding.repeat(length.saturating_sub(example.len()) / padding.len());
                Value::from(format!("{example}{padding}"))
            };
            for length in [length as usize - 1, length as usize, length as usize + 1] {
                found.extend(["x", "é", "用", "😀"].map(|padding| of_length(length, padding)));
            }
            let odd = "{}:;/\\\"'%\t\n\0\u{7f}\u{85}\u{a0}\u{1680}\u{200b}\u{2028}\u{202f}\u{3000}\u{feff}éA._-";
            found.extend(odd.chars().flat_map(|c| [format!("{example}{c}"), format!("{c}{example}")]).map(Value::from));
        }
        if let Some(entries) = schema["maxProperties"].as_u64() {
            let of_size = |size: u64| (0..size).map(|i| (format!("p{i}"), json!(i))).collect::<Map<_, _>>();
            found.extend([entries, entries + 1].map(|size| Value::from(of_size(size))));
            let values = [json!("a"), json!(-7), json!(0.25), json!(false), json!(null), json!([1]), json!({"b": 1})];
            found.extend(values.map(|value| json!({"a": value})));
        }
        for one in schema["oneOf"].as_array().into_iter().flatten() {
            found.extend(self.candidates(one));
        }
        found
    }

    /// A document with each of its properties at each of its limits, each of them left out, and one too many.
    fn variations(&self, name: &str, base: &Value) -> Vec<Value> {
        let schema = &self.0[name];
        let mut found = vec![base.clone()];
        for (name, property) in schema["properties"].as_object().unwrap() {
            for candidate in self.candidates(property) {
                let mut document = base.clone();
                document[name] = candidate;
                found.push(document);
            }
            let mut without = base.clone();
            without.as_object_mut().unwrap().remove(name);
            found.push(without);
        }
        let mut more = base.clone();
        more["nonsense"] = json!(1);
        found.push(more);
        found
    }
}

/// Forms of RFC 3339, and what only looks like one.
const TIMES: &[&str] = &[
    "2026-11-21t08:00:00.123456z",
    "2026-11-21T08:00:00+00:00",
    "2026-11-20T12:30:00-19:30",
    "2016-12-31T23:59:60Z",
    "1970-01-01T00:30:00+01:00",
    "2026-11-21T08:00Z",
    "2026-11-21 08:00:00Z",
    "2026-11-21T08:00:00",
    "2026-11-21T08:00:00,5Z",
    "2026-11-21T24:00:00Z",
    "2026-02-29T08:00:00Z",
    "2026-11-21T23:59:60Z",
];

/// The time that a value denotes, if it is a time.
fn moment_ms(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| tally_model::parse_ms(value.as_str()?))
}

fn is_of_type(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        other => panic!("type {other}"),
    }
}

fn described() -> (Bed, Schemas) {
    let names: BTreeMap<_, _> = [("com.example.liked".to_owned(), "like".to_owned())].into();
    let bed = Bed::with(tally_ingest::IngestConfig { types: types().of_cloud_events(names), ..fixture::config() });
    let schemas = Schemas(bed.schemas.clone());
    (bed, schemas)
}

/// Sends all of them, and counts how many were taken.
async fn hold(bed: &Bed, schemas: &Schemas, name: &str, media: &str, documents: Vec<Value>) {
    let (mut taken, all) = (0, documents.len());
    for document in documents {
        let expected = schemas.takes(&json!({"$ref": format!("#/components/schemas/{name}")}), &document);
        // A rule that the schema cannot express: only a service may send the addresses of others.
        let mut request = request(media, document.to_string());
        request.extensions_mut().insert(service());
        let answer = bed.send(request).await;
        assert_eq!(answer.status, if expected { 202 } else { 422 }, "{name} {document}\n{}", answer.body);
        taken += usize::from(expected);
    }
    assert!(taken > 50 && all - taken > 100, "{name}: {taken} of {all}");
}

#[test]
fn every_schema_that_is_named_is_there() {
    let (bed, schemas) = described();
    let known = bed.description["components"]["schemas"].as_object().unwrap();
    let text = format!("{} {}", bed.description, Value::from(schemas.0.clone()));
    let named: Vec<_> =
        text.split("\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(named.len() > 20, "{named:?}");
    for name in named {
        assert!(known.contains_key(name) || schemas.0.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn exactly_the_events_are_taken_that_the_description_takes() {
    let (bed, schemas) = described();
    let base = json!({"event_id": "e1", "type": "like", "actor_id": "u1", "subject_id": "article:7"});
    let mut documents = schemas.variations("Event", &base);
    // Further requirements of a type.
    for kind in schemas.0["Event"]["properties"]["type"]["enum"].as_array().unwrap() {
        let mut event = base.clone();
        event["type"] = kind.clone();
        documents.push(event.clone());
        event["duration_ms"] = json!(5);
        documents.push(event.clone());
        event.as_object_mut().unwrap().remove("actor_id");
        documents.push(event.clone());
        event.as_object_mut().unwrap().remove("duration_ms");
        documents.push(event);
    }
    hold(&bed, &schemas, "Event", "application/json", documents).await;
}

#[tokio::test]
async fn exactly_the_cloud_events_are_taken_that_the_description_takes() {
    let (bed, schemas) = described();
    let data = json!({"actor_id": "u1", "duration_ms": 5});
    let base =
        json!({"specversion": "1.0", "id": "e1", "source": "/", "type": "like", "subject": "article:7", "data": data});
    let mut documents = schemas.variations("CloudEvent", &base);
    // The schema of a CloudEvent cannot express when `data` needs an actor: these documents always have one.
    documents.retain(|document| document["data"]["actor_id"].is_string());
    for data in schemas.variations("CloudEventData", &data).into_iter().filter(|data| data.get("actor_id").is_some()) {
        let mut document = base.clone();
        document["data"] = data;
        documents.push(document);
    }
    hold(&bed, &schemas, "CloudEvent", "application/cloudevents+json", documents).await;
}

/// An attribute as the HTTP binding of CloudEvents writes it in a header.
fn percent_encoded(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'!'..=b'~' if byte != b'"' && byte != b'%' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

#[tokio::test]
async fn headers_of_cloud_events_are_taken_as_the_description_has_them() {
    let (bed, schemas) = described();
    let parameters = bed.description["paths"]["/v1/events"]["post"]["parameters"].as_array().unwrap();
    let data = json!({"actor_id": "u1", "duration_ms": 5});
    let base = json!({
        "specversion": "1.0", "id": "e1", "source": "/", "type": "like", "subject": "article:7", "time": null, "data": data,
    });
    let (mut taken, mut all) = (0, 0);
    for name in ["specversion", "id", "source", "type", "subject", "time"] {
        let parameter = parameters.iter().find(|parameter| parameter["name"] == format!("ce-{name}")).unwrap();
        let references = parameter["schema"]["oneOf"].as_array().unwrap();
        let header = references.iter().find(|schema| schema.get("$ref").is_some()).unwrap();
        for candidate in schemas.candidates(&schemas.0["CloudEvent"]["properties"][name]) {
            let Some(text) = candidate.as_str() else { continue };
            let mut event = base.clone();
            event[name] = candidate.clone();
            let expected = schemas.takes(&json!({"$ref": "#/components/schemas/CloudEvent"}), &event);
            let mut request = request("application/json", data.to_string());
            for (name, value) in event.as_object().unwrap() {
                let Some(value) = value.as_str() else { continue };
                request.headers_mut().insert(
                    axum::http::HeaderName::try_from(format!("ce-{name}")).unwrap(),
                    percent_encoded(value).parse().unwrap(),
                );
            }
            let answer = bed.send(request).await;
            assert_eq!(answer.status, if expected { 202 } else { 422 }, "{name} {text:?}\n{}", answer.body);
            if expected {
                assert!(schemas.takes(header, &percent_encoded(text).into()), "{name} {text:?}");
            }
            (taken, all) = (taken + usize::from(expected), all + 1);
        }
    }
    assert!(taken > 50 && all - taken > 100, "{taken} of {all}");
}

#[tokio::test]
async fn only_a_service_sends_the_addresses_of_others_and_the_answer_is_described() {
    let (bed, schemas) = described();
    let described = &bed.description["paths"]["/v1/events"]["post"]["responses"];
    let kinds = &schemas.0["EventsProblem"]["allOf"][1]["properties"]["type"]["enum"];
    for (field, value) in [("ip", "198.51.100.1"), ("user_agent", "another")] {
        let mut event = json!({"event_id": "e1", "type": "like", "actor_id": "u1", "subject_id": "article:7"});
        event[field] = json!(value);
        assert_eq!(bed.post_as_service(event.to_string()).await.status, 202);
        let answer = bed.post(event.to_string()).await;
        let kind = answer.body["type"].as_str().unwrap();
        assert_eq!((answer.status, kind), (422, "urn:tally:problem:invalid-event"));
        let response = &described["422"];
        let text = response["description"].as_str().unwrap();
        assert!(text.contains(kind) && text.contains(&format!("`{field}`")), "{text}");
        assert!(kinds.as_array().unwrap().contains(&json!(kind)), "{kinds}");
    }
}

#[test]
fn every_media_type_has_a_schema() {
    let (bed, schemas) = described();
    let content = bed.description["paths"]["/v1/events"]["post"]["requestBody"]["content"].as_object().unwrap();
    for (media, name) in [
        ("application/json", "Events"),
        ("application/x-ndjson", "Lines"),
        ("application/cloudevents+json", "CloudEvent"),
        ("application/cloudevents-batch+json", "CloudEventBatch"),
    ] {
        assert_eq!(content[media]["schema"], json!({"$ref": format!("#/components/schemas/{name}")}));
        assert!(schemas.0.contains_key(name), "{name}");
    }
    assert_eq!(content.len(), 4);
}

#[tokio::test]
async fn batches_have_the_limits_that_the_description_has() {
    let (bed, schemas) = described();
    let event = json!({"event_id": "e1", "type": "view", "subject_id": "article:7"});
    let cloud = json!({"specversion": "1.0", "id": "e1", "source": "/", "type": "view", "subject": "article:7"});
    for (name, media, event) in
        [("EventBatch", "application/json", event), ("CloudEventBatch", "application/cloudevents-batch+json", cloud)]
    {
        let bound = |keyword: &str| schemas.0[name][keyword].as_u64().unwrap() as usize;
        let (min, max) = (bound("minItems"), bound("maxItems"));
        for (count, status) in [(min - 1, 400), (min, 202), (max, 202), (max + 1, 413)] {
            let body = Value::from(vec![event.clone(); count]).to_string();
            assert_eq!(bed.send(request(media, body)).await.status, status, "{name} {count}");
        }
    }
}
