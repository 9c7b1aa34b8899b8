//! Client configuration for a Kafka cluster: what tally sets, and what its user may set.

use super::super::LogError;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use std::time::Duration;

/// How a cluster is reached.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// Properties of librdkafka for all clients: TLS, SASL, buffers. Those that decide about correctness are refused.
    pub properties: Vec<(String, String)>,
    /// How long a call waits for the cluster before it returns [`LogError::Unavailable`].
    pub patience: Duration,
    /// The group removes a member without a heartbeat for this long.
    pub session_timeout: Duration,
    /// The log ends a transaction that has been open for this long. Longer than any commit takes.
    pub transaction_timeout: Duration,
    /// Copies of each partition of topics that are created; None is the cluster's default.
    pub replication: Option<u16>,
}

/// Set by tally alone, because exactly-once depends on it.
const RESERVED: [&str; 18] = [
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "isolation.level",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "request.required.acks",
    "session.timeout.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

/// A line that is no property, or a reserved property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropertyError {
    /// From 1.
    pub line: usize,
    /// What is wrong. Never contains a value.
    pub reason: String,
}

impl KafkaOptions {
    /// A cluster at `brokers`, without TLS and SASL.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            properties: Vec::new(),
            patience: Duration::from_secs(10),
            session_timeout: Duration::from_secs(6),
            transaction_timeout: Duration::from_secs(10),
            replication: None,
        }
    }

    /// Reads properties from lines of `name=value`; empty lines and those that begin with `#` are skipped.
    pub fn with_properties(mut self, text: &str) -> Result<Self, PropertyError> {
        for (line, property) in (1..).zip(text.lines()) {
            let property = property.trim();
            if property.is_empty() || property.starts_with('#') {
                continue;
            }
            self.take_property(property).map_err(|reason| PropertyError { line, reason })?;
        }
        let protocol = self.properties.iter().rev().find(|(name, _)| name == "security.protocol");
        let protocol = protocol.map_or_else(|| "plaintext".to_owned(), |(_, value)| value.to_ascii_lowercase());
        for (line, property) in (1..).zip(text.lines()) {
            let name = property.split('=').next().unwrap_or_default().trim();
            if let Some(protocols) = protocols_of(name).filter(|protocols| !protocols.contains(&&*protocol)) {
                let protocols = protocols.iter().map(|name| name.to_uppercase()).collect::<Vec<_>>().join(" or ");
                let reason = format!("`{name}` has no effect: set security.protocol to {protocols}, or leave it out");
                return Err(PropertyError { line, reason });
            }
        }
        Ok(self)
    }

    /// The value may be a secret: no reason repeats it.
    fn take_property(&mut self, property: &str) -> Result<(), String> {
        let (name, value) = property.split_once('=').ok_or("write name=value")?;
        let (name, value) = (name.trim(), value.trim());
        if RESERVED.contains(&name) {
            return Err(format!("`{name}` is set by tally and cannot be chosen"));
        }
        if name == "tally.replication.factor" {
            let copies = value.parse().ok().filter(|copies| (1..=i16::MAX as u16).contains(copies));
            self.replication = Some(copies.ok_or_else(|| format!("`{name}` is a number of copies"))?);
            return Ok(());
        }
        match ClientConfig::new().set(name, value).create_native_config() {
            Ok(_) => {}
            Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
                return Err(format!("there is no client property `{name}`"));
            }
            Err(_) => return Err(format!("the value of `{name}` is none that it can have")),
        }
        self.properties.push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    /// What all clients have in common.
    pub(super) fn base(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("client.id", "tally")
            .set("bootstrap.servers", &self.brokers)
            .set("allow.auto.create.topics", "false")
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            // The default of 10 s would be how long a broker that is back goes unnoticed.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "500")
            .set("topic.metadata.refresh.fast.interval.ms", "50")
            .set("topic.metadata.propagation.max.ms", "2000");
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
    }

    /// A consumer that is assigned by hand.
    pub(super) fn reader(&self, committed_only: bool) -> ClientConfig {
        let mut config = self.base();
        let isolation = if committed_only { "read_committed" } else { "read_uncommitted" };
        config
            // Assigning needs one; nothing is ever committed under it.
            .set("group.id", "tally-unused")
            .set("isolation.level", isolation)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            // A partition assigned while a fetch waits is fetched only after it.
            .set("fetch.wait.max.ms", "100")
            .set("fetch.queue.backoff.ms", "2")
            .set("fetch.error.backoff.ms", "100")
            .set("queued.max.messages.kbytes", "16384");
        config
    }

    /// A member of a group that reads nothing by itself.
    pub(super) fn member(&self, group: &str, member: &str) -> ClientConfig {
        let mut config = self.base();
        let session_ms = self.session_timeout.as_millis();
        config
            .set("group.id", group)
            .set("group.instance.id", member)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", session_ms.to_string())
            .set("heartbeat.interval.ms", (session_ms / 20).max(1).to_string())
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error");
        config
    }

    /// What producers have in common.
    fn writer(&self) -> ClientConfig {
        let mut config = self.base();
        config
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("batch.num.messages", "100000")
            .set("queue.buffering.max.messages", "1000000")
            // A broker takes 1 MiB of batch by default, and reports that only when it is sent more.
            .set("message.max.bytes", "1048576");
        config
    }

    /// A transactional producer.
    pub(super) fn transactional(&self, id: &str) -> ClientConfig {
        let mut config = self.writer();
        config
            .set("transactional.id", id)
            .set("transaction.timeout.ms", self.transaction_timeout.as_millis().to_string())
            // Records become visible only with the commit, which flushes them. So only full batches are sent before.
            .set("linger.ms", "1000")
            .set("delivery.report.only.error", "true");
        config
    }

    /// A producer beyond transactions.
    pub(super) fn appender(&self, queue_bytes_max: usize) -> ClientConfig {
        let mut config = self.writer();
        config
            .set("message.timeout.ms", "5000")
            // The appender itself gathers what goes together.
            .set("linger.ms", "0")
            .set("queue.buffering.max.kbytes", (queue_bytes_max >> 10).max(1).to_string());
        config
    }

    /// The cluster's answer took too long, or none came.
    pub(super) fn unavailable(&self, error: impl std::fmt::Display) -> LogError {
        LogError::Unavailable(format!("Kafka at {}: {error}", self.brokers))
    }
}

