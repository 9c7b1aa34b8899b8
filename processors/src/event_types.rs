//! Event types as small numbers, by which an edge selects the nodes that take an event.

use crate::dataflow::Actions;
use hashbrown::HashMap;
use tally_model::check_event_type;
use tally_streams::topology::{BuildSite, ParamError};

/// Maps each type of events that some node takes to its kind of values, a place in [`BuildSite::kinds`].
pub struct EventTypes(HashMap<String, usize, ahash::RandomState>);

impl EventTypes {
    /// The types of a topology.
    pub fn new(site: &BuildSite<'_, Actions>) -> Self {
        Self(site.kinds.iter().cloned().zip(0..).collect())
    }

    /// The kind of a type; None where no node takes it.
    pub fn kind(&self, event_type: &str) -> Option<usize> {
        self.0.get(event_type).copied()
    }
}

/// The types that the parameter `events` names; empty where it is left out, for all types.
pub fn named(events: Option<Vec<String>>, errors: &mut Vec<ParamError>) -> Vec<String> {
    let Some(events) = events else { return Vec::new() };
    if events.is_empty() {
        errors.push(ParamError::new("events", "needs at least one event type, or is left out for all"));
    }
    for (i, name) in events.iter().enumerate() {
        let path = format!("events[{i}]");
        if let Err(rule) = check_event_type(name) {
            errors.push(ParamError::new(path, rule));
        } else if events[..i].contains(name) {
            errors.push(ParamError::new(path, "is named twice"));
        }
    }
    events
}
