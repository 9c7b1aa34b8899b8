//! The reads: counters, rankings, reactions, receipts and progress. Sees only what the sinks wrote, and the log's positions.
//! And one write: collects, in tables of their own.
//!
//! A read is served by the cache in this process where that has the subject, else by Redis where there is one, else by
//! the database; where none answers, by what was last known. `as_of` and `after` are judged against the store that
//! serves, and always before the rows are read: rows may be newer than what the answer claims, never older.

mod after;
mod api;
mod appended;
mod board_pages;
mod boards;
mod breaker;
mod collects;
mod config;
mod counters;
mod cursor;
mod database;
mod dead_letters;
mod feed;
mod followed;
mod freshness;
mod live;
mod loading;
mod metrics;
mod paging;
mod processes;
mod progress;
mod query;
mod rankings;
mod reactions;
mod receipts;
mod redis;
mod reply;
mod roots;
mod series;
mod topology;
mod totals;
mod warm_up;

pub use api::{Api, ApiError, CacheLayer, Parts, router};
pub use collects::{CollectEvents, Collects, CollectsParts, router as collects_router};
pub use config::{ApiConfig, Marks, OutputTopic, Rankings};
pub use database::{ReadDatabase, WriteAddress};
pub use live::LiveConfig;
pub use processes::{Peer, PeerError};
pub use topology::{GraphEdge, GraphNode, GraphSubtopology, NodeKind, TopologyAnswer};
