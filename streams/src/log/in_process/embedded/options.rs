//! How an embedded log is opened.

use std::sync::Arc;

use crate::log::{Clock, UpkeepOptions, WallClock, system_clock};

/// How an embedded log is opened.
#[derive(Clone)]
pub struct EmbeddedOptions {
    /// Gives append times and decides about retention.
    pub clock: Clock,
    /// Judges the clock of the process: then append times come from here, and while it is in doubt, what is appended
    /// outside transactions is refused with `LogError::Unavailable`.
    pub wall: Option<Arc<WallClock>>,
    /// The most that the log may take on disk. Only address space is reserved: where the system refuses that much,
    /// half of it is tried, and so on.
    pub map_size_bytes: u64,
    /// Appends are refused with `LogError::Full` when they would leave less than this on the disk (or in the map;
    /// there at most an eighth of it). What frees room may use it, and so may appends that should fit into pages of the
    /// file that are free: where those are too scattered the file grows nevertheless.
    pub disk_reserve_bytes: u64,
    /// Appends beyond transactions are refused with `LogError::Busy` while this much is waiting.
    pub queue_bytes_max: usize,
    /// Evidence that a log existed here, if any: then none is created in place of missing data.
    pub proof: Option<String>,
    /// How batches are merged and topics compacted.
    pub upkeep: UpkeepOptions,
    /// Partitions of all topics together. A few bytes of memory each for every reader.
    pub partitions_max: u32,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            clock: system_clock(),
            wall: None,
            map_size_bytes: 1 << 40,
            disk_reserve_bytes: 64 << 20,
            queue_bytes_max: 64 << 20,
            proof: None,
            upkeep: UpkeepOptions::default(),
            partitions_max: 1024,
        }
    }
}
