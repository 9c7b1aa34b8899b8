//! The door's way into Kafka: an idempotent producer shared by all threads, and one completion a request.

use super::super::{AppendBatch, AppendedOffsets, Appender, Completion, Headers, LogError, OwnedRecord};
use super::context;
use super::lookup::Lookup;
use super::producer::headers;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Bytes that may be on their way; more is [`LogError::Busy`].
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// What a record takes in the client beside its bytes.
const RECORD_BYTES: usize = 128;

/// See the module.
pub(super) struct KafkaAppender {
    lookup: Arc<Lookup>,
    producer: RwLock<Arc<ThreadedProducer<Deliveries>>>,
    queued_bytes: Arc<AtomicUsize>,
}

impl KafkaAppender {
    pub fn new(lookup: Arc<Lookup>) -> Result<Self, LogError> {
        let producer = RwLock::new(create(&lookup)?);
        Ok(Self { lookup, producer, queued_bytes: Arc::default() })
    }

    fn producer(&self) -> Result<Arc<ThreadedProducer<Deliveries>>, LogError> {
        let producer = self.producer.read().unwrap_or_else(PoisonError::into_inner).clone();
        if !producer.context().broken.load(Ordering::Relaxed) {
            return Ok(producer);
        }
        let mut held = self.producer.write().unwrap_or_else(PoisonError::into_inner);
        if held.context().broken.load(Ordering::Relaxed) {
            tracing::warn!("the producer of the door met an error that does not pass; starting a new one");
            *held = create(&self.lookup)?;
        }
        Ok(held.clone())
    }

    fn send(&self, topic: &str, records: &[OwnedRecord], request: &Arc<Request>) -> Result<(), LogError> {
        let partitions = self.lookup.partitions(topic)?;
        if let Some(record) = records.iter().find(|record| record.partition >= partitions) {
            return Err(LogError::UnknownTopic(format!("{topic}/{}", record.partition)));
        }
        let producer = self.producer()?;
        for record in records {
            let mut message: BaseRecord<'_, [u8], [u8], Arc<Request>> =
                BaseRecord::with_opaque_to(topic, request.clone()).partition(record.partition as i32);
            (message.key, message.payload) = (record.key.as_deref(), record.value.as_deref());
            if !record.headers.is_empty() {
                let list: Vec<_> = Headers::encoded(&record.headers).iter().collect();
                message.headers = headers(list.into_iter());
            }
            // What was sent before this record may still arrive, so nothing is certain about the whole.
            producer.send(message).map_err(|(error, _)| LogError::Uncertain(error.to_string()))?;
        }
        Ok(())
    }
}

fn create(lookup: &Lookup) -> Result<Arc<ThreadedProducer<Deliveries>>, LogError> {
    // The client's own limit is never met: requests are admitted by ours, which refuses them whole.
    let config = lookup.options.appender(4 * QUEUE_BYTES_MAX);
    let producer = config.create_with_context(Deliveries::default());
    producer.map(Arc::new).map_err(|e| LogError::Fatal(format!("Kafka client: {e}")))
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
            outcome: Mutex::new(Outcome::default()),
            bytes,
            queued_bytes: self.queued_bytes.clone(),
        });
        if let Err(error) = self.send(topic, &records.records, &request) {
            request.fail(error);
        }
    }
}

/// A request on its way. The delivery report of its last record drops it, which completes it.
struct Request {
    done: Mutex<Option<Completion>>,
    outcome: Mutex<Outcome>,
    bytes: usize,
    queued_bytes: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Outcome {
    /// The last offset by partition.
    last: BTreeMap<u32, u64>,
    error: Option<LogError>,
}

impl Request {
    fn delivered(&self, partition: i32, offset: i64) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
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
        let Outcome { last, error } = std::mem::take(self.outcome.get_mut().unwrap_or_else(PoisonError::into_inner));
        let outcome: Result<AppendedOffsets, _> = error.map_or_else(|| Ok(last.into_iter().collect()), Err);
        if let Some(done) = self.done.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            done(outcome);
        }
    }
}

/// Hands delivery reports to their requests.
#[derive(Default)]
struct Deliveries {
    /// The client has met an error after which it takes nothing any more.
    broken: AtomicBool,
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
            Ok(message) => request.delivered(message.partition(), message.offset()),
            Err((error, _)) => {
                if error.rdkafka_error_code() == Some(Code::Fatal) {
                    self.broken.store(true, Ordering::Relaxed);
                }
                request.fail(match error.rdkafka_error_code() {
                    Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
                        LogError::UnknownTopic(error.to_string())
                    }
                    _ => LogError::Uncertain(error.to_string()),
                });
            }
        }
    }
}
