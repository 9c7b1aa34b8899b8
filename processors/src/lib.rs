//! The processors: what counts, and what does not. One file each: parameters, processor, tests.
//!
//! All of them are pure: the same records in the same partitions give the same results, whatever threads, commits and
//! crashes happen in between.

mod board;
mod count;
mod decode;
mod dedupe;
mod expression;
mod held;
mod hop;
mod item;
mod metric;
mod mistake;
mod rate_check;
mod registry;
mod sketch;
mod toggle;
mod total;
mod unique;
mod windows;

pub use item::{Action, Actions, Item};
pub use metric::{MetricKind, MetricSpec, OwnedToggle, boards, event_types, metrics, owned_toggle, switches};
pub use registry::{REGISTRY, SINK_TYPES};
pub use sketch::Sketch;
pub use windows::Emit;
