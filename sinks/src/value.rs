//! How values of metrics are read out of records.
//!
//! Nearly all are integers of 64 bits, which the parser reads at once. It reads a decimal, or a longer integer, as a
//! float: [`Plain`] refuses it, and the record is read once more by way of [`Exact`], from the text of each value.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt;
use tally_model::MetricValue;

/// A way to read a value.
pub trait Value<'de>: Deserialize<'de> + Into<MetricValue> {}

impl<'de, V: Deserialize<'de> + Into<MetricValue>> Value<'de> for V {}

/// A value that the parser reads without loss.
pub struct Plain(MetricValue);

/// Any value.
pub struct Exact(MetricValue);

impl From<Plain> for MetricValue {
    fn from(Plain(value): Plain) -> Self {
        value
    }
}

impl From<Exact> for MetricValue {
    fn from(Exact(value): Exact) -> Self {
        value
    }
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PlainVisitor;
        impl Visitor<'_> for PlainVisitor {
            type Value = Plain;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer, a text or null")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Plain, E> {
                Ok(Plain(MetricValue::Integer(value)))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Plain, E> {
                let integer = i64::try_from(value).map(MetricValue::Integer);
                Ok(Plain(integer.unwrap_or_else(|_| MetricValue::wide(value.into()))))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Plain, E> {
                Ok(Plain(MetricValue::Text(text.to_owned().into())))
            }

            fn visit_unit<E: Error>(self) -> Result<Plain, E> {
                Ok(Plain(MetricValue::Null))
            }
        }
        deserializer.deserialize_any(PlainVisitor)
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?.get();
        MetricValue::from_json(json).map(Exact).map_err(Error::custom)
    }
}
