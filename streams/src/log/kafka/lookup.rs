//! Queries to the cluster: partitions, bounds, committed offsets. They use clients of their own, since a request on a
//! consuming client waits behind its open fetch.

use super::super::{CommittedOffset, LogError, TopicPartition};
use super::context::Quiet;
use super::options::KafkaOptions;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Pause between attempts of a query.
const RETRY: Duration = Duration::from_millis(50);
/// A client that has not answered a query for offsets after this time is queried again.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Pause between checks why there is no first response.
const MEET_STEP: Duration = Duration::from_millis(500);
/// How long a poll may wait for what the client reports.
const EVENTS_WAIT: Duration = Duration::from_millis(20);
/// A client that reports so often in a row that it knows no such partition is replaced.
const UNKNOWN_MAX: u32 = 3;

/// See the module.
pub(super) struct Lookup {
    pub options: KafkaOptions,
    /// Reads committed records only.
    committed: Asker,
    /// Reads all records. A query of offsets does not wait for open transactions here.
    uncommitted: Asker,
    /// Topics do not change their number of partitions while tally runs.
    partitions: Mutex<HashMap<String, u32>>,
    /// A client for each queried group.
    groups: Mutex<HashMap<String, Arc<BaseConsumer<Quiet>>>>,
}

/// A client for queries. It caches a broker's metadata of a topic for a quarter of an hour, even if that broker had
/// just restarted and did not know the topic's partitions: then the client is replaced.
struct Asker {
    config: ClientConfig,
    client: Mutex<Arc<BaseConsumer<Quiet>>>,
}

impl Asker {
    fn new(config: ClientConfig) -> Result<Self, LogError> {
        let client = Mutex::new(connect(&config)?);
        Ok(Self { config, client })
    }

    fn client(&self) -> Arc<BaseConsumer<Quiet>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces a client, unless another thread has done so.
    fn replace(&self, former: &Arc<BaseConsumer<Quiet>>) -> Result<(), LogError> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&client, former) {
            *client = connect(&self.config)?;
        }
        Ok(())
    }
}

fn connect(config: &ClientConfig) -> Result<Arc<BaseConsumer<Quiet>>, LogError> {
    let client = config.create_with_context(Quiet::default());
    client.map(Arc::new).map_err(|e| LogError::Fatal(format!("Kafka client: {e}")))
}

/// An answer of which no part is an error.
fn whole(answer: TopicPartitionList) -> Result<TopicPartitionList, KafkaError> {
    answer.elements().iter().try_for_each(|element| element.error())?;
    Ok(answer)
}

/// Whether a client reports that there is no such partition.
fn is_unknown(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    matches!(error.rdkafka_error_code(), Some(UnknownPartition | UnknownTopic | UnknownTopicOrPartition))
}

impl Lookup {
    pub fn new(options: KafkaOptions) -> Result<Self, LogError> {
        let (committed, uncommitted) = (Asker::new(options.reader(true))?, Asker::new(options.reader(false))?);
        let (partitions, groups) = (Mutex::default(), Mutex::default());
        Ok(Self { options, committed, uncommitted, partitions, groups })
    }

    /// A client for queries that depend on neither group nor isolation level.
    pub fn any_client(&self) -> Arc<BaseConsumer<Quiet>> {
        self.committed.client()
    }

