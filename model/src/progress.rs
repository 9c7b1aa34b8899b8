//! Progress marks: how far the input is contained in an output partition.

use serde::{Deserialize, Serialize};

/// Keys with this beginning are progress marks among the records of an output topic; `\0progress/<task>`.
pub const PROGRESS_KEY_PREFIX: &[u8] = b"\0progress/";

/// How far one partition of the root topic has been taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootPosition {
    /// Partition of `user-actions`.
    pub partition: u32,
    /// Everything below this offset is contained.
    pub next_offset: u64,
    /// The clock there, milliseconds since 1970.
    pub clock_ms: i64,
}

/// The value of a progress mark. It speaks for everything before it in its partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProgressMark {
    /// `<subtopology>/<partition>`.
    pub task: String,
    /// The generation of the state that wrote it.
    pub generation: u16,
    /// Ascending by partition. A partition that is missing has not been heard of.
    pub roots: Vec<RootPosition>,
    /// See [`crate::Counters::version`].
    pub version: i64,
}

impl ProgressMark {
    /// The record's key.
    pub fn key(task: &str) -> Vec<u8> {
        [PROGRESS_KEY_PREFIX, task.as_bytes()].concat()
    }
}
