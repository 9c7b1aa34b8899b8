//! The schemas of what the ingest API takes, for the description: made of the same constants and patterns that the checks
//! use. `tests/description.rs` holds the API against them.

use crate::types::EventTypes;
use crate::{BODY_BYTES_MAX, EVENTS_MAX};
use serde_json::{Map, Value, json};
use tally_model::{
    ACTOR_ID_BYTES_MAX, ACTOR_ID_PATTERN, DURATION_MS_MAX, EVENT_ID_BYTES_MAX, EVENT_ID_PATTERN, EventDeclaration,
    MAX_AHEAD_MS, OCCURRED_AT_MS, PROPERTIES_BYTES_MAX, PROPERTIES_MAX, PropertyKind, PropertyType,
    SUBJECT_ID_BYTES_MAX, SUBJECT_ID_PATTERN, TIME_PATTERN, TIMES_IN_SECONDS, USER_AGENT_BYTES_MAX,
};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// The schemas by name, as the routes refer to them.
pub(crate) fn schemas(types: &EventTypes) -> Map<String, Value> {
    let schemas = [
        ("Event", event(types)),
        ("EventBatch", list_of("Event", "A batch of events; each is validated on its own.")),
        ("Events", json!({"description": "One event or several.", "oneOf": [of("Event"), of("EventBatch")]})),
        (
            "Lines",
            json!({"type": "string", "description": format!(
                "One `Event` per line; empty lines are skipped. At most {EVENTS_MAX} events and {BODY_BYTES_MAX} bytes."
            )}),
        ),
        ("Properties", properties()),
        ("CloudEvent", cloud_event(types)),
        ("CloudEventBatch", list_of("CloudEvent", "A batch of CloudEvents; each is validated on its own.")),
        ("CloudEventData", cloud_event_data()),
        ("CeSpecversion", ce_specversion()),
        ("CeId", ce_id()),
        ("CeSource", ce_source()),
        ("CeType", ce_type(types)),
        ("CeSubject", ce_subject()),
        ("CeTime", ce_time()),
        ("PageOpened", page_opened()),
        ("EventsProblem", events_problem()),
        (
            "BodyCoding",
            json!({
                "type": "string",
                "description": "Content encoding of a request body.",
                "enum": ["gzip", "zstd", "identity"],
            }),
        ),
    ];
    schemas.map(|(name, schema)| (name.to_owned(), schema)).into_iter().collect()
}

