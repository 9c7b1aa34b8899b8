//! The ingest service: checks the events of a batch, appends them, and issues a receipt. Adapters like
//! [`http`](crate::http) give it batches.

use crate::EVENTS_MAX;
use crate::admission::{Admission, Place};
use crate::answer::Accepted;
use crate::batch::{Batch, Format};
use crate::caller::Caller;
use crate::config::{ConfigError, IngestConfig};
use crate::elements::{ArrayElements, check_json, lines};
use crate::intake::{Incoming, Intake};
use crate::metrics::IngestMetrics;
use crate::random::RandomNames;
use crate::refusal::Refusal;
use crate::taken::Taken;
use crate::types::EventTypes;
use prometheus::Registry;
use std::sync::Arc;
use std::time::Instant;
use tally_model::{Receipt, ReceiptKey};
use tally_streams::log::{AppendBatch, AppendedOffsets, Appender, Doubt, LogError};
use tokio::sync::oneshot;

/// The time, milliseconds since 1970; or why it is in doubt.
pub type IngestClock = Arc<dyn Fn() -> Result<i64, Doubt> + Send + Sync>;

/// Accepts events and issues receipts. Cheap to clone.
#[derive(Clone)]
pub struct IngestService(Arc<Inner>);

struct Inner {
    config: IngestConfig,
    appender: Arc<dyn Appender>,
    receipt_key: ReceiptKey,
    clock: IngestClock,
    admission: Arc<Admission>,
    names: RandomNames,
    metrics: IngestMetrics,
}

impl IngestService {
    /// A service in front of a log; its metrics go to `registry`.
    pub fn new(
        config: IngestConfig,
        appender: Arc<dyn Appender>,
        receipt_key: ReceiptKey,
        clock: IngestClock,
        registry: &Registry,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let metrics = IngestMetrics::new(registry)?;
        let admission = Arc::new(Admission::new(config.requests_max, config.bytes_max, metrics.clone()));
        let names = RandomNames::default();
        Ok(Self(Arc::new(Inner { config, appender, receipt_key, clock, admission, names, metrics })))
    }

    /// A place for a batch whose bytes are still to arrive: refused immediately if there is no room.
    pub fn open(&self) -> Result<Place, Refusal> {
        self.0.admission.open()
    }

    /// Accepts one batch. Ok means that the log has every accepted event durably.
    pub async fn take(&self, caller: Caller, batch: Batch) -> Result<Accepted, Refusal> {
        let Batch { format, events, place } = batch;
        let form = (format.is_cloud(), events.len());
        self.take_by(caller, place, form, move |intake| take_all(intake, format, &events)).await
    }

