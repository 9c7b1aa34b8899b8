//! The ingest API over gRPC: messages become batches, and refusals become the status of the call.

mod event;
mod publish;

use crate::service::IngestService;
use axum::Router;
use axum::routing::post;
use std::sync::Arc;
use tally_access::{Access, Routes, Scope};
use tally_http::TrustedProxies;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The service of these routes.
pub const SERVICE: &str = "tally.v1.Events";
/// Calls of `PublishStream` at a time: as many as connections, each of which could hold a hundred.
const STREAMS_MAX: usize = 10_000;

/// The state of the handlers. Cheap to clone.
#[derive(Clone)]
struct EventsService {
    service: IngestService,
    /// Proxies whose `X-Forwarded-For` is trusted.
    trusted_proxies: Arc<TrustedProxies>,
    streams: Arc<Semaphore>,
    stopping: CancellationToken,
}

/// The methods. `stopping` ends streams.
pub fn router(service: IngestService, trusted_proxies: TrustedProxies, stopping: CancellationToken) -> Routes {
    let (trusted_proxies, streams) = (Arc::new(trusted_proxies), Arc::new(Semaphore::new(STREAMS_MAX)));
    let state = EventsService { service, trusted_proxies, streams, stopping };
    let unary = Router::new().route("/tally.v1.Events/Publish", post(publish::publish));
    let stream = Router::new().route("/tally.v1.Events/PublishStream", post(publish::publish_stream));
    // A stream ends with the key or token that it began with.
    Routes::new(Access::Needs(Scope::Write), unary.with_state(state.clone()))
        .merge(Routes::new(Access::Lasting(Scope::Write), stream.with_state(state)))
}
