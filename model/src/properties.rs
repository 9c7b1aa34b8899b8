//! The properties of an event: scalars by name.

use crate::event::Scalar;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;

/// The most entries.
pub const PROPERTIES_MAX: usize = 16;
/// The longest text of all of them, in bytes, as it was sent.
pub const PROPERTIES_BYTES_MAX: usize = 2 << 10;

/// Reads properties; the error names the broken rule. A duplicate name is an error if `unique` is set; otherwise its
/// last value counts.
pub(crate) fn parse(raw: &RawValue, unique: bool) -> Result<BTreeMap<String, Scalar>, &'static str> {
    if raw.get().len() > PROPERTIES_BYTES_MAX {
        return Err("must have at most 2,048 bytes");
    }
    let (map, repeats) = parse_any(raw)?;
    match () {
        () if repeats && unique => Err("must not repeat a name"),
        () if map.len() > PROPERTIES_MAX => Err("must have at most 16 entries"),
        () => Ok(map),
    }
}

/// Reads properties without limits, and whether a name repeats: those of a stored event may have been derived.
pub(crate) fn parse_any(raw: &RawValue) -> Result<(BTreeMap<String, Scalar>, bool), &'static str> {
    let mut repeats = false;
    let map = Properties { repeats: &mut repeats }.deserialize(&mut serde_json::Deserializer::from_str(raw.get()));
    let map = map.map_err(|_| "must be an object of strings, numbers, true and false")?;
    Ok((map, repeats))
}

/// The text of each number that is no 64-bit integer: a float would not keep all its digits.
pub(crate) fn decimals(raw: &RawValue, properties: &BTreeMap<String, Scalar>) -> BTreeMap<String, Box<str>> {
    let is_decimal = |name: &str| matches!(properties.get(name), Some(Scalar::Float(_)));
    if !properties.values().any(|value| matches!(value, Scalar::Float(_))) {
        return BTreeMap::new();
    }
    let texts: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
    let texts = texts.into_iter().filter(|(name, _)| is_decimal(name));
    texts.map(|(name, text)| (name, text.get().into())).collect()
}

struct Properties<'r> {
    repeats: &'r mut bool,
}

impl<'de> DeserializeSeed<'de> for Properties<'_> {
    type Value = BTreeMap<String, Scalar>;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Self::Value, D::Error> {
        de.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Properties<'_> {
    type Value = BTreeMap<String, Scalar>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of scalars")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut properties = BTreeMap::new();
        // Names are compared as they read, not as they are written: `a` and `\u0061` are one.
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value()?;
            *self.repeats |= properties.insert(name, value).is_some();
        }
        Ok(properties)
    }
}
