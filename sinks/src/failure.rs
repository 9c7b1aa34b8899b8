//! What can go wrong in a sink, sorted by what is done about it.

use crate::reading::ReadError;
use crate::target::TargetError;
use tally_streams::log::{LogError, TopicPartition};

/// An error that stops a sink permanently.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// A record that only another program can have written, or damage. Skipping it would lose its data.
    #[error(
        "sink `{sink}`: {partition}: offset {offset}: cannot be read as {expected:?}: {cause}. \
         Only tally writes this topic: find out who else did; then replay into a new topic, or move the sink past it"
    )]
    Record {
        /// The sink's name.
        sink: String,
        /// Where the record lies.
        partition: TopicPartition,
        /// Where the record lies.
        offset: u64,
        /// What it should have been.
        expected: tally_model::OutputType,
        /// Why it cannot be read.
        cause: String,
    },
    /// A record of the internal topic of progress that only another program can have written, or damage.
    #[error(
        "sink `{sink}`: {partition}: offset {offset}: cannot be read as progress: {cause}. \
         If a newer tally wrote it, run that one here too"
    )]
    Progress {
        /// The sink's name.
        sink: String,
        /// Where the record lies.
        partition: TopicPartition,
        /// Where the record lies.
        offset: u64,
        /// Why it cannot be read.
        cause: String,
    },
    /// What the target has was read from another log, or from more of this one than there is.
    #[error("sink `{sink}`: {cause}")]
    Origin {
        /// The sink's name.
        sink: String,
        /// What does not fit, and what to do.
        cause: String,
        /// Whether it may be the log that answers with less than it has: one whose broker has just come back.
        may_pass: bool,
    },
    /// A row that the target will never accept. Skipping it would lose its data.
    #[error("sink `{sink}`: {row}: cannot be stored: {cause}")]
    Row {
        /// The sink's name.
        sink: String,
        /// Its table and key.
        row: String,
        /// Why, and what to do.
        cause: String,
    },
}

/// Why a step did not get done.
pub enum Failure {
    /// Permanent.
    Stop(SinkError),
    /// A row that the target will never accept: permanent.
    Refused { row: String, cause: String },
    /// The target's rows belong to another log: permanent.
    Foreign(String),
    /// The consumer is of no use any more: make a new one.
    Rejoin(String),
    /// The log failed, or the positions are not what they were: start again from the target's positions.
    Restart(String),
    /// The target failed: write the same batch again.
    Rewrite(String),
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        let cause = format!("log: {error}");
        match error {
            LogError::Fatal(_) | LogError::Fenced(_) => Self::Rejoin(cause),
            // All others pass: with time, or when reading starts again at the positions of the target.
            _ => Self::Restart(cause),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Log(error) => error.into(),
            ReadError::Sink(error) => Self::Stop(error),
        }
    }
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Moved { .. } | TargetError::Lost(_) => Self::Restart(error.to_string()),
            TargetError::Foreign { .. } => Self::Foreign(error.to_string()),
            TargetError::Unavailable(_) => Self::Rewrite(error.to_string()),
            TargetError::Refused { row, cause } => Self::Refused { row, cause },
        }
    }
}
