//! `POST /v1/plan`: what `tally plan` reads of a log that this process has open.

use super::Site;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tally_access::{Access, Routes, Scope};
use tally_http::{ApiProblem, read_body};
use tally_model::{MAC_HEADER, SEQ_HEADER, SequenceKey, from_object};
use tally_streams::log::{Cleanup, Log, LogError, LoggedRecord, TopicSize, TopicSpec, newest_records, topic_size};
use tally_streams::runtime::{Control, ControlError, newest_control, recorded_topology};
use tokio::sync::Semaphore;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The path of the route.
pub const PATH: &str = "/v1/plan";
/// Enough for 1,000 topics of a file and the internal ones.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The greatest number of events in an answer.
const EVENTS_MAX: u32 = 10_000;
/// Keys, values and headers of these events.
const EVENT_BYTES_MAX: usize = 8 << 20;
/// In answers in place of the log's secret, which signs receipts and never leaves the process.
const NO_SECRET: [u8; 32] = [0; 32];

/// A changed topology, as far as the log has to know it.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// The `application` of the topology.
    pub application: String,
    /// All topics, with the internal ones.
    pub topics: Vec<PlanTopic>,
    /// How many of the newest events to return; at most 10,000 events and 8 MiB are.
    pub events: u32,
}

/// A topic of the changed topology.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanTopic {
    /// Its name.
    pub name: String,
    /// Number of partitions.
    pub partitions: u32,
    /// `delete`, `compact` or `compact_and_delete`.
    pub cleanup: String,
}

/// What the log knows.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct PlanAnswer {
    /// The control record of the application, with zeros in place of the secret; null if the log has none.
    #[schema(required = true, value_type = Option<Object>)]
    pub control: Option<Control>,
    /// The topology file of the application that a process recorded last, without passwords; null if none did.
    #[schema(required = true)]
    pub topology: Option<String>,
    /// The subtopologies whose state the log has, with what that takes.
    #[serde(default)]
    pub state: Vec<PlanState>,
    /// The topics that exist with other settings.
    pub refusals: Vec<PlanRefusal>,
    /// The topic of the events: the root topic of the topology that this process runs.
    pub root: String,
    /// The newest events by append time, oldest first.
    pub events: Vec<PlanEvent>,
}

/// The state of a subtopology, in its changelog.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanState {
    /// The subtopology.
    pub subtopology: String,
    /// At most so many records: offsets from the oldest to the newest.
    pub records: u64,
    /// Bytes on the disk of this machine; null for a log that is elsewhere.
    #[schema(required = true)]
    pub bytes: Option<u64>,
}

impl PlanState {
    /// What the state of an application takes, by subtopology: what its control record has, in the topics that `size` measures.
    pub fn of<E>(
        application: &str,
        control: &Control,
        mut size: impl FnMut(&str) -> Result<Option<TopicSize>, E>,
    ) -> Result<Vec<Self>, E> {
        let mut states = Vec::new();
        for (subtopology, changelog) in control.fingerprint.changelogs(application) {
            if let Some(TopicSize { offsets, bytes }) = size(&changelog)? {
                states.push(Self { subtopology, records: offsets, bytes });
            }
        }
        Ok(states)
    }
}

/// Why a process could not work with a topic.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct PlanRefusal {
    /// The topic; null if the reason concerns the log.
    #[schema(required = true)]
    pub topic: Option<String>,
    /// What is different.
    pub detail: String,
}

/// A record of the root topic.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct PlanEvent {
    /// Its partition.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
    /// When the log took it, milliseconds since 1970.
    pub append_time_ms: i64,
    /// Its key in base64.
    #[schema(required = true)]
    pub key: Option<String>,
    /// Its value in base64.
    #[schema(required = true)]
    pub value: Option<String>,
    /// Names, and values in base64. A valid `mac` is replaced by one with a secret of 32 zero bytes.
    #[schema(value_type = Vec<Vec<String>>)]
    pub headers: Vec<(String, String)>,
}

