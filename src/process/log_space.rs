//! Metrics about what an embedded log takes on the disk.

use super::watch::Watch;
use crate::commands::Failure;
use prometheus::{IntGauge, Registry};
use std::sync::Arc;
use std::time::Duration;
use tally_streams::log::Log;

/// Between two looks.
const WATCH: Duration = Duration::from_secs(10);

/// Measures regularly.
pub struct LogSpaceWatch {
    _watch: Watch,
}

impl LogSpaceWatch {
    /// Starts with a first look.
    pub fn start(log: Arc<dyn Log>, registry: &Registry) -> Result<Self, Failure> {
        let file = IntGauge::new("tally_log_file_bytes", "Embedded log only: length of its file, which never shrinks.");
        let live = IntGauge::new("tally_log_live_bytes", "Embedded log only: bytes of its file that hold data.");
        let (file, live) = (file.map_err(Failure::no)?, live.map_err(Failure::no)?);
        for gauge in [&file, &live] {
            registry.register(Box::new(gauge.clone())).map_err(Failure::no)?;
        }
        let look = move || {
            // An error of the log is noticed by those who read it.
            if let Ok(Some(space)) = log.space() {
                file.set(space.file_bytes as i64);
                live.set(space.live_bytes as i64);
            }
        };
        look();
        Ok(Self { _watch: Watch::start("log-space-watch", WATCH, look).map_err(Failure::no)? })
    }
}
