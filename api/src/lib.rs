//! The reads: counters, rankings, reactions, receipts and progress. Sees only what the sinks wrote, and the log's positions.
//! And one write: collects, in tables of their own.
//!
//! A read is served by the cache in this process where that has the subject, else by Redis where there is one, else by
//! the database; where none answers, by what was last known. `as_of` and `after` are judged against the store that
//! serves, and always before the rows are read: rows may be newer than what the answer claims, never older.
//!
//! From the bottom up: `database`; `reads`, the stores and the ladder over them; `answers`, what was read as JSON; `live`,
//! `processes` and `collects`; `state`, which `start` puts together; `routes`, the only part that makes responses;
//! `grpc`, the same routes as methods.

mod answers;
mod collects;
mod config;
mod database;
#[cfg(feature = "grpc")]
pub mod grpc;
mod live;
mod metrics;
mod processes;
mod reads;
mod routes;
mod start;
mod state;

pub use answers::topology::{GraphEdge, GraphNode, GraphSubtopology, NodeKind, TopologyAnswer};
pub use collects::{CollectEvents, Collects, CollectsParts};
pub use config::{ApiConfig, Marks, Metric, OutputTopic, PrivateKinds, Rankings};
pub use database::{ReadDatabase, WriteAddress};
pub use live::LiveConfig;
pub use processes::{Peer, PeerError};
pub use reads::Caches;
pub use routes::{collects_router, router};
pub use start::Parts;
pub use state::Api;
