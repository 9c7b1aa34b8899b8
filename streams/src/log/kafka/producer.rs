//! The transactional producer on Kafka.
//!
//! Order within a transaction: records, all of them acknowledged, then offsets, then the commit. So if a group's
//! offsets were accepted, the records that belong to them are in their partitions.

use super::super::{
    CommittedOffset, GroupMetadata, LogError, ProducerRecord, Readiness, TopicPartition, TransactionalProducer,
};
use super::lookup::Lookup;
use super::native::{NativeError, NativeProducer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::time::{Duration, Instant};

/// The longest metadata of a committed offset.
const METADATA_BYTES_MAX: usize = 4096;
/// Between checks of the deadline, while records are in flight.
const DRAIN_STEP: Duration = Duration::from_millis(100);
/// Until errors of delivery are reported when nothing is on its way any more.
const TELL_STEP: Duration = Duration::from_micros(200);
/// Between tries of a call that the client wants repeated.
const RETRY: Duration = Duration::from_millis(5);
/// A call that has not returned this long after its timeout never will: librdkafka 2.12 drops responses that it
/// considers outdated (`rd_kafka_txn_handle_TxnOffsetCommit`), and the caller waits forever.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// The first replacement of a producer is immediate; each further one follows a pause that doubles until a transaction
/// ends without doubt.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LAST: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct KafkaProducer {
    lookup: Arc<Lookup>,
    id: String,
    client: Arc<NativeProducer>,
    /// The client that takes this one's place: see [`KafkaProducer::replace`].
    replacement: Option<mpsc::Receiver<Result<NativeProducer, LogError>>>,
    /// Replacements since the last transaction without a doubt.
    replacements: u32,
    /// A transaction has begun.
    open: bool,
    /// Why nothing can be done any more: the client must be dropped.
    broken: Option<LogError>,
}

/// Takes an id over: its former holder is fenced, and the holder's open transaction ended.
fn connect(lookup: &Lookup, id: &str) -> Result<NativeProducer, LogError> {
    let client = NativeProducer::start(&lookup.options.transactional(id))
        .map_err(|e| LogError::Fatal(format!("Kafka client `{id}`: {e}")))?;
    let deadline = Instant::now() + lookup.options.patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match client.init_transactions(left) {
            Ok(()) => return Ok(client),
            Err(error) if error.retriable && Instant::now() < deadline => std::thread::sleep(RETRY),
            // Two producers took the id over at the same time: the earlier one is fenced.
            Err(error) if error.fatal && is_fencing(error.code) => return Err(LogError::Fenced(id.to_owned())),
            Err(error) if error.retriable => return Err(lookup.options.unavailable(error.text)),
            Err(error) => {
                let (brokers, text) = (&lookup.options.brokers, error.text);
                return Err(LogError::Fatal(format!("Kafka at {brokers}: transactional id `{id}`: {text}")));
            }
        }
    }
}

impl KafkaProducer {
    /// Takes the id over: its former holder is fenced, and the holder's open transaction ended.
    pub fn new(lookup: Arc<Lookup>, id: &str) -> Result<Self, LogError> {
        let client = Arc::new(connect(&lookup, id)?);
        Ok(Self { lookup, id: id.to_owned(), client, replacement: None, replacements: 0, open: false, broken: None })
    }

    /// Starts to replace a client whose lost requests may still arrive: taking over the id again gives a new epoch,
    /// under which they have no effect. This takes half a second or more, so it happens on a thread of its own. No
    /// transaction may be open, or it must be aborted.
    fn replace(&mut self) -> Result<(), LogError> {
        self.open = false;
        let pause = pause_before(self.replacements, RandomState::new().hash_one(&self.id));
        self.replacements = self.replacements.saturating_add(1);
        tracing::warn!(
            id = self.id,
            pause_ms = pause.as_millis() as u64,
            "an answer to a request of a transaction was lost: the request may arrive later, so the producer is replaced"
        );
        let (lookup, id) = (self.lookup.clone(), self.id.clone());
        let (tell, told) = mpsc::sync_channel(1);
        let connect = move || {
            std::thread::sleep(pause);
            // The receiver may be gone.
            let _ = tell.send(connect(&lookup, &id));
        };
        let thread = std::thread::Builder::new().name("producer-new".to_owned()).spawn(connect);
        thread.map_err(|error| LogError::Unavailable(format!("no thread for a producer: {error}")))?;
        self.replacement = Some(told);
        Ok(())
    }

