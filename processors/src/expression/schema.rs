//! The types of values, and of the properties of the events that an expression sees.

use super::tested::Tested;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The type of a value, as far as it is known before there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Not known: every use is allowed.
    Any,
    /// `null`.
    Null,
    /// true or false.
    Bool,
    /// A whole number.
    Int,
    /// A whole number without a sign, as only literals and `uint()` give it.
    Uint,
    /// Any other number.
    Float,
    /// A text.
    Text,
    /// A list.
    List,
    /// A mapping.
    Map,
}

impl Type {
    /// Whether it is a number.
    pub fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Float)
    }

    /// The type of a value that has one of two types.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (one, other) if one == other => one,
            // A missing field is null, and nothing but a null.
            (Self::Null, one) | (one, Self::Null) => one,
            _ => Self::Any,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "anything",
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Float => "float",
            Self::Text => "text",
            Self::List => "a list",
            Self::Map => "a map",
        })
    }
}

/// A declared property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property {
    /// Its type.
    pub kind: Type,
    /// Whether an event may lack it.
    pub optional: bool,
}

/// The properties that events of one type may have; None where it takes any.
pub type Properties = Option<BTreeMap<String, Property>>;

/// The events that an expression sees. The default knows nothing about them: they may have any properties.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    /// By event type.
    types: BTreeMap<String, Properties>,
    /// Properties that nodes before have set, whatever the type.
    derived: BTreeMap<String, Property>,
}

/// The place of a name among the properties.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Found {
    /// Every event has it.
    Always(Type),
    /// Some events lack it.
    Sometimes(Type),
    /// No event has it.
    Never,
}

impl Schema {
    /// Events of these types.
    pub fn new(types: BTreeMap<String, Properties>) -> Self {
        Self { types, derived: BTreeMap::new() }
    }

    /// Sets a property of all events.
    pub fn derive(&mut self, name: &str, property: Property) {
        self.derived.insert(name.to_owned(), property);
    }

    /// The types of events.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        self.types.keys().map(String::as_str)
    }

    /// The same, of these types only; an empty list keeps all.
    #[must_use]
    pub fn of_types(mut self, types: &[String]) -> Self {
        if !types.is_empty() {
            self.types.retain(|name, _| types.contains(name));
        }
        self
    }

    /// The events of which this is known; all where there would be none, which is a mistake that is reported where it is tested.
    #[must_use]
    pub fn assuming(self, tested: &[Tested]) -> Self {
        let known = self.clone().assuming_all(tested);
        if known.types.is_empty() { self } else { known }
    }

    fn assuming_all(mut self, tested: &[Tested]) -> Self {
        for tested in tested {
            match tested {
                Tested::OneOf(only) => self.types.retain(|name, _| only.contains(name)),
                Tested::NoneOf(not) => self.types.retain(|name, _| !not.contains(name)),
                Tested::Present(property) => {
                    if let Some(derived) = self.derived.get_mut(property) {
                        derived.optional = false;
                        continue;
                    }
                    self.types.retain(|_, known| known.as_ref().is_none_or(|known| known.contains_key(property)));
                    let declared = self.types.values_mut().flatten().filter_map(|known| known.get_mut(property));
                    declared.for_each(|declared| declared.optional = false);
                }
            }
        }
        self
    }

    /// What comes out of either of two nodes.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        let names: BTreeSet<&String> = self.derived.keys().chain(other.derived.keys()).collect();
        let derived = names.into_iter().map(|name| {
            let property = match (self.derived.get(name), other.derived.get(name)) {
                (Some(a), Some(b)) => Property { kind: a.kind.or(b.kind), optional: a.optional || b.optional },
                (a, b) => {
                    // By the other way it comes as it was sent, if at all.
                    let kind = a.or(b).map_or(Type::Any, |property| property.kind);
                    Property { kind, optional: true }
                }
            };
            (name.clone(), property)
        });
        self.derived = derived.collect();
        self.types.extend(other.types);
        self
    }

    /// Where a property is among those of the events.
    pub fn find(&self, name: &str, tested: &[Tested]) -> Found {
        let present = tested.iter().any(|tested| matches!(tested, Tested::Present(known) if known == name));
        let found = match self.derived.get(name) {
            Some(Property { kind, optional: false }) => Found::Always(*kind),
            Some(Property { kind, optional: true }) => match self.declared(name, tested) {
                Found::Always(declared) => Found::Always(kind.or(declared)),
                Found::Sometimes(declared) => Found::Sometimes(kind.or(declared)),
                Found::Never => Found::Sometimes(*kind),
            },
            None => self.declared(name, tested),
        };
        match found {
            Found::Sometimes(kind) if present => Found::Always(kind),
            found => found,
        }
    }

    fn declared(&self, name: &str, tested: &[Tested]) -> Found {
        let possible = |event_type: &str| {
            tested.iter().all(|tested| match tested {
                Tested::Present(_) => true,
                Tested::OneOf(only) => only.iter().any(|name| name == event_type),
                Tested::NoneOf(not) => not.iter().all(|name| name != event_type),
            })
        };
        let types: Vec<&Properties> =
            self.types.iter().filter(|(name, _)| possible(name)).map(|(_, properties)| properties).collect();
        if types.iter().any(|properties| properties.is_none()) || types.is_empty() {
            return Found::Always(Type::Any);
        }
        let found: Vec<Option<&Property>> =
            types.iter().map(|properties| properties.as_ref().and_then(|known| known.get(name))).collect();
        let kind = found.iter().flatten().map(|property| property.kind).reduce(Type::or);
        match kind {
            None => Found::Never,
            Some(kind) if found.iter().all(|found| found.is_some_and(|property| !property.optional)) => {
                Found::Always(kind)
            }
            Some(kind) => Found::Sometimes(kind),
        }
    }

    /// The names of all properties.
    pub fn properties(&self) -> Vec<&str> {
        let declared = self.types.values().flatten().flatten().map(|(name, _)| name.as_str());
        let names: BTreeSet<&str> = declared.chain(self.derived.keys().map(String::as_str)).collect();
        names.into_iter().collect()
    }
}
