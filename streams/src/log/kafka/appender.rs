//! The producer of the ingest API: idempotent, shared by all threads, with one completion per request.

use super::super::{AppendBatch, AppendedOffsets, Appender, Completion, Headers, LogError, OwnedRecord};
use super::context;
use super::lookup::Lookup;
use super::options::APPEND_LINGER;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak, mpsc};
use std::time::Instant;

/// The most bytes in flight; more is [`LogError::Busy`].
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// The overhead of a record in the client, in bytes.
const RECORD_BYTES: usize = 128;

/// See the module.
pub(super) struct KafkaAppender {
    lookup: Arc<Lookup>,
    client: RwLock<Arc<Client>>,
    queued_bytes: Arc<AtomicUsize>,
}

impl KafkaAppender {
    pub fn new(lookup: Arc<Lookup>) -> Result<Self, LogError> {
        let client = RwLock::new(Client::start(&lookup)?);
        Ok(Self { lookup, client, queued_bytes: Arc::default() })
    }

    fn client(&self) -> Result<Arc<Client>, LogError> {
        let client = self.client.read().unwrap_or_else(PoisonError::into_inner).clone();
        if !client.is_broken() {
            return Ok(client);
        }
        let mut held = self.client.write().unwrap_or_else(PoisonError::into_inner);
        if held.is_broken() {
            tracing::warn!("the producer of the ingest API met an error that does not pass; starting a new one");
            *held = Client::start(&self.lookup)?;
        }
        Ok(held.clone())
    }

    fn send(&self, topic: &str, mut records: Vec<OwnedRecord>, request: &Arc<Request>) -> Result<(), LogError> {
        let partitions = self.lookup.partitions(topic)?;
        if let Some(record) = records.iter().find(|record| record.partition >= partitions) {
            return Err(LogError::UnknownTopic(format!("{topic}/{}", record.partition)));
        }
        let client = self.client()?;
        let lanes = client.lanes(topic, partitions);
        // A stable sort: the records of a partition keep their order.
        records.sort_by_key(|record| record.partition);
        for records in records.chunk_by(|a, b| a.partition == b.partition) {
            client.offer(&lanes, records, request);
        }
        Ok(())
    }
}

impl Appender for KafkaAppender {
    fn append(&self, topic: &str, records: AppendBatch, done: Completion) {
        let bytes = records.len_bytes() + records.records.len() * RECORD_BYTES;
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUE_BYTES_MAX {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return done(Err(LogError::Busy));
        }
        let request = Arc::new(Request {
            done: Mutex::new(Some(done)),
            outcome: Mutex::new(Outcome { missing: records.records.len(), ..Outcome::default() }),
            bytes,
            queued_bytes: self.queued_bytes.clone(),
        });
        if let Err(error) = self.send(topic, records.records, &request) {
            request.fail(error);
        }
    }
}

/// A producer, and the records that it has not been given yet.
///
/// librdkafka 2.12 has one batch in flight per partition for an idempotent producer. While it has more records for that
/// partition, it polls for the response without a pause (`rd_kafka_toppar_producer_serve` returns before it looks at
/// the batch, with a wake-up time in the past) and uses a whole core. So records of a partition stay here until its
/// response has arrived.
struct Client {
    producer: ThreadedProducer<Deliveries>,
}

/// The records for a topic.
struct Lanes {
    topic: String,
    by_partition: Vec<Mutex<Lane>>,
}

/// The records for a partition.
#[derive(Default)]
struct Lane {
    /// Records that the producer has and that are not answered.
    under_way: usize,
    /// Since when it has some.
    since: Option<Instant>,
    /// Each with the request that it belongs to.
    waiting: Vec<(OwnedRecord, Arc<Request>)>,
}

impl Lane {
    /// Whether the producer takes more without having to wait: nothing is sent yet.
    fn is_open(&self) -> bool {
        let lingers = self.since.is_some_and(|since| since.elapsed() < APPEND_LINGER / 2);
        self.waiting.is_empty() && (self.under_way == 0 || lingers)
    }
}

