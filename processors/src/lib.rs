//! The processors: they decide which events count, and count them. One file each: parameters, processor, tests.
//!
//! All of them are pure: the same records in the same partitions give the same results, whatever threads, commits and
//! crashes happen in between.

mod counting;
mod dataflow;
mod declaration;
mod edge;
mod event_schema;
mod event_types;
mod expression;
mod facts;
mod hop;
mod item;
mod mistake;
mod node;
mod params;
mod subject_kinds;
mod summary;
mod written_fields;

pub use dataflow::Actions;
pub use declaration::DeclarationParams;
pub use edge::TOPIC_TYPES;
pub use facts::{Emit, Groups, MetricKind, MetricSpec, MetricWant, NodeFacts, ToggleFacts, UNIQUES_ERROR_PPM};
pub use item::{Action, Item};
pub use node::REGISTRY;
pub use node::total::Sketch;
pub use summary::{OwnedToggle, event_types, kept_windows, metrics, owned_toggle, private_kinds, switches};
