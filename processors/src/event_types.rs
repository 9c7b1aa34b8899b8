//! Event types as small numbers, by which an edge selects the nodes that take an event.

use crate::dataflow::Actions;
use hashbrown::HashMap;
use tally_streams::topology::BuildSite;

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
