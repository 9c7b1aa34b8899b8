//! Answers of the JSON API as messages: the fields have the same names, and are read out of the same bytes.

use crate::tally::v1::metric_value::Kind;
use crate::tally::v1::{AfterState, MetricValue, NotCounted, NotCountedEvents, ReceiptState};
use prost_types::Timestamp;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A time in RFC 3339.
pub fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(|error| D::Error::custom(format!("{text}: {error}")))).transpose()
}

/// `applied` or `pending`.
pub fn after_state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    is_applied(deserializer).map(|is_applied| match is_applied {
        true => AfterState::Applied.into(),
        false => AfterState::Pending.into(),
    })
}

/// `applied` or `pending`.
pub fn receipt_state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    is_applied(deserializer).map(|is_applied| match is_applied {
        true => ReceiptState::Applied.into(),
        false => ReceiptState::Pending.into(),
    })
}

fn is_applied<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match &*String::deserialize(deserializer)? {
        "applied" => Ok(true),
        "pending" => Ok(false),
        other => Err(D::Error::unknown_variant(other, &["applied", "pending"])),
    }
}

/// A number as it is written: exact, where a double would round.
pub fn exact<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Box::<RawValue>::deserialize(deserializer)?.get().to_owned())
}

/// A list that may be null.
pub fn not_counted<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NotCountedEvents>, D::Error> {
    let events = Option::<Vec<NotCounted>>::deserialize(deserializer)?;
    Ok(events.map(|events| NotCountedEvents { events }))
}

impl<'de> Deserialize<'de> for MetricValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        let kind = match text.as_bytes().first() {
            Some(b'n') => None,
            Some(b'"') => Some(Kind::Text(serde_json::from_str(text).map_err(D::Error::custom)?)),
            _ => Some(text.parse().map_or_else(|_| Kind::Decimal(text.to_owned()), Kind::Integer)),
        };
        Ok(Self { kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::v1::{GetCountersResponse, GetRankingResponse, GetReceiptResponse};

    #[test]
    fn values_of_metrics_are_exact() {
        for (json, expected) in [
            ("3", Some(Kind::Integer(3))),
            ("-9223372036854775808", Some(Kind::Integer(i64::MIN))),
            (
                "170141183460469231731687303715884105727",
                Some(Kind::Decimal("170141183460469231731687303715884105727".into())),
            ),
            ("0.100000001", Some(Kind::Decimal("0.100000001".into()))),
            ("\"a\\\"b\"", Some(Kind::Text("a\"b".into()))),
            ("null", None),
        ] {
            assert_eq!(serde_json::from_str::<MetricValue>(json).unwrap().kind, expected, "{json}");
        }
    }

    #[test]
    fn fields_are_read_by_their_names() {
        let json = r#"{"subject_id":"a:1","counters":{"likes":3},"approximate":["u"],"relative_errors":{"u":0.01},
            "as_of":"2026-11-21T08:00:00.123Z","after":"pending","stale":true}"#;
        let read: GetCountersResponse = serde_json::from_str(json).unwrap();
        assert_eq!((read.counters.len(), read.relative_errors["u"], read.stale), (1, 0.01, true));
        assert_eq!((read.as_of.unwrap().nanos, read.after_state()), (123_000_000, AfterState::Pending));
        let json = r#"{"board":"hot","items":[{"rank":1,"subject_id":"a:1","score":9223372036854775.807,"counters":{},
            "viewer":{"likes":true}}],"next":"c","as_of":"1970-01-01T00:00:00.000Z"}"#;
        let read: GetRankingResponse = serde_json::from_str(json).unwrap();
        assert_eq!((read.items[0].score.as_str(), read.items[0].viewer["likes"]), ("9223372036854775.807", true));
        assert_eq!((read.next.as_deref(), read.after_state()), (Some("c"), AfterState::Unspecified));
        let json = r#"{"state":"applied","held":[],"not_counted":[{"event_id":null,"verdict":"dead","reason":"r"}]}"#;
        let read: GetReceiptResponse = serde_json::from_str(json).unwrap();
        assert_eq!((read.state(), read.not_counted.unwrap().events[0].event_id.clone()), (ReceiptState::Applied, None));
        let forgotten = r#"{"state":"applied","held":[],"not_counted":null}"#;
        assert_eq!(serde_json::from_str::<GetReceiptResponse>(forgotten).unwrap().not_counted, None);
    }
}
