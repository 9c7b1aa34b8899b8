//! The routes, one file each.

mod after;
pub mod collects;
pub mod counters;
mod dead_letters;
mod described;
mod history;
pub mod live;
mod paging;
mod problem;
mod processes;
mod progress;
mod query;
pub mod rankings;
pub mod reactions;
mod reader;
pub mod receipts;
mod reply;
mod series;
mod topology;

pub use collects::collects_router;
#[cfg(feature = "grpc")]
pub use {reader::Reader, reply::Has};

use crate::state::Api;
use std::sync::Arc;
use tally_access::{Access, Routes, Scope};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes, described for `/openapi.json`, by the access that they require.
pub fn router(api: Arc<Api>) -> Routes {
    // `collects/{actor_id}` takes PUT and DELETE, and hides the list of that metric from the router: it is given here.
    let owned = api.reads.config.collects.as_ref().map(|_| collects::PATH);
    let reads = match owned {
        Some(path) => OpenApiRouter::new().route(path, axum::routing::get(reactions::owned_actors)),
        None => OpenApiRouter::new(),
    };
    let reads = reads
        .routes(routes!(counters::subject_counters))
        .routes(routes!(counters::many_counters))
        .routes(routes!(rankings::rankings))
        .routes(routes!(rankings::ranking))
        .routes(routes!(reactions::actors))
        .routes(routes!(reactions::subjects))
        .routes(routes!(receipts::receipt));
    let lasting = OpenApiRouter::new().routes(routes!(live::live));
    let operations = OpenApiRouter::new()
        .routes(routes!(progress::progress))
        .routes(routes!(history::history))
        .routes(routes!(processes::processes))
        .routes(routes!(topology::topology))
        .routes(routes!(dead_letters::dead_letters))
        .routes(routes!(dead_letters::reasons));
    let groups = [
        (Access::Needs(Scope::Read), reads),
        (Access::Lasting(Scope::Read), lasting),
        (Access::Needs(Scope::Admin), operations),
    ];
    let groups = groups.map(|(access, routes)| Routes::new(access, routes.with_state(api.clone())));
    groups.into_iter().fold(Routes::default(), Routes::merge)
}
