//! The log that a topology is compared with: an embedded one in its directory, or a cluster. It is only read.

use crate::commands::log::opened;
use crate::commands::{Failure, LogAddress};
use crate::process::{kafka, log};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tally_streams::log::embedded::OfflineLog;
use tally_streams::log::{Log, LogError, LoggedRecord, TopicSpec, newest_records};
use tally_streams::runtime::{Control, TOPOLOGY_KEY, newest_control, recorded_topology};

/// The log.
pub enum Against {
    /// A directory, which a process may have open.
    Embedded(OfflineLog),
    /// A cluster, with its address.
    Cluster(Arc<dyn Log>, String),
}

impl Against {
    /// Opens what `--against` names.
    pub fn open(given: &str, properties: Option<&Path>) -> Result<Self, Failure> {
        let address = LogAddress::parse(given)?.unwrap_or_else(|| LogAddress::Embedded(PathBuf::from(given)));
        match address {
            LogAddress::Embedded(_) if properties.is_some() => {
                Err(Failure::usage("--log-properties: only kafka:// has properties"))
            }
            LogAddress::Embedded(dir) => Ok(Self::Embedded(opened(OfflineLog::open_shared(dir))?)),
            LogAddress::Kafka(brokers) => {
                Ok(Self::Cluster(kafka::open(given, properties, &brokers)?, given.to_owned()))
            }
        }
    }

    /// The control record of an application, if it has run with this log.
    pub fn control(&self, application: &str) -> Result<Option<Control>, Failure> {
        match self {
            Self::Embedded(log) => {
                let (topic, key) = Control::place(application);
                let control = log.newest(&topic, key).map_err(Failure::no)?;
                let control = control.map(|value| Control::decode(&value)).transpose();
                control.map_err(|reason| Failure::no(format!("{topic}: {reason}")))
            }
            Self::Cluster(log, given) => {
                newest_control(&**log, application).map_err(|error| log::control_failure(given, error))
            }
        }
    }

    /// The file of the topology that runs, or ran last; None where no process recorded it.
    pub fn topology(&self, application: &str) -> Result<Option<String>, Failure> {
        match self {
            Self::Embedded(log) => {
                let value = log.newest(&Control::place(application).0, TOPOLOGY_KEY).map_err(Failure::no)?;
                Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
            }
            Self::Cluster(log, given) => {
                recorded_topology(&**log, application).map_err(|error| log::failure(given, error))
            }
        }
    }

    /// Why a process could not work with these topics: an error for each that is different in the log.
    pub fn refusals(&self, topics: &[TopicSpec]) -> Result<Vec<LogError>, Failure> {
        match self {
            Self::Embedded(log) => Ok(log.refusals(topics)),
            Self::Cluster(log, given) => log.refusals(topics).map_err(|error| log::failure(given, error)),
        }
    }

    /// The newest records of a topic, oldest first.
    pub fn newest_records(&self, topic: &str, records_max: usize) -> Result<Vec<LoggedRecord>, Failure> {
        match self {
            Self::Embedded(log) => log.newest_records(topic, records_max).map_err(Failure::no),
            Self::Cluster(log, given) => {
                newest_records(&**log, topic, records_max).map_err(|error| log::failure(given, error))
            }
        }
    }
}
