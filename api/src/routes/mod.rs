//! The routes, one file each.

mod after;
mod collects;
mod counters;
mod dead_letters;
mod history;
mod live;
mod paging;
mod problem;
mod processes;
mod progress;
mod query;
mod rankings;
mod reactions;
mod receipts;
mod reply;
mod series;
mod topology;

pub use collects::collects_router;

use crate::state::Api;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes, described for `/openapi.json`.
pub fn router(api: Arc<Api>) -> OpenApiRouter {
    // `collects/{actor_id}` takes PUT and DELETE, and hides the list of that metric from the router: it is given here.
    let owned = api.reads.config.collects.as_ref().map(|_| collects::PATH);
    let routes = match owned {
        Some(path) => OpenApiRouter::new().route(path, axum::routing::get(reactions::owned_actors)),
        None => OpenApiRouter::new(),
    };
    routes
        .routes(routes!(counters::subject_counters))
        .routes(routes!(counters::many_counters))
        .routes(routes!(rankings::rankings))
        .routes(routes!(rankings::ranking))
        .routes(routes!(reactions::actors))
        .routes(routes!(reactions::subjects))
        .routes(routes!(live::live))
        .routes(routes!(receipts::receipt))
        .routes(routes!(progress::progress))
        .routes(routes!(history::history))
        .routes(routes!(processes::processes))
        .routes(routes!(topology::topology))
        .routes(routes!(dead_letters::dead_letters))
        .routes(routes!(dead_letters::reasons))
        .with_state(api)
}
