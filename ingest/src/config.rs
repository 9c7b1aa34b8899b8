//! How the service is set up.

use crate::types::EventTypes;
use std::time::Duration;
use tally_access::ActionLimits;

/// The settings of the service.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// The topic that events are appended to.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// The types that the topology names.
    pub types: EventTypes,
    /// The secret from which the names of anonymous actors are derived; the same in every process of an application.
    pub anonymous_secret: [u8; 32],
    /// Rate limits of senders.
    pub limits: Option<ActionLimits>,
    /// Whether a `read` without a read token is refused.
    pub read_token_required: bool,
    /// How long to wait for the log before the outcome is called unknown.
    pub append_timeout: Duration,
    /// Requests between their last byte and the log's word; one more gets 429.
    pub requests_max: usize,
    /// Bytes of bodies that are being read or wait for the log; more get 429.
    pub bytes_max: usize,
}

impl IngestConfig {
    /// Settings for a topic, with the limits that suit a small machine.
    pub fn new(topic: impl Into<String>, partitions: u32, types: EventTypes, anonymous_secret: [u8; 32]) -> Self {
        Self {
            topic: topic.into(),
            partitions,
            types,
            anonymous_secret,
            limits: None,
            read_token_required: false,
            append_timeout: Duration::from_secs(3),
            requests_max: 4096,
            bytes_max: 128 << 20,
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match () {
            () if self.partitions == 0 => Err(ConfigError::NoPartitions),
            () if self.requests_max == 0 || self.bytes_max < crate::BODY_BYTES_MAX => Err(ConfigError::NoRoom),
            () => Ok(()),
        }
    }
}

/// Settings under which the service could not work.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A topic has at least one partition.
    #[error("a topic has at least one partition")]
    NoPartitions,
    /// The limits would refuse every request, or every large one.
    #[error("requests_max must be 1 and bytes_max {} at least", crate::BODY_BYTES_MAX)]
    NoRoom,
    /// The registry has metrics of the same name.
    #[error("the metrics of the ingest service cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}
