//! The transactional producer on Kafka.
//!
//! Order within a transaction: records, all of them acknowledged, then offsets, then the commit. So whoever finds a
//! group's offsets accepted finds the records that belong to them in their partitions.

use super::super::{CommittedOffset, GroupMetadata, LogError, ProducerRecord, TopicPartition, TransactionalProducer};
use super::context;
use super::lookup::Lookup;
use super::native::{self, NativeError};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// The longest metadata of a committed offset.
const METADATA_BYTES_MAX: usize = 4096;
/// Between looks at whether it is time to give up, while records are on their way.
const DRAIN_STEP: Duration = Duration::from_millis(100);
/// Until errors of delivery are told when nothing is on its way any more.
const TELL_STEP: Duration = Duration::from_micros(200);
/// Between tries of a call that the client wants repeated.
const RETRY: Duration = Duration::from_millis(5);
/// A call that has not returned so long after its time is over never will: librdkafka 2.12 drops answers that it takes
/// for outdated (`rd_kafka_txn_handle_TxnOffsetCommit`), and whoever called waits for ever.
const LOST_AFTER: Duration = Duration::from_secs(5);

/// Notes the first record that could not be delivered.
#[derive(Default)]
struct Deliveries {
    failed: Mutex<Option<KafkaError>>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        context::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        context::report(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
        }
    }
}

/// See the module.
pub(super) struct KafkaProducer {
    lookup: Arc<Lookup>,
    id: String,
    producer: Arc<ThreadedProducer<Deliveries>>,
    /// A transaction has begun.
    open: bool,
    /// Why nothing can be done any more: the client must be dropped.
    broken: Option<LogError>,
}

