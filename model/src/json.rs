//! Untrusted JSON, read into structs.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// A struct that is written as an object. serde's derived structs can also be read from an array, field by field in the
/// order of the declaration; no client means that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        de.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// Reads one JSON object.
pub fn from_object<'de, T: Deserialize<'de>>(json: &'de [u8]) -> serde_json::Result<T> {
    serde_json::from_slice::<Object<T>>(json).map(|Object(value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;
    use std::borrow::Cow;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Named<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
        #[serde(borrow, default)]
        raw: Option<&'a RawValue>,
    }

    #[test]
    fn objects_are_read_as_ever_and_nothing_else_is() {
        let text = br#" {"name":"a","raw":[1, 2]} "#;
        let Named { name, raw } = from_object(text).unwrap();
        assert_eq!((&*name, raw.map(RawValue::get)), ("a", Some("[1, 2]")));
        for (json, why) in [
            (r#"["a"]"#, "invalid type: sequence, expected an object"),
            (r#"["a",[1]]"#, "invalid type: sequence, expected an object"),
            (r#""a""#, "invalid type: string"),
            ("null", "invalid type: null"),
            ("7", "invalid type: integer"),
            (r#"{"name":"a"} x"#, "trailing characters"),
            (r#"{"name":"a","name":"b"}"#, "duplicate field `name`"),
            (r#"{"nam":"a"}"#, "unknown field `nam`"),
            ("{}", "missing field `name`"),
        ] {
            let error = from_object::<Named<'_>>(json.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(why) && error.contains("line 1 column"), "{json}: {error}");
        }
        assert!(serde_json::from_str::<Vec<Object<Named<'_>>>>(r#"[{"name":"a"},["b"]]"#).is_err());
    }
}
