//! CloudEvents 1.0 in structured mode, read as events: id, type, subject, time, and the rest in `data`. What comes in
//! binary mode (`http/binary.rs`) is read as the same.

use crate::invalid::InvalidEvent;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use tally_model::{EventFields, UnknownFields, from_object, parse_ms};

/// The fields of an event that `data` may hold.
const DATA_FIELDS: &[&str] = &["actor_id", "ip", "user_agent", "duration_ms", "properties"];

/// The attributes that tally uses. Others are extensions, which any intermediary may add.
#[derive(Deserialize)]
struct CloudEvent<'a> {
    #[serde(borrow)]
    specversion: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow)]
    subject: Option<&'a RawValue>,
    #[serde(borrow)]
    time: Option<&'a RawValue>,
    #[serde(borrow)]
    datacontenttype: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data_base64: Option<&'a RawValue>,
}

/// Reads one CloudEvent. As for other events only the shape is checked here.
pub(crate) fn parse(json: &[u8]) -> Result<EventFields<'_>, InvalidEvent> {
    let event: CloudEvent<'_> = from_object(json).map_err(|error| InvalidEvent::Shape(error.to_string()))?;
    if text("specversion", event.specversion)?.as_deref() != Some("1.0") {
        return Err(InvalidEvent::field("specversion", "must be \"1.0\""));
    }
    if text("source", event.source)?.is_none_or(|source| source.is_empty()) {
        return Err(InvalidEvent::field("source", "is required"));
    }
    if event.data_base64.is_some() {
        return Err(InvalidEvent::field("data_base64", "is not supported: send JSON as `data`"));
    }
    if text("datacontenttype", event.datacontenttype)?.is_some_and(|media| !is_json(&media)) {
        return Err(InvalidEvent::field("datacontenttype", "must be application/json"));
    }
    let mut fields = match event.data {
        Some(data) => parse_data(data)?,
        None => EventFields::default(),
    };
    fields.event_id = text("id", event.id)?;
    fields.event_type = text("type", event.kind)?;
    fields.subject_id = text("subject", event.subject)?;
    if let Some(time) = text("time", event.time)? {
        let moment = parse_ms(&time)
            .ok_or_else(|| InvalidEvent::field("time", "must be RFC 3339, like 2026-11-21T08:00:00.123Z"))?;
        fields.occurred_at_ms = Some(moment);
    }
    Ok(fields)
}

/// The name of an event's field in a CloudEvent.
pub(crate) fn attribute(field: &'static str) -> &'static str {
    match field {
        "event_id" => "id",
        "subject_id" => "subject",
        "occurred_at" => "time",
        "actor_id" => "data.actor_id",
        "ip" => "data.ip",
        "user_agent" => "data.user_agent",
        "duration_ms" => "data.duration_ms",
        "properties" => "data.properties",
        other => other,
    }
}

fn parse_data(data: &RawValue) -> Result<EventFields<'_>, InvalidEvent> {
    let fields = EventFields::parse(data.get().as_bytes(), UnknownFields::Refuse).map_err(|error| {
        let InvalidEvent::Shape(text) = InvalidEvent::shape(&error.to_string(), DATA_FIELDS) else {
            return error.into();
        };
        InvalidEvent::Shape(format!("in `data`: {text}"))
    })?;
    let belongs = |attribute| InvalidEvent::Shape(format!("in `data`: this belongs in the attribute `{attribute}`"));
    match &fields {
        EventFields { event_id: Some(_), .. } => Err(belongs("id")),
        EventFields { event_type: Some(_), .. } => Err(belongs("type")),
        EventFields { subject_id: Some(_), .. } => Err(belongs("subject")),
        EventFields { occurred_at_ms: Some(_), .. } => Err(belongs("time")),
        _ => Ok(fields),
    }
}

/// A text attribute, borrowed where it holds no escapes.
fn text<'a>(name: &'static str, raw: Option<&'a RawValue>) -> Result<Option<Cow<'a, str>>, InvalidEvent> {
    let Some(raw) = raw.map(RawValue::get) else { return Ok(None) };
    let inside = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let Some(inside) = inside else { return Err(InvalidEvent::field(name, "must be a string")) };
    if !inside.contains('\\') {
        return Ok(Some(Cow::Borrowed(inside)));
    }
    let unescaped = serde_json::from_str::<String>(raw);
    unescaped.map(|text| Some(Cow::Owned(text))).map_err(|error| InvalidEvent::Shape(format!("`{name}`: {error}")))
}

/// Whether data of this media type is JSON.
pub(crate) fn is_json(media: &str) -> bool {
    let essence = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"specversion":"1.0","id":"e1","source":"/app","type":"like","subject":"article:7",
        "time":"2026-11-21T08:00:00Z","traceparent":"x","datacontenttype":"application/json",
        "data":{"actor_id":"u\u0031","duration_ms":5,"ip":"1.2.3.4","user_agent":"a","properties":{"a":1}}}"#;

    #[test]
    fn attributes_become_fields() {
        let fields = parse(GOOD.as_bytes()).unwrap();
        assert_eq!(fields.event_id.as_deref(), Some("e1"));
        assert_eq!(fields.event_type.as_deref(), Some("like"));
        assert_eq!(fields.actor_id.as_deref(), Some("u1"));
        assert_eq!(fields.subject_id.as_deref(), Some("article:7"));
        assert_eq!(fields.occurred_at_ms, Some(1_795_248_000_000));
        assert_eq!(fields.duration_ms, Some(5));
        assert_eq!(fields.properties.unwrap().get(), r#"{"a":1}"#);
    }

    #[test]
    fn data_may_be_absent() {
        let json = r#"{"specversion":"1.0","id":"e1","source":"/","type":"view","subject":"article:7","data":null}"#;
        assert_eq!(parse(json.as_bytes()).unwrap().actor_id, None);
    }

    #[test]
    fn each_mistake_is_named() {
        for (from, to, expected) in [
            ("\"1.0\"", "\"0.3\"", "`specversion` must be"),
            ("\"/app\"", "\"\"", "`source` is required"),
            ("\"e1\"", "1", "`id` must be a string"),
            ("\"2026-11-21T08:00:00Z\"", "\"soon\"", "`time` must be RFC 3339"),
            ("\"application/json\"", "\"text/xml\"", "`datacontenttype` must be"),
            ("\"actor_id\"", "\"actor\"", "in `data`: unknown field `actor` (did you mean `actor_id`?)"),
            ("\"actor_id\"", "\"event_id\"", "in `data`: this belongs in the attribute `id`"),
            ("\"data\"", "\"data_base64\"", "`data_base64` is not supported"),
            ("{\"actor_id\"", "[\"actor_id\"", "expected"),
        ] {
            let json = GOOD.replacen(from, to, 1);
            let error = parse(json.as_bytes()).err().map(|refusal| refusal.to_string()).unwrap_or_default();
            assert!(error.contains(expected), "{to}: {error:?}");
        }
    }
}