impl KafkaProducer {
    /// Takes the id over: whoever held it before is fenced, and its open transaction ended.
    pub fn new(lookup: Arc<Lookup>, id: &str) -> Result<Self, LogError> {
        let config = lookup.options.transactional(id);
        let producer: ThreadedProducer<Deliveries> = config
            .create_with_context(Deliveries::default())
            .map_err(|e| LogError::Fatal(format!("Kafka client `{id}`: {e}")))?;
        let taken = Self { lookup, id: id.to_owned(), producer: Arc::new(producer), open: false, broken: None };
        let deadline = Instant::now() + taken.lookup.options.patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            match taken.producer.init_transactions(left) {
                Ok(()) => return Ok(taken),
                Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {
                    std::thread::sleep(RETRY);
                }
                // Two that take the same id over at the same time: the one that came first is out.
                Err(KafkaError::Transaction(error)) if error.is_fatal() && is_fencing(error.code()) => {
                    return Err(LogError::Fenced(id.to_owned()));
                }
                Err(KafkaError::Transaction(error)) if error.is_retriable() => {
                    return Err(taken.lookup.options.unavailable(error));
                }
                Err(error) => {
                    let brokers = &taken.lookup.options.brokers;
                    return Err(LogError::Fatal(format!("Kafka at {brokers}: transactional id `{id}`: {error}")));
                }
            }
        }
    }

    /// What holds up everything, if there is such a thing.
    fn usable(&self) -> Result<(), LogError> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    fn begin(&mut self) -> Result<(), LogError> {
        self.usable()?;
        if self.open {
            return Ok(());
        }
        self.failed().take();
        match self.producer.begin_transaction() {
            Ok(()) => {
                self.open = true;
                Ok(())
            }
            Err(KafkaError::Transaction(error)) => {
                // Fenced while nothing was open: this is the first call to hear of it.
                let error = Refusal { code: error.code(), text: error.string(), fatal: true, abort: false };
                Err(self.refused(error))
            }
            Err(error) => Err(self.broke(LogError::Uncertain(error.to_string()))),
        }
    }

    fn failed(&self) -> std::sync::MutexGuard<'_, Option<KafkaError>> {
        self.producer.context().failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what waits for a full batch, and waits until every record is acknowledged.
    fn drain(&mut self) -> Result<(), LogError> {
        let deadline = Instant::now() + self.lookup.options.transaction_timeout;
        while self.producer.in_flight_count() > 0 {
            if Instant::now() > deadline {
                return Err(LogError::Aborted("records were not acknowledged in time".to_owned()));
            }
            if native::flush(self.producer.client(), DRAIN_STEP) && self.producer.in_flight_count() > 0 {
                std::thread::sleep(TELL_STEP);
            }
        }
        let failed = self.failed().take();
        match failed {
            None => Ok(()),
            Some(error) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                let fatal = is_fencing(code) || self.producer.client().fatal_error().is_some();
                Err(self.refused(Refusal { code, text: error.to_string(), fatal, abort: true }))
            }
        }
    }

    /// Repeats a call for as long as the client wants it repeated. `None`: the time is over and nobody knows.
    ///
    /// On a thread of its own, which is left behind with the client where the call never returns.
    fn repeat(
        &mut self,
        call: impl Fn(&ThreadedProducer<Deliveries>, Duration) -> Result<(), Refused> + Send + 'static,
    ) -> Result<Option<()>, LogError> {
        let timeout = self.lookup.options.transaction_timeout;
        let (producer, (answer, answered)) = (self.producer.clone(), mpsc::sync_channel(1));
        let repeated = move || {
            let deadline = Instant::now() + timeout;
            let outcome = loop {
                match call(&producer, timeout) {
                    Err(Refused::Again) if Instant::now() < deadline => std::thread::sleep(RETRY),
                    outcome => break outcome,
                }
            };
            // Nobody may be waiting any more.
            let _ = answer.send(outcome);
        };
        let thread = std::thread::Builder::new().name("transaction".to_owned()).spawn(repeated);
        thread.map_err(|error| LogError::Unavailable(format!("no thread for a transaction: {error}")))?;
        match answered.recv_timeout(timeout * 2 + LOST_AFTER) {
            Ok(Ok(())) => Ok(Some(())),
            Ok(Err(Refused::Again)) => Ok(None),
            Ok(Err(Refused::For(refusal))) => Err(self.refused(refusal)),
            Err(_) => Err(self.broke(LogError::Uncertain("the client has lost the answer".to_owned()))),
        }
    }

    /// What an error of the client means for the transaction.
    fn refused(&mut self, refusal: Refusal) -> LogError {
        let Refusal { code, text, fatal, abort } = refusal;
        if fatal && (is_fencing(code) || self.is_fenced()) {
            return self.broke(LogError::Fenced(self.id.clone()));
        }
        match abort && !fatal {
            true => LogError::Aborted(text),
            false => self.broke(LogError::Uncertain(text)),
        }
    }

    fn is_fenced(&self) -> bool {
        self.producer.client().fatal_error().is_some_and(|(code, _)| is_fencing(code))
    }

    fn broke(&mut self, error: LogError) -> LogError {
        self.open = false;
        self.broken = Some(error.clone());
        error
    }
}

/// Why a transactional call did not succeed.
enum Refused {
    Again,
    For(Refusal),
}

struct Refusal {
    code: Code,
    text: String,
    fatal: bool,
    abort: bool,
}

impl From<NativeError> for Refused {
    fn from(error: NativeError) -> Self {
        let NativeError { code, text, fatal, retriable, abort } = error;
        match retriable && !fatal && !abort {
            true => Self::Again,
            false => Self::For(Refusal { code, text, fatal, abort }),
        }
    }
}

impl From<KafkaError> for Refused {
    fn from(error: KafkaError) -> Self {
        match error {
            KafkaError::Transaction(error) if error.is_retriable() && !error.is_fatal() => Self::Again,
            KafkaError::Transaction(error) => Self::For(Refusal {
                code: error.code(),
                text: error.string(),
                fatal: error.is_fatal(),
                abort: error.txn_requires_abort(),
            }),
            other => Self::For(Refusal {
                code: other.rdkafka_error_code().unwrap_or(Code::Unknown),
                text: other.to_string(),
                fatal: false,
                abort: false,
            }),
        }
    }
}

