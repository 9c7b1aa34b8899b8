//! Errors of the log.

use super::TopicPartition;

/// Errors of the log, by the reaction that they require of the caller.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LogError {
    /// The transaction certainly had no effect: abort, return to the committed offsets, retry.
    #[error("the transaction was aborted: {0}")]
    Aborted(String),
    /// The outcome is unknown: rebuild from the log what depends on it.
    #[error("the outcome is unknown: {0}")]
    Uncertain(String),
    /// Another producer holds this transactional id now: drop this one and the tasks that it wrote for.
    #[error("fenced: another producer took over `{0}`")]
    Fenced(String),
    /// The log does not answer at present, or not yet: try again later. Nothing was done.
    #[error("the log does not answer: {0}")]
    Unavailable(String),
    /// Too much is under way: try again later. Nothing was written.
    #[error("the log's queue is full")]
    Busy,
    /// No room on the disk: nothing was written; try again when there is room.
    #[error("no room: {0}")]
    Full(String),
    /// The offset is outside what the log keeps.
    #[error("{partition}: offset {offset} is outside {start}..={end}")]
    OutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The requested offset.
        offset: u64,
        /// The oldest offset kept.
        start: u64,
        /// The offset after the last record.
        end: u64,
    },
    /// No such topic or partition.
    #[error("no such topic or partition: {0}")]
    UnknownTopic(String),
    /// A topic exists and differs from the specification.
    #[error("topic `{topic}` {detail}")]
    Mismatch {
        /// The topic.
        topic: String,
        /// The difference, and the remedy.
        detail: String,
    },
    /// Bytes that do not check out.
    #[error("damaged data at {address}: {detail}")]
    Corrupt {
        /// Where: partition and offset, or a file.
        address: String,
        /// The cause.
        detail: String,
    },
    /// A permanent error.
    #[error("{0}")]
    Fatal(String),
}
