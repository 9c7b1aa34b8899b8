//! Collects, which the database owns. A row, its count and the event for the pipeline change in one transaction; the
//! relay appends the event to the log, and the pipeline counts it from there.

mod relay;
mod transaction;
mod writer;

use crate::config::PrivateKinds;
use crate::database::WriteAddress;
use prometheus::{Gauge, IntCounter, IntGauge, Registry};
use relay::Relay;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tally_access::{Action, ActionLimits, Over, Principal};
use tally_http::TrustedProxies;
use tally_model::{Receipt, ReceiptKey, SequenceKey, hex};
use tally_streams::log::{Appender, Doubt};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;
use transaction::{Granted, Wish};
use writer::{WAITING_MAX, Waiting, Writer};

/// How long an answer waits for the log, so that it can carry a receipt.
const RECEIPT_WAIT: Duration = Duration::from_millis(500);
/// How long an answer waits for the database. Below what the edge gives a request.
const GRANT_WAIT: Duration = Duration::from_secs(10);

/// The types of the events that the pipeline receives.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectEvents {
    /// An actor collects.
    pub on: Arc<str>,
    /// An actor stops collecting.
    pub off: Arc<str>,
}

/// The parts that [`Collects`] needs.
pub struct CollectsParts {
    /// The database that has the tables: never a replica.
    pub database: WriteAddress,
    /// As the topology names them.
    pub events: CollectEvents,
    /// The root topic, and its number of partitions.
    pub topic: (Arc<str>, u32),
    /// Appends to it.
    pub appender: Arc<dyn Appender>,
    /// The key that signs receipts; its secret also signs the sequence numbers of the events.
    pub receipt_key: ReceiptKey,
    /// Milliseconds since 1970: the time of a change, which orders nothing. Or why the time is in doubt.
    pub clock: Arc<dyn Fn() -> Result<i64, Doubt> + Send + Sync>,
    /// The limits per caller and actor; None: no limits.
    pub limits: Option<ActionLimits>,
    /// The proxies trusted for a caller's address.
    pub trusted_proxies: TrustedProxies,
    /// The kinds of subjects that only callers with scope `admin` may read: an answer has a count.
    pub private_kinds: PrivateKinds,
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
    private_kinds: PrivateKinds,
    relay: AbortHandle,
}

/// What is to be so.
#[derive(Clone, Copy, Debug)]
pub struct Collect<'a> {
    /// The subject.
    pub subject_id: &'a str,
    /// Who collects it.
    pub actor_id: &'a str,
    /// Collected, or not any more.
    pub active: bool,
}

/// Who wants it.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// None in a process without authentication.
    pub principal: Option<&'a Principal>,
    /// The address; empty where it is not known.
    pub ip: &'a str,
}

/// What is so now.
#[derive(Clone, Debug)]
pub struct Collected {
    /// How many actors have collected the subject.
    pub count: i64,
    /// The receipt of the event in the log. None if nothing changed, or if the log did not confirm the event in time.
    pub receipt: Option<String>,
}

/// Why nothing is known to be so.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// Over a limit of the caller.
    #[error("over a limit: {0}")]
    Over(Over),
    /// The system gives no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
    /// The time is in doubt.
    #[error("{0}")]
    Doubt(Doubt),
    /// Too many requests wait for the database.
    #[error("too many requests wait for the database")]
    Busy,
    /// The database does not answer; it may have made the change.
    #[error("the database does not answer")]
    Away,
}

/// Partition and offset of an event.
type Place = (u32, u64);

/// The requests whose handlers wait for the position of their event in the log.
#[derive(Default)]
struct Outcomes(Mutex<HashMap<[u8; 16], oneshot::Sender<Place>>>);

impl Outcomes {
    fn wait_for(&self, request: [u8; 16]) -> oneshot::Receiver<Place> {
        let (place, appended) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(request, place);
        appended
    }

    fn resolve(&self, request: &[u8; 16], place: Place) {
        if let Some(waiting) = self.forget(request) {
            // The client may have left.
            let _ = waiting.send(place);
        }
    }

    fn forget(&self, request: &[u8; 16]) -> Option<oneshot::Sender<Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(request)
    }
}

