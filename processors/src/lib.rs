//! The processors: what counts, and what does not. One file each: parameters, processor, tests.
//!
//! All of them are pure: the same records in the same partitions give the same results, whatever threads, commits and
//! crashes happen in between.

mod counting;
mod expression;
mod hop;
mod item;
mod metric;
mod mistake;
mod node;
mod registry;

pub use counting::windows::Emit;
pub use item::{Action, Actions, Item};
pub use metric::{MetricKind, MetricSpec, OwnedToggle, boards, event_types, metrics, owned_toggle, switches};
pub use node::total::Sketch;
pub use registry::{REGISTRY, SINK_TYPES};
