//! What nodes publish about themselves. Other nodes and the application see nothing else of a node, so no node type
//! depends on another.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a node publishes about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeFacts {
    /// The metrics that it counts.
    pub metrics: Vec<MetricSpec>,
    /// The types of events that it takes: edges pass it no others. Empty where it takes every event. Together these are
    /// all types that a topology knows.
    pub event_types: Vec<String>,
    /// Set where two of these types switch something on and off.
    pub toggle: Option<ToggleFacts>,
    /// The names of the boards that it writes: the board of all subjects, and one for each group.
    pub boards: Vec<String>,
    /// What it needs from nodes that count, besides the changes of their metrics.
    pub wants: Vec<MetricWant>,
}

/// A metric of subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricSpec {
    /// Its name.
    pub name: String,
    /// How it is computed.
    pub kind: MetricKind,
    /// The windows it is counted in besides all time, in ms.
    pub windows_ms: Vec<i64>,
    /// When the values of its windows are emitted.
    pub emit: Emit,
}

/// How a metric is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A sum of changes.
    Sum,
    /// Distinct actors: exact up to 256, an estimate above.
    Unique,
}

/// When the value of a window is emitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Emit {
    /// Whenever it has changed, at most once per commit.
    #[default]
    OnUpdate,
    /// Once: when the clock has passed the end of the window and its grace, so that nothing can change it any more.
    OnClose,
}

/// The switch of a toggle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToggleFacts {
    /// The type of event that switches on.
    pub on: String,
    /// The type of event that switches off.
    pub off: String,
    /// Whether the database owns the toggle: it then holds the state and numbers the events.
    pub owned: bool,
}

/// What a node needs of a metric that other nodes count.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricWant {
    /// The metric's name.
    pub metric: Arc<str>,
    /// Whether it needs the actors.
    pub actors: bool,
    /// The groups that it needs the metric's count of, besides the count of all.
    pub groups: Option<Groups>,
}

/// Groups of events, by a property.
#[derive(Clone, Debug, PartialEq)]
pub struct Groups {
    /// The property that names an event's group.
    pub property: String,
    /// The values that are a group.
    pub values: Vec<String>,
}

impl NodeFacts {
    /// The types of events whose order the database decides: all that the node takes, or none.
    pub fn owned_types(&self) -> &[String] {
        let owned = self.toggle.as_ref().is_some_and(|toggle| toggle.owned);
        if owned { &self.event_types } else { &[] }
    }
}