    /// Repeats a query until it succeeds, the time is up, or the error is permanent.
    pub fn ask<T>(&self, mut question: impl FnMut(Duration) -> Result<T, KafkaError>) -> Result<T, LogError> {
        let deadline = Instant::now() + self.options.patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            match question(left) {
                Ok(answer) => return Ok(answer),
                Err(error) if Instant::now() + RETRY >= deadline => return Err(self.unreached(&error)),
                Err(error) if passes(&error) => std::thread::sleep(RETRY),
                Err(error) => return Err(LogError::Fatal(format!("Kafka at {}: {error}", self.options.brokers))),
            }
        }
    }

    /// Connects to the cluster for the first time. Fails immediately if the cluster rejects this client, since waiting
    /// does not change that.
    pub fn meet(&self, deadline: Instant) -> Result<(), LogError> {
        loop {
            let client = self.committed.client();
            let Err(error) = client.fetch_metadata(Some("tally-unused"), MEET_STEP) else { return Ok(()) };
            let reported = self.last_error();
            if let Some((code @ (RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL), reason)) = &reported
                && let Some(refusal) = refusal(*code, reason)
            {
                return Err(LogError::Fatal(format!("Kafka at {}: {refusal}", self.options.brokers)));
            }
            if Instant::now() >= deadline {
                return Err(self.unreached(&error));
            }
        }
    }

    /// The last cause that the client reported.
    fn last_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        // Reports wait in a queue that only this empties. A poll without a timeout ends at the first line of the log.
        let client = self.committed.client();
        while client.poll(EVENTS_WAIT).is_some() {}
        client.context().last_error()
    }

    /// The error if nothing answered, with the cause that the client reported, which is not part of `error`.
    fn unreached(&self, error: &KafkaError) -> LogError {
        match self.last_error() {
            Some((_, reason)) => self.options.unavailable(plain(&reason)),
            None => self.options.unavailable(error),
        }
    }

    /// Number of partitions of a topic in the cluster; None if the topic does not exist.
    pub fn look_up(&self, topic: &str) -> Result<Option<u32>, LogError> {
        // Right after creation a broker may not know a topic yet, or not its leaders.
        self.ask(|left| {
            let metadata = self.committed.client().fetch_metadata(Some(topic), left)?;
            let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
            match found.error().map(RDKafkaErrorCode::from) {
                None => Ok(Some(found.partitions().len() as u32).filter(|count| *count > 0)),
                Some(code @ RDKafkaErrorCode::LeaderNotAvailable) => Err(KafkaError::MetadataFetch(code)),
                Some(_) => Ok(None),
            }
        })
    }

    /// Number of partitions of a topic.
    pub fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        if let Some(known) = self.known().get(topic) {
            return Ok(*known);
        }
        if topic.contains('\0') {
            return Err(LogError::UnknownTopic(topic.to_owned()));
        }
        let found = self.look_up(topic)?;
        let count = found.ok_or_else(|| LogError::UnknownTopic(topic.to_owned()))?;
        self.known().insert(topic.to_owned(), count);
        Ok(count)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, u32>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails where there is no such partition.
    pub fn check(&self, at: &TopicPartition) -> Result<(), LogError> {
        match self.partitions(&at.topic)? > at.partition {
            true => Ok(()),
            false => Err(LogError::UnknownTopic(at.to_string())),
        }
    }

    /// The start offsets or the end offsets, of committed records or of all records.
    pub fn offsets(&self, of: &[TopicPartition], which: Which) -> Result<Vec<u64>, LogError> {
        // The client does not answer an empty query.
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let mut asked = TopicPartitionList::with_capacity(of.len());
        for at in of {
            self.check(at)?;
            let time = if which == Which::Start { Offset::Beginning } else { Offset::End };
            asked.add_partition_offset(&at.topic, at.partition as i32, time).map_err(fatal)?;
        }
        let asker = if which == Which::WrittenEnd { &self.uncommitted } else { &self.committed };
        let mut unknown = 0;
        let answer = self.ask(|left| {
            let client = asker.client();
            let answer = client.offsets_for_times(asked.clone(), left.min(ANSWER_WITHIN)).and_then(whole);
            // `check` has found the partitions, so the client's metadata is outdated.
            if answer.as_ref().is_err_and(is_unknown) {
                unknown += 1;
                if unknown == UNKNOWN_MAX {
                    unknown = 0;
                    asker.replace(&client).map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
                }
            }
            answer
        })?;
        let offset = |at: &TopicPartition| match answer.find_partition(&at.topic, at.partition as i32)?.offset() {
            Offset::Offset(offset) => u64::try_from(offset).ok(),
            _ => None,
        };
        of.iter().map(|at| offset(at).ok_or_else(|| self.options.unavailable(format!("no offset for {at}")))).collect()
    }

    /// What the group has committed; pending transactions are neither waited for nor seen.
    pub fn committed(&self, group: &str, at: &TopicPartition) -> Result<Option<CommittedOffset>, LogError> {
        self.check(at)?;
        let client = self.client_of(group)?;
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&at.topic, at.partition as i32);
        let answer = self.ask(|left| client.committed_offsets(asked.clone(), left).and_then(whole))?;
        let found = answer.find_partition(&at.topic, at.partition as i32);
        Ok(found.and_then(|element| match element.offset() {
            Offset::Offset(offset) if offset >= 0 => {
                Some(CommittedOffset { offset: offset as u64, metadata: element.metadata().to_owned() })
            }
            _ => None,
        }))
    }
}