    /// The error that blocks all requests, if any.
    fn usable(&self) -> Result<(), LogError> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    fn begin(&mut self) -> Result<(), LogError> {
        self.usable()?;
        if self.open {
            return Ok(());
        }
        let deadline = Instant::now() + self.lookup.options.patience;
        while self.readiness()? == Readiness::Waiting {
            if Instant::now() > deadline {
                return Err(self.lookup.options.unavailable("the producer is still being replaced"));
            }
            std::thread::sleep(RETRY);
        }
        self.client.take_failed();
        match self.client.begin_transaction() {
            Ok(()) => {
                self.open = true;
                Ok(())
            }
            // Fenced while nothing was open: this is the first call to notice.
            Err(error) => {
                let NativeError { code, text, .. } = error;
                Err(self.refused(Refusal { code, text, fatal: true, abort: false }))
            }
        }
    }

    /// Sends what waits for a full batch, and waits until every record is acknowledged.
    fn drain(&mut self) -> Result<(), LogError> {
        let deadline = Instant::now() + self.lookup.options.transaction_timeout;
        while self.client.in_flight_count() > 0 {
            if Instant::now() > deadline {
                return Err(LogError::Aborted("records were not acknowledged in time".to_owned()));
            }
            if self.client.flush(DRAIN_STEP) && self.client.in_flight_count() > 0 {
                std::thread::sleep(TELL_STEP);
            }
        }
        match self.client.take_failed() {
            None => Ok(()),
            Some((code, text)) => {
                let fatal = is_fencing(code) || self.client.fatal_error().is_some();
                Err(self.refused(Refusal { code, text, fatal, abort: true }))
            }
        }
    }