impl From<&TopicSpec> for PlanTopic {
    fn from(spec: &TopicSpec) -> Self {
        Self { name: spec.name.clone(), partitions: spec.partitions, cleanup: spec.cleanup.name().to_owned() }
    }
}

impl PlanTopic {
    /// How long records are kept may differ, so it is not sent.
    fn spec(self) -> Result<TopicSpec, ApiProblem> {
        let cleanup = Cleanup::ALL.into_iter().find(|cleanup| cleanup.name() == self.cleanup);
        let refused = || ApiProblem::bad_request(format!("`cleanup` of topic `{}` is not known.", self.name));
        let cleanup = cleanup.ok_or_else(refused)?;
        Ok(TopicSpec { name: self.name, partitions: self.partitions, cleanup, retention: None, retention_bytes: None })
    }
}

impl From<LogError> for PlanRefusal {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Mismatch { topic, detail } => Self { topic: Some(topic), detail },
            other => Self { topic: None, detail: other.to_string() },
        }
    }
}

impl From<&PlanRefusal> for LogError {
    fn from(refusal: &PlanRefusal) -> Self {
        let detail = refusal.detail.clone();
        match refusal.topic.clone() {
            Some(topic) => Self::Mismatch { topic, detail },
            None => Self::Fatal(detail),
        }
    }
}

impl PlanEvent {
    /// A record whose valid MAC is replaced, so that a replay without the secret decides the same.
    fn new(record: LoggedRecord, secret: [u8; 32]) -> Self {
        let header = |name: &str| record.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &value[..]);
        let value = record.value.as_deref().unwrap_or_default();
        let verified = SequenceKey(secret).verify(header(SEQ_HEADER), header(MAC_HEADER), value);
        let mac = verified.ok().map(|seq| SequenceKey(NO_SECRET).mac(seq, value));
        let shown = |(name, value): &(String, Vec<u8>)| match &mac {
            Some(mac) if name == MAC_HEADER => (name.clone(), BASE64_STANDARD.encode(mac)),
            _ => (name.clone(), BASE64_STANDARD.encode(value)),
        };
        Self {
            partition: record.partition,
            offset: record.offset,
            append_time_ms: record.append_time_ms,
            key: record.key.as_ref().map(|key| BASE64_STANDARD.encode(key)),
            value: record.value.as_ref().map(|value| BASE64_STANDARD.encode(value)),
            headers: record.headers.iter().map(shown).collect(),
        }
    }

    /// The record. Fails where a text is not base64.
    pub fn record(&self) -> Result<LoggedRecord, base64::DecodeError> {
        let decoded = |text: &Option<String>| text.as_ref().map(|text| BASE64_STANDARD.decode(text)).transpose();
        let header = |(name, value): &(String, String)| Ok((name.clone(), BASE64_STANDARD.decode(value)?));
        Ok(LoggedRecord {
            partition: self.partition,
            offset: self.offset,
            append_time_ms: self.append_time_ms,
            key: decoded(&self.key)?,
            value: decoded(&self.value)?,
            headers: self.headers.iter().map(header).collect::<Result<_, _>>()?,
        })
    }
}

/// What the route reads from.
struct PlanReads {
    log: Arc<dyn Log>,
    root: String,
    secret: [u8; 32],
    /// One answer at a time, so that the memory for events is bounded.
    free: Arc<Semaphore>,
}

/// The route, described for `/openapi.json`.
pub fn plan_router(site: &Site) -> Routes {
    let reads = PlanReads {
        log: site.log.clone(),
        root: site.topology.root.to_string(),
        secret: site.control.secret,
        free: Arc::new(Semaphore::new(1)),
    };
    Routes::new(Access::Needs(Scope::Admin), OpenApiRouter::new().routes(routes!(plan)).with_state(Arc::new(reads)))
}