impl Lookup {
    /// A client that queries a group's offsets without waiting for open transactions.
    fn client_of(&self, group: &str) -> Result<Arc<BaseConsumer<Quiet>>, LogError> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = groups.get(group) {
            return Ok(client.clone());
        }
        let mut config = self.options.reader(false);
        config.set("group.id", group);
        let client = connect(&config)?;
        groups.insert(group.to_owned(), client.clone());
        Ok(client)
    }
}

/// Which offsets of a partition.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// The oldest that is kept.
    Start,
    /// After what is committed.
    CommittedEnd,
    /// After everything.
    WrittenEnd,
}

/// What an operator has to change after an error of TLS or SASL; None where it may pass: a connection that ended in
/// the middle of a handshake.
fn refusal(code: RDKafkaErrorCode, reason: &str) -> Option<String> {
    let text = plain(reason);
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if code == RDKafkaErrorCode::Authentication {
        return Some(format!("it does not accept the login: {text}: check sasl.* in the client properties"));
    }
    if has(&["certificate verify failed", "certificate"]) {
        return Some(format!(
            "its certificate is not accepted, since an unknown authority signed it or it names another host: {text}: check \
             ssl.ca.location in the client properties, and to the name in --log"
        ));
    }
    if has(&["wrong version number", "packet length too long", "unknown protocol", "http request"]) {
        return Some(format!(
            "its listener does not speak TLS: {text}: check security.protocol in the client properties"
        ));
    }
    let passes = has(&["Disconnected", "onnection reset", "unexpected eof", "Broken pipe", "timed out"]);
    (!passes).then(|| format!("no TLS with it: {text}: check ssl.* in the client properties"))
}

/// The error of a connection as librdkafka words it, without the name of its socket in front and its age behind.
fn plain(reason: &str) -> &str {
    let text = reason.split_once("/bootstrap: ").map_or(reason, |(_, text)| text);
    text.rsplit_once(" (after ").map_or(text, |(text, _)| text)
}

fn fatal(error: KafkaError) -> LogError {
    LogError::Fatal(error.to_string())
}

/// Whether the same call may succeed later.
fn passes(error: &KafkaError) -> bool {
    let code = match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    };
    code.is_some_and(code_passes)
}

fn code_passes(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    let never = [
        Code::Authentication,
        Code::ClusterAuthorizationFailed,
        Code::Fatal,
        Code::GroupAuthorizationFailed,
        Code::InvalidArgument,
        Code::InvalidConfig,
        Code::PolicyViolation,
        Code::SaslAuthenticationFailed,
        Code::SSL,
        Code::TopicAuthorizationFailed,
        Code::TransactionalIdAuthorizationFailed,
        Code::UnsupportedSASLMechanism,
        Code::UnsupportedVersion,
    ];
    !never.contains(&code)
}
