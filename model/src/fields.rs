//! An event as it was sent: borrowed fields, parsed and checked by one set of rules.

use crate::event::{MAX_AHEAD_MS, Scalar};
use crate::moment::{Moment, OCCURRED_AT_MS};
use crate::properties;
use crate::scan::scan;
use crate::{canonical_ip, check_actor_id, check_event_id, check_event_type, check_subject_id};
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;

/// The longest stay on a page: a day.
pub const DURATION_MS_MAX: i64 = 86_400_000;
/// The longest user agent, in bytes.
pub const USER_AGENT_BYTES_MAX: usize = 1 << 10;
/// The names of all fields.
pub(crate) const FIELDS: &[&str] =
    &["event_id", "type", "actor_id", "subject_id", "occurred_at", "ip", "user_agent", "duration_ms", "properties"];

/// Why an event is invalid.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EventError {
    /// Not JSON, or not of the right shape.
    #[error("{0}")]
    Shape(String),
    /// One field breaks its rule.
    #[error("`{field}` {reason}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What the rule is.
        reason: Cow<'static, str>,
    },
}

impl EventError {
    /// A field that breaks its rule.
    pub fn field(field: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Field { field, reason: reason.into() }
    }
}

/// What to do with fields that no rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    /// In the ingest API: most are spelling mistakes.
    Refuse,
    /// In records of the log: a newer ingest API may write them.
    Ignore,
}

/// The fields of an event before they are checked.
#[derive(Debug, Default)]
pub struct EventFields<'a> {
    /// See the contract for each field's rule.
    pub event_id: Option<Cow<'a, str>>,
    /// The field `type`.
    pub event_type: Option<Cow<'a, str>>,
    /// The actor.
    pub actor_id: Option<Cow<'a, str>>,
    /// The subject.
    pub subject_id: Option<Cow<'a, str>>,
    /// Milliseconds since 1970.
    pub occurred_at_ms: Option<i64>,
    /// Address of the client.
    pub ip: Option<Cow<'a, str>>,
    /// User agent of the client.
    pub user_agent: Option<Cow<'a, str>>,
    /// Duration in milliseconds.
    pub duration_ms: Option<i64>,
    /// Scalars by name, as sent.
    pub properties: Option<Cow<'a, RawValue>>,
    /// Whether a name among them must not repeat. In records of the log the last one counts, as it always did.
    pub unique_properties: bool,
}

impl<'a> EventFields<'a> {
    /// Parses one JSON object. Only the shape is checked here.
    pub fn parse(json: &'a [u8], unknown: UnknownFields) -> Result<Self, EventError> {
        scan(json, unknown).map_or_else(|| Self::parse_any(json, unknown), Ok)
    }

    /// Parses an object of any form.
    pub(crate) fn parse_any(json: &'a [u8], unknown: UnknownFields) -> Result<Self, EventError> {
        let mut de = serde_json::Deserializer::from_slice(json);
        let fields = Fields(unknown).deserialize(&mut de).map_err(|e| EventError::Shape(e.to_string()))?;
        de.end().map_err(|e| EventError::Shape(e.to_string()))?;
        Ok(fields)
    }

    /// Checks every rule of the contract that needs no topology. `now_ms` is the clock of the ingest API, or the append time
    /// of the record.
    pub fn check(&self, now_ms: i64) -> Result<(), EventError> {
        self.check_all_but_properties(now_ms)?;
        self.parse_properties().map(drop)
    }

    /// [`EventFields::check`] without the properties, which their parser checks.
    pub(crate) fn check_all_but_properties(&self, now_ms: i64) -> Result<(), EventError> {
        required("event_id", &self.event_id, check_event_id)?;
        required("type", &self.event_type, check_event_type)?;
        required("actor_id", &self.actor_id, check_actor_id)?;
        required("subject_id", &self.subject_id, check_subject_id)?;
        if let Some(time_ms) = self.occurred_at_ms {
            if time_ms < *OCCURRED_AT_MS.start() {
                return Err(EventError::field("occurred_at", "must not lie before 1970"));
            }
            if time_ms > now_ms.saturating_add(MAX_AHEAD_MS) {
                return Err(EventError::field("occurred_at", "lies more than 5 minutes ahead of the server's clock"));
            }
        }
        if self.ip.as_deref().is_some_and(|ip| canonical_ip(ip).is_none()) {
            return Err(EventError::field("ip", "must be an IPv4 or IPv6 address"));
        }
        if self.user_agent.as_deref().is_some_and(|agent| agent.len() > USER_AGENT_BYTES_MAX) {
            return Err(EventError::field("user_agent", "must have at most 1,024 bytes"));
        }
        match self.duration_ms {
            Some(duration) if !(0..=DURATION_MS_MAX).contains(&duration) => {
                Err(EventError::field("duration_ms", "must be 0 to 86,400,000"))
            }
            None if self.event_type.as_deref() == Some("read") => {
                Err(EventError::field("duration_ms", "is required for `read`"))
            }
            _ => Ok(()),
        }
    }

