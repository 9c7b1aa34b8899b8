//! The parts of a process: one for each of its roles, started in one place and stopped in one.

use super::door::{caller_rules, door};
use super::page;
use super::read_side::read_side;
use super::roles::Roles;
use super::sinking::{SinkSide, sinks};
use super::site::Site;
use super::streaming::{StreamSide, stream_threads};
use super::who::Who;
use crate::commands::Failure;
use axum::Router;
use std::time::{Duration, Instant};
use tally_access::{AccessMetrics, describe};
use tally_http::{Check, Edge, PageFiles, metrics_page, openapi_page, probes};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

/// A request that has no answer after this long gets 503. Reads may wait up to 10 s for a receipt.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// What runs on threads of its own, and what all parts share.
pub struct Parts {
    site: Site,
    sinks: Option<SinkSide>,
    streams: Option<StreamSide>,
    page: Option<PageFiles>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "tally",
        description = "Events in, exact counts out. Every error is application/problem+json (RFC 9457).",
        contact(),
    ),
    servers((url = "/", description = "Where this description was read")),
    tags(
        (name = "events", description = "Events in, and what became of them"),
        (name = "collects", description = "What the database keeps strongly consistent"),
        (name = "counters", description = "Totals and series of subjects"),
        (name = "rankings", description = "Boards"),
        (name = "reactions", description = "Who has switched something on"),
        (name = "live", description = "Changes as they come"),
        (name = "operations", description = "For operators"),
    ),
)]
struct Description;

impl Parts {
    /// Opens the log and starts what runs on threads of its own. One that cannot go on cancels `failed`. Blocks.
    pub fn start(roles: &Roles, failed: &CancellationToken) -> Result<Self, Failure> {
        // A mistake in its flag is told before anything is opened.
        let page = if roles.api.is_some() { roles.page.files()? } else { None };
        let site = Site::open(roles)?;
        let sinks = sinks(&site, roles)?;
        let streams = roles.process.as_ref().map(|(args, _)| stream_threads(&site, args, failed)).transpose()?;
        Ok(Self { site, sinks, streams, page })
    }

    /// Every route of the process, described in one document. `stopping` ends answers that have no end of their own. Call
    /// it within a tokio runtime.
    pub fn router(
        &self,
        roles: &Roles,
        who: &Who,
        access: &AccessMetrics,
        stopping: &CancellationToken,
    ) -> Result<Router, Failure> {
        let site = &self.site;
        let mut described = OpenApiRouter::with_openapi(Description::openapi());
        let mut checks: Vec<Check> = Vec::new();
        let callers =
            roles.callers.as_ref().map(|(args, cache)| caller_rules(site, args, cache, access)).transpose()?;
        let mut schemas = serde_json::Map::new();
        if let (Some(args), Some(callers)) = (&roles.ingest, &callers) {
            let door = door(site, args, callers)?;
            schemas = door.schemas();
            described = described.merge(tally_ingest::router(door));
        }
        if let (Some((stores, reads)), Some(callers)) = (&roles.api, &callers) {
            let (reads, check) = read_side(site, (stores, reads, &roles.page), callers, self.sinks.as_ref(), stopping)?;
            described = described.merge(reads);
            checks.push(check);
        }
        // Reads can be answered from the stores alone; everything else begins or ends in the log.
        let needs_log = roles.ingest.is_some() || roles.process.is_some() || roles.sink.is_some();
        checks.extend(site.watch.iter().filter(|_| needs_log).map(|watch| watch.check()));
        let goes_by_time = roles.ingest.is_some() || roles.process.is_some();
        checks.extend(site.clocks.iter().filter(|_| goes_by_time).map(|clocks| clocks.check()));
        checks.extend(site.topics.iter().filter(|_| needs_log).map(|topics| topics.check()));
        checks.extend(self.streams.as_ref().map(StreamSide::check));
        checks.extend(self.sinks.as_ref().map(SinkSide::check));
        let (mut router, mut description) = described.merge(probes(checks)).split_for_parts();
        describe(&mut description);
        router = router.merge(metrics_page(site.registry.clone()));
        if roles.ingest.is_some() || roles.api.is_some() {
            router = router.merge(openapi_page(&description, schemas).map_err(Failure::no)?);
        }
        if roles.api.is_some() && roles.ingest.is_none() {
            router = router.merge(page::no_ingest(roles.page.ingest_url.as_deref()));
        }
        if roles.api.is_some() {
            router = router.merge(match &self.page {
                Some(files) => files.router(page::OWN_PATHS),
                None => page::page(site),
            });
        }
        let edge = Edge::new(&site.registry, REQUEST_TIMEOUT).map_err(Failure::no)?;
        who.cors(edge.wrap(who.guard(router, access)))
    }

    /// The registry of every metric.
    pub fn registry(&self) -> &prometheus::Registry {
        &self.site.registry
    }

    /// Returns when a part has ended by itself: it cannot go on.
    pub async fn watch(&self, stopping: &CancellationToken) {
        match &self.sinks {
            Some(sinks) => sinks.watch(stopping).await,
            None => stopping.cancelled().await,
        }
    }

    /// Stops in the order that records flow, so that each part can still take what the one before it has written. A
    /// part that has not ended by the deadline, because the log or a store does not answer, is abandoned. Blocks.
    pub fn stop(self, deadline: Instant) -> Result<(), Failure> {
        let streams = self.streams.map_or(Ok(()), |streams| streams.stop(deadline));
        let sinks = self.sinks.map_or(Ok(()), |sinks| sinks.stop(deadline));
        drop(self.site);
        streams.and(sinks)
    }
}
