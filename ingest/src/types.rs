//! The event types that the service knows.

use crate::invalid::{InvalidEvent, closest};
use std::borrow::Cow;
use std::collections::BTreeMap;
use tally_model::{EventDeclaration, EventFields};

/// The event types of the topology. All others are rejected.
#[derive(Clone, Debug, Default)]
pub struct EventTypes {
    /// Sorted by name.
    known: Vec<(Box<str>, Admittance)>,
    /// Their names in CloudEvents.
    of_cloud_events: BTreeMap<String, String>,
    /// What the topology declares about types.
    declared: BTreeMap<String, EventDeclaration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Admittance {
    /// The actor must be named.
    Named,
    /// The actor may be anonymous.
    Anonymous,
    /// It is written by another route, which the text names.
    Elsewhere(Box<str>),
}

impl EventTypes {
    /// Types that need an `actor_id`.
    pub fn named<T: AsRef<str>>(self, names: impl IntoIterator<Item = T>) -> Self {
        names.into_iter().fold(self, |types, name| types.set(name.as_ref(), Admittance::Named))
    }

    /// Types whose `actor_id` may be absent, like view, read, api_call.
    pub fn anonymous<T: AsRef<str>>(self, names: impl IntoIterator<Item = T>) -> Self {
        names.into_iter().fold(self, |types, name| types.set(name.as_ref(), Admittance::Anonymous))
    }

    /// A toggle that the database owns: `on` and `off` are refused with the way to write it instead.
    pub fn owned_by_database(self, metric: &str, on: &str, off: &str) -> Self {
        let way = |method: &str| {
            let way = format!("is not accepted here: use {method} /v1/subjects/{{subject_id}}/{metric}/{{actor_id}}");
            Admittance::Elsewhere(way.into())
        };
        self.set(on, way("PUT")).set(off, way("DELETE"))
    }

    /// CloudEvents types and their event types.
    pub fn of_cloud_events(self, names: BTreeMap<String, String>) -> Self {
        Self { of_cloud_events: names, ..self }
    }

    /// What the topology declares about types.
    pub fn declared(self, declared: BTreeMap<String, EventDeclaration>) -> Self {
        Self { declared, ..self }
    }

    /// The declarations of the types that are taken here.
    pub(crate) fn declarations(&self) -> impl Iterator<Item = (&str, &EventDeclaration)> {
        self.taken().filter_map(|(name, _)| Some((name, self.declared.get(name)?)))
    }

    /// Checks an event against the declaration of its type.
    pub(crate) fn check_declared(&self, fields: &EventFields<'_>) -> Result<(), InvalidEvent> {
        let event_type = fields.event_type.as_deref().unwrap_or_default();
        let Some(declaration) = self.declared.get(event_type) else { return Ok(()) };
        let checked = declaration.check_properties(event_type, &mut fields.parse_properties()?);
        let actor_id = fields.actor_id.as_deref().unwrap_or_default();
        let checked = checked.and_then(|()| declaration.check_actor(event_type, actor_id));
        checked.map_err(|error| InvalidEvent::field(error.field, error.to_string()))
    }

    /// The event type of a CloudEvents type; a type without an entry stays unchanged.
    pub(crate) fn translate(&self, event_type: &mut Option<Cow<'_, str>>) {
        if let Some(known) = event_type.as_deref().and_then(|name| self.of_cloud_events.get(name)) {
            *event_type = Some(Cow::Owned(known.clone()));
        }
    }

    /// The types that are taken here, and whether they may come without an actor.
    pub(crate) fn taken(&self) -> impl Iterator<Item = (&str, bool)> {
        self.known.iter().filter_map(|(name, admittance)| match admittance {
            Admittance::Named => Some((&**name, false)),
            Admittance::Anonymous => Some((&**name, true)),
            Admittance::Elsewhere(_) => None,
        })
    }

    /// The names that CloudEvents have for types.
    pub(crate) fn names_of_cloud_events(&self) -> impl Iterator<Item = &str> {
        self.of_cloud_events.keys().map(String::as_str)
    }

    fn set(mut self, name: &str, admittance: Admittance) -> Self {
        match self.find(name) {
            Ok(at) => self.known[at].1 = admittance,
            Err(at) => self.known.insert(at, (name.into(), admittance)),
        }
        self
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.known.binary_search_by(|(known, _)| (**known).cmp(name))
    }

    /// Whether an event of this type may come without an actor; or why it may not come at all.
    pub(crate) fn allows_anonymous(&self, name: &str) -> Result<bool, InvalidEvent> {
        match self.find(name).map(|at| &self.known[at].1) {
            Ok(Admittance::Named) => Ok(false),
            Ok(Admittance::Anonymous) => Ok(true),
            Ok(Admittance::Elsewhere(way)) => Err(InvalidEvent::field("type", format!("`{name}` {way}"))),
            Err(_) => Err(InvalidEvent::field("type", self.unknown(name))),
        }
    }

    fn unknown(&self, name: &str) -> String {
        match closest(name, self.known.iter().map(|(known, _)| &**known)) {
            Some(known) => format!("`{name}` is unknown (did you mean `{known}`?)"),
            None => {
                let known: Vec<_> = self.taken().map(|(known, _)| known).collect();
                format!("`{name}` is unknown; known types: {}", known.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_or_refused_with_a_way_out() {
        let types = EventTypes::default().named(["unlike", "like"]).anonymous(["view"]).owned_by_database(
            "collects",
            "collect",
            "uncollect",
        );
        assert_eq!(types.allows_anonymous("like").ok(), Some(false));
        assert_eq!(types.allows_anonymous("view").ok(), Some(true));
        let said = |name| types.allows_anonymous(name).unwrap_err().to_string();
        assert_eq!(said("lik"), "`type` `lik` is unknown (did you mean `like`?)");
        assert_eq!(said("purchase"), "`type` `purchase` is unknown; known types: like, unlike, view");
        assert!(said("collect").ends_with("use PUT /v1/subjects/{subject_id}/collects/{actor_id}"));
        assert!(said("uncollect").contains("use DELETE /v1"));
    }
}
