//! The producer of the ingest API: idempotent, shared by all threads, with one completion per request.

use super::super::{AppendBatch, Appender, Completion, LogError, OwnedRecord};
use super::lookup::Lookup;
use super::native::{AppendProducer, Report, Served};
use rdkafka::ClientConfig;
use rdkafka::error::RDKafkaErrorCode as Code;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

mod lanes;

use lanes::{Lanes, Load, Pending, Request};

/// The most bytes in flight; more is [`LogError::Busy`].
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// The overhead of a record in the client, in bytes.
const RECORD_BYTES: usize = 128;
/// The longest wait for a delivery report, and thus how long the thread of a dropped client may live on.
const SERVE: Duration = Duration::from_millis(100);
/// How often a round collects responses. They rarely come alone, and each wake-up of the thread costs.
const STEP: Duration = Duration::from_micros(200);
/// How long after its last response a round waits for as many new records as it had. A busy sender whose request is
/// answered sends the next one within that time.
const GATHER: Duration = Duration::from_millis(1);
/// The longest round: a partition without a response delays the others by no more.
const ROUND: Duration = Duration::from_millis(4);

/// See the module.
pub(super) struct KafkaAppender {
    lookup: Arc<Lookup>,
    client: RwLock<Arc<Client>>,
    queued_bytes: Arc<AtomicUsize>,
}

impl KafkaAppender {
    pub fn new(lookup: Arc<Lookup>) -> Result<Self, LogError> {
        let client = RwLock::new(start(&lookup)?);
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
            *held = start(&self.lookup)?;
        }
        Ok(held.clone())
    }

    /// Where records go: a client that works, and its lanes to the topic.
    fn lanes(&self, topic: &str, records: &[OwnedRecord]) -> Result<(Arc<Client>, Arc<Lanes>), LogError> {
        let partitions = self.lookup.partitions(topic)?;
        if let Some(record) = records.iter().find(|record| record.partition >= partitions) {
            return Err(LogError::UnknownTopic(format!("{topic}/{}", record.partition)));
        }
        let client = self.client()?;
        let lanes = client.lanes(topic, partitions)?;
        Ok((client, lanes))
    }
}

/// A client for an appender.
fn start(lookup: &Lookup) -> Result<Arc<Client>, LogError> {
    // The client's own limit is never met: requests are admitted by ours, which refuses them whole.
    Client::start(&lookup.options.appender(4 * QUEUE_BYTES_MAX))
}

impl Appender for KafkaAppender {
    fn append(&self, topic: &str, records: AppendBatch, done: Completion) {
        let bytes = records.len_bytes() + records.records.len() * RECORD_BYTES;
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUE_BYTES_MAX {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return done(Err(LogError::Busy));
        }
        let records = records.records;
        let pending = Pending {
            done: Some(done),
            missing: records.len(),
            last: Vec::new(),
            error: None,
            bytes,
            queued_bytes: self.queued_bytes.clone(),
        };
        match self.lanes(topic, &records) {
            Ok((client, lanes)) => client.send(&lanes, records, pending),
            Err(error) => pending.fail(error),
        }
    }
}

/// A producer, and the records that it does not have yet.
///
/// Every batch of a partition costs wake-ups of threads here and a request at the broker, whatever its size. So records go
/// out in rounds: while a partition waits for a response, its records wait here. When all partitions have theirs, the
/// requests that follow the responses are collected for a moment and sent together. The first record after a pause does not
/// wait.
struct Client {
    producer: Arc<AppendProducer<Request>>,
    /// By topic.
    lanes: RwLock<HashMap<String, Arc<Lanes>>>,
    /// The client has failed permanently.
    broken: AtomicBool,
    /// The load of all lanes.
    load: Arc<Load>,
}

/// Responses that are handled together.
#[derive(Default)]
struct Round {
    /// The lanes without records in flight.
    answered: Vec<(Arc<Lanes>, u32)>,
    /// The number of records that got a response.
    records: usize,
}

impl Round {
    /// Whether the records that wait are to be sent, `since` the last response.
    fn is_over(&self, load: &Load, since: Duration) -> bool {
        let is_answered = load.lanes_under_way.load(Ordering::Relaxed) == 0;
        is_answered && (load.records_waiting.load(Ordering::Relaxed) >= self.records || since >= GATHER)
    }
}