/// What the log knows about a changed topology.
///
/// `tally plan --against http://…` compares both. Nothing is written.
#[utoipa::path(
    post,
    path = "/v1/plan",
    tag = "operations",
    request_body = PlanRequest,
    responses(
        (status = 200, description = "What the log knows", body = PlanAnswer),
        (status = 400, description = "An invalid request", body = ApiProblem, content_type = "application/problem+json"),
        (status = 413, description = "The body is longer than 1 MiB", body = ApiProblem, content_type = "application/problem+json"),
        (status = 503, description = "The log does not respond, or another plan is being read; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
async fn plan(
    State(reads): State<Arc<PlanReads>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PlanAnswer>, ApiProblem> {
    let body = read_body(&headers, body, BODY_BYTES_MAX, |_| Ok(())).await?;
    let request: PlanRequest =
        from_object(&body).map_err(|error| ApiProblem::bad_request(format!("Invalid plan request: {error}.")))?;
    let PlanRequest { application, topics, events } = request;
    let topics = topics.into_iter().map(PlanTopic::spec).collect::<Result<Vec<_>, _>>()?;
    let busy = |_| ApiProblem::unavailable("Another plan is being read. Retry.", 1);
    let permit = reads.free.clone().try_acquire_owned().map_err(busy)?;
    let reading = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        reads.answer(&application, &topics, events.min(EVENTS_MAX))
    });
    match reading.await {
        Ok(Ok(answer)) => Ok(Json(answer)),
        Ok(Err(error)) => {
            tracing::warn!(%error, "a plan cannot be read");
            Err(ApiProblem::unavailable("The log does not respond. Retry.", 1))
        }
        Err(_) => Err(ApiProblem::internal()),
    }
}

impl PlanReads {
    fn answer(&self, application: &str, topics: &[TopicSpec], events: u32) -> Result<PlanAnswer, ControlError> {
        let control = newest_control(&*self.log, application)?;
        let state = match &control {
            Some(control) => PlanState::of(application, control, |topic| topic_size(&*self.log, topic))?,
            None => Vec::new(),
        };
        let records = newest_records(&*self.log, &self.root, events as usize, EVENT_BYTES_MAX)?;
        Ok(PlanAnswer {
            control: control.map(|control| Control { secret: NO_SECRET, ..control }),
            topology: recorded_topology(&*self.log, application)?,
            state,
            refusals: self.log.refusals(topics)?.into_iter().map(PlanRefusal::from).collect(),
            root: self.root.clone(),
            events: records.into_iter().map(|record| PlanEvent::new(record, self.secret)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(secret: [u8; 32]) -> LoggedRecord {
        let value = b"{}".to_vec();
        let mac = SequenceKey(secret).mac(7, &value).to_vec();
        let headers = vec![(SEQ_HEADER.to_owned(), 7_i64.to_be_bytes().to_vec()), (MAC_HEADER.to_owned(), mac)];
        LoggedRecord { partition: 1, offset: 2, append_time_ms: 3, key: None, value: Some(value), headers }
    }

    #[test]
    fn an_event_stays_the_same_but_for_the_secret_behind_a_valid_mac() {
        let sent = |record| PlanEvent::new(record, [5; 32]).record().unwrap();
        assert_eq!(sent(collect([5; 32])), collect(NO_SECRET));
        // A forged MAC stays forged.
        assert_eq!(sent(collect([6; 32])), collect([6; 32]));
        let plain = LoggedRecord { key: Some(vec![0xff]), value: None, headers: Vec::new(), ..collect(NO_SECRET) };
        assert_eq!(sent(plain.clone()), plain);
    }

    #[test]
    fn a_refused_topic_comes_back_as_the_error_of_the_log() {
        let mismatch = LogError::Mismatch { topic: "counters".into(), detail: "has 8 partitions".into() };
        assert_eq!(LogError::from(&PlanRefusal::from(mismatch.clone())), mismatch);
        let spec = TopicSpec {
            name: "t".into(),
            partitions: 3,
            cleanup: Cleanup::CompactAndDelete,
            retention: None,
            retention_bytes: None,
        };
        assert_eq!(PlanTopic::from(&spec).spec().unwrap(), spec);
        let unknown = PlanTopic { cleanup: "none".into(), ..PlanTopic::from(&spec) };
        assert_eq!(unknown.spec().unwrap_err().detail(), "`cleanup` of topic `t` is not known.");
    }
}
