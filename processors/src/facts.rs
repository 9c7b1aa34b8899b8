//! What nodes publish about themselves. Other nodes and the application see nothing else of a node, so no node type
//! depends on another.

use crate::counting::aggregation::{Aggregation, Form};
use crate::expression::{Expression, SubjectKind};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tally_model::{Estimate, MetricValue, UNIQUES_EXACT_MAX, ValueType, WindowSpec};

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
    /// Set where it aggregates, also in a short form: how the values are computed, and in which windows.
    pub aggregation: Option<Arc<Aggregation>>,
    /// Whether it is meant for every type of events: declared ones that no node names reach it as well.
    pub takes_declared: bool,
    /// Set where it passes on only the events for which this condition holds.
    pub passes: Option<Expression>,
    /// The properties that it sets in the events that it passes on.
    pub derived: Vec<DerivedProperty>,
    /// The kinds of the subjects that it counts for, or that it sets in the events that it passes on. None where the subjects
    /// stay those of the events.
    pub subject_kinds: Option<Vec<SubjectKind>>,
    /// The fields of events that it writes to topics; empty for the default.
    pub written_fields: Vec<String>,
    /// The kinds of subjects that it counts for and that only callers with scope `admin` may read.
    pub private_kinds: Vec<String>,
}

/// A property that a node sets.
#[derive(Clone, Debug, PartialEq)]
pub struct DerivedProperty {
    /// Its name.
    pub name: String,
    /// Its value; null leaves it out.
    pub value: Expression,
}

/// A metric of subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricSpec {
    /// Its name.
    pub name: String,
    /// How it is computed.
    pub kind: MetricKind,
    /// What its values are.
    pub value: ValueType,
    /// Whether it is computed for all time.
    pub totals: bool,
    /// The windows it is computed in besides all time.
    pub windows: Vec<WindowSpec>,
    /// When the values of its windows are emitted.
    pub emit: Emit,
}

/// How a metric is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A count of events, or a sum of numbers.
    Sum,
    /// A count of distinct values: exact up to [`UNIQUES_EXACT_MAX`], an estimate above.
    Unique,
    /// The least number.
    Min,
    /// The greatest number.
    Max,
    /// The value of the first event.
    First,
    /// The value of the last event.
    Last,
    /// A sum divided by a count.
    Average,
    /// An estimate of a quantile.
    Quantile {
        /// The largest relative error, in millionths.
        error_ppm: u32,
    },
    /// Two other metrics, divided.
    Ratio {
        /// The relative error, in millionths; 0 if both are exact.
        error_ppm: u32,
    },
}

/// The relative standard error of a count of distinct values above [`UNIQUES_EXACT_MAX`], in millionths:
/// 1.04 / sqrt(16384).
pub const UNIQUES_ERROR_PPM: u32 = 8_125;

impl MetricKind {
    /// The value without any event.
    pub fn of_nothing(self) -> MetricValue {
        match self {
            Self::Sum | Self::Unique => MetricValue::Integer(0),
            Self::Min
            | Self::Max
            | Self::First
            | Self::Last
            | Self::Average
            | Self::Quantile { .. }
            | Self::Ratio { .. } => MetricValue::Null,
        }
    }

    /// Which of its values are estimates; None if all are exact.
    pub fn estimate(self) -> Option<Estimate> {
        match self {
            Self::Unique => Some(Estimate { exact_max: Some(UNIQUES_EXACT_MAX), error_ppm: UNIQUES_ERROR_PPM }),
            Self::Quantile { error_ppm } => Some(Estimate { exact_max: None, error_ppm }),
            Self::Ratio { error_ppm } => (error_ppm > 0).then_some(Estimate { exact_max: None, error_ppm }),
            Self::Sum | Self::Min | Self::Max | Self::First | Self::Last | Self::Average => None,
        }
    }

    /// Whether a value is an estimate.
    pub fn is_estimate(self, value: &MetricValue) -> bool {
        self.estimate().is_some_and(|estimate| estimate.covers(value))
    }
}

impl MetricSpec {
    /// The lengths of its tumbling windows, in ms.
    pub fn tumbling_ms(&self) -> impl Iterator<Item = i64> + '_ {
        self.windows.iter().filter_map(|window| window.tumbling_ms())
    }
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
    /// Whether it counts by changes, rather than by contributions to values.
    pub fn counts_by_changes(&self) -> bool {
        let is_short = |aggregation: &Arc<Aggregation>| aggregation.form == Form::Short;
        !self.metrics.is_empty() && self.aggregation.as_ref().is_none_or(is_short)
    }

    /// The types of events whose order the database decides: all that the node takes, or none.
    pub fn owned_types(&self) -> &[String] {
        let owned = self.toggle.as_ref().is_some_and(|toggle| toggle.owned);
        if owned { &self.event_types } else { &[] }
    }
}