/// Whether somebody else holds the id.
fn is_fencing(code: Code) -> bool {
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch | Code::InvalidProducerIdMapping)
}

impl TransactionalProducer for KafkaProducer {
    fn send(&mut self, record: ProducerRecord<'_>) -> Result<(), LogError> {
        self.usable()?;
        if record.partition >= self.lookup.partitions(record.topic)? {
            return Err(LogError::UnknownTopic(format!("{}/{}", record.topic, record.partition)));
        }
        self.begin()?;
        let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(record.topic).partition(record.partition as i32);
        (message.key, message.payload) = (record.key, record.value);
        message.headers = headers(record.headers.iter().copied());
        let deadline = Instant::now() + self.lookup.options.transaction_timeout;
        loop {
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) if Instant::now() < deadline => {
                    message = back;
                    std::thread::sleep(DRAIN_STEP);
                }
                Err((KafkaError::MessageProduction(Code::QueueFull), _)) => {
                    return Err(LogError::Aborted("the producer's queue stays full".to_owned()));
                }
                Err((KafkaError::MessageProduction(Code::MessageSizeTooLarge), _)) => {
                    let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
                    let to = format!("{}/{}", record.topic, record.partition);
                    return Err(LogError::Fatal(format!("{to}: a record of {bytes} bytes is too large for the log")));
                }
                Err((error, _)) => {
                    let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                    let fatal = code == Code::Fatal || is_fencing(code);
                    return Err(self.refused(Refusal { code, text: error.to_string(), fatal, abort: true }));
                }
            }
        }
    }

    fn send_offsets(
        &mut self,
        group: &GroupMetadata,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Result<(), LogError> {
        self.usable()?;
        let fatal = |error: KafkaError| LogError::Fatal(error.to_string());
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (at, committed) in offsets {
            let bytes = committed.metadata.len();
            if bytes > METADATA_BYTES_MAX {
                let most = METADATA_BYTES_MAX;
                return Err(LogError::Fatal(format!("{at}: {bytes} bytes of metadata; at most {most} are allowed")));
            }
            self.lookup.check(at)?;
            let mut element = list.add_partition(&at.topic, at.partition as i32);
            element.set_offset(Offset::Offset(committed.offset as i64)).map_err(fatal)?;
            element.set_metadata(&committed.metadata);
        }
        self.begin()?;
        self.drain()?;
        let group = group.clone();
        let sent = self.repeat(move |producer, timeout| {
            let client = producer.client().native_ptr();
            native::send_offsets(client, &list, &group, timeout).map_err(Refused::from)
        })?;
        sent.ok_or_else(|| LogError::Aborted("the group's offsets were not taken in time".to_owned()))
    }

    fn commit(&mut self) -> Result<(), LogError> {
        self.usable()?;
        if !self.open {
            return Ok(());
        }
        self.drain()?;
        match self.repeat(|producer, timeout| producer.commit_transaction(timeout).map_err(Refused::from))? {
            Some(()) => {
                self.open = false;
                Ok(())
            }
            None => Err(self.broke(LogError::Uncertain("the commit was not answered in time".to_owned()))),
        }
    }

    fn abort(&mut self) -> Result<(), LogError> {
        self.usable()?;
        if !self.open {
            return Ok(());
        }
        match self.repeat(|producer, timeout| producer.abort_transaction(timeout).map_err(Refused::from))? {
            Some(()) => {
                self.open = false;
                self.failed().take();
                Ok(())
            }
            None => Err(self.broke(LogError::Uncertain("the abort was not answered in time".to_owned()))),
        }
    }
}

/// Headers as the client wants them; None where there are none.
pub(super) fn headers<'a>(list: impl ExactSizeIterator<Item = (&'a str, &'a [u8])>) -> Option<OwnedHeaders> {
    (list.len() > 0).then(|| {
        let headers = OwnedHeaders::new_with_capacity(list.len());
        list.fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
    })
}
