//! An event that has passed the rules.

use crate::declaration::{DeclarationError, EventDeclaration};
use crate::fields::{EventError, EventFields, UnknownFields};
use crate::properties::{self, decimals};
use crate::{MetricValue, canonical_ip};
use serde::de::{self, Deserializer, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// How far ahead of the clock an event's time may lie.
pub const MAX_AHEAD_MS: i64 = 5 * 60 * 1000;

/// The value of a property.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Scalar {
    /// true or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
}

/// Written by hand: serde's own untagged enums try each variant in turn and make an error, with its text, for each
/// that does not fit. That was a third of what an event costs the ingest API.
impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct AnyScalar;
        impl Visitor<'_> for AnyScalar {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number, true or false")
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar::Bool(value))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Int(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scalar, E> {
                Ok(i64::try_from(value).map_or(Scalar::Float(value as f64), Scalar::Int))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar::Float(value))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(value.to_owned()))
            }
        }
        de.deserialize_any(AnyScalar)
    }
}

/// An action of an actor. Valid by construction.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    texts: Texts,
    /// The subject: `kind:id`. Shared with the changes that the event causes.
    pub subject_id: Arc<str>,
    /// Milliseconds since 1970.
    pub occurred_at_ms: i64,
    /// Duration in milliseconds.
    pub duration_ms: Option<i64>,
    /// At most 16 scalars.
    pub properties: BTreeMap<String, Scalar>,
    /// See [`Event::decimal`].
    decimals: BTreeMap<String, Box<str>>,
}

impl Event {
    /// Reads an event from the log. An event without a time gets its append time.
    pub fn from_log(json: &[u8], append_time_ms: i64) -> Result<Self, EventError> {
        Self::checked(&EventFields::parse(json, UnknownFields::Ignore)?, append_time_ms, append_time_ms)
    }

    /// With `actor_id` the idempotency key.
    pub fn event_id(&self) -> &str {
        self.texts.get(EVENT_ID)
    }

    /// The type: like, view, …
    pub fn event_type(&self) -> &str {
        self.texts.get(EVENT_TYPE)
    }

    /// The actor.
    pub fn actor_id(&self) -> &str {
        self.texts.get(ACTOR_ID)
    }

    /// Address of the client.
    pub fn ip(&self) -> Option<&str> {
        self.texts.has_ip.then(|| self.texts.get(IP))
    }

    /// User agent of the client.
    pub fn user_agent(&self) -> Option<&str> {
        self.texts.has_user_agent.then(|| self.texts.get(USER_AGENT))
    }

    /// The digits of a property that is a number but no 64-bit integer, as they were sent; None for every other property,
    /// and for one that was replaced since.
    pub fn decimal(&self, name: &str) -> Option<&str> {
        let text = self.decimals.get(name)?;
        let Some(Scalar::Float(value)) = self.properties.get(name) else { return None };
        (serde_json::from_str::<f64>(text).ok()? == *value).then_some(text)
    }

    /// Checks it against the declaration of its type. Whole numbers become floats where the declaration has floats, and keep
    /// their digits.
    pub fn check_declared(&mut self, declaration: &EventDeclaration) -> Result<(), DeclarationError> {
        let event_type = self.event_type().to_owned();
        let whole = |(name, value): (&String, &Scalar)| match value {
            Scalar::Int(whole) => Some((name.clone(), format!("{whole}.0"))),
            Scalar::Bool(_) | Scalar::Float(_) | Scalar::Text(_) => None,
        };
        let whole: Vec<_> = self.properties.iter().filter_map(whole).collect();
        declaration.check_properties(&event_type, &mut self.properties)?;
        for (name, digits) in whole {
            if let Some(Scalar::Float(_)) = self.properties.get(&name) {
                self.decimals.insert(name, digits.into());
            }
        }
        declaration.check_actor(&event_type, self.actor_id())
    }

    /// What tally itself computed about a subject, as an event: the subject stands for the actor, and values are properties.
    /// A value that is null is left out.
    pub fn computed(
        event_id: &str,
        event_type: &str,
        subject_id: Arc<str>,
        occurred_at_ms: i64,
        values: impl IntoIterator<Item = (String, MetricValue)>,
    ) -> Self {
        let (mut properties, mut decimals) = (BTreeMap::new(), BTreeMap::new());
        for (name, value) in values {
            let scalar = match &value {
                MetricValue::Null => continue,
                MetricValue::Integer(value) => Scalar::Int(*value),
                MetricValue::Text(text) => Scalar::Text((**text).clone()),
                MetricValue::Decimal(decimal) => {
                    let digits = decimal.to_string();
                    // As a property is read: its digits decide, and every decimal has a nearest float.
                    let Ok(float) = serde_json::from_str(&digits) else { continue };
                    decimals.insert(name.clone(), digits.into());
                    Scalar::Float(float)
                }
            };
            properties.insert(name, scalar);
        }
        Self {
            texts: Texts::new([event_id, event_type, &subject_id], None, None),
            subject_id,
            occurred_at_ms,
            duration_ms: None,
            properties,
            decimals,
        }
    }

