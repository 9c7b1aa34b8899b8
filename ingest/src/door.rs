//! The door itself: a request's events checked, appended, and answered for.

use crate::admission::{Admission, Place};
use crate::answer::{Accepted, Rejected};
use crate::caller::Caller;
use crate::config::{ConfigError, DoorConfig};
use crate::elements::{ArrayElements, check_json, lines, without_bom};
use crate::format::Format;
use crate::intake::{Incoming, Intake};
use crate::metrics::DoorMetrics;
use crate::schema;
use crate::taken::Taken;
use crate::{BODY_BYTES_MAX, EVENTS_MAX};
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use prometheus::Registry;
use serde_json::{Map, Value};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tally_access::Principal;
use tally_http::{ApiProblem, read_body};
use tally_model::{Receipt, ReceiptKey};
use tally_streams::log::{AppendBatch, AppendedOffsets, Appender, Doubt, LogError};
use tokio::sync::oneshot;

/// Seconds after which a full disk may have room again.
const FULL_RETRY_AFTER_S: u32 = 30;

/// Seconds after which a clock in doubt may be right again.
const CLOCK_RETRY_AFTER_S: u32 = 10;

/// The time of a door, milliseconds since 1970; or why nobody knows it.
pub type DoorClock = Arc<dyn Fn() -> Result<i64, Doubt> + Send + Sync>;

/// Takes events and gives receipts. Cheap to clone.
#[derive(Clone)]
pub struct Door(Arc<Inner>);

struct Inner {
    config: DoorConfig,
    appender: Arc<dyn Appender>,
    receipt_key: ReceiptKey,
    clock: DoorClock,
    admission: Arc<Admission>,
    metrics: DoorMetrics,
}

impl Door {
    /// A door in front of a log; its metrics go to `registry`.
    pub fn new(
        config: DoorConfig,
        appender: Arc<dyn Appender>,
        receipt_key: ReceiptKey,
        clock: DoorClock,
        registry: &Registry,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let metrics = DoorMetrics::new(registry)?;
        let admission = Admission::new(config.requests_max, config.bytes_max, metrics.in_flight.clone());
        let admission = Arc::new(admission);
        Ok(Self(Arc::new(Inner { config, appender, receipt_key, clock, admission, metrics })))
    }

    /// Takes one request. Ok means that the log has every accepted event durably.
    pub(crate) async fn take(
        &self,
        peer: Option<IpAddr>,
        principal: Option<Arc<Principal>>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Accepted, ApiProblem> {
        let door = &*self.0;
        let format = Format::of(headers)?;
        let mut place = self.turned_away(door.admission.open())?;
        let body = read_body(headers, body, BODY_BYTES_MAX, |bytes| self.turned_away(place.grow(bytes))).await?;
        let body = format.events(without_bom(body), headers)?;
        self.turned_away(place.complete())?;

        let mut request = [0; 16];
        getrandom::fill(&mut request).map_err(|error| {
            tracing::error!(%error, "the system gives no random bytes");
            ApiProblem::internal()
        })?;
        let caller = Caller { principal, ..Caller::of(peer, headers, &door.config.trusted_proxies) };
        let (now_ms, body_bytes) = (self.now_ms()?, body.len());
        let incoming = Incoming { cloud: format.is_cloud(), now_ms, id: &request, body_bytes };
        let mut taken = take_all(Intake::new(&door.config, &door.receipt_key, &caller, &incoming), format, &body)?;
        drop(body);
        let retry_after_s = self.limit(&mut taken).await;
        let (records, rejected) = taken.finish();
        let accepted = records.records.len();
        if accepted == 0 {
            door.metrics.rejected.inc_by(rejected.len() as u64);
            return Err(match retry_after_s {
                Some(seconds) => all_limited(rejected, seconds),
                None => all_invalid(rejected),
            });
        }
        let offsets = self.append(records, place).await?;
        // Both only now: what failed will be sent again, with its invalid events.
        door.metrics.accepted.inc_by(accepted as u64);
        door.metrics.rejected.inc_by(rejected.len() as u64);
        let receipt = Receipt { request, offsets }.encode(&door.receipt_key);
        Ok(Accepted { accepted, rejected, receipt })
    }

    /// Waits until the log has the records. The place is kept until the log has answered, even if nobody waits for
    /// it any more: so long the bytes are in memory.
    async fn append(&self, records: AppendBatch, place: Place) -> Result<AppendedOffsets, ApiProblem> {
        let door = &*self.0;
        let begun = Instant::now();
        let (tell, told) = oneshot::channel();
        let done = Box::new(move |outcome| {
            drop(place);
            // The client may have left.
            let _ = tell.send(outcome);
        });
        door.appender.append(&door.config.topic, records, done);
        let outcome = match tokio::time::timeout(door.config.append_timeout, told).await {
            Ok(Ok(outcome)) => outcome.map_err(Failure::Log),
            Ok(Err(_)) => Err(Failure::Log(LogError::Fatal("the log went away without an answer".into()))),
            Err(_) => Err(Failure::Timeout),
        };
        door.metrics.append_seconds.observe(begun.elapsed().as_secs_f64());
        outcome.map_err(|failure| {
            door.metrics.unavailable.with_label_values(&[failure.reason()]).inc();
            tracing::warn!(reason = failure.reason(), %failure, "a request's events were not taken");
            failure.into()
        })
    }

    /// Rejects what is over a limit; answers after how many seconds all of it may come again.
    async fn limit(&self, taken: &mut Taken) -> Option<u32> {
        let limits = self.0.config.limits.as_ref().filter(|_| !taken.demands.is_empty())?;
        let grants = limits.buckets.admit(std::mem::take(&mut taken.demands)).await;
        taken.limit(grants)
    }

    /// The schemas of what is taken here, by name, for the description of the routes.
    pub fn schemas(&self) -> Map<String, Value> {
        schema::schemas(&self.0.config.types)
    }

    /// The door's clock: nothing is taken, and no token signed, while it is in doubt.
    pub(crate) fn now_ms(&self) -> Result<i64, ApiProblem> {
        (self.0.clock)().map_err(|doubt| {
            self.0.metrics.unavailable.with_label_values(&["clock"]).inc();
            let detail =
                format!("This server does not know what time it is: {doubt}. Nothing was taken; send it again.");
            ApiProblem::unavailable(detail, CLOCK_RETRY_AFTER_S)
        })
    }

    /// What signs receipts and read tokens.
    pub(crate) fn key(&self) -> &ReceiptKey {
        &self.0.receipt_key
    }

    fn turned_away<T>(&self, admitted: Result<T, ApiProblem>) -> Result<T, ApiProblem> {
        if admitted.is_err() {
            self.0.metrics.unavailable.with_label_values(&["overloaded"]).inc();
        }
        admitted
    }
}

/// Why the log does not have the events for certain.
enum Failure {
    Timeout,
    Log(LogError),
}

impl Failure {
    fn reason(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Log(LogError::Busy) => "busy",
            Self::Log(LogError::Full(_)) => "full",
            Self::Log(LogError::Unavailable(_)) => "unavailable",
            Self::Log(_) => "failed",
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Timeout => f.write_str("the log did not answer in time"),
            Self::Log(error) => error.fmt(f),
        }
    }
}

