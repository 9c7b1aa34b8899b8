//! The ingest API over HTTP: requests become batches, and refusals become problem responses.

mod binary;
mod caller;
mod events;
mod format;
mod problem;
mod read_tokens;
mod schema;

#[cfg(feature = "grpc")]
pub(crate) use caller::caller_of;
pub use schema::event_schema;

use crate::service::IngestService;
use serde_json::{Map, Value};
use std::sync::Arc;
use tally_access::{Access, Routes, Scope};
use tally_http::TrustedProxies;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The state of the handlers. Cheap to clone.
#[derive(Clone)]
struct IngestRoutes {
    service: IngestService,
    /// Proxies whose `X-Forwarded-For` is trusted.
    trusted_proxies: Arc<TrustedProxies>,
}

/// The routes, described for `/openapi.json`.
pub fn router(service: IngestService, trusted_proxies: TrustedProxies) -> Routes {
    let routes =
        OpenApiRouter::new().routes(routes!(events::post_events)).routes(routes!(read_tokens::post_read_token));
    let routes = routes.with_state(IngestRoutes { service, trusted_proxies: Arc::new(trusted_proxies) });
    Routes::new(Access::Needs(Scope::Write), routes)
}

/// The schemas of events, by the names that the description of the routes uses.
pub fn schemas(service: &IngestService) -> Map<String, Value> {
    schema::schemas(service.types())
}