    /// Writes `ip` in the one spelling that an address has here.
    pub fn canonicalize_ip(&mut self) {
        if let Some(Cow::Owned(ip)) = self.ip.as_deref().and_then(canonical_ip) {
            self.ip = Some(Cow::Owned(ip));
        }
    }

    /// The properties, checked.
    pub fn parse_properties(&self) -> Result<BTreeMap<String, Scalar>, EventError> {
        let Some(raw) = &self.properties else { return Ok(BTreeMap::new()) };
        properties::parse(raw, self.unique_properties).map_err(|reason| EventError::field("properties", reason))
    }

    /// Takes one property out, before the rules are checked: None where it is not there.
    pub fn take_property(&mut self, name: &str) -> Result<Option<Scalar>, EventError> {
        let mut properties = self.parse_properties()?;
        let Some(taken) = properties.remove(name) else { return Ok(None) };
        let Some(raw) = &self.properties else { return Ok(Some(taken)) };
        // Texts are not parsed again: numbers keep their digits.
        let rest: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
        let rest: BTreeMap<_, _> = rest.into_iter().filter(|(other, _)| other != name).collect();
        let rest = (!rest.is_empty()).then(|| serde_json::value::to_raw_value(&rest)).transpose();
        let rest = rest.map_err(|error| EventError::field("properties", error.to_string()))?;
        self.properties = rest.map(Cow::Owned);
        Ok(Some(taken))
    }

    /// Writes the event as the log keeps it: fixed field order, the time as milliseconds.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let mut separator = b'{';
        let mut name = |out: &mut Vec<u8>, field: &str| {
            out.push(std::mem::replace(&mut separator, b','));
            out.push(b'"');
            out.extend_from_slice(field.as_bytes());
            out.extend_from_slice(b"\":");
        };
        let texts = [
            ("event_id", &self.event_id),
            ("type", &self.event_type),
            ("actor_id", &self.actor_id),
            ("subject_id", &self.subject_id),
            ("ip", &self.ip),
            ("user_agent", &self.user_agent),
        ];
        for (field, value) in texts {
            if let Some(value) = value {
                name(out, field);
                write_text(value, out);
            }
        }
        for (field, value) in [("occurred_at", self.occurred_at_ms), ("duration_ms", self.duration_ms)] {
            if let Some(value) = value {
                name(out, field);
                // Writing to memory cannot fail.
                let _ = write!(out, "{value}");
            }
        }
        if let Some(raw) = &self.properties {
            name(out, "properties");
            out.extend_from_slice(raw.get().as_bytes());
        }
        if separator == b'{' {
            out.push(b'{');
        }
        out.push(b'}');
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
    }
}

fn required(
    field: &'static str,
    value: &Option<Cow<'_, str>>,
    check: fn(&str) -> Result<(), &'static str>,
) -> Result<(), EventError> {
    let value = value.as_deref().ok_or_else(|| EventError::field(field, "is required"))?;
    check(value).map_err(|reason| EventError::field(field, reason))
}

struct Fields(UnknownFields);