    /// Writes it as the log keeps it.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        self.write_fields(|_| true, out);
    }

    /// Writes some of its fields as the log keeps them.
    pub fn write_fields(&self, is_written: impl Fn(&str) -> bool, out: &mut Vec<u8>) {
        fn text(is_written: bool, value: Option<&str>) -> Option<Cow<'_, str>> {
            value.filter(|_| is_written).map(Cow::Borrowed)
        }
        // Only a failing writer fails here, and scalars do not.
        let properties = serde_json::value::to_raw_value(&Properties(self)).ok().filter(|_| is_written("properties"));
        EventFields {
            event_id: text(is_written("event_id"), Some(self.event_id())),
            event_type: text(is_written("type"), Some(self.event_type())),
            actor_id: text(is_written("actor_id"), Some(self.actor_id())),
            subject_id: text(is_written("subject_id"), Some(&self.subject_id)),
            occurred_at_ms: Some(self.occurred_at_ms).filter(|_| is_written("occurred_at")),
            ip: text(is_written("ip"), self.ip()),
            user_agent: text(is_written("user_agent"), self.user_agent()),
            duration_ms: self.duration_ms.filter(|_| is_written("duration_ms")),
            properties: properties.as_deref().filter(|_| !self.properties.is_empty()).map(Cow::Borrowed),
            unique_properties: false,
        }
        .write_json(out);
    }

    /// Checks fields as [`EventFields::check`] does, and takes them. `now_ms` is the clock that they are checked against;
    /// without a time the event happened at `append_time_ms`.
    pub fn checked(fields: &EventFields<'_>, now_ms: i64, append_time_ms: i64) -> Result<Self, EventError> {
        fields.check_all_but_properties(now_ms)?;
        Self::from_fields(fields, append_time_ms)
    }

    /// Takes fields that have passed [`EventFields::check`]; a missing field is still an error.
    pub fn from_fields(fields: &EventFields<'_>, now_ms: i64) -> Result<Self, EventError> {
        Self::with_properties(fields, fields.parse_properties()?, now_ms)
    }

    /// Takes the fields of an event that was stored after it had passed the checks. Its properties may be derived ones,
    /// beyond the limits of what is sent.
    pub fn from_stored(fields: &EventFields<'_>, now_ms: i64) -> Result<Self, EventError> {
        let properties = fields.properties.as_deref().map(properties::parse_any).transpose();
        let properties = properties.map_err(|reason| EventError::field("properties", reason))?;
        Self::with_properties(fields, properties.map(|(properties, _)| properties).unwrap_or_default(), now_ms)
    }

    fn with_properties(
        fields: &EventFields<'_>,
        properties: BTreeMap<String, Scalar>,
        now_ms: i64,
    ) -> Result<Self, EventError> {
        let required = |name: &'static str| move || EventError::field(name, "is required");
        let event_id = fields.event_id.as_deref().ok_or_else(required("event_id"))?;
        let event_type = fields.event_type.as_deref().ok_or_else(required("type"))?;
        let actor_id = fields.actor_id.as_deref().ok_or_else(required("actor_id"))?;
        let subject_id = fields.subject_id.as_deref().ok_or_else(required("subject_id"))?;
        // Services that write to the topic spell it as they like.
        let ip = fields.ip.as_deref().map(|ip| canonical_ip(ip).unwrap_or(Cow::Borrowed(ip)));
        Ok(Self {
            texts: Texts::new([event_id, event_type, actor_id], ip.as_deref(), fields.user_agent.as_deref()),
            subject_id: subject_id.into(),
            occurred_at_ms: fields.occurred_at_ms.unwrap_or(now_ms),
            duration_ms: fields.duration_ms,
            decimals: fields.properties.as_deref().map_or_else(BTreeMap::new, |raw| decimals(raw, &properties)),
            properties,
        })
    }
}

/// The properties of an event, with all digits of their numbers.
struct Properties<'a>(&'a Event);

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).ok();
        let mut map = serializer.serialize_map(Some(self.0.properties.len()))?;
        for (name, value) in &self.0.properties {
            match self.0.decimal(name).and_then(raw) {
                Some(digits) => map.serialize_entry(name, &digits)?,
                None => map.serialize_entry(name, value)?,
            }
        }
        map.end()
    }
}

/// The places of an event's texts.
const EVENT_ID: usize = 0;
const EVENT_TYPE: usize = 1;
const ACTOR_ID: usize = 2;
const IP: usize = 3;
const USER_AGENT: usize = 4;

/// The texts of an event, one behind the other: one allocation for all.
#[derive(Clone, PartialEq)]
struct Texts {
    all: Box<str>,
    ends: [u32; 5],
    has_ip: bool,
    has_user_agent: bool,
}

