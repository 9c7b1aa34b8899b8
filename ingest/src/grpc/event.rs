//! Events of messages as the fields that the intake takes: both APIs are checked by the same rules, field by field.

use crate::EVENTS_MAX;
use crate::intake::Intake;
use crate::invalid::InvalidEvent;
use crate::refusal::Refusal;
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use tally_model::EventFields;
use tally_proto::tally::v1::property_value::Kind;
use tally_proto::tally::v1::{Event, PropertyValue};

/// Runs all events of a message through the intake.
pub(super) fn take_all(intake: &mut Intake<'_>, events: &[Event]) -> Result<(), Refusal> {
    match events.len() {
        0 => return Err(Refusal::empty()),
        1..=EVENTS_MAX => {}
        _ => return Err(Refusal::TooManyEvents),
    }
    for event in events {
        intake.take_fields(fields(event), sent(&event.event_id));
    }
    Ok(())
}

/// A field without presence counts as absent if it is empty.
fn sent(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn fields(event: &Event) -> Result<EventFields<'_>, InvalidEvent> {
    let Event { event_id, r#type, actor_id, subject_id, occurred_at, ip, user_agent, duration_ms, properties } = event;
    // A time that no calendar has is as far away as can be, and rejected for that.
    let time_ms = |seconds: i64, nanos: i32| seconds.saturating_mul(1_000).saturating_add(i64::from(nanos / 1_000_000));
    Ok(EventFields {
        event_id: sent(event_id).map(Cow::Borrowed),
        event_type: sent(r#type).map(Cow::Borrowed),
        actor_id: actor_id.as_deref().map(Cow::Borrowed),
        subject_id: sent(subject_id).map(Cow::Borrowed),
        occurred_at_ms: occurred_at.as_ref().map(|time| time_ms(time.seconds, time.nanos)),
        ip: ip.as_deref().map(Cow::Borrowed),
        user_agent: user_agent.as_deref().map(Cow::Borrowed),
        duration_ms: *duration_ms,
        properties: (!properties.is_empty()).then(|| as_json(properties)).transpose()?.map(Cow::Owned),
        // A map of protobuf has each name once.
        unique_properties: false,
    })
}

/// As the log keeps them.
fn as_json(properties: &BTreeMap<String, PropertyValue>) -> Result<Box<RawValue>, InvalidEvent> {
    to_raw_value(&Scalars(properties)).map_err(|error| InvalidEvent::field("properties", error.to_string()))
}

struct Scalars<'a>(&'a BTreeMap<String, PropertyValue>);

impl Serialize for Scalars<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, Scalar(value))))
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn json_of(event: &Event) -> Value {
        let mut line = Vec::new();
        fields(event).unwrap().write_json(&mut line);
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn what_is_absent_stays_absent() {
        assert_eq!(json_of(&Event::default()), json!({}));
        let event = Event { actor_id: Some(String::new()), duration_ms: Some(0), ..Event::default() };
        assert_eq!(json_of(&event), json!({"actor_id": "", "duration_ms": 0}));
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
            occurred_at: "2026-11-21T08:00:00.123987Z".parse().ok(),
            ip: Some("::1".into()),
            user_agent: Some("x".into()),
            duration_ms: Some(7),
            properties: properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        };
        let expected = json!({
            "event_id": "e1", "type": "read", "actor_id": "u1", "subject_id": "article:1",
            "occurred_at": 1_795_248_000_123_i64, "ip": "::1", "user_agent": "x", "duration_ms": 7,
            "properties": {"a": "x\ny", "b": i64::MAX, "c": 1.5, "d": true, "e": null, "f": null},
        });
        assert_eq!(json_of(&event), expected);
    }

    #[test]
    fn a_time_beyond_the_calendar_is_rejected() {
        for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (-1, 0), (0, -1_000_000), (253_402_300_800, 0)] {
            let mut event = Event {
                event_id: "e1".into(),
                r#type: "view".into(),
                actor_id: Some("u1".into()),
                subject_id: "a:1".into(),
                occurred_at: Some(Default::default()),
                ..Event::default()
            };
            let time = event.occurred_at.as_mut().unwrap();
            (time.seconds, time.nanos) = (seconds, nanos);
            let refused = fields(&event).unwrap().check(1_795_248_000_000).unwrap_err().to_string();
            assert!(refused.starts_with("`occurred_at` "), "{seconds} {nanos}: {refused}");
        }
    }
}
