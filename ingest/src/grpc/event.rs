//! Events of messages as the lines of JSON that the service takes: both APIs are checked by the same rules, field by
//! field.

use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use tally_proto::tally::v1::property_value::Kind;
use tally_proto::tally::v1::{Event, PropertyValue};

/// An event by the names of the JSON API. A field without presence counts as absent if it is empty.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    event_id: &'a str,
    #[serde(rename = "type", skip_serializing_if = "str::is_empty")]
    event_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor_id: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    subject_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<i64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    properties: BTreeMap<&'a str, Scalar<'a>>,
}

struct Scalar<'a>(&'a PropertyValue);

impl Serialize for Scalar<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0.kind {
            Some(Kind::Text(text)) => serializer.serialize_str(text),
            Some(Kind::Integer(integer)) => serializer.serialize_i64(*integer),
            // JSON has no NaN and no infinity: they become null, which the rules reject.
            Some(Kind::Number(number)) => serializer.serialize_f64(*number),
            Some(Kind::Boolean(boolean)) => serializer.serialize_bool(*boolean),
            None => serializer.serialize_unit(),
        }
    }
}

/// One line per event.
pub(super) fn lines(events: &[Event]) -> Result<Vec<u8>, serde_json::Error> {
    let mut lines = Vec::new();
    for event in events {
        let line = Line {
            event_id: &event.event_id,
            event_type: &event.r#type,
            actor_id: event.actor_id.as_deref(),
            subject_id: &event.subject_id,
            occurred_at: event.occurred_at.as_ref().map(ToString::to_string),
            ip: event.ip.as_deref(),
            user_agent: event.user_agent.as_deref(),
            duration_ms: event.duration_ms,
            properties: event.properties.iter().map(|(name, value)| (&**name, Scalar(value))).collect(),
        };
        serde_json::to_writer(&mut lines, &line)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn json_of(event: Event) -> Value {
        serde_json::from_slice(&lines(&[event]).unwrap()).unwrap()
    }

    #[test]
    fn what_is_absent_stays_absent() {
        assert_eq!(json_of(Event::default()), json!({}));
        let event = Event { actor_id: Some(String::new()), duration_ms: Some(0), ..Event::default() };
        assert_eq!(json_of(event), json!({"actor_id": "", "duration_ms": 0}));
    }

    #[test]
    fn every_field_has_its_name() {
        let value = |kind| PropertyValue { kind };
        let properties = [
            ("a", value(Some(Kind::Text("x\ny".into())))),
            ("b", value(Some(Kind::Integer(i64::MAX)))),
            ("c", value(Some(Kind::Number(1.5)))),
            ("d", value(Some(Kind::Boolean(true)))),
            ("e", value(Some(Kind::Number(f64::NAN)))),
            ("f", value(None)),
        ];
        let event = Event {
            event_id: "e1".into(),
            r#type: "read".into(),
            actor_id: Some("u1".into()),
            subject_id: "article:1".into(),
            occurred_at: "2026-11-21T08:00:00.123Z".parse().ok(),
            ip: Some("::1".into()),
            user_agent: Some("x".into()),
            duration_ms: Some(7),
            properties: properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        };
        let expected = json!({
            "event_id": "e1", "type": "read", "actor_id": "u1", "subject_id": "article:1",
            "occurred_at": "2026-11-21T08:00:00.123Z", "ip": "::1", "user_agent": "x", "duration_ms": 7,
            "properties": {"a": "x\ny", "b": i64::MAX, "c": 1.5, "d": true, "e": null, "f": null},
        });
        assert_eq!(json_of(event), expected);
    }
}
