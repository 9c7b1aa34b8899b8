//! Code that several counting node types share.

pub mod aggregation;
pub mod counted_metric;
pub mod windows;
