//! A process of tally: its parts, how they start, and how they end well.

mod door;
pub mod logging;
pub mod page;
mod read_side;
mod sinking;
mod streaming;

pub use door::door;
pub use read_side::read_side;
pub use sinking::{Cache, SinkSide, sinks};
pub use streaming::{StreamSide, stream_threads};

use crate::commands::{Addresses, Failure};
use prometheus::Registry;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tally_model::ReceiptKey;
use tally_processors::Actions;
use tally_streams::log::Log;
use tally_streams::log::embedded::{EmbeddedLog, EmbeddedOptions};
use tally_streams::runtime::{Control, StateDir, establish};
use tally_streams::topology::Topology;

/// What every part needs.
pub struct Site {
    /// The topology.
    pub topology: Arc<Topology<Actions>>,
    /// The log.
    pub log: Arc<dyn Log>,
    /// Generation and secrets.
    pub control: Control,
    /// Every metric of the process.
    pub registry: Registry,
    /// Locked for as long as the process lives.
    pub state: StateDir,
}

impl Site {
    /// Opens the log, brings its topics up to date and holds the topology against the running generation.
    pub fn open(addresses: &Addresses, accept_added: bool) -> Result<Self, Failure> {
        let topology = addresses.file.load()?;
        let log_dir = addresses.log_dir()?;
        addresses.cache_read()?;
        let state = StateDir::open(&addresses.state).map_err(Failure::usage)?;
        std::fs::create_dir_all(&log_dir).map_err(|e| Failure::usage(format!("{}: {e}", log_dir.display())))?;
        let log = EmbeddedLog::open(&log_dir, EmbeddedOptions::default())
            .map_err(|e| Failure::usage(format!("log {}: {e}", addresses.log)))?;
        log.ensure_topics(&topology.topic_specs())
            .map_err(|e| Failure::usage(format!("log {}: {e}", addresses.log)))?;
        let mut random = [0; 40];
        getrandom::fill(&mut random).map_err(|e| Failure::no(format!("the system gives no random bytes: {e}")))?;
        let application = &topology.settings.application;
        let control = establish(&log, application, &topology.fingerprint(), accept_added, random)
            .map_err(|e| Failure::usage(format!("log {}: {e}", addresses.log)))?;
        Ok(Self { topology: Arc::new(topology), log: Arc::new(log), control, registry: Registry::new(), state })
    }

    /// What signs receipts.
    pub fn receipt_key(&self) -> ReceiptKey {
        ReceiptKey { log_id: self.control.log_id, secret: self.control.secret }
    }
}

/// Wall time, milliseconds since 1970.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
