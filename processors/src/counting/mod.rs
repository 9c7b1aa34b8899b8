//! What several of the node types that count share.

pub mod counted_metric;
pub mod windows;
