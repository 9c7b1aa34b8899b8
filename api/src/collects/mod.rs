//! `PUT` and `DELETE /v1/subjects/{subject_id}/collects/{actor_id}`: what the database owns. A row, its count and what the
//! pipeline has to be told change in one transaction; the relay brings it to the log, and the pipeline counts from there.

mod relay;
mod transaction;
mod writer;

use crate::database::WriteAddress;
use crate::routes::query::{Query, in_path};
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::request::Parts;
use prometheus::{Gauge, IntCounter, IntGauge, Registry};
use relay::Relay;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tally_access::{Action, ActionLimits, Over, Principal};
use tally_http::{ApiProblem, TrustedProxies, peer_of};
use tally_model::{Receipt, ReceiptKey, SequenceKey, hex};
use tally_streams::log::{Appender, Doubt};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;
use transaction::{Granted, Wish};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use writer::{WAITING_MAX, Waiting, Writer};

/// Of the route.
pub(crate) const PATH: &str = "/v1/subjects/{subject_id}/collects/{actor_id}";
/// How long an answer waits for the log, so that it can carry a receipt.
const RECEIPT_WAIT: Duration = Duration::from_millis(500);
/// How long an answer waits for the database. Below what the edge gives a request.
const GRANT_WAIT: Duration = Duration::from_secs(10);

/// The types of events that the pipeline is told of.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectEvents {
    /// Somebody collects.
    pub on: Arc<str>,
    /// And does so no more.
    pub off: Arc<str>,
}

/// What collects are put together from.
pub struct CollectsParts {
    /// The database that has the tables: never a replica.
    pub database: WriteAddress,
    /// As the topology names them.
    pub events: CollectEvents,
    /// The root topic, and its number of partitions.
    pub topic: (Arc<str>, u32),
    /// The way into it.
    pub appender: Arc<dyn Appender>,
    /// What signs receipts; its secret signs the order of the events as well.
    pub receipt_key: ReceiptKey,
    /// Milliseconds since 1970: what is told as the time of a change. It orders nothing.
    /// Or why nobody knows it.
    pub clock: Arc<dyn Fn() -> Result<i64, Doubt> + Send + Sync>,
    /// How much somebody may do; None is without end.
    pub limits: Option<ActionLimits>,
    /// Whose word for a caller's address is believed.
    pub trusted_proxies: TrustedProxies,
    /// After how long the rows of a process that does not send them are another's to send.
    pub takeover_after: Duration,
}

/// The state behind the routes. The relay ends with it.
pub struct Collects {
    queue: mpsc::Sender<Waiting>,
    outcomes: Arc<Outcomes>,
    receipt_key: ReceiptKey,
    clock: Arc<dyn Fn() -> Result<i64, Doubt> + Send + Sync>,
    events: CollectEvents,
    limits: Option<ActionLimits>,
    trusted_proxies: TrustedProxies,
    relay: AbortHandle,
}

/// Partition and offset of an event.
type Place = (u32, u64);

/// Where the log has taken the event of a request, told to whoever waits for it.
#[derive(Default)]
struct Outcomes(Mutex<HashMap<[u8; 16], oneshot::Sender<Place>>>);

impl Outcomes {
    fn wait_for(&self, request: [u8; 16]) -> oneshot::Receiver<Place> {
        let (tell, told) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(request, tell);
        told
    }

    fn tell(&self, request: &[u8; 16], place: Place) {
        if let Some(tell) = self.forget(request) {
            // The client may have left.
            let _ = tell.send(place);
        }
    }

    fn forget(&self, request: &[u8; 16]) -> Option<oneshot::Sender<Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(request)
    }
}

/// Forgets a request with its handler, however that ends.
struct Asked<'a>(&'a Outcomes, [u8; 16]);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.forget(&self.1);
    }
}

/// What the relay tells about itself.
struct RelayMetrics {
    rows: IntGauge,
    age_seconds: Gauge,
    relayed: IntCounter,
}

