//! The log of a process: opened by its address, and watched.

use super::kafka;
use super::watch::Watch;
use crate::commands::{Failure, LogAddress, SiteArgs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tally_http::Check;
use tally_streams::log::embedded::{EmbeddedLog, EmbeddedOptions};
use tally_streams::log::{Log, LogError, TopicPartition, WallClock};
use tally_streams::runtime::ControlError;

/// Between two queries of the log.
const WATCH: Duration = Duration::from_secs(1);
/// After this time without an answer, the log counts as not answering.
const ANSWER: Duration = Duration::from_secs(3);

/// Opens the log of a process. `proof` is the evidence that a log existed, if an embedded one has no data.
pub fn open(
    args: &SiteArgs,
    address: &LogAddress,
    wall: &Arc<WallClock>,
    proof: Option<String>,
) -> Result<Arc<dyn Log>, Failure> {
    match address {
        LogAddress::Embedded(dir) => {
            std::fs::create_dir_all(dir).map_err(|e| Failure::usage(format!("{}: {e}", dir.display())))?;
            let options = EmbeddedOptions { wall: Some(wall.clone()), proof, ..EmbeddedOptions::default() };
            let log = EmbeddedLog::open(dir, options).map_err(|e| failure(&args.log, e))?;
            Ok(Arc::new(log))
        }
        LogAddress::Kafka(brokers) => kafka::open(&args.log, args.log_properties.as_deref(), brokers),
    }
}

/// The exit code for an error of a log at the start: one that may pass is not a configuration mistake.
pub fn failure(log: &str, error: LogError) -> Failure {
    let text = format!("log {log}: {error}");
    match error {
        LogError::Unavailable(_)
        | LogError::Uncertain(_)
        | LogError::Aborted(_)
        | LogError::Fenced(_)
        | LogError::Busy
        | LogError::Full(_) => Failure::No(text),
        LogError::OutOfRange { .. }
        | LogError::UnknownTopic(_)
        | LogError::Mismatch { .. }
        | LogError::Corrupt { .. }
        | LogError::Fatal(_) => Failure::Usage(text),
    }
}

/// The exit code for an error of the control record.
pub fn control_failure(log: &str, error: ControlError) -> Failure {
    match error {
        ControlError::Log(error) => failure(log, error),
        other => Failure::usage(format!("log {log}: {other}")),
    }
}

/// Checks regularly whether a log on a network answers.
pub struct LogWatch {
    heard: Arc<Mutex<Heard>>,
    _watch: Watch,
}

/// The state of the last query.
struct Heard {
    /// Since when a query has been waiting for its answer.
    asked: Option<Instant>,
    last: Result<(), LogError>,
}

impl LogWatch {
    /// Queries the end of every partition of a topic; the topic has just answered.
    pub fn start(log: Arc<dyn Log>, topic: &Arc<str>, partitions: u32) -> std::io::Result<Self> {
        let heard = Arc::new(Mutex::new(Heard { asked: None, last: Ok(()) }));
        let partitions: Vec<_> = (0..partitions).map(|number| TopicPartition::new(topic.clone(), number)).collect();
        let told = heard.clone();
        let watch = Watch::start("log-watch", WATCH, move || {
            told.lock().unwrap_or_else(PoisonError::into_inner).asked = Some(Instant::now());
            let answer = log.ends(&partitions).map(drop);
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Heard { asked: None, last: answer };
        })?;
        Ok(Self { heard, _watch: watch })
    }

    /// Whether the log answers.
    pub fn check(&self) -> Check {
        let heard = self.heard.clone();
        Check::at_once("the log", move || {
            let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            match (&heard.last, heard.asked.map(|asked| asked.elapsed()).filter(|waited| *waited > ANSWER)) {
                (Err(error), _) => Err(error.to_string()),
                (Ok(()), Some(waited)) => Err(format!("has not answered for {} s", waited.as_secs())),
                (Ok(()), None) => Ok(()),
            }
        })
    }
}