impl Lanes {
    fn lane(&self, partition: u32) -> Option<MutexGuard<'_, Lane>> {
        let lane = self.by_partition.get(partition as usize)?;
        Some(lane.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Client {
    fn start(lookup: &Lookup) -> Result<Arc<Self>, LogError> {
        let fatal = |e: &dyn std::fmt::Display| LogError::Fatal(format!("Kafka client: {e}"));
        // The client's own limit is never reached: the limit here admits or rejects whole requests.
        let config = lookup.options.appender(4 * QUEUE_BYTES_MAX);
        let (answered, answers) = mpsc::channel();
        let deliveries = Deliveries { broken: AtomicBool::default(), lanes: RwLock::default(), answered };
        let producer = config.create_with_context(deliveries).map_err(|e| fatal(&e))?;
        let client = Arc::new(Self { producer });
        let weak = Arc::downgrade(&client);
        let serve = move || {
            // Ends with the client, which has the other end.
            while let Ok((lanes, partition)) = answers.recv() {
                let Some(client) = Weak::upgrade(&weak) else { return };
                client.go_on(&lanes, partition);
            }
        };
        std::thread::Builder::new().name("appender".to_owned()).spawn(serve).map_err(|e| fatal(&e))?;
        Ok(client)
    }

    fn is_broken(&self) -> bool {
        self.producer.context().broken.load(Ordering::Relaxed)
    }

    fn lanes(&self, topic: &str, partitions: u32) -> Arc<Lanes> {
        let known = &self.producer.context().lanes;
        if let Some(lanes) = known.read().unwrap_or_else(PoisonError::into_inner).get(topic) {
            return lanes.clone();
        }
        let by_partition = (0..partitions).map(|_| Mutex::default()).collect();
        let lanes = Arc::new(Lanes { topic: topic.to_owned(), by_partition });
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(topic.to_owned()).or_insert(lanes).clone()
    }

    /// Sends records of one partition, immediately or once the requests in flight are answered.
    fn offer(&self, lanes: &Lanes, records: &[OwnedRecord], request: &Arc<Request>) {
        let Some(mut lane) = records.first().and_then(|record| lanes.lane(record.partition)) else { return };
        // The caller holds the request as well, so it does not complete under the lock.
        match lane.is_open() {
            true => self.send(&lanes.topic, &mut lane, records.iter().map(|record| (record, request))),
            false => lane.waiting.extend(records.iter().map(|record| (record.clone(), request.clone()))),
        }
    }

    /// Sends the records that waited for this response.
    fn go_on(&self, lanes: &Lanes, partition: u32) {
        // Dropped behind the lock: a completion may append more.
        let waiting;
        let Some(mut lane) = lanes.lane(partition) else { return };
        if lane.under_way == 0 {
            waiting = std::mem::take(&mut lane.waiting);
            self.send(&lanes.topic, &mut lane, waiting.iter().map(|(record, request)| (record, request)));
        }
    }

    fn send<'a>(
        &self,
        topic: &str,
        lane: &mut Lane,
        records: impl Iterator<Item = (&'a OwnedRecord, &'a Arc<Request>)>,
    ) {
        if lane.under_way == 0 {
            lane.since = Some(Instant::now());
        }
        for (record, request) in records {
            let mut message: BaseRecord<'_, [u8], [u8], Arc<Request>> =
                BaseRecord::with_opaque_to(topic, request.clone()).partition(record.partition as i32);
            (message.key, message.payload) = (record.key.as_deref(), record.value.as_deref());
            if !record.headers.is_empty() {
                let list: Vec<_> = Headers::encoded(&record.headers).iter().collect();
                message.headers = headers(list.into_iter());
            }
            match self.producer.send(message) {
                Ok(()) => lane.under_way += 1,
                // Records that were sent before this one may still arrive, so the outcome of the request is uncertain.
                Err((error, _)) => request.fail(LogError::Uncertain(error.to_string())),
            }
        }
    }
}

/// A request in flight. The delivery report of its last record drops it, which completes it. It has succeeded only if
/// every record was delivered.
struct Request {
    done: Mutex<Option<Completion>>,
    outcome: Mutex<Outcome>,
    bytes: usize,
    queued_bytes: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Outcome {
    /// Records whose delivery is not reported yet.
    missing: usize,
    /// The last offset by partition.
    last: BTreeMap<u32, u64>,
    error: Option<LogError>,
}

impl Request {
    fn delivered(&self, partition: i32, offset: i64) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.missing = outcome.missing.saturating_sub(1);
        let last = outcome.last.entry(partition.max(0) as u32).or_default();
        *last = (*last).max(offset.max(0) as u64);
    }

    fn fail(&self, error: LogError) {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).error.get_or_insert(error);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.queued_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        let outcome = std::mem::take(self.outcome.get_mut().unwrap_or_else(PoisonError::into_inner));
        let never_sent = || LogError::Uncertain("the client ended before everything was sent".to_owned());
        let error = outcome.error.or_else(|| (outcome.missing > 0).then(never_sent));
        let outcome = error.map_or_else(|| Ok(AppendedOffsets::from_iter(outcome.last)), Err);
        if let Some(done) = self.done.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            done(outcome);
        }
    }
}