impl Collects {
    /// Starts the writer and the relay, and makes their metrics known. Call it within a tokio runtime.
    pub fn start(parts: CollectsParts, registry: &Registry) -> Result<Arc<Self>, prometheus::Error> {
        let rows = IntGauge::new("tally_outbox_rows", "Rows of the outbox, up to 100,000, that wait for the log.")?;
        let age_seconds = Gauge::new("tally_outbox_age_seconds", "The age of the oldest row of the outbox.")?;
        let relayed = IntCounter::new("tally_outbox_relayed_total", "Rows that the log has acknowledged.")?;
        let changes = IntCounter::new("tally_collects_changes_total", "Rows of collects that were changed.")?;
        registry.register(Box::new(rows.clone()))?;
        registry.register(Box::new(age_seconds.clone()))?;
        registry.register(Box::new(relayed.clone()))?;
        registry.register(Box::new(changes.clone()))?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|e| prometheus::Error::Msg(format!("no random bytes: {e}")))?;
        let owner: Arc<str> = hex(&random).into();
        let (woken, outcomes) = (Arc::new(Notify::new()), Arc::new(Outcomes::default()));
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let writer = Writer {
            address: parts.database.clone(),
            events: parts.events.clone(),
            owner: owner.clone(),
            relay: woken.clone(),
            changes,
            connection: None,
        };
        tokio::spawn(writer.run(waiting));
        let relay = Relay {
            address: parts.database,
            appender: parts.appender,
            topic: parts.topic.0,
            partitions: parts.topic.1,
            key: SequenceKey(parts.receipt_key.secret),
            owner,
            takeover_after: parts.takeover_after,
            woken,
            outcomes: outcomes.clone(),
            metrics: RelayMetrics { rows, age_seconds, relayed },
            connection: None,
            looked_at: None,
        };
        let relay = tokio::spawn(relay.run()).abort_handle();
        let CollectsParts { receipt_key, clock, events, limits, trusted_proxies, .. } = parts;
        Ok(Arc::new(Self { queue, outcomes, receipt_key, clock, events, limits, trusted_proxies, relay }))
    }

    async fn set(&self, parts: Parts, path: RawPath, active: bool) -> Result<Json<CollectAnswer>, ApiProblem> {
        Query::parse(parts.uri.query(), &[])?;
        let (subject_id, actor_id) = in_path(path, "The path")?;
        crate::routes::query::subject_id(&subject_id)?;
        crate::routes::query::actor_id(&actor_id)?;
        self.admit(&parts, &actor_id, active).await?;
        let mut request = [0; 16];
        getrandom::fill(&mut request).map_err(|error| {
            tracing::error!(%error, "the system gives no random bytes");
            ApiProblem::internal()
        })?;
        // Before the row is written: the relay may be quicker than this.
        let (place, _asked) = (self.outcomes.wait_for(request), Asked(&self.outcomes, request));
        let at_ms = (self.clock)().map_err(|doubt| {
            let detail =
                format!("This server does not know what time it is: {doubt}. Nothing was changed; send it again.");
            ApiProblem::unavailable(detail, 10)
        })?;
        let wish = Wish { subject_id: subject_id.clone(), actor_id: actor_id.clone(), active, request, at_ms };
        let Granted { changed, count } = self.grant(wish).await?;
        let place = match changed {
            true => tokio::time::timeout(RECEIPT_WAIT, place).await.ok().and_then(Result::ok),
            false => None,
        };
        let receipt = place.map(|place| Receipt { request, offsets: vec![place] }.encode(&self.receipt_key));
        Ok(Json(CollectAnswer { subject_id, actor_id, active, count, receipt }))
    }

    /// Whether this is within the limits of whoever asks.
    async fn admit(&self, parts: &Parts, actor_id: &str, active: bool) -> Result<(), ApiProblem> {
        let Some(limits) = &self.limits else { return Ok(()) };
        let ip = peer_of(&parts.extensions).map(|peer| self.trusted_proxies.caller(peer, &parts.headers).to_string());
        let action = Action {
            principal: parts.extensions.get::<Arc<Principal>>().map(|principal| &**principal),
            ip: ip.as_deref().unwrap_or_default(),
            event_type: if active { &self.events.on } else { &self.events.off },
            actor_id,
        };
        let over = |over: Over| {
            ApiProblem::too_many_requests(format!("Nothing was done: it is over a limit: {over}."), over.retry_after_s)
        };
        limits.admit(action).await.map_err(over)
    }

    async fn grant(&self, wish: Wish) -> Result<Granted, ApiProblem> {
        let (tell, told) = oneshot::channel();
        let too_much = |_| ApiProblem::unavailable("The database has too much to do. Nothing was done; try again.", 1);
        self.queue.try_send(Waiting { wish, tell }).map_err(too_much)?;
        match tokio::time::timeout(GRANT_WAIT, told).await {
            Ok(Ok(Some(granted))) => Ok(granted),
            Ok(Ok(None) | Err(_)) | Err(_) => {
                let detail = "The database does not answer. Send it again: what was done already is not done twice.";
                Err(ApiProblem::unavailable(detail, 1))
            }
        }
    }
}