impl From<Failure> for ApiProblem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Log(LogError::Busy) => {
                Self::unavailable("The log has too much to do. Nothing was taken; send it again.", 1)
            }
            Failure::Log(LogError::Unavailable(_)) => {
                Self::unavailable("The log does not answer. Nothing was taken; send it again.", 1)
            }
            Failure::Log(LogError::Full(_)) => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "log-full",
                "The log is full",
                "The log's disk is full. Nothing was taken; send it again when there is room.",
            )
            .retry_after(FULL_RETRY_AFTER_S),
            // What exactly failed is the operator's business; for the client all of it is the same uncertainty.
            Failure::Log(_) | Failure::Timeout => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "outcome-unknown",
                "The outcome is unknown",
                "The log did not confirm the events: the outcome is unknown. Repeat the request with the same \
                 event_id: an event that was taken counts once.",
            )
            .retry_after(1),
        }
    }
}

/// Runs all events of a body through the intake.
fn take_all(mut intake: Intake<'_>, format: Format, body: &[u8]) -> Result<Taken, ApiProblem> {
    if body.trim_ascii().is_empty() {
        return Err(ApiProblem::bad_request("The body is empty."));
    }
    let array = match format {
        Format::Json => ArrayElements::of(body),
        Format::CloudEvents => Some(ArrayElements::of(body).ok_or_else(|| {
            ApiProblem::bad_request(
                "A batch of CloudEvents is a JSON array; one alone is application/cloudevents+json.",
            )
        })?),
        Format::Lines | Format::CloudEvent | Format::BinaryCloudEvent => None,
    };
    match (format, array) {
        (_, Some(mut elements)) => {
            take_each(&mut intake, elements.by_ref())?;
            // An array is taken whole or it is no array: what stands behind a mistake in its syntax is a guess.
            if !elements.is_whole() || intake.has_rejected() {
                check_json(body).map_err(|error| broken(&error))?;
            }
        }
        (Format::Lines, None) => take_each(&mut intake, lines(body))?,
        (_, None) => {
            intake.take(body);
            if intake.has_rejected() {
                check_json(body).map_err(|error| broken(&error))?;
            }
        }
    }
    match intake.seen() {
        0 => Err(ApiProblem::bad_request("The body holds no events.")),
        _ => Ok(intake.finish()),
    }
}

fn take_each<'b>(intake: &mut Intake<'_>, events: impl Iterator<Item = &'b [u8]>) -> Result<(), ApiProblem> {
    for event in events {
        if intake.seen() == EVENTS_MAX {
            return Err(ApiProblem::payload_too_large("A request may have at most 1,000 events."));
        }
        intake.take(event);
    }
    Ok(())
}

fn broken(error: &serde_json::Error) -> ApiProblem {
    ApiProblem::bad_request(format!("The body is not JSON: {error}. Nothing was taken."))
}

fn all_invalid(rejected: Vec<Rejected>) -> ApiProblem {
    let detail = match &*rejected {
        [only] => format!("The event is invalid: {}.", only.error),
        all => format!("None of the {} events is valid; the first: {}.", all.len(), all[0].error),
    };
    ApiProblem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-event", "No valid event", detail)
        .with("rejected", rejected)
}

fn all_limited(rejected: Vec<Rejected>, retry_after_s: u32) -> ApiProblem {
    let detail =
        format!("None of the events was taken; the first {}.", rejected.first().map_or("", |first| &first.error));
    ApiProblem::too_many_requests(detail, retry_after_s).with("rejected", rejected)
}