/// The protocols of a property of TLS or SASL. With others librdkafka ignores it.
fn protocols_of(name: &str) -> Option<&'static [&'static str]> {
    match name.split('.').next() {
        Some("sasl") => Some(&["sasl_ssl", "sasl_plaintext"]),
        Some("ssl") => Some(&["ssl", "sasl_ssl"]),
        _ if name == "enable.ssl.certificate.verification" => Some(&["ssl", "sasl_ssl"]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_checked_where_they_are_read() {
        let parse = |text: &str| KafkaOptions::new("localhost:9092").with_properties(text);
        let options =
            parse("# comment\n\nsecurity.protocol = SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=u\n").unwrap();
        assert_eq!(options.properties[0], ("security.protocol".to_owned(), "SASL_SSL".to_owned()));
        for (text, line, reason) in [
            ("\nisolation.level=read_uncommitted", 2, "`isolation.level` is set by tally and cannot be chosen"),
            ("secret", 1, "write name=value"),
            ("no.such.property=secret", 1, "there is no client property `no.such.property`"),
            ("# TLS\nsecurity.protocol=secret", 2, "the value of `security.protocol` is none that it can have"),
            ("socket.timeout.ms = secret", 1, "the value of `socket.timeout.ms` is none that it can have"),
            ("tally.replication.factor=0", 1, "`tally.replication.factor` is a number of copies"),
            (
                "ssl.ca.location=/secret\nsasl.mechanism=PLAIN",
                1,
                "`ssl.ca.location` has no effect: set security.protocol to SSL or SASL_SSL, or leave it out",
            ),
            (
                "security.protocol=ssl\nssl.ca.location=/secret\nsasl.mechanism=PLAIN",
                3,
                "`sasl.mechanism` has no effect: set security.protocol to SASL_SSL or SASL_PLAINTEXT, or leave it out",
            ),
            (
                "enable.ssl.certificate.verification=false\nsecurity.protocol=sasl_plaintext",
                1,
                "`enable.ssl.certificate.verification` has no effect: set security.protocol to SSL or SASL_SSL, or leave it \
                 out",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), PropertyError { line, reason: reason.to_owned() });
        }
        assert_eq!(parse("tally.replication.factor=3").unwrap().replication, Some(3));
    }
}