/// A request whose handler waits for the log. It is forgotten with its handler, however that ends.
struct PendingRequest<'a>(&'a Outcomes, [u8; 16]);

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        self.0.forget(&self.1);
    }
}

/// The metrics of the relay.
struct RelayMetrics {
    rows: IntGauge,
    age_seconds: Gauge,
    relayed: IntCounter,
}

impl Collects {
    /// Starts the writer and the relay, and makes their metrics known. Call it within a tokio runtime.
    pub fn start(parts: CollectsParts, registry: &Registry) -> Result<Arc<Self>, prometheus::Error> {
        let rows = IntGauge::new(
            "tally_outbox_rows",
            "Rows in the outbox of all processes that wait for the log, counted every second up to 100,000.",
        )?;
        let age_seconds =
            Gauge::new("tally_outbox_age_seconds", "Age of the oldest row in the outbox by the database's clock.")?;
        let relayed =
            IntCounter::new("tally_outbox_relayed_total", "Outbox rows that this process appended to the log.")?;
        let changes = IntCounter::new("tally_collects_changes_total", "Rows of `collects` changed by this process.")?;
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
        let CollectsParts { receipt_key, clock, events, limits, trusted_proxies, private_kinds, .. } = parts;
        Ok(Arc::new(Self {
            queue,
            outcomes,
            receipt_key,
            clock,
            events,
            limits,
            trusted_proxies,
            private_kinds,
            relay,
        }))
    }

    /// Collects a subject for an actor, or takes that back: makes it so in the database, and waits a while for the log. The
    /// request is idempotent and can be repeated after any error.
    pub async fn set(&self, collect: Collect<'_>, caller: Caller<'_>) -> Result<Collected, CollectError> {
        let Collect { subject_id, actor_id, active } = collect;
        self.admit(caller, actor_id, active).await?;
        let mut request = [0; 16];
        getrandom::fill(&mut request).map_err(CollectError::Random)?;
        // Before the row is written: the relay may be quicker than this.
        let (place, _pending) = (self.outcomes.wait_for(request), PendingRequest(&self.outcomes, request));
        let at_ms = (self.clock)().map_err(CollectError::Doubt)?;
        let wish = Wish { subject_id: subject_id.to_owned(), actor_id: actor_id.to_owned(), active, request, at_ms };
        let Granted { changed, count } = self.grant(wish).await?;
        let place = match changed {
            true => tokio::time::timeout(RECEIPT_WAIT, place).await.ok().and_then(Result::ok),
            false => None,
        };
        let receipt = place.map(|place| Receipt { request, offsets: vec![place] }.encode(&self.receipt_key));
        Ok(Collected { count, receipt })
    }

    /// The proxies trusted for a caller's address.
    pub fn trusted_proxies(&self) -> &TrustedProxies {
        &self.trusted_proxies
    }

    /// The kinds of subjects that only callers with scope `admin` may read.
    pub fn private_kinds(&self) -> &PrivateKinds {
        &self.private_kinds
    }

    /// Whether this is within the limits of the caller.
    async fn admit(
        &self,
        Caller { principal, ip }: Caller<'_>,
        actor_id: &str,
        active: bool,
    ) -> Result<(), CollectError> {
        let Some(limits) = &self.limits else { return Ok(()) };
        let event_type = if active { &self.events.on } else { &self.events.off };
        limits.admit(Action { principal, ip, event_type, actor_id }).await.map_err(CollectError::Over)
    }

    async fn grant(&self, wish: Wish) -> Result<Granted, CollectError> {
        let (granted, outcome) = oneshot::channel();
        self.queue.try_send(Waiting { wish, granted }).map_err(|_| CollectError::Busy)?;
        match tokio::time::timeout(GRANT_WAIT, outcome).await {
            Ok(Ok(Some(granted))) => Ok(granted),
            Ok(Ok(None) | Err(_)) | Err(_) => Err(CollectError::Away),
        }
    }
}

impl Drop for Collects {
    fn drop(&mut self) {
        // What it has not sent, or not deleted, is in the outbox.
        self.relay.abort();
    }
}