impl Texts {
    fn new(ids: [&str; 3], ip: Option<&str>, user_agent: Option<&str>) -> Self {
        let [event_id, event_type, actor_id] = ids;
        let texts = [event_id, event_type, actor_id, ip.unwrap_or_default(), user_agent.unwrap_or_default()];
        let mut all = String::with_capacity(texts.iter().map(|text| text.len()).sum());
        let ends = texts.map(|text| {
            all.push_str(text);
            all.len() as u32
        });
        Self { all: all.into(), ends, has_ip: ip.is_some(), has_user_agent: user_agent.is_some() }
    }

    fn get(&self, place: usize) -> &str {
        let begin = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.all[begin as usize..self.ends[place] as usize]
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..self.ends.len()).map(|place| self.get(place))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_what_they_look_like() {
        for (json, expected) in [
            ("true", Scalar::Bool(true)),
            ("-3", Scalar::Int(-3)),
            ("9223372036854775807", Scalar::Int(i64::MAX)),
            ("9223372036854775808", Scalar::Float(9_223_372_036_854_775_808.0)),
            ("1.5", Scalar::Float(1.5)),
            (r#""a\u0062""#, Scalar::Text("ab".into())),
        ] {
            assert_eq!(serde_json::from_str::<Scalar>(json).unwrap(), expected, "{json}");
        }
        for wrong in ["null", "[]", "{}", r#""\ud800""#] {
            assert!(serde_json::from_str::<Scalar>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_event_is_written_as_it_was_read() {
        let bare = r#"{"event_id":"e","type":"like","actor_id":"u","subject_id":"a:1","occurred_at":77}"#;
        let full = r#"{"event_id":"e","type":"read","actor_id":"u\"1","subject_id":"a:1","ip":"::1","user_agent":"x","occurred_at":77,"duration_ms":5,"properties":{"b":true,"f":1.5,"n":1,"t":"y"}}"#;
        for json in [bare, full] {
            let mut written = Vec::new();
            Event::from_log(json.as_bytes(), 99).unwrap().write_json(&mut written);
            assert_eq!(String::from_utf8_lossy(&written), json);
        }
    }

    #[test]
    fn what_is_computed_becomes_properties_with_all_digits() {
        let values = ["7", "null", "\"x\"", "1.50", "12345678901234567890123"];
        let values = values.map(|json| MetricValue::from_json(json).unwrap());
        let values = ["a", "b", "c", "d", "e"].map(str::to_owned).into_iter().zip(values);
        let event = Event::computed("1f", "sessions.closed", "user:7".into(), 99, values);
        let mut written = Vec::new();
        event.write_json(&mut written);
        assert_eq!(
            String::from_utf8_lossy(&written),
            r#"{"event_id":"1f","type":"sessions.closed","actor_id":"user:7","subject_id":"user:7","occurred_at":99,"properties":{"a":7,"c":"x","d":1.50,"e":12345678901234567890123}}"#
        );
        assert_eq!(["a", "b", "d"].map(|name| event.decimal(name)), [None, None, Some("1.50")]);
    }

    #[test]
    fn the_digits_of_a_number_are_kept() {
        let json = r#"{"event_id":"e","type":"read","actor_id":"u","subject_id":"a:1","occurred_at":77,"duration_ms":5,"properties":{"big":12345678901234567890123,"i":7,"long":0.12345678901234567890,"short":1.10,"t":"1.5"}}"#;
        let mut event = Event::from_log(json.as_bytes(), 99).unwrap();
        let digits =
            |event: &Event| ["big", "i", "long", "short", "t", "x"].map(|name| event.decimal(name).map(str::to_owned));
        let kept = ["12345678901234567890123", "", "0.12345678901234567890", "1.10", "", ""];
        assert_eq!(digits(&event), kept.map(|text| (!text.is_empty()).then(|| text.to_owned())));
        let mut written = Vec::new();
        event.write_json(&mut written);
        assert_eq!(String::from_utf8_lossy(&written), json);
        event.properties.insert("long".to_owned(), Scalar::Float(0.5));
        event.properties.insert("short".to_owned(), Scalar::Int(1));
        assert_eq!(digits(&event)[2..4], [None, None]);
    }

    #[test]
    fn an_address_has_one_spelling() {
        for (sent, read) in
            [("::ffff:203.0.113.9", "203.0.113.9"), ("2001:DB8:0::1", "2001:db8::1"), ("192.0.2.1", "192.0.2.1")]
        {
            let json = format!(r#"{{"event_id":"e","type":"like","actor_id":"u","subject_id":"a:1","ip":"{sent}"}}"#);
            assert_eq!(Event::from_log(json.as_bytes(), 77).unwrap().ip(), Some(read), "{sent}");
        }
    }

    #[test]
    fn an_event_without_a_time_happened_when_the_log_took_it() {
        let json = br#"{"event_id":"e","type":"view","actor_id":"u","subject_id":"a:1","properties":{"n":1,"x":"y","b":true}}"#;
        let event = Event::from_log(json, 77).unwrap();
        assert_eq!(event.occurred_at_ms, 77);
        assert_eq!(event.properties["n"], Scalar::Int(1));
        assert_eq!(event.properties["b"], Scalar::Bool(true));
    }
}
