//! Topics on Kafka: missing topics are created, existing ones verified, and brokers that are too old rejected.

use super::super::{Cleanup, LogError, TopicPartition, TopicSpec};
use super::context::Quiet;
use super::lookup::{Lookup, Which};
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Kafka's value for unlimited retention.
const FOR_EVER: &str = "-1";
/// A topic's names may not be longer.
const NAME_BYTES_MAX: usize = 249;
/// Settings of brokers before 4.0, which do not verify transactions on every append.
const OF_OLD_BROKERS: [&str; 2] = ["inter.broker.protocol.version", "zookeeper.connect"];

/// See the module.
pub(super) struct Topics {
    lookup: Arc<Lookup>,
    admin: AdminClient<Quiet>,
}

impl Topics {
    pub fn new(lookup: Arc<Lookup>) -> Result<Self, LogError> {
        let config = lookup.options.base();
        let admin =
            config.create_with_context(Quiet::default()).map_err(|e| LogError::Fatal(format!("Kafka client: {e}")))?;
        Ok(Self { lookup, admin })
    }

    /// Fails where a broker is older than 4.0, or does not verify transactions.
    pub fn check_brokers(&self) -> Result<(), LogError> {
        let metadata = self.lookup.ask(|left| self.lookup.any_client().fetch_metadata(Some("tally-unused"), left))?;
        for broker in metadata.brokers() {
            let found = self.describe(vec![ResourceSpecifier::Broker(broker.id())]);
            let Some(config) = found?.into_iter().next() else {
                tracing::warn!(broker = broker.id(), "the broker's version cannot be seen with these rights");
                continue;
            };
            let setting = |name: &str| config.get(name).and_then(|entry| entry.value.as_deref());
            let old = OF_OLD_BROKERS.iter().any(|name| config.get(name).is_some());
            let address = format!("{}:{}", broker.host(), broker.port());
            if old {
                return Err(LogError::Fatal(format!(
                    "broker {} at {address} is older than Kafka 4.0, which tally needs: older ones do not verify \
                     transactions on every append",
                    broker.id()
                )));
            }
            if setting("transaction.partition.verification.enable") == Some("false") {
                return Err(LogError::Fatal(format!(
                    "broker {} at {address} has transaction.partition.verification.enable=false: tally needs it true",
                    broker.id()
                )));
            }
        }
        Ok(())
    }

    /// See [`Log::ensure_topics`](super::super::Log::ensure_topics). Nothing is created unless everything fits.
    pub fn ensure(&self, specs: &[TopicSpec]) -> Result<(), LogError> {
        specs.iter().try_for_each(check_spec)?;
        let mut missing = Vec::new();
        let mut present = Vec::new();
        for spec in specs {
            if self.exists(spec)? { present.push(spec) } else { missing.push(spec) }
        }
        self.verify(&present)?;
        self.create(&missing)
    }

    /// See [`Log::refusals`](super::super::Log::refusals).
    pub fn refusals(&self, specs: &[TopicSpec]) -> Result<Vec<LogError>, LogError> {
        let mut refusals = Vec::new();
        for spec in specs {
            let checked = check_spec(spec).and_then(|()| self.exists(spec));
            match checked.and_then(|exists| if exists { self.verify(&[spec]) } else { Ok(()) }) {
                Err(refused @ LogError::Mismatch { .. }) => refusals.push(refused),
                outcome => outcome?,
            }
        }
        Ok(refusals)
    }