fn of(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn list_of(name: &str, description: &str) -> Value {
    json!({"type": "array", "description": description, "items": of(name), "minItems": 1, "maxItems": EVENTS_MAX})
}

/// The JSON Schema of an event of these types, which needs no other document.
pub fn event_schema(types: &EventTypes) -> Value {
    let mut schema = event(types);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Event");
    schema["properties"]["properties"] = properties();
    schema
}

fn event(types: &EventTypes) -> Value {
    let mut schema = any_event(types);
    let declared: Vec<Value> =
        types.declarations().filter_map(|(name, declared)| declared_type(name, declared)).collect();
    if !declared.is_empty() {
        schema["allOf"] = declared.into();
    }
    schema
}

/// What an event of a declared type must also have.
fn declared_type(name: &str, declaration: &EventDeclaration) -> Option<Value> {
    let declared = declaration.properties.as_ref()?;
    let property = |(name, property): (&String, &PropertyType)| {
        let schema = match property.kind {
            PropertyKind::Int => json!({"type": "integer", "format": "int64"}),
            PropertyKind::Decimal(scale) => {
                json!({"type": "number", "description": format!("At most {scale} digits behind the point, and 15 in all.")})
            }
            PropertyKind::Float => json!({"type": "number"}),
            PropertyKind::Text => json!({"type": "string"}),
            PropertyKind::Bool => json!({"type": "boolean"}),
        };
        (name.clone(), schema)
    };
    let required: Vec<&String> =
        declared.iter().filter(|(_, property)| !property.optional).map(|(name, _)| name).collect();
    let mut properties = json!({
        "type": "object",
        "properties": declared.iter().map(property).collect::<Map<_, _>>(),
        "additionalProperties": false,
    });
    let mut then = json!({});
    if !required.is_empty() {
        properties["required"] = json!(required);
        then["required"] = json!(["properties"]);
    }
    then["properties"] = json!({"properties": properties});
    Some(json!({"if": {"required": ["type"], "properties": {"type": {"const": name}}}, "then": then}))
}

fn any_event(types: &EventTypes) -> Value {
    let anonymous: Vec<_> = types.taken().filter(|(_, anonymous)| *anonymous).map(|(name, _)| name).collect();
    json!({
        "type": "object",
        "description": format!(
            "A user action. `actor_id` is optional for {} only; `duration_ms` is required for `read`.",
            listed(&anonymous)
        ),
        "required": ["event_id", "type", "subject_id"],
        "additionalProperties": false,
        "properties": {
            "event_id": id(
                "With `actor_id` the idempotency key: an event that is sent again counts once.",
                EVENT_ID_PATTERN, EVENT_ID_BYTES_MAX, "01J9ZQ4N8G",
            ),
            "type": {
                "type": "string",
                "description": "The action: a type that the topology counts.",
                "enum": types.taken().map(|(name, _)| name).collect::<Vec<_>>(),
                "example": "like",
            },
            "actor_id": actor_id("Who acted."),
            "subject_id": subject_id("What was acted on: `kind:id`."),
            "occurred_at": occurred_at(),
            "ip": ip(),
            "user_agent": user_agent(),
            "duration_ms": duration_ms(),
            "properties": of("Properties"),
        },
        // Beside the required ones: what depends on the type.
        "if": {"required": ["type"], "properties": {"type": {"const": "read"}}},
        "then": {"required": ["duration_ms"], "properties": {"duration_ms": {}}},
        "else": {
            "if": {"required": ["type"], "properties": {"type": {"enum": anonymous}}},
            "else": {"required": ["actor_id"], "properties": {"actor_id": {}}},
        },
    })
}

fn id(description: &str, pattern: &str, bytes_max: usize, example: &str) -> Value {
    json!({
        "type": "string",
        "description": description,
        "minLength": 1,
        "maxLength": bytes_max,
        "pattern": pattern,
        "example": example,
        "x-utf8-bytes-max": bytes_max,
    })
}

fn actor_id(what: &str) -> Value {
    let rule = format!(
        "{what} At most {ACTOR_ID_BYTES_MAX} bytes of UTF-8 without braces, whitespace and control characters."
    );
    id(&rule, ACTOR_ID_PATTERN, ACTOR_ID_BYTES_MAX, "u42")
}

fn subject_id(what: &str) -> Value {
    let rule = format!(
        "{what} At most {SUBJECT_ID_BYTES_MAX} bytes of UTF-8 without braces, whitespace and control characters."
    );
    id(&rule, SUBJECT_ID_PATTERN, SUBJECT_ID_BYTES_MAX, "article:7")
}

fn occurred_at() -> Value {
    json!({
        "description": "When: RFC 3339, or milliseconds since 1970. Numbers of ten digits count seconds, and those of sixteen \
                        and more micro- or nanoseconds: they are refused. At most 5 minutes ahead of the server's clock; by \
                        default now.",
        "oneOf": [
            time("RFC 3339, section 5.6; not before 1970."),
            {
                "type": "integer",
                "format": "int64",
                "minimum": OCCURRED_AT_MS.start(),
                "maximum": OCCURRED_AT_MS.end(),
                "not": {"minimum": TIMES_IN_SECONDS.start(), "maximum": TIMES_IN_SECONDS.end()},
                "x-ahead-ms-max": MAX_AHEAD_MS,
                "example": 1_795_248_000_123_i64,
            },
        ],
    })
}

fn time(description: &str) -> Value {
    json!({
        "type": "string",
        "format": "date-time",
        "description": description,
        "pattern": TIME_PATTERN,
        "x-time-ms-min": OCCURRED_AT_MS.start(),
        "x-ahead-ms-max": MAX_AHEAD_MS,
        "example": "2026-11-21T08:00:00.123Z",
    })
}

fn ip() -> Value {
    json!({
        "type": "string",
        "format": "ip",
        "description": "The actor's IPv4 or IPv6 address; defaults to the caller's. Only a service with an API key may send \
                        another.",
        "example": "203.0.113.9",
    })
}

fn user_agent() -> Value {
    json!({
        "type": "string",
        "description": format!(
            "The actor's user agent, at most {USER_AGENT_BYTES_MAX} bytes of UTF-8; defaults to the caller's. Only a service with an API key \
             may send another."
        ),
        "maxLength": USER_AGENT_BYTES_MAX,
        "x-utf8-bytes-max": USER_AGENT_BYTES_MAX,
    })
}

fn duration_ms() -> Value {
    json!({
        "type": "integer",
        "format": "int64",
        "description": "Duration of a read, in milliseconds.",
        "minimum": 0,
        "maximum": DURATION_MS_MAX,
    })
}

fn properties() -> Value {
    json!({
        "type": "object",
        "description": format!(
            "Further properties by name: strings, numbers and booleans, at most {PROPERTIES_BYTES_MAX} bytes of JSON."
        ),
        "maxProperties": PROPERTIES_MAX,
        "additionalProperties": {"oneOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]},
        "example": {"source": "feed", "position": 3},
    })
}

fn cloud_event(types: &EventTypes) -> Value {
    let mut when = time("`occurred_at` of the event; by default now.");
    when["type"] = json!(["string", "null"]);
    json!({
        "type": "object",
        "description": "A CloudEvent 1.0. `id`, `type`, `subject` and `time` are those of the event, `data` holds the rest; \
                        other attributes are extensions and are ignored.",
        "required": ["specversion", "id", "source", "type", "subject"],
        "properties": {
            "specversion": ce_specversion(),
            "id": ce_id(),
            "source": ce_source(),
            "type": ce_type(types),
            "subject": subject_id("As `subject_id` of an event."),
            "time": when,
            "datacontenttype": {
                "type": ["string", "null"],
                "description": "The media type of `data`: JSON.",
                "pattern": r"^[^;]*([/+][Jj][Ss][Oo][Nn])\s*(;.*)?$",
                "example": "application/json",
            },
            "data": {"oneOf": [of("CloudEventData"), {"type": "null"}]},
        },
    })
}

fn ce_specversion() -> Value {
    json!({"type": "string", "description": "The version of CloudEvents.", "enum": ["1.0"]})
}

fn ce_id() -> Value {
    id("As `event_id` of an event.", EVENT_ID_PATTERN, EVENT_ID_BYTES_MAX, "01J9ZQ4N8G")
}

fn ce_source() -> Value {
    json!({"type": "string", "description": "The producer.", "minLength": 1, "example": "/app"})
}

fn ce_type(types: &EventTypes) -> Value {
    json!({
        "type": "string",
        "description": "As `type` of an event, or a name that the topology maps to one in `cloud_event_types`.",
        "enum": types.taken().map(|(name, _)| name).chain(types.names_of_cloud_events()).collect::<Vec<_>>(),
        "example": "like",
    })
}

/// In a header a byte takes up to three characters.
fn ce_subject() -> Value {
    let what = format!(
        "As `subject_id` of an event, percent-encoded as the CloudEvents HTTP binding has it: {SUBJECT_ID_BYTES_MAX} bytes \
         before that."
    );
    json!({
        "type": "string",
        "description": what,
        "minLength": 1,
        "maxLength": 3 * SUBJECT_ID_BYTES_MAX,
        "pattern": SUBJECT_ID_PATTERN,
        "example": "article:%E7%94%A8",
    })
}

/// Without a format: openapi-python-client knows no dates in headers.
fn ce_time() -> Value {
    let mut time = time("`time` of a CloudEvent in binary mode, RFC 3339; by default now.");
    time.as_object_mut().map(|schema| schema.remove("format"));
    time
}

fn cloud_event_data() -> Value {
    json!({
        "type": "object",
        "description": "The fields of an event that are not attributes of a CloudEvent. `actor_id` and `duration_ms` are required \
                        as in `Event`.",
        "additionalProperties": false,
        "properties": {
            "actor_id": actor_id("Who acted."),
            "ip": ip(),
            "user_agent": user_agent(),
            "duration_ms": duration_ms(),
            "properties": of("Properties"),
        },
    })
}

fn page_opened() -> Value {
    let mut actor_id =
        actor_id("The reader; defaults to the `sub` of the JWT. Without either, the token is for anonymous reads.");
    actor_id["type"] = json!(["string", "null"]);
    json!({
        "type": "object",
        "description": "Request for a read token.",
        "required": ["subject_id"],
        "additionalProperties": false,
        "properties": {"subject_id": subject_id("The subject being read: `kind:id`."), "actor_id": actor_id},
    })
}

fn events_problem() -> Value {
    let rejected = json!({
        "type": "array",
        "description": "The rejected events, each with its reason; absent if the problem is not about events.",
        "items": of("Rejected"),
    });
    let kind = json!({
        "type": "string",
        "description": "422: no event is valid. 429: too much is under way, or all of it is over a limit.",
        "enum": ["urn:tally:problem:invalid-event", "urn:tally:problem:too-many-requests"],
    });
    json!({
        "description": "A problem, with the events it is about.",
        "allOf": [of("Problem"), {"type": "object", "properties": {"type": kind, "rejected": rejected}}],
    })
}

fn listed(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "no type".into() } else { names.join(", ") }
}

/// Types that stand for these schemas where routes are described. Nothing is ever made of them.
macro_rules! named {
    ($($name:ident),* $(,)?) => {$(
        pub(crate) enum $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new().into()
            }
        }

        impl ToSchema for $name {}
    )*};
}

named!(
    BodyCoding,
    Events,
    Lines,
    CloudEvent,
    CloudEventBatch,
    CeSpecversion,
    CeId,
    CeSource,
    CeType,
    CeSubject,
    CeTime,
    PageOpened,
    EventsProblem,
);
