//! Progress: up to which offsets the output of a task contains the input.
//!
//! Progress is written in three forms: in a header of the last record that a commit wrote to a partition; in the
//! internal topic `<application>-progress`, for all partitions that the task writes; and, by older releases, as marks
//! among the records. [`crate::Containment`] decides when it is valid for a reader.

use crate::change::WireError;
use serde::{Deserialize, Serialize};

/// Keys with this beginning are progress marks among the records of an output topic, written by older releases;
/// `\0progress/<task>`. Readers of values skip them.
pub const PROGRESS_KEY_PREFIX: &[u8] = b"\0progress/";

/// The header that carries a [`TaskProgress`]. It is the first header of its record: what follows it, or stands first
/// under another name, may come from a stranger.
pub const PROGRESS_HEADER: &str = "progress";

/// The first byte of a [`TaskProgress`].
const FORM: u8 = 1;

/// Progress in one partition of the root topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootPosition {
    /// Partition of `user-actions`.
    pub partition: u32,
    /// Everything below this offset is contained.
    pub next_offset: u64,
    /// The clock there, milliseconds since 1970.
    pub clock_ms: i64,
}

/// The value of a progress mark. It covers everything before it in its partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProgressMark {
    /// `<subtopology>/<partition>`.
    pub task: String,
    /// The generation of the state that wrote it.
    pub generation: u16,
    /// Ascending by partition. A partition that is missing has no mark yet.
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

/// How far the input is contained in what a task has written up to one of its commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskProgress {
    /// `<subtopology>/<partition>`.
    pub task: String,
    /// The generation of the state.
    pub generation: u16,
    /// The number of the commit.
    pub commit: u64,
    /// Ascending by partition. A partition that is missing has no mark yet.
    pub roots: Vec<RootPosition>,
    /// For each topic whose partition the task owns, the number of the last commit that wrote there; 0 where none did.
    /// A number that is too great is harmless. Empty in headers.
    pub outputs: Vec<OutputCommit>,
}

/// The last commit of a task that wrote to a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputCommit {
    /// The topic.
    pub topic: String,
    /// The commit's number; 0 before the first.
    pub commit: u64,
}

impl TaskProgress {
    /// generation << 48 | commit.
    pub fn version(&self) -> i64 {
        version_of(self.generation, self.commit)
    }

    /// The progress for a topic: the mark, and the version of the last commit that wrote there. None if the task does
    /// not own a partition of the topic.
    pub fn of_topic(&self, topic: &str) -> Option<(ProgressMark, i64)> {
        let output = self.outputs.iter().find(|output| output.topic == topic)?;
        Some((self.mark(), version_of(self.generation, output.commit)))
    }

    /// As a mark.
    pub fn mark(&self) -> ProgressMark {
        let (task, generation, roots) = (self.task.clone(), self.generation, self.roots.clone());
        ProgressMark { task, generation, roots, version: self.version() }
    }

    /// A byte for the form, then postcard.
    pub fn encode(&self) -> Vec<u8> {
        // Only a failing writer fails here, and a vector does not.
        postcard::to_extend(self, vec![FORM]).unwrap_or_default()
    }

    /// Reads it back.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        match bytes.split_first() {
            Some((&FORM, rest)) => {
                let (progress, rest) = postcard::take_from_bytes(rest).map_err(|e| WireError(e.to_string()))?;
                match rest {
                    [] => Ok(progress),
                    _ => Err(WireError(format!("{} bytes follow it", rest.len()))),
                }
            }
            Some((form, _)) => Err(WireError(format!("form {form} of progress is newer than this program"))),
            None => Err(WireError("it is empty".into())),
        }
    }
}

/// generation << 48 | commit.
fn version_of(generation: u16, commit: u64) -> i64 {
    (i64::from(generation) << 48) | commit as i64
}
