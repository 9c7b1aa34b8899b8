//! The value of a metric: an integer, a decimal, a text, or nothing.

use crate::{Decimal, SCALE_MAX};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;

/// The most bytes of a text.
pub const TEXT_BYTES_MAX: usize = 512;

/// The value of a metric. JSON: a number as exact text, a string, or null.
///
/// 16 bytes, since caches hold millions of integers; everything else is shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MetricValue {
    /// Of nothing: the smallest of no numbers.
    #[default]
    Null,
    /// An integer of 64 bits.
    Integer(i64),
    /// A decimal, or an integer that needs more than 64 bits.
    Decimal(Arc<Decimal>),
    /// A text.
    Text(Arc<String>),
}

/// What the values of a metric are, apart from null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// Integers; sums may need 128 bits.
    #[default]
    Integer,
    /// Decimals with this many digits behind the point, 1 to [`SCALE_MAX`].
    Decimal {
        /// Digits behind the point.
        scale: u8,
    },
    /// Texts of up to [`TEXT_BYTES_MAX`] bytes.
    Text,
}

/// Which values of a metric are estimates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Integers up to this are exact; None if no number is.
    pub exact_max: Option<i64>,
    /// The relative error of the others, in millionths.
    pub error_ppm: u32,
}

impl Estimate {
    /// Whether a value is an estimate.
    pub fn covers(&self, value: &MetricValue) -> bool {
        match (value, self.exact_max) {
            (MetricValue::Integer(value), Some(exact_max)) => *value > exact_max,
            (MetricValue::Null | MetricValue::Text(_), _) => false,
            (MetricValue::Integer(_) | MetricValue::Decimal(_), _) => true,
        }
    }
}

impl MetricValue {
    /// A text; one of more than [`TEXT_BYTES_MAX`] bytes is cut between two characters.
    pub fn text(text: &str) -> Self {
        Self::Text(Arc::new(text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()))
    }

    /// An integer of up to 128 bits.
    pub fn wide(integer: i128) -> Self {
        Self::from(Decimal::integer(integer))
    }

    /// The integer, if it is one of 64 bits.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            Self::Null | Self::Decimal(_) | Self::Text(_) => None,
        }
    }

    /// Divided by another value, with this many digits behind the point, rounded half away from zero. Null if that one is
    /// 0, or if one of them is no number.
    #[must_use]
    pub fn divided(&self, by: &Self, scale: u8) -> Self {
        let quotient = self.number().zip(by.number()).and_then(|(a, b)| a.divided(b, scale));
        quotient.map_or(Self::Null, Self::from)
    }

    fn number(&self) -> Option<Decimal> {
        match self {
            Self::Integer(value) => Some(Decimal::integer((*value).into())),
            Self::Decimal(decimal) => Some(**decimal),
            Self::Null | Self::Text(_) => None,
        }
    }

    /// Reads the JSON text of a value.
    pub fn from_json(json: &str) -> Result<Self, MetricValueError> {
        // Most values; what is no JSON number, like `+1` and `01`, is left to the general parser.
        if let [b'1'..=b'9', ..] | [b'-', b'1'..=b'9', ..] | [b'0'] = json.as_bytes()
            && let Ok(integer) = json.parse()
        {
            return Ok(Self::Integer(integer));
        }
        if json == "null" {
            return Ok(Self::Null);
        }
        if json.starts_with('"') {
            let text = serde_json::from_str(json).map_err(|_| MetricValueError(json.to_owned()))?;
            return Ok(Self::Text(Arc::new(text)));
        }
        Decimal::parse(json).map(Self::from).ok_or_else(|| MetricValueError(json.to_owned()))
    }

    /// With the number of digits that values of a type have: stores may keep more or fewer zeros at the end.
    pub fn of_type(self, value_type: ValueType) -> Self {
        let scale = match value_type {
            ValueType::Decimal { scale } => scale,
            ValueType::Integer => 0,
            ValueType::Text => return self,
        };
        let decimal = match &self {
            Self::Integer(value) if scale > 0 => Decimal::new((*value).into(), 0),
            Self::Decimal(decimal) => Some(**decimal),
            Self::Null | Self::Integer(_) | Self::Text(_) => None,
        };
        decimal.and_then(|decimal| decimal.rescaled(scale)).map_or(self, Self::from)
    }
}