impl<'de> DeserializeSeed<'de> for Fields {
    type Value = EventFields<'de>;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Self::Value, D::Error> {
        de.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields {
    type Value = EventFields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event: a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = EventFields { unique_properties: self.0 == UnknownFields::Refuse, ..EventFields::default() };
        while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
            match name.as_ref() {
                "event_id" => set(&mut map, &mut fields.event_id, "event_id", |Text(t)| t)?,
                "type" => set(&mut map, &mut fields.event_type, "type", |Text(t)| t)?,
                "actor_id" => set(&mut map, &mut fields.actor_id, "actor_id", |Text(t)| t)?,
                "subject_id" => set(&mut map, &mut fields.subject_id, "subject_id", |Text(t)| t)?,
                "occurred_at" if self.0 == UnknownFields::Refuse => {
                    set(&mut map, &mut fields.occurred_at_ms, "occurred_at", |Moment::<true>(t)| t)?
                }
                "occurred_at" => set(&mut map, &mut fields.occurred_at_ms, "occurred_at", |Moment::<false>(t)| t)?,
                "ip" => set(&mut map, &mut fields.ip, "ip", |Text(t)| t)?,
                "user_agent" => set(&mut map, &mut fields.user_agent, "user_agent", |Text(t)| t)?,
                "duration_ms" => set(&mut map, &mut fields.duration_ms, "duration_ms", |Whole(t)| t)?,
                "properties" => {
                    set(&mut map, &mut fields.properties, "properties", |raw: &RawValue| Cow::Borrowed(raw))?
                }
                other if self.0 == UnknownFields::Refuse => return Err(de::Error::unknown_field(other, FIELDS)),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(fields)
    }
}

fn set<'de, A: MapAccess<'de>, T: de::Deserialize<'de>, U>(
    map: &mut A,
    slot: &mut Option<U>,
    field: &'static str,
    unwrap: fn(T) -> U,
) -> Result<(), A::Error> {
    if slot.is_some() {
        return Err(de::Error::duplicate_field(field));
    }
    let value = map.next_value::<T>().map_err(|e| de::Error::custom(format_args!("`{field}`: {e}")))?;
    *slot = Some(unwrap(value));
    Ok(())
}

/// Text, borrowed where it holds no escapes. (serde's own `Cow` never borrows.)
struct Text<'a>(Cow<'a, str>);

impl<'de> de::Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct AnyText;
        impl<'de> Visitor<'de> for AnyText {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        de.deserialize_str(AnyText)
    }
}

/// A whole number.
struct Whole(i64);

