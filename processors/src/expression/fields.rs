//! The fields of an event as CEL sees them: converted when an expression reads them, texts borrowed.

use super::FIELDS;
use cel::common::traits::{Container, Indexer};
use cel::common::types::{CelBool, CelDouble, CelInt, CelNull, CelString, MAP_TYPE, Type};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{ExecutionError, Value};
use std::collections::{BTreeMap, HashMap};
use tally_model::{Event, Scalar};

/// The fields of one event.
pub struct Fields<'a> {
    event: &'a Event,
    properties: Properties<'a>,
    whole_properties: bool,
}

impl<'a> Fields<'a> {
    /// With `whole_properties`, the properties are a map like any other, which is built for each evaluation.
    pub fn new(event: &'a Event, whole_properties: bool) -> Self {
        Self { event, properties: Properties(&event.properties), whole_properties }
    }
}

impl VariableResolver for Fields<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        // `properties.depth` is looked up under its whole name first.
        if let Some(name) = variable.strip_prefix("properties.") {
            return self.event.properties.get(name).filter(|_| !name.contains('.')).map(value_of);
        }
        if !FIELDS.contains(&variable) {
            return None;
        }
        let event = self.event;
        Some(match variable {
            "event_id" => text(event.event_id()),
            "type" => text(event.event_type()),
            "actor_id" => text(event.actor_id()),
            "subject_id" => text(&event.subject_id),
            "occurred_at" => CowVal::owned(CelInt::from(event.occurred_at_ms)),
            "ip" => event.ip().map_or_else(null, text),
            "user_agent" => event.user_agent().map_or_else(null, text),
            "duration_ms" => event.duration_ms.map_or_else(null, |value| CowVal::owned(CelInt::from(value))),
            _ if self.whole_properties => return self.map(),
            _ => CowVal::Borrowed(&self.properties),
        })
    }
}

impl Fields<'_> {
    fn map<'b>(&self) -> Option<CowVal<'b, 'b>> {
        let scalar = |scalar: &Scalar| match scalar {
            Scalar::Bool(b) => Value::Bool(*b),
            Scalar::Int(i) => Value::Int(*i),
            Scalar::Float(f) => Value::Float(*f),
            Scalar::Text(t) => Value::from(t.as_str()),
        };
        let entries = self.event.properties.iter().map(|(name, value)| (name.clone(), scalar(value)));
        Value::from(entries.collect::<HashMap<String, Value>>()).try_into().ok().map(CowVal::Owned)
    }
}

fn null<'b>() -> CowVal<'b, 'b> {
    CowVal::owned(CelNull)
}

fn text<'b, 'v>(text: &'v str) -> CowVal<'b, 'v> {
    CowVal::owned(CelString::from(text))
}

fn value_of<'b, 'v>(scalar: &'v Scalar) -> CowVal<'b, 'v> {
    match scalar {
        Scalar::Bool(value) => CowVal::owned(CelBool::from(*value)),
        Scalar::Int(value) => CowVal::owned(CelInt::from(*value)),
        Scalar::Float(value) => CowVal::owned(CelDouble::from(*value)),
        Scalar::Text(value) => text(value),
    }
}

/// The properties where an expression only reads single ones: `properties.a`, `properties['a']`, `has(properties.a)`,
/// `'a' in properties`.
#[derive(Clone, Copy, Debug)]
struct Properties<'a>(&'a BTreeMap<String, Scalar>);

impl<'a> Properties<'a> {
    fn find(&self, name: &dyn Val) -> Result<Option<&'a Scalar>, ExecutionError> {
        let unfit =
            |_| ExecutionError::UnexpectedType { got: name.get_type().name().to_owned(), want: "string".into() };
        let name = <&str>::try_from(name).map_err(unfit)?;
        Ok(self.0.get(name))
    }
}

impl<'a> Val for Properties<'a> {
    fn get_type(&self) -> &Type {
        Self::cel_type()
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(*self)
    }
}

impl Container for Properties<'_> {
    fn contains(&self, name: &dyn Val) -> Result<bool, ExecutionError> {
        self.find(name).map(|found| found.is_some())
    }
}

impl Indexer for Properties<'_> {
    fn get<'b, 'v>(&'b self, name: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        match self.find(name)? {
            Some(value) => Ok(value_of(value)),
            None => Err(ExecutionError::no_such_key(<&str>::try_from(name).unwrap_or_default())),
        }
    }

    fn steal<'v>(self: Box<Self>, name: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(name).map(CowVal::into_owned)
    }
}
