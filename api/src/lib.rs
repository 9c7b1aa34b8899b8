//! The reads: counters, receipts and progress. Sees only what the sinks wrote, and the log's positions.
//!
//! A read is served by the cache where it is ready and has the subject, else by the database. `as_of` and `after` are
//! judged against the store that serves, and always before the rows are read: rows may be newer than what the answer
//! claims, never older.

mod after;
mod api;
mod appended;
mod cache;
mod config;
mod counters;
mod database;
mod metrics;
mod progress;
mod query;
mod receipts;
mod roots;
mod totals;

pub use api::{Api, Parts, router};
pub use cache::{CountersCache, Totals};
pub use config::{ApiConfig, Marks, OutputTopic};
pub use database::ReadDatabase;