impl<'de> de::Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        i64::deserialize(de).map(Whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_795_248_000_000;
    const GOOD: &str =
        r#"{"event_id":"e1","type":"like","actor_id":"u1","subject_id":"article:7","occurred_at":1795247999000}"#;

    fn check(json: &str) -> Result<(), String> {
        let fields = EventFields::parse(json.as_bytes(), UnknownFields::Refuse).map_err(|e| e.to_string())?;
        fields.check(NOW_MS).map_err(|e| e.to_string())
    }

    #[test]
    fn a_good_event_passes_and_is_written_as_it_was() {
        assert_eq!(check(GOOD), Ok(()));
        let fields = EventFields::parse(GOOD.as_bytes(), UnknownFields::Refuse).unwrap();
        let mut out = Vec::new();
        fields.write_json(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), GOOD);
    }

    #[test]
    fn each_rule_is_named_when_broken() {
        let cases = [
            ("[]", "an event: a JSON object"),
            ("{", "EOF"),
            ("{}", "`event_id` is required"),
            (&GOOD.replace("\"e1\"", "\"e 1\""), "`event_id` may hold only"),
            (&GOOD.replace("\"e1\"", "1"), "`event_id`: invalid type: integer `1`, expected a string"),
            (&GOOD.replace("\"u1\"", "\"\""), "`actor_id` must have"),
            (&GOOD.replace("article:7", "article"), "`subject_id` must be `kind:id`"),
            (&GOOD.replace("like", "LIKE"), "`type` must be"),
            (&GOOD.replace("1795247999000", "1795249999000"), "`occurred_at` lies more than 5 minutes ahead"),
            (&GOOD.replace("1795247999000", "-1"), "`occurred_at` must not lie before 1970"),
            (&GOOD.replace("1795247999000", "1795247999"), "`occurred_at`: 1795247999 is in seconds; send"),
            (&GOOD.replace("1795247999000", "1000000000"), "milliseconds, 1000000000000, or RFC 3339"),
            (&GOOD.replace("1795247999000", "9999999999"), "`occurred_at`: 9999999999 is in seconds"),
            (&GOOD.replace("1795247999000", "1795247999000000"), "is in micro- or nanoseconds; send milliseconds"),
            (&GOOD.replace("1795247999000", "1795247999000000000"), "is in micro- or nanoseconds"),
            (&GOOD.replace("1795247999000", "18446744073709551615"), "is in micro- or nanoseconds"),
            (&GOOD.replace("1795247999000", "\"1795247999\""), "`occurred_at`: invalid value"),
            (&GOOD.replace("1795247999000", "\"2026-11-21T08:00:00,5Z\""), "`occurred_at`: invalid value"),
            (&GOOD.replace("1795247999000", "\"soon\""), "`occurred_at`: invalid value"),
            (&GOOD.replace("1795247999000", "1.5"), "`occurred_at`: invalid type"),
            (&GOOD.replace("like", "read"), "`duration_ms` is required"),
            (&GOOD.replace("}", ",\"duration_ms\":-1}"), "`duration_ms` must be"),
            (&GOOD.replace("}", ",\"duration_ms\":86400001}"), "`duration_ms` must be"),
            (&GOOD.replace("}", ",\"ip\":\"1.2.3\"}"), "`ip` must be"),
            (&GOOD.replace("}", ",\"actor\":\"x\"}"), "unknown field `actor`, expected one of"),
            (&GOOD.replace("}", ",\"type\":\"like\"}"), "duplicate field `type`"),
            (&GOOD.replace("}", ",\"properties\":[]}"), "`properties` must be an object"),
            (&GOOD.replace("}", ",\"properties\":{\"a\":{}}}"), "`properties` must be an object"),
            (&format!("{GOOD} x"), "trailing characters"),
        ];
        for (json, expected) in cases {
            let error = check(json).expect_err(json);
            assert!(error.contains(expected), "{json}\n  said: {error}\n  not:  {expected}");
        }
    }

    #[test]
    fn only_in_the_ingest_api_a_time_may_not_count_seconds() {
        for time in ["1795247999", "999999999", "10000000000", "\"1970-02-01T00:00:00Z\""] {
            let json = GOOD.replace("1795247999000", time);
            let read = |unknown| EventFields::parse(json.as_bytes(), unknown).is_ok();
            assert_eq!(
                (read(UnknownFields::Refuse), read(UnknownFields::Ignore)),
                (time != "1795247999", true),
                "{time}"
            );
        }
    }

    #[test]
    fn unknown_fields_in_records_are_ignored() {
        let json = GOOD.replace('}', ",\"next_year\":{\"a\":[1]}}");
        assert!(EventFields::parse(json.as_bytes(), UnknownFields::Ignore).is_ok());
    }

    #[test]
    fn properties_have_limits() {
        let many: Vec<_> = (0..17).map(|i| format!("\"p{i}\":{i}")).collect();
        let json = GOOD.replace('}', &format!(",\"properties\":{{{}}}}}", many.join(",")));
        assert!(check(&json).unwrap_err().contains("at most 16"));
        let json = GOOD.replace('}', &format!(",\"properties\":{{\"a\":\"{}\"}}}}", "x".repeat(2048)));
        assert!(check(&json).unwrap_err().contains("2,048 bytes"));
    }

    #[test]
    fn names_of_properties_do_not_repeat_in_the_ingest_api_and_the_last_one_counts_in_records() {
        for twice in
            [r#""a":1,"a":1"#, r#""a":1,"b":2,"\u0061":3"#, r#""é":1,"\u00e9":2"#, r#""\ud83d\ude00":1,"😀":2"#]
        {
            let json = GOOD.replace('}', &format!(",\"properties\":{{{twice}}}}}"));
            assert_eq!(check(&json), Err("`properties` must not repeat a name".into()), "{twice}");
            let fields = EventFields::parse(json.as_bytes(), UnknownFields::Ignore).unwrap();
            assert_eq!(fields.check(NOW_MS), Ok(()), "{twice}");
        }
        let json = GOOD.replace('}', r#","properties":{"a":1,"\u0061":3,"A":4}}"#);
        let fields = EventFields::parse(json.as_bytes(), UnknownFields::Ignore).unwrap();
        assert_eq!(fields.parse_properties().unwrap()["a"], Scalar::Int(3));
        let one = GOOD.replace('}', r#","properties":{"a":1,"A":2,"\\u0061":3}}"#);
        assert_eq!(check(&one), Ok(()));
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        let json = GOOD.replace('}', &format!(",\"properties\":{}}}", "[".repeat(30_000)));
        assert!(check(&json).is_err());
    }

    #[test]
    fn escapes_survive_the_way_through_the_log() {
        let json = r#"{"event_id":"e1","type":"view","actor_id":"u\"1\\","subject_id":"a:\u00e9"}"#;
        let fields = EventFields::parse(json.as_bytes(), UnknownFields::Refuse).unwrap();
        let mut out = Vec::new();
        fields.write_json(&mut out);
        let again = EventFields::parse(&out, UnknownFields::Refuse).unwrap();
        assert_eq!(again.actor_id.as_deref(), Some("u\"1\\"));
        assert_eq!(again.subject_id.as_deref(), Some("a:é"));
    }
}