/// A JSON text that is no value of a metric.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{0}` is neither null, a text, nor a number of at most 128 bits with up to {SCALE_MAX} decimal places")]
pub struct MetricValueError(String);

impl From<i64> for MetricValue {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<Decimal> for MetricValue {
    fn from(decimal: Decimal) -> Self {
        match i64::try_from(decimal.units()) {
            Ok(integer) if decimal.scale() == 0 => Self::Integer(integer),
            _ => Self::Decimal(Arc::new(decimal)),
        }
    }
}

/// Its JSON text.
impl fmt::Display for MetricValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Decimal(decimal) => write!(f, "{decimal}"),
            Self::Text(text) => f.write_str(&serde_json::to_string(&**text).map_err(|_| fmt::Error)?),
        }
    }
}

/// For JSON text only: other formats have no numbers of this size.
impl Serialize for MetricValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Decimal(decimal) => {
                RawValue::from_string(decimal.to_string()).map_err(S::Error::custom)?.serialize(serializer)
            }
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

/// For JSON text only.
impl<'de> Deserialize<'de> for MetricValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::from_json(raw.get()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_and_read_exactly() {
        for json in [
            "null",
            "0",
            "-9223372036854775808",
            "9223372036854775808",
            "170141183460469231731687303715884105727",
            "3.50",
            "-0.000000001",
            r#""""#,
            r#""it's \"quoted\" \\ \u0000 用""#,
            r#""3""#,
        ] {
            let value: MetricValue = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&value).unwrap(), json);
            assert_eq!(value.to_string(), json);
            assert_eq!(MetricValue::from_json(json), Ok(value));
        }
        for json in ["true", "[]", "{}", "1e39", "1.0000000001", "\"\\ud800\"", "+1", "01", ""] {
            assert!(MetricValue::from_json(json).is_err(), "{json}");
        }
    }

    #[test]
    fn equal_numbers_are_equal_values() {
        let decimal = |units, scale| MetricValue::from(Decimal::new(units, scale).unwrap());
        assert_eq!(decimal(3, 0), MetricValue::Integer(3));
        assert_eq!(MetricValue::wide(1 << 64).integer(), None);
        assert_eq!(decimal(350, 2).of_type(ValueType::Decimal { scale: 4 }), decimal(35_000, 4));
        assert_eq!(MetricValue::Integer(3).of_type(ValueType::Decimal { scale: 2 }), decimal(300, 2));
        assert_eq!(decimal(3_000, 3).of_type(ValueType::Integer), MetricValue::Integer(3));
        assert_eq!(decimal(3_001, 3).of_type(ValueType::Integer), decimal(3_001, 3), "no digit is lost");
        assert_eq!(MetricValue::Null.of_type(ValueType::Decimal { scale: 2 }), MetricValue::Null);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let MetricValue::Text(text) = MetricValue::text(&"用".repeat(200)) else { panic!("a text") };
        assert_eq!(text.len(), 510);
        assert_eq!(MetricValue::text("用"), MetricValue::Text(Arc::new("用".into())));
    }

    #[test]
    fn estimates_are_numbers_beyond_the_exact_ones() {
        let (distinct, quantile) =
            (Estimate { exact_max: Some(256), error_ppm: 8_125 }, Estimate { exact_max: None, error_ppm: 10_000 });
        let values = [MetricValue::Null, 256_i64.into(), 257_i64.into(), Decimal::new(1, 1).unwrap().into()];
        assert_eq!(values.each_ref().map(|value| distinct.covers(value)), [false, false, true, true]);
        assert_eq!(values.each_ref().map(|value| quantile.covers(value)), [false, true, true, true]);
    }

    #[test]
    fn a_value_takes_no_more_than_two_words() {
        assert!(size_of::<MetricValue>() <= 16);
    }
}