    /// Repeats a call for as long as the client wants it repeated. `None`: it timed out, and its outcome is unknown.
    ///
    /// Runs on a separate thread, which is abandoned with the client if the call never returns.
    fn repeat(
        &mut self,
        call: impl Fn(&NativeProducer, Duration) -> Result<(), NativeError> + Send + 'static,
    ) -> Result<Option<()>, LogError> {
        let timeout = self.lookup.options.transaction_timeout;
        let (client, (answer, answered)) = (self.client.clone(), mpsc::sync_channel(1));
        let repeated = move || {
            let deadline = Instant::now() + timeout;
            let outcome = loop {
                match call(&client, timeout).map_err(Refused::from) {
                    Err(Refused::Again) if Instant::now() < deadline => std::thread::sleep(RETRY),
                    outcome => break outcome,
                }
            };
            drop(client);
            // The receiver may be gone.
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
        self.client.fatal_error().is_some_and(is_fencing)
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

/// Whether another producer holds the id.
fn is_fencing(code: Code) -> bool {
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch | Code::InvalidProducerIdMapping)
}

/// How long to wait before a replacement that follows `replacements` others. `random` keeps producers that met the same
/// fault from coming back at the same moment.
fn pause_before(replacements: u32, random: u64) -> Duration {
    if replacements == 0 {
        return Duration::ZERO;
    }
    let most = BACKOFF_FIRST.saturating_mul(1 << (replacements - 1).min(16)).min(BACKOFF_LAST);
    let half_ms = most.as_millis() as u64 / 2;
    Duration::from_millis(half_ms + random % (half_ms + 1))
}

impl TransactionalProducer for KafkaProducer {
    fn readiness(&mut self) -> Result<Readiness, LogError> {
        self.usable()?;
        let Some(replacement) = &self.replacement else {
            if self.open || !self.client.has_lost() {
                return Ok(Readiness::Ready);
            }
            return self.replace().map(|()| Readiness::Waiting);
        };
        let outcome = match replacement.try_recv() {
            Err(TryRecvError::Empty) => return Ok(Readiness::Waiting),
            Err(TryRecvError::Disconnected) => Err(LogError::Uncertain("a producer's thread ended".to_owned())),
            Ok(outcome) => outcome,
        };
        self.replacement = None;
        match outcome {
            Ok(client) => {
                let former = std::mem::replace(&mut self.client, Arc::new(client));
                // Closing takes as long as its requests under way.
                std::thread::spawn(move || drop(former));
                Ok(Readiness::Renewed)
            }
            Err(LogError::Unavailable(reason)) => {
                tracing::warn!(id = self.id, reason, "a producer could not be replaced; trying again");
                self.replace().map(|()| Readiness::Waiting)
            }
            Err(error) => Err(self.broke(error)),
        }
    }

    fn send(&mut self, record: ProducerRecord<'_>) -> Result<(), LogError> {
        self.usable()?;
        if record.partition >= self.lookup.partitions(record.topic)? {
            return Err(LogError::UnknownTopic(format!("{}/{}", record.topic, record.partition)));
        }
        self.begin()?;
        let deadline = Instant::now() + self.lookup.options.transaction_timeout;
        loop {
            let Err(error) = self.client.send(&record) else { return Ok(()) };
            match error.code {
                Code::QueueFull if Instant::now() < deadline => std::thread::sleep(DRAIN_STEP),
                Code::QueueFull => return Err(LogError::Aborted("the producer's queue stays full".to_owned())),
                Code::MessageSizeTooLarge => {
                    let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
                    let to = format!("{}/{}", record.topic, record.partition);
                    return Err(LogError::Fatal(format!("{to}: a record of {bytes} bytes is too large for the log")));
                }
                code => {
                    let fatal = code == Code::Fatal || is_fencing(code);
                    return Err(self.refused(Refusal { code, text: error.text, fatal, abort: true }));
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
        let sent = self.repeat(move |client, timeout| client.send_offsets(&list, &group, timeout))?;
        sent.ok_or_else(|| LogError::Aborted("the group's offsets were not taken in time".to_owned()))
    }

    fn commit(&mut self) -> Result<(), LogError> {
        self.usable()?;
        if !self.open {
            return Ok(());
        }
        self.drain()?;
        let committed = self.repeat(NativeProducer::commit_transaction);
        match committed {
            Ok(Some(())) => {
                self.open = false;
                if !self.client.has_lost() {
                    self.replacements = 0;
                }
                Ok(())
            }
            Ok(None) => Err(self.broke(LogError::Uncertain("the commit was not answered in time".to_owned()))),
            // The client may report an abort although a request to commit is still in flight.
            Err(LogError::Aborted(reason)) if self.client.has_lost_end() => {
                Err(self.broke(LogError::Uncertain(reason)))
            }
            Err(error) => Err(error),
        }
    }

    fn abort(&mut self) -> Result<(), LogError> {
        self.usable()?;
        if !self.open {
            return Ok(());
        }
        if self.client.has_lost() {
            // A successor that takes the id over ends its open transaction.
            return self.replace();
        }
        match self.repeat(NativeProducer::abort_transaction)? {
            Some(()) => {
                self.open = false;
                self.client.take_failed();
                Ok(())
            }
            None => Err(self.broke(LogError::Uncertain("the abort was not answered in time".to_owned()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_is_replaced_at_once_and_then_after_longer_and_longer_pauses() {
        assert_eq!(pause_before(0, u64::MAX), Duration::ZERO);
        let bounds = |replacements| (pause_before(replacements, 0), pause_before(replacements, 25 + 26 * 1_000));
        assert_eq!(bounds(1), (Duration::from_millis(25), Duration::from_millis(50)));
        for replacements in 2..100 {
            assert!(pause_before(replacements, 0) >= pause_before(replacements - 1, 0));
            assert!((0..5_000).all(|random| pause_before(replacements, random) <= BACKOFF_LAST));
        }
    }
}
