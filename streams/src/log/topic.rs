//! The specification of a topic.

use std::fmt;
use std::time::Duration;

/// How records of a topic are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cleanup {
    /// Old records go, by retention.
    Delete,
    /// Only the newest record of a key stays.
    Compact,
    /// By time and by key.
    CompactAndDelete,
}

impl Cleanup {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Delete, Self::Compact, Self::CompactAndDelete];

    /// As in a topology file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
            Self::CompactAndDelete => "compact_and_delete",
        }
    }
}

impl fmt::Display for Cleanup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A topic to be created or verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// 1-249 of `A-Za-z0-9._-`.
    pub name: String,
    /// At least 1.
    pub partitions: u32,
    /// How records are deleted.
    pub cleanup: Cleanup,
    /// How long records are kept at least; None: without limit.
    pub retention: Option<Duration>,
    /// How many bytes its partitions may take on the disk together; None: without limit. In the embedded log only.
    pub retention_bytes: Option<u64>,
}
