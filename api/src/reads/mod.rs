//! Reads of totals and boards.

pub mod append_times;
pub mod boards;
pub mod breaker;
pub mod feed;
pub mod followed;
pub mod freshness;
pub mod ladder;
pub mod redis;
pub mod roots;
pub mod totals;
pub mod warm_up;