impl Client {
    fn start(config: &ClientConfig) -> Result<Arc<Self>, LogError> {
        let fatal = |e: &dyn std::fmt::Display| LogError::Fatal(format!("Kafka client: {e}"));
        let producer = Arc::new(AppendProducer::start(config).map_err(|e| fatal(&e))?);
        let client =
            Arc::new(Self { producer, lanes: RwLock::default(), broken: AtomicBool::default(), load: Arc::default() });
        let weak = Arc::downgrade(&client);
        let serve = move || {
            while let Some(client) = Weak::upgrade(&weak) {
                client.serve();
            }
        };
        std::thread::Builder::new().name("appender".to_owned()).spawn(serve).map_err(|e| fatal(&e))?;
        Ok(client)
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    fn lanes(&self, topic: &str, partitions: u32) -> Result<Arc<Lanes>, LogError> {
        if let Some(lanes) = self.lanes.read().unwrap_or_else(PoisonError::into_inner).get(topic) {
            return Ok(lanes.clone());
        }
        let mut known = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(lanes) = known.get(topic) {
            return Ok(lanes.clone());
        }
        let of_client = self.producer.topic(topic).map_err(|error| LogError::UnknownTopic(error.text))?;
        let by_partition = (0..partitions).map(|_| Mutex::default()).collect();
        let lanes = Arc::new(Lanes {
            producer: self.producer.clone(),
            topic: of_client,
            by_partition,
            load: self.load.clone(),
        });
        known.insert(topic.to_owned(), lanes.clone());
        Ok(lanes)
    }

    /// Sends the records of a request, immediately or in the next round. The caller keeps the client alive meanwhile, since
    /// a client that ends fails the records that wait.
    fn send(&self, lanes: &Arc<Lanes>, mut records: Vec<OwnedRecord>, pending: Pending) {
        // A stable sort: the records of a partition keep their order.
        records.sort_by_key(|record| record.partition);
        let request = Arc::new(Request { lanes: lanes.clone(), pending: Mutex::new(pending) });
        let mut records = records.into_iter().peekable();
        while let Some(partition) = records.peek().map(|record| record.partition) {
            let of_partition = std::iter::from_fn(|| records.next_if(|record| record.partition == partition));
            lanes.offer(partition, of_partition, &request);
        }
    }

    /// One round: waits for delivery reports, passes them to their requests, and sends the records that waited.
    fn serve(&self) {
        let mut round = Round::default();
        if !self.serve_one(SERVE, &mut round) {
            return;
        }
        let begun = Instant::now();
        let mut answered = begun;
        while begun.elapsed() < ROUND {
            std::thread::sleep(STEP);
            while self.serve_one(Duration::ZERO, &mut round) {
                answered = Instant::now();
            }
            if round.is_over(&self.load, answered.elapsed()) {
                break;
            }
        }
        for (lanes, partition) in round.answered {
            lanes.release(partition);
        }
    }

    /// Handles an event of the producer; false if no event came in time.
    fn serve_one(&self, timeout: Duration, round: &mut Round) -> bool {
        let served = self.producer.serve(timeout, &mut |report| {
            round.records += report.count;
            round.answered.extend(self.settle(report));
        });
        self.broken.fetch_or(served == Served::FatalError, Ordering::Relaxed);
        served != Served::Nothing
    }

    /// Passes a delivery report to its request. Returns the lane if it has no records in flight any more.
    fn settle(&self, report: Report<Request>) -> Option<(Arc<Lanes>, u32)> {
        let Report { request, partition, count, outcome } = report;
        let error = match outcome {
            Ok(offset) => {
                request.pending().delivered(partition, count, offset);
                None
            }
            Err(code @ (Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition)) => {
                Some(LogError::UnknownTopic(code.to_string()))
            }
            Err(code) => {
                self.broken.fetch_or(code == Code::Fatal, Ordering::Relaxed);
                Some(LogError::Uncertain(code.to_string()))
            }
        };
        let gathers = request.lanes.answered(partition, count, error.as_ref());
        if let Some(error) = error {
            request.pending().refuse(error);
        }
        gathers.then(|| (request.lanes.clone(), partition))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let producer = self.producer.clone();
        producer.end(&mut |report| drop(self.settle(report)));
        // A lane and the requests that wait in it own each other.
        let lanes = std::mem::take(self.lanes.get_mut().unwrap_or_else(PoisonError::into_inner));
        lanes.values().for_each(|lanes| lanes.clear());
    }
}

#[cfg(test)]
#[path = "appender/tests.rs"]
mod tests;