    /// Whether a topic exists; an error if it has another number of partitions.
    fn exists(&self, spec: &TopicSpec) -> Result<bool, LogError> {
        match self.lookup.partitions(&spec.name) {
            Ok(count) if count == spec.partitions => Ok(true),
            Ok(count) => {
                let wanted = spec.partitions;
                let detail = format!(
                    "has {count} partitions and is requested with {wanted}: request {count}, or use another topic"
                );
                Err(mismatch(spec, detail))
            }
            Err(LogError::UnknownTopic(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn verify(&self, present: &[&TopicSpec]) -> Result<(), LogError> {
        if present.is_empty() {
            return Ok(());
        }
        let asked = present.iter().map(|spec| ResourceSpecifier::Topic(&spec.name)).collect();
        let found: HashMap<String, ConfigResource> = self
            .describe(asked)?
            .into_iter()
            .filter_map(|config| match &config.specifier {
                OwnedResourceSpecifier::Topic(name) => Some((name.clone(), config)),
                _ => None,
            })
            .collect();
        for spec in present {
            let Some(config) = found.get(&spec.name) else {
                tracing::warn!(topic = spec.name, "its settings cannot be seen with these rights and are not verified");
                continue;
            };
            verify_topic(spec, config)?;
        }
        Ok(())
    }

    fn create(&self, missing: &[&TopicSpec]) -> Result<(), LogError> {
        if missing.is_empty() {
            return Ok(());
        }
        let retention: Vec<_> = missing.iter().map(|spec| retention_ms(spec)).collect();
        let copies = self.lookup.options.replication.map_or(-1, i32::from);
        let topics: Vec<_> = missing
            .iter()
            .zip(&retention)
            .map(|(spec, retention)| {
                NewTopic::new(&spec.name, spec.partitions as i32, TopicReplication::Fixed(copies))
                    .set("cleanup.policy", policy(spec.cleanup))
                    .set("retention.ms", retention)
                    .set("retention.bytes", FOR_EVER)
                    .set("message.timestamp.type", "LogAppendTime")
            })
            .collect();
        let options = AdminOptions::new()
            .request_timeout(Some(self.lookup.options.patience))
            .operation_timeout(Some(self.lookup.options.patience));
        let created = self.lookup.ask(|_| {
            let created = pollster::block_on(self.admin.create_topics(&topics, &options))?;
            settled(created, |(_, code)| *code)
        })?;
        for outcome in created {
            match outcome {
                Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(LogError::Fatal(format!("topic `{topic}` cannot be created: {code}")));
                }
            }
        }
        missing.iter().try_for_each(|spec| self.await_topic(spec))
    }

    /// Every broker knows the topic and its leaders only some time after it was created.
    fn await_topic(&self, spec: &TopicSpec) -> Result<(), LogError> {
        let deadline = Instant::now() + self.lookup.options.patience;
        let all: Vec<_> = (0..spec.partitions).map(|p| TopicPartition::new(spec.name.as_str(), p)).collect();
        loop {
            match self.lookup.offsets(&all, Which::CommittedEnd) {
                Ok(_) => return Ok(()),
                Err(LogError::UnknownTopic(_)) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The settings that the user's rights make visible.
    fn describe(&self, asked: Vec<ResourceSpecifier<'_>>) -> Result<Vec<ConfigResource>, LogError> {
        let options = AdminOptions::new().request_timeout(Some(self.lookup.options.patience));
        let found = self.lookup.ask(|_| {
            let found = pollster::block_on(self.admin.describe_configs(&asked, &options))?;
            settled(found, |code| *code)
        })?;
        found
            .into_iter()
            .filter_map(|found| match found {
                Ok(config) => Some(Ok(config)),
                Err(Code::ClusterAuthorizationFailed | Code::TopicAuthorizationFailed) => None,
                Err(code) => Some(Err(LogError::Fatal(format!("settings cannot be read: {code}")))),
            })
            .collect()
    }

    /// See [`Log::delete_records`](super::super::Log::delete_records).
    pub fn delete_records(&self, at: &TopicPartition, before: u64) -> Result<(), LogError> {
        self.lookup.check(at)?;
        match self.delete_below(at, before) {
            Err(error) if error.rdkafka_error_code() == Some(Code::OffsetOutOfRange) => {
                let end = self.lookup.offsets(std::slice::from_ref(at), Which::CommittedEnd)?[0];
                self.lookup.ask(|_| self.delete_below(at, before.min(end)))
            }
            Err(_) => self.lookup.ask(|_| self.delete_below(at, before)),
            Ok(()) => Ok(()),
        }
    }

    fn delete_below(&self, at: &TopicPartition, before: u64) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&at.topic, at.partition as i32, Offset::Offset(before as i64))?;
        let options = AdminOptions::new().request_timeout(Some(self.lookup.options.patience));
        let deleted = pollster::block_on(self.admin.delete_records(&list, &options))?;
        // The call succeeds even if a partition rejects it.
        deleted.elements().iter().try_for_each(|element| element.error())
    }
}

/// Final outcomes; if any may soon change, the query is repeated.
fn settled<T, E>(outcomes: Vec<Result<T, E>>, code: impl Fn(&E) -> Code) -> Result<Vec<Result<T, E>>, KafkaError> {
    let passes = |code: &Code| {
        matches!(
            code,
            Code::BrokerTransportFailure
                | Code::LeaderNotAvailable
                | Code::NotController
                | Code::OperationTimedOut
                | Code::RequestTimedOut
        )
    };
    match outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).map(code).find(passes) {
        Some(code) => Err(KafkaError::AdminOp(code)),
        None => Ok(outcomes),
    }
}

fn check_spec(spec: &TopicSpec) -> Result<(), LogError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if spec.name.is_empty() || !spec.name.chars().all(allowed) {
        return Err(mismatch(spec, "cannot be called that: names are of A-Za-z0-9._-".to_owned()));
    }
    if spec.name.len() > NAME_BYTES_MAX {
        return Err(mismatch(spec, format!("has a name of more than {NAME_BYTES_MAX} characters")));
    }
    if spec.partitions == 0 {
        return Err(mismatch(spec, "needs at least one partition".to_owned()));
    }
    Ok(())
}

fn verify_topic(spec: &TopicSpec, config: &ConfigResource) -> Result<(), LogError> {
    let setting = |name: &str| config.get(name).and_then(|entry| entry.value.as_deref()).unwrap_or_default();
    let mut found: Vec<_> = setting("cleanup.policy").split(',').map(str::trim).collect();
    found.sort_unstable();
    let has = match found.as_slice() {
        ["compact"] => Some(Cleanup::Compact),
        ["delete"] => Some(Cleanup::Delete),
        ["compact", "delete"] => Some(Cleanup::CompactAndDelete),
        _ => None,
    };
    if has != Some(spec.cleanup) {
        let (is, asked) = (has.map_or_else(|| found.join(","), |has| has.to_string()), spec.cleanup);
        let set = policy(asked);
        return Err(mismatch(
            spec,
            format!("has cleanup {is}, and {asked} is requested: set cleanup.policy={set} on it"),
        ));
    }
    let kind = setting("message.timestamp.type");
    if kind != "LogAppendTime" {
        let detail = format!("has message.timestamp.type={kind}: set it to LogAppendTime, for time is the log's here");
        return Err(mismatch(spec, detail));
    }
    // A longer retention is harmless to readers; a shorter one loses records that were promised.
    let (kept_ms, asked_ms) = (setting("retention.ms").parse::<i64>().unwrap_or(-1), retention_ms(spec));
    let enough = |kept: i64, asked: i64| kept < 0 || (asked >= 0 && kept >= asked);
    if spec.cleanup != Cleanup::Compact && !enough(kept_ms, asked_ms.parse().unwrap_or(-1)) {
        let detail = format!(
            "keeps records for {kept_ms} ms, and {asked_ms} ms are requested (-1: without limit): \
             set retention.ms={asked_ms} on it, or request less in topology.yaml"
        );
        return Err(mismatch(spec, detail));
    }
    let bytes = setting("retention.bytes").parse::<i64>().unwrap_or(-1);
    if spec.cleanup != Cleanup::Compact && bytes >= 0 {
        let detail = format!("is cut at {bytes} bytes whatever its age: set retention.bytes=-1 on it");
        return Err(mismatch(spec, detail));
    }
    Ok(())
}

fn policy(cleanup: Cleanup) -> &'static str {
    match cleanup {
        Cleanup::Delete => "delete",
        Cleanup::Compact => "compact",
        Cleanup::CompactAndDelete => "compact,delete",
    }
}

fn retention_ms(spec: &TopicSpec) -> String {
    spec.retention.map_or_else(|| FOR_EVER.to_owned(), |kept| kept.as_millis().to_string())
}

fn mismatch(spec: &TopicSpec, detail: String) -> LogError {
    LogError::Mismatch { topic: spec.name.clone(), detail }
}
