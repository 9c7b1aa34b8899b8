//! The API over gRPC. Every method is a route of the JSON API, called with the query that its message spells, and answers
//! with what that route has found: no rule and no read is written twice.

mod answer;
mod collects;
mod counters;
mod parameters;
mod rankings;
mod reactions;
mod receipts;
mod watch;

pub use collects::collects;

use crate::state::Api;
use axum::Router;
use axum::routing::post;
use std::sync::Arc;
use tally_access::{Access, Routes, Scope};

/// Bytes of a request: a hundred subjects, and more than a receipt.
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// The services of [`reads`].
pub const SERVICES: [&str; 4] = ["tally.v1.Counters", "tally.v1.Rankings", "tally.v1.Reactions", "tally.v1.Receipts"];
/// The service of [`collects`].
pub const COLLECTS: &str = "tally.v1.Collects";

/// The methods that read.
pub fn reads(api: &Arc<Api>) -> Routes {
    let unary = Router::new()
        .route("/tally.v1.Counters/GetCounters", post(counters::get_counters))
        .route("/tally.v1.Counters/BatchGetCounters", post(counters::batch_get_counters))
        .route("/tally.v1.Counters/GetSeries", post(counters::get_series))
        .route("/tally.v1.Rankings/ListBoards", post(rankings::list_boards))
        .route("/tally.v1.Rankings/GetRanking", post(rankings::get_ranking))
        .route("/tally.v1.Reactions/ListActors", post(reactions::list_actors))
        .route("/tally.v1.Reactions/ListSubjects", post(reactions::list_subjects))
        .route("/tally.v1.Receipts/GetReceipt", post(receipts::get_receipt));
    let lasting = Router::new()
        .route("/tally.v1.Counters/WatchCounters", post(watch::watch_counters))
        .route("/tally.v1.Rankings/WatchRanking", post(watch::watch_ranking));
    Routes::new(Access::Needs(Scope::Read), unary.with_state(api.clone()))
        .merge(Routes::new(Access::Lasting(Scope::Read), lasting.with_state(api.clone())))
}
