//! The parts of a process: one for each of its roles, started in one place and stopped in one.

use super::grpc::Methods;
use super::ingest::{caller_rules, ingest_service};
use super::page;
use super::planning::plan_router;
use super::read_side::read_side;
use super::roles::Roles;
use super::sinking::{SinkSide, sinks};
use super::site::Site;
use super::streaming::{StreamSide, stream_threads};
use super::who::Who;
use crate::commands::Failure;
use axum::Router;
use std::time::{Duration, Instant};
use tally_access::{Access, AccessMetrics, Routes, Scope};
use tally_http::{Check, Edge, PageFiles, metrics_page, openapi_page, probes};
use tally_sinks::HeadStart;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;

/// A request that has no answer after this long gets 503. Reads may wait up to 10 s for a receipt.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// The parts with their own threads, and what all parts share.
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
    /// See [`Site::kept`].
    pub fn kept(&self) -> Vec<String> {
        self.site.kept()
    }

    /// Opens the log and starts what runs on threads of its own. A part that cannot continue cancels `failed`. Blocks.
    pub fn start(roles: &Roles, failed: &CancellationToken) -> Result<Self, Failure> {
        // A mistake in its flag is reported before anything is opened.
        let page = if roles.api.is_some() { roles.page.files()? } else { None };
        let mut site = Site::open(roles)?;
        // Restoring is what a start waits for: nothing is counted before it.
        let head_start = if roles.process.is_some() { HeadStart::running() } else { HeadStart::none() };
        let sinks = sinks(&site, roles, &head_start)?;
        site.reached.clear();
        let streams = roles.process.as_ref().map(|(args, _)| stream_threads(&site, args, head_start, failed));
        let streams = streams.transpose()?;
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
        let (mut routes, mut methods) = (Routes::default(), Methods::default());
        let mut checks: Vec<Check> = Vec::new();
        let callers =
            roles.callers.as_ref().map(|(args, cache)| caller_rules(site, args, cache, access)).transpose()?;
        let mut schemas = serde_json::Map::new();
        if let (Some(args), Some(callers)) = (&roles.ingest, &callers) {
            let service = ingest_service(site, args, callers)?;
            schemas = tally_ingest::http::schemas(&service);
            routes = routes.merge(tally_ingest::http::router(service.clone(), callers.trusted_proxies.clone()));
            methods.events(service, callers.trusted_proxies.clone(), stopping);
        }
        if let (Some((_, reads)), Some(callers)) = (&roles.api, &callers) {
            let (reads, check) =
                read_side(site, (reads, &roles.page), callers, self.sinks.as_ref(), stopping, &mut methods)?;
            routes = routes.merge(reads).merge(plan_router(site));
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
        routes = routes.merge(methods.into_routes(&checks, stopping)?);
        routes = routes.merge(Routes::new(Access::Open, probes(checks)));
        routes = routes.merge(Routes::new(Access::Needs(Scope::Metrics), metrics_page(site.registry.clone())));
        if roles.ingest.is_some() || roles.api.is_some() {
            let description = routes.describe(Description::openapi());
            let page = openapi_page(&description, schemas).map_err(Failure::no)?;
            routes = routes.merge(Routes::new(Access::Open, page));
        }
        if roles.api.is_some() && roles.ingest.is_none() {
            routes = routes.merge(page::no_ingest(roles.page.ingest_url.as_deref()));
        }
        if roles.api.is_some() {
            let page = match &self.page {
                Some(files) => files.router(page::OWN_PATHS),
                None => page::page(site),
            };
            routes = routes.merge(Routes::new(Access::Open, page));
        }
        let edge = Edge::new(&site.registry, REQUEST_TIMEOUT).map_err(Failure::no)?;
        who.cors(edge.wrap(who.guard(routes, access)))
    }

    /// The registry of every metric.
    pub fn registry(&self) -> &prometheus::Registry {
        &self.site.registry
    }

    /// Returns when a part has ended by itself because it cannot continue.
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