    /// The same for events in any form: `take_all` runs each of them through the intake. `form` is whether they are
    /// CloudEvents, and how many bytes they have.
    pub(crate) async fn take_by(
        &self,
        caller: Caller,
        mut place: Place,
        (cloud, body_bytes): (bool, usize),
        take_all: impl FnOnce(&mut Intake<'_>) -> Result<(), Refusal>,
    ) -> Result<Accepted, Refusal> {
        let service = &*self.0;
        place.complete()?;
        let request = service.names.draw().map_err(|error| {
            tracing::error!(%error, "the system's random number generator failed");
            Refusal::Internal
        })?;
        let incoming = Incoming { cloud, now_ms: self.now_ms()?, id: &request, body_bytes };
        let mut intake = Intake::new(&service.config, &service.receipt_key, &caller, &incoming);
        take_all(&mut intake)?;
        let mut taken = intake.finish();
        let retry_after_s = self.limit(&mut taken).await;
        let (records, rejected) = taken.finish();
        let accepted = records.records.len();
        if accepted == 0 {
            service.metrics.rejected.inc_by(rejected.len() as u64);
            return Err(match retry_after_s {
                Some(retry_after_s) => Refusal::Limited { rejected, retry_after_s },
                None => Refusal::Invalid(rejected),
            });
        }
        let offsets = self.append(records, place).await?;
        // Counted only now: a failed request is sent again, with its invalid events.
        service.metrics.accepted.inc_by(accepted as u64);
        if !rejected.is_empty() {
            service.metrics.rejected.inc_by(rejected.len() as u64);
        }
        let receipt = Receipt { request, offsets }.encode(&service.receipt_key);
        Ok(Accepted { accepted, rejected, receipt })
    }

    /// Waits until the log has the records. The place is kept until the log has answered, even if the request has ended
    /// meanwhile: until then the bytes are in memory.
    async fn append(&self, records: AppendBatch, place: Place) -> Result<AppendedOffsets, Refusal> {
        let service = &*self.0;
        let begun = Instant::now();
        let (tell, told) = oneshot::channel();
        let done = Box::new(move |outcome| {
            drop(place);
            // The client may have disconnected.
            let _ = tell.send(outcome);
        });
        service.appender.append(&service.config.topic, records, done);
        let outcome = match tokio::time::timeout(service.config.append_timeout, told).await {
            Ok(Ok(outcome)) => outcome.map_err(Failure::Log),
            Ok(Err(_)) => Err(Failure::Log(LogError::Fatal("the log closed without an answer".into()))),
            Err(_) => Err(Failure::Timeout),
        };
        service.metrics.append_seconds.observe(begun.elapsed().as_secs_f64());
        outcome.map_err(|failure| {
            service.metrics.unavailable.with_label_values(&[failure.reason()]).inc();
            tracing::warn!(reason = failure.reason(), %failure, "the events of a request were not accepted");
            failure.into()
        })
    }

    /// Rejects events above a limit; returns the seconds after which all of them may be sent again.
    async fn limit(&self, taken: &mut Taken) -> Option<u32> {
        let limits = self.0.config.limits.as_ref().filter(|_| !taken.demands.is_empty())?;
        let grants = limits.buckets.admit(std::mem::take(&mut taken.demands)).await;
        taken.limit(grants)
    }

    /// The accepted event types.
    pub(crate) fn types(&self) -> &EventTypes {
        &self.0.config.types
    }

    /// The clock: while it is in doubt, no event is accepted and no token is signed.
    pub(crate) fn now_ms(&self) -> Result<i64, Refusal> {
        (self.0.clock)().map_err(|doubt| {
            self.0.metrics.unavailable.with_label_values(&["clock"]).inc();
            Refusal::ClockInDoubt(doubt)
        })
    }

    /// The key that signs receipts and read tokens.
    pub(crate) fn key(&self) -> &ReceiptKey {
        &self.0.receipt_key
    }
}

/// Why it is not certain that the log has the events.
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

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Log(LogError::Busy) => Self::LogBusy,
            Failure::Log(LogError::Unavailable(_)) => Self::LogUnavailable,
            Failure::Log(LogError::Full(_)) => Self::LogFull,
            Failure::Log(_) | Failure::Timeout => Self::OutcomeUnknown,
        }
    }
}

/// Runs all events of a body through the intake.
fn take_all(intake: &mut Intake<'_>, format: Format, body: &[u8]) -> Result<(), Refusal> {
    if body.trim_ascii().is_empty() {
        return Err(Refusal::empty());
    }
    let array = match format {
        Format::Json => ArrayElements::of(body),
        Format::CloudEvents => Some(ArrayElements::of(body).ok_or_else(|| {
            let form = "A CloudEvents batch must be a JSON array; send a single event as application/cloudevents+json.";
            Refusal::Malformed(form.into())
        })?),
        Format::Lines | Format::CloudEvent => None,
    };
    match (format, array) {
        (_, Some(mut elements)) => {
            take_each(intake, elements.by_ref())?;
            // An array is accepted only as a whole: what follows a syntax error is a guess.
            if !elements.is_whole() || intake.has_rejected() {
                check_json(body).map_err(|error| broken(&error))?;
            }
        }
        (Format::Lines, None) => take_each(intake, lines(body))?,
        (_, None) => {
            intake.take(body);
            if intake.has_rejected() {
                check_json(body).map_err(|error| broken(&error))?;
            }
        }
    }
    match intake.seen() {
        0 => Err(Refusal::Malformed("The body contains no events.".into())),
        _ => Ok(()),
    }
}

fn take_each<'b>(intake: &mut Intake<'_>, events: impl Iterator<Item = &'b [u8]>) -> Result<(), Refusal> {
    for event in events {
        if intake.seen() == EVENTS_MAX {
            return Err(Refusal::TooManyEvents);
        }
        intake.take(event);
    }
    Ok(())
}

fn broken(error: &serde_json::Error) -> Refusal {
    Refusal::Malformed(format!("The body is not JSON: {error}. No event was accepted."))
}
