//! The time of an event as it was sent.

use crate::{looks_like_seconds, parse_ms};
use serde::de::{self, Deserializer, Visitor};
use std::fmt;
use std::ops::RangeInclusive;

/// The range of an event's time in milliseconds since 1970, before it is compared with the clock. Greater numbers are
/// micro- or nanoseconds: as milliseconds they are after the year 33,000.
pub const OCCURRED_AT_MS: RangeInclusive<i64> = 0..=999_999_999_999_999;

/// RFC 3339 or whole milliseconds. The ingest API, whose client can still correct the mistake, rejects numbers in other
/// units and names the unit: seconds would be an event of 1970, which is late. Records of the log are read as before.
pub(crate) struct Moment<const STRICT: bool>(pub(crate) i64);

impl<'de, const STRICT: bool> de::Deserialize<'de> for Moment<STRICT> {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct AnyMoment<const STRICT: bool>;
        impl<const STRICT: bool> Visitor<'_> for AnyMoment<STRICT> {
            type Value = Moment<STRICT>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("RFC 3339 or whole milliseconds since 1970")
            }
            fn visit_i64<E: de::Error>(self, ms: i64) -> Result<Self::Value, E> {
                match ms {
                    _ if STRICT && looks_like_seconds(ms) => {
                        Err(E::custom(format_args!("{ms} is in seconds; send milliseconds, {ms}000, or RFC 3339")))
                    }
                    _ if STRICT && ms > *OCCURRED_AT_MS.end() => {
                        Err(E::custom(format_args!("{ms} is in micro- or nanoseconds; send milliseconds or RFC 3339")))
                    }
                    _ => Ok(Moment(ms)),
                }
            }
            fn visit_u64<E: de::Error>(self, ms: u64) -> Result<Self::Value, E> {
                self.visit_i64(i64::try_from(ms).unwrap_or(i64::MAX))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                parse_ms(text).map(Moment).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        de.deserialize_any(AnyMoment::<STRICT>)
    }
}
