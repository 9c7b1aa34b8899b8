//! Deserializes the tree into a serde struct, with errors that have their place in the file.

use super::document::{Entry, Mapping, Value, Yaml};
use super::fault::{Fault, Step};
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

/// Reads a value of the tree.
pub(super) struct TreeDeserializer<'a>(pub &'a Yaml);

impl<'de> Deserializer<'de> for TreeDeserializer<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Null | Value::Removed => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => visitor.visit_u64(value),
                (_, Ok(value)) => visitor.visit_i64(value),
                _ => visitor.visit_i128(*value),
            },
            Value::Float(value) => visitor.visit_f64(*value),
            Value::String(value) => visitor.visit_borrowed_str(value),
            Value::List(items) => visitor.visit_seq(Items { items, index: 0 }),
            Value::Map(Mapping { entries, .. }) => visitor.visit_map(Entries { entries, value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    /// Fields have names: serde's derived structs would take a list of values, too, in the order of their declaration.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::List(_) => Err(Fault::custom("expected a mapping of keys to values, found a list")),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::String(variant) => visitor.visit_enum(Variant { variant, content: None }),
            // What it holds was set aside, which leaves nothing to choose by.
            Value::Map(Mapping { entries, .. }) if entries.iter().any(|entry| entry.value.is_removed()) => {
                Err(Fault::custom("a part of this is wrong"))
            }
            Value::Map(Mapping { entries, .. }) if entries.len() == 1 => {
                visitor.visit_enum(Variant { variant: &entries[0].key, content: Some(&entries[0].value) })
            }
            other => Err(Fault::custom(format!("expected one of {}, found {other}", variants.join(", ")))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'a> {
    items: &'a [Yaml],
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        while let Some(item) = self.items.get(self.index) {
            self.index += 1;
            if !item.is_removed() {
                let step = Step::Index(self.index - 1);
                return seed.deserialize(TreeDeserializer(item)).map(Some).map_err(|fault| fault.within(step));
            }
        }
        Ok(None)
    }
}

struct Entries<'a> {
    entries: &'a [Entry],
    value: Option<&'a Entry>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        while let Some((entry, rest)) = self.entries.split_first() {
            self.entries = rest;
            if !entry.value.is_removed() {
                self.value = Some(entry);
                let key = seed.deserialize(Key(&entry.key));
                return key.map(Some).map_err(|fault| fault.within(Step::Key(entry.key.clone())));
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let entry = self.value.take().ok_or_else(|| Fault::custom("a value was asked for before its key"))?;
        let value = seed.deserialize(TreeDeserializer(&entry.value));
        value.map_err(|fault| fault.within(Step::Key(entry.key.clone())))
    }
}

/// A key of a mapping; may be a newtype or an enum.
struct Key<'a>(&'a str);

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_enum(Variant { variant: self.0, content: None })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Variant<'a> {
    variant: &'a str,
    content: Option<&'a Yaml>,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let name: StrDeserializer<'_, Fault> = self.variant.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.content {
            None => Ok(()),
            Some(content) => Err(Fault::custom(format!("`{}` takes no value, found {}", self.variant, content.value))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        let step = Step::Key(self.variant.to_owned());
        seed.deserialize(TreeDeserializer(self.content()?)).map_err(|fault| fault.within(step))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Fault> {
        let step = Step::Key(self.variant.to_owned());
        TreeDeserializer(self.content()?).deserialize_any(visitor).map_err(|fault| fault.within(step))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        let step = Step::Key(self.variant.to_owned());
        TreeDeserializer(self.content()?).deserialize_any(visitor).map_err(|fault| fault.within(step))
    }
}

impl<'de> Variant<'de> {
    fn content(&self) -> Result<&'de Yaml, Fault> {
        self.content.ok_or_else(|| Fault::custom(format!("`{}` needs a value: `{}: …`", self.variant, self.variant)))
    }
}
