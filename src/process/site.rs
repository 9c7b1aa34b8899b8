//! What every part of a process needs.

use super::clock::{ClockWatch, hold_against_log, wall_clock};
use super::identity::proof_of_log;
use super::kafka::StandingWatch;
use super::log::{self, LogWatch};
use super::log_space::LogSpaceWatch;
use super::process_metrics;
use super::reach::reach_stores;
use super::recording::record;
use super::roles::Roles;
use super::stores::Stores;
use super::topics::TopicWatch;
use crate::commands::{Failure, LogAddress};
use prometheus::Registry;
use std::sync::Arc;
use tally_model::ReceiptKey;
use tally_processors::Actions;
use tally_sinks::Reached;
use tally_streams::log::{Doubt, Log, WallClock};
use tally_streams::runtime::{Control, Proposal, StateDir, establish};
use tally_streams::task::WIRE_VERSIONS;
use tally_streams::topology::Topology;

/// Wall time, milliseconds since 1970; or why it is in doubt.
pub type TrustedClock = Arc<dyn Fn() -> Result<i64, Doubt> + Send + Sync>;

/// What every part needs.
pub struct Site {
    /// The topology.
    pub topology: Arc<Topology<Actions>>,
    /// Where its sinks write and its API reads. None where the process has neither.
    pub stores: Option<Stores>,
    /// The databases, as long as it takes others to connect to them.
    pub reached: Vec<Reached>,
    /// The log.
    pub log: Arc<dyn Log>,
    /// Checks whether a log on a network answers.
    pub watch: Option<LogWatch>,
    /// Measures a log on this machine.
    space: Option<LogSpaceWatch>,
    /// Checks a log on a network for hanging transactions.
    _standing: Option<StandingWatch>,
    /// The clocks, and whether they can be trusted.
    pub wall: Arc<WallClock>,
    /// Checks the clocks, in roles that depend on them.
    pub clocks: Option<ClockWatch>,
    /// Checks a log on a network for deleted topics.
    pub topics: Option<TopicWatch>,
    /// Generation and secrets.
    pub control: Control,
    /// Every metric of the process.
    pub registry: Registry,
    /// Locked for as long as the process lives; None in roles without state.
    pub state: Option<StateDir>,
}

impl Site {
    /// Opens the log, brings its topics up to date and compares the topology with the running generation. Blocks.
    pub fn open(roles: &Roles) -> Result<Self, Failure> {
        let args = &roles.site;
        let topology = Arc::new(args.file.load()?);
        let address = roles.check()?;
        roles.check_effects(&topology)?;
        let stores = Stores::resolve(roles, &topology)?;
        let reached = reach_stores(roles, stores.as_ref())?;
        let state = roles.state().map(|args| StateDir::open(&args.state)).transpose().map_err(Failure::usage)?;
        let wall = wall_clock(roles.clocks.as_ref());
        let proof = proof_of_log(roles, stores.as_ref(), &address, state.as_ref());
        let log = log::open(args, &address, &wall, proof)?;
        let registry = Registry::new();
        log.ensure_topics(&topology.topic_specs()).map_err(|e| log::failure(&args.log, e))?;
        let is_here = matches!(address, LogAddress::Embedded(_));
        let space = is_here.then(|| LogSpaceWatch::start(log.clone(), &registry)).transpose()?;
        // Before any read that may block.
        let standing = match &address {
            LogAddress::Embedded(_) => None,
            LogAddress::Kafka(brokers) => {
                Some(StandingWatch::start(args, brokers, log.clone(), &topology.topic_specs(), &registry)?)
            }
        };
        let mut random = [0; 40];
        getrandom::fill(&mut random)
            .map_err(|e| Failure::no(format!("the system's random number generator failed: {e}")))?;
        let streams = roles.process.as_ref().map(|(streams, _)| streams);
        let proposal = Proposal {
            fingerprint: &topology.fingerprint(),
            wire_versions: WIRE_VERSIONS,
            accept_added: streams.is_some_and(|streams| streams.accept_added),
            raise_wire_version: streams.is_some_and(|streams| streams.raise_wire_version),
            random,
        };
        let control = establish(&*log, &topology.settings.application, &proposal);
        let control = control.map_err(|error| log::control_failure(&args.log, error))?;
        if roles.process.is_some() {
            record(&*log, &topology, &args.file);
        }
        let goes_by_time = roles.ingest.is_some() || roles.process.is_some();
        let control = match goes_by_time {
            true => {
                let is_confirmed = streams.is_some_and(|streams| streams.confirm_clock);
                hold_against_log(args, &topology, &*log, control, &wall, is_confirmed)?
            }
            false => control,
        };
        process_metrics::register(&registry).map_err(Failure::no)?;
        let is_asked = goes_by_time || roles.api.is_some();
        let clocks = is_asked.then(|| ClockWatch::start(wall.clone(), &registry)).transpose()?;
        let partitions = topology.subtopologies[0].partitions;
        let watch = match address {
            LogAddress::Embedded(_) => None,
            LogAddress::Kafka(_) => {
                Some(LogWatch::start(log.clone(), &topology.root, partitions).map_err(Failure::no)?)
            }
        };
        let topics = watch.as_ref().map(|_| TopicWatch::start(log.clone(), topology.topic_specs()));
        let topics = topics.transpose().map_err(Failure::no)?;
        Ok(Self {
            topology,
            stores,
            reached,
            log,
            watch,
            topics,
            space,
            _standing: standing,
            wall,
            clocks,
            control,
            registry,
            state,
        })
    }

    /// What the log keeps for how long, in a few lines. Nothing about a log on a network, which others may configure.
    pub fn kept(&self) -> Vec<String> {
        self.space.iter().flat_map(|_| self.topology.describe_kept()).collect()
    }

    /// The time, unless it is in doubt.
    pub fn trusted_clock(&self) -> TrustedClock {
        let wall = self.wall.clone();
        Arc::new(move || {
            let reading = wall.read();
            reading.doubt.map_or(Ok(reading.now.wall_ms), Err)
        })
    }

    /// The key that signs receipts.
    pub fn receipt_key(&self) -> ReceiptKey {
        ReceiptKey { log_id: self.control.log_id, secret: self.control.secret }
    }
}