/// Hands delivery reports to their requests.
struct Deliveries {
    /// The client has failed permanently.
    broken: AtomicBool,
    /// By topic.
    lanes: RwLock<HashMap<String, Arc<Lanes>>>,
    /// Partitions with waiting records and no request in flight.
    answered: mpsc::Sender<(Arc<Lanes>, u32)>,
}

impl Deliveries {
    /// A record in flight to a partition got its response. If that is an error, the waiting records would fail as well.
    fn answered(&self, topic: &str, partition: i32, error: Option<&LogError>) {
        // Dropped behind the locks: a completion may append more.
        let failed;
        let known = self.lanes.read().unwrap_or_else(PoisonError::into_inner);
        let (Some(lanes), Ok(partition)) = (known.get(topic), u32::try_from(partition)) else { return };
        let Some(mut lane) = lanes.lane(partition) else { return };
        lane.under_way = lane.under_way.saturating_sub(1);
        if let Some(error) = error {
            failed = std::mem::take(&mut lane.waiting);
            failed.iter().for_each(|(_, request)| request.fail(error.clone()));
        } else if lane.under_way == 0 && !lane.waiting.is_empty() {
            // It is not received only when the client is ending.
            let _ = self.answered.send((lanes.clone(), partition));
        }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        context::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(Code::Fatal) {
            self.broken.store(true, Ordering::Relaxed);
        }
        context::report(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Request>;

    fn delivery(&self, result: &DeliveryResult<'_>, request: Arc<Request>) {
        match result {
            Ok(message) => {
                request.delivered(message.partition(), message.offset());
                self.answered(message.topic(), message.partition(), None);
            }
            Err((error, message)) => {
                let error = match error.rdkafka_error_code() {
                    Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
                        LogError::UnknownTopic(error.to_string())
                    }
                    code => {
                        self.broken.fetch_or(code == Some(Code::Fatal), Ordering::Relaxed);
                        LogError::Uncertain(error.to_string())
                    }
                };
                self.answered(message.topic(), message.partition(), Some(&error));
                request.fail(error);
            }
        }
    }
}

/// Headers as the client wants them; None where there are none.
fn headers<'a>(list: impl ExactSizeIterator<Item = (&'a str, &'a [u8])>) -> Option<OwnedHeaders> {
    (list.len() > 0).then(|| {
        let headers = OwnedHeaders::new_with_capacity(list.len());
        list.fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request of two records, and its outcome.
    fn request() -> (Request, mpsc::Receiver<Result<AppendedOffsets, LogError>>) {
        let (tell, told) = mpsc::channel();
        let done: Completion = Box::new(move |outcome| drop(tell.send(outcome)));
        let outcome = Mutex::new(Outcome { missing: 2, ..Outcome::default() });
        (Request { done: Mutex::new(Some(done)), outcome, bytes: 0, queued_bytes: Arc::default() }, told)
    }

    #[test]
    fn a_request_succeeds_when_all_its_records_are_delivered() {
        let (request, told) = request();
        request.delivered(1, 7);
        request.delivered(0, 3);
        drop(request);
        assert_eq!(told.recv(), Ok(Ok(vec![(0, 3), (1, 7)])));
    }

    #[test]
    fn a_request_fails_when_a_record_was_never_sent() {
        let (request, told) = request();
        request.delivered(1, 7);
        drop(request);
        assert!(matches!(told.recv(), Ok(Err(LogError::Uncertain(_)))));
    }

    #[test]
    fn a_request_fails_as_its_first_record_that_did() {
        let (request, told) = request();
        request.fail(LogError::UnknownTopic("t".into()));
        request.fail(LogError::Uncertain("later".into()));
        drop(request);
        assert_eq!(told.recv(), Ok(Err(LogError::UnknownTopic("t".into()))));
    }

    #[test]
    fn a_lane_is_closed_while_something_waits_or_is_under_way() {
        let lane = |under_way, ago_ms: Option<u64>, waiting| Lane {
            under_way,
            since: ago_ms.and_then(|ms| Instant::now().checked_sub(std::time::Duration::from_millis(ms))),
            waiting,
        };
        let waiting = || {
            let record = OwnedRecord { partition: 0, key: None, value: None, headers: bytes::Bytes::new() };
            vec![(record, Arc::new(request().0))]
        };
        assert!(lane(0, None, vec![]).is_open());
        assert!(lane(0, Some(1_000), vec![]).is_open());
        assert!(!lane(3, Some(1_000), vec![]).is_open(), "the answer is still to come");
        assert!(!lane(0, Some(1_000), waiting()).is_open(), "others came before");
    }
}
