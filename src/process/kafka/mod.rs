//! Kafka as the log of a process: its brokers, its client properties, and the check for hanging transactions.

mod standing;

pub use standing::StandingWatch;

use super::log::failure;
use crate::commands::Failure;
use std::path::Path;
use std::sync::Arc;
use tally_streams::log::Log;
use tally_streams::log::kafka::{KafkaLog, KafkaOptions};

/// The brokers of a cluster: `host:port`, separated by commas.
#[derive(Clone, Debug, PartialEq)]
pub struct Brokers(String);

impl Brokers {
    /// Reads what follows `kafka:` in an address, and gives every broker a port.
    pub fn parse(rest: &str) -> Result<Self, Failure> {
        let wrong =
            |what: &str| Err(Failure::usage(format!("--log kafka:…: {what}; use `kafka://host:9092,host2:9092`")));
        let Some(hosts) = rest.strip_prefix("//") else { return wrong("names no brokers") };
        if hosts.contains('@') {
            return wrong("user and password are client properties (--log-properties), no part of the address");
        }
        let mut brokers = Vec::new();
        for broker in hosts.trim_end_matches('/').split(',') {
            // An address of IPv6 has colons of its own.
            let (host, port) = match broker.rsplit_once(':') {
                Some((host, port)) if !port.ends_with(']') => (host, port),
                _ => (broker, "9092"),
            };
            let is_name = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
            if host.is_empty() || !host.chars().all(is_name) || !port.parse().is_ok_and(|port: u16| port > 0) {
                return wrong("a broker is a host and a port");
            }
            brokers.push(format!("{host}:{port}"));
        }
        Ok(Self(brokers.join(",")))
    }
}

/// Connects to a cluster, whose address was given as `log`, with a file of client properties.
pub fn open(log: &str, properties: Option<&Path>, brokers: &Brokers) -> Result<Arc<dyn Log>, Failure> {
    Ok(Arc::new(KafkaLog::open(options(properties, brokers)?).map_err(|error| failure(log, error))?))
}

fn options(properties: Option<&Path>, brokers: &Brokers) -> Result<KafkaOptions, Failure> {
    let options = KafkaOptions::new(&brokers.0);
    match properties {
        Some(file) => with_properties(options, file),
        None => Ok(options),
    }
}

fn with_properties(options: KafkaOptions, file: &Path) -> Result<KafkaOptions, Failure> {
    let name = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|e| Failure::usage(format!("{name}: {e}: name a file of client properties with --log-properties")))?;
    options.with_properties(&text).map_err(|e| Failure::usage(format!("{name}:{}: {}", e.line, e.reason)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_named_by_host_and_port_and_nothing_else() {
        for (rest, expected) in [
            ("//kafka:9093", "kafka:9093"),
            ("//a,b:1/", "a:9092,b:1"),
            ("//[::1]:9092,[::1]", "[::1]:9092,[::1]:9092"),
        ] {
            assert_eq!(Brokers::parse(rest).ok(), Some(Brokers(expected.to_owned())));
        }
        for rest in ["", "//", "a:1", "//a:0", "//a:x", "//a:1,,b", "//a/topic", "//u:secret@a:1", "//a:secret"] {
            let Err(Failure::Usage(refused)) = Brokers::parse(rest) else { panic!("{rest}") };
            assert!(refused.starts_with("--log kafka:…: ") && !refused.contains("secret"), "{refused}");
        }
    }
}
