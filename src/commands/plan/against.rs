//! The log that a topology is compared with: an embedded one in its directory, that of a process, or a cluster. It is only
//! read.

use super::process::ask;
use crate::commands::log::opened;
use crate::commands::{Failure, LogAddress};
use crate::process::planning::{PlanAnswer, PlanEvent, PlanRequest, PlanState, PlanTopic};
use crate::process::{kafka, log};
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;
use tally_streams::log::embedded::OfflineLog;
use tally_streams::log::{Log, LogError, LoggedRecord, TopicSpec, newest_records, topic_size};
use tally_streams::runtime::{Control, TOPOLOGY_KEY, newest_control, recorded_topology};

/// Keys, values and headers of the events that are read at most.
const EVENT_BYTES_MAX: usize = 64 << 20;

/// Where the log is.
#[derive(Args)]
pub struct AgainstArgs {
    /// The log: the directory of an embedded one, http://host:port of a process that has it open, or
    /// kafka://host:9092,host2:9092
    #[arg(long = "against", value_name = "LOG", default_value = "./data/log")]
    pub log: String,
    /// Kafka client properties such as TLS and SASL: a file with one name=value per line
    #[arg(long, env = "TALLY_LOG_PROPERTIES", value_name = "FILE")]
    log_properties: Option<PathBuf>,
    /// API key with scope admin, for a process
    #[arg(long, env = "TALLY_API_KEY", value_name = "KEY", hide_env_values = true)]
    api_key: Option<String>,
}

/// The log.
pub enum Against {
    /// A directory, which a process may have open.
    Embedded(OfflineLog),
    /// A cluster, with its address.
    Cluster(Arc<dyn Log>, String),
    /// What a process reported of its log.
    Process(Box<PlanAnswer>),
}

impl Against {
    /// Opens what `--against` names, to compare these topics of an application and so many events.
    pub fn open(args: &AgainstArgs, application: &str, topics: &[TopicSpec], events: u32) -> Result<Self, Failure> {
        let (given, properties) = (&*args.log, args.log_properties.as_deref());
        if given.starts_with("http://") || given.starts_with("https://") {
            let topics = topics.iter().map(PlanTopic::from).collect();
            let request = PlanRequest { application: application.to_owned(), topics, events };
            return Ok(Self::Process(ask(given, args.api_key.as_deref(), &request)?.into()));
        }
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
            Self::Process(answer) => Ok(answer.control.clone()),
        }
    }

    /// What the state takes that a control record of an application describes, by subtopology.
    pub fn state(&self, application: &str, control: &Control) -> Result<Vec<PlanState>, Failure> {
        match self {
            Self::Embedded(log) => {
                PlanState::of(application, control, |topic| log.topic_size(topic)).map_err(Failure::no)
            }
            Self::Cluster(log, given) => PlanState::of(application, control, |topic| topic_size(&**log, topic))
                .map_err(|error| log::failure(given, error)),
            Self::Process(answer) => Ok(answer.state.clone()),
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
            Self::Process(answer) => Ok(answer.topology.clone()),
        }
    }

    /// Why a process could not work with these topics: an error for each that is different in the log.
    pub fn refusals(&self, topics: &[TopicSpec]) -> Result<Vec<LogError>, Failure> {
        match self {
            Self::Embedded(log) => Ok(log.refusals(topics)),
            Self::Cluster(log, given) => log.refusals(topics).map_err(|error| log::failure(given, error)),
            Self::Process(answer) => Ok(answer.refusals.iter().map(LogError::from).collect()),
        }
    }

    /// The newest records of a topic, oldest first.
    pub fn newest_records(&self, topic: &str, records_max: usize) -> Result<Vec<LoggedRecord>, Failure> {
        match self {
            Self::Embedded(log) => log.newest_records(topic, records_max, EVENT_BYTES_MAX).map_err(Failure::no),
            Self::Cluster(log, given) => {
                let records = newest_records(&**log, topic, records_max, EVENT_BYTES_MAX);
                records.map_err(|error| log::failure(given, error))
            }
            Self::Process(answer) if answer.root != topic => {
                let root = &answer.root;
                Err(Failure::no(format!("the process runs a topology with the root topic `{root}`, and not `{topic}`")))
            }
            Self::Process(answer) => {
                answer.events.iter().map(PlanEvent::record).collect::<Result<_, _>>().map_err(Failure::no)
            }
        }
    }
}
