//! The routes, one file each.

pub mod after;
pub mod counters;
pub mod dead_letters;
pub mod progress;
pub mod query;
pub mod rankings;
pub mod reactions;
pub mod receipts;
pub mod reply;
pub mod series;
pub mod topology;