impl Drop for Collects {
    fn drop(&mut self) {
        // What it has not sent, or not deleted, is in the outbox.
        self.relay.abort();
    }
}

type RawPath = Result<Path<(String, String)>, PathRejection>;

/// What is so now.
#[derive(Serialize, ToSchema)]
pub struct CollectAnswer {
    /// The subject.
    subject_id: String,
    /// The actor.
    actor_id: String,
    /// Whether the actor has collected the subject.
    active: bool,
    /// How many actors have collected the subject, right after this.
    count: i64,
    /// For `after=`, where boards and totals are to contain it. Null where nothing had to change, or where the log has
    /// not confirmed it within half a second: it is safe, and comes later.
    #[schema(required = true)]
    receipt: Option<String>,
}

/// Collect a subject.
///
/// The row and the count are changed in one transaction of the database before there is an answer. Again it changes
/// nothing.
#[utoipa::path(
    put,
    path = "/v1/subjects/{subject_id}/collects/{actor_id}",
    operation_id = "collect",
    tag = "collects",
    params(
        ("subject_id" = String, Path, description = "`kind:id`, percent-encoded"),
        ("actor_id" = String, Path, description = "Percent-encoded"),
    ),
    responses(
        (status = 200, description = "It is so", body = CollectAnswer),
        (status = 400, description = "An id or parameter that is not valid", body = ApiProblem, content_type = "application/problem+json"),
        (status = 429, description = "Over a limit; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer, or the clock of this server is in doubt; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
async fn put(
    State(collects): State<Arc<Collects>>,
    path: RawPath,
    parts: Parts,
) -> Result<Json<CollectAnswer>, ApiProblem> {
    collects.set(parts, path, true).await
}

/// Collect a subject no more.
///
/// The row and the count are changed in one transaction of the database before there is an answer. Again it changes
/// nothing.
#[utoipa::path(
    delete,
    path = "/v1/subjects/{subject_id}/collects/{actor_id}",
    operation_id = "uncollect",
    tag = "collects",
    params(
        ("subject_id" = String, Path, description = "`kind:id`, percent-encoded"),
        ("actor_id" = String, Path, description = "Percent-encoded"),
    ),
    responses(
        (status = 200, description = "It is so", body = CollectAnswer),
        (status = 400, description = "An id or parameter that is not valid", body = ApiProblem, content_type = "application/problem+json"),
        (status = 429, description = "Over a limit; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer, or the clock of this server is in doubt; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
async fn delete(
    State(collects): State<Arc<Collects>>,
    path: RawPath,
    parts: Parts,
) -> Result<Json<CollectAnswer>, ApiProblem> {
    collects.set(parts, path, false).await
}

/// The routes, described for `/openapi.json`.
pub fn router(collects: Arc<Collects>) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(put, delete)).with_state(collects)
}
