//! What the API wants of a cache. The binary adapts the sink's.

use std::sync::Arc;
use tally_model::RootPosition;
use tokio::sync::watch;

/// The totals of a subject: metric and value, in any order.
pub type Totals = Vec<(Arc<str>, i64)>;

/// Totals by subject, faster than the database has them.
pub trait CountersCache: Send + Sync {
    /// All totals of a subject; None is a miss, never zero.
    fn get(&self, subject_id: &str) -> Option<Totals>;

    /// How far the input is contained in what was read from a partition of the topic `counters`. What `get` returns
    /// afterwards is at least as new.
    fn roots(&self, partition: u32) -> Arc<[RootPosition]>;

    /// Whether it has caught up with what was there when it started. Before that nothing is read from it.
    fn ready(&self) -> bool;

    /// Changes whenever roots do.
    fn subscribe(&self) -> watch::Receiver<u64>;
}
