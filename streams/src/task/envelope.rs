//! The envelope of every record that a task writes for another task (hop) or for itself (changelog).
//!
//! Bytes: wire version (1 byte), header (postcard), body. A commit writes one record per destination partition, or
//! several parts where it is large; positions and progress count from the last part only.

use crate::processor::RootProgress;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;

/// The versions that this program can write; it reads the newest and all before it. Which one an application writes is
/// in its control record, so that programs of two releases can run side by side.
pub const WIRE_VERSIONS: RangeInclusive<u8> = 1..=3;
/// From this version on output topics hold values only: progress is in headers and in a topic of its own.
pub(super) const VALUES_ONLY: u8 = 2;
/// From this version on changelogs hold snapshots.
pub(super) const SNAPSHOTS: u8 = 3;
/// Parts are cut at about this size.
pub const PART_BYTES_MAX: usize = 512 << 10;

/// The header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope<'a> {
    /// One of [`WIRE_VERSIONS`]. It stands before the header: the header's form depends on it.
    #[serde(skip)]
    pub wire_version: u8,
    /// Which consistent set of state it belongs to.
    pub generation: u16,
    /// The partition of the writing task; the topic gives its subtopology.
    pub task: u32,
    /// The transactional id of the writer.
    pub owner: &'a str,
    /// The task's commit number.
    pub commit: u64,
    /// From 0.
    pub part: u32,
    /// At least 1.
    pub parts: u32,
    /// The writer's source is contained below this offset.
    pub input_next: u64,
    /// How far the root topic is contained: the minimum over all upstream tasks.
    pub progress: Vec<RootProgress>,
    /// In changelogs: the progress of each upstream task. Empty in hops.
    pub upstream: Vec<Vec<RootProgress>>,
    /// None in wire version 1, which lacks it; empty in hops. Encoded after the header.
    #[serde(skip)]
    pub outputs: Option<OutputCommits>,
}

/// In changelogs: by topic, the number of the last commit that wrote to the task's partition of it; 0 where none did.
pub type OutputCommits = Vec<(String, u64)>;

/// A record that is no envelope of ours.
#[derive(Clone, Debug, PartialEq)]
pub enum EnvelopeError {
    /// Written by a newer version.
    Version(u8),
    /// Damaged.
    Damaged(String),
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(
                f,
                "written in wire version {version}, and this program reads up to {}: run a newer one",
                WIRE_VERSIONS.end()
            ),
            Self::Damaged(detail) => write!(f, "damaged envelope: {detail}"),
        }
    }
}

impl<'a> Envelope<'a> {
    /// Appends header and body.
    pub fn encode(&self, body: &[u8], out: &mut Vec<u8>) {
        out.push(self.wire_version);
        // Only a failing writer fails here, and a vector does not.
        if let Ok(with_header) = postcard::to_extend(self, std::mem::take(out)) {
            *out = with_header;
        }
        if self.wire_version >= VALUES_ONLY {
            let outputs = self.outputs.as_deref().unwrap_or_default();
            if let Ok(with_outputs) = postcard::to_extend(outputs, std::mem::take(out)) {
                *out = with_outputs;
            }
        }
        out.extend_from_slice(body);
    }

    /// Reads the header; the rest is the body.
    pub fn decode(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), EnvelopeError> {
        match bytes.split_first() {
            Some((&wire_version, rest)) if (1..=*WIRE_VERSIONS.end()).contains(&wire_version) => {
                let damaged = |e: postcard::Error| EnvelopeError::Damaged(e.to_string());
                let (header, rest) = postcard::take_from_bytes::<Self>(rest).map_err(damaged)?;
                if wire_version < VALUES_ONLY {
                    return Ok((Self { wire_version, ..header }, rest));
                }
                let (outputs, body) = postcard::take_from_bytes::<OutputCommits>(rest).map_err(damaged)?;
                Ok((Self { wire_version, outputs: Some(outputs), ..header }, body))
            }
            Some((version, _)) => Err(EnvelopeError::Version(*version)),
            None => Err(EnvelopeError::Damaged("empty record".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope<'static> {
        let root = RootProgress { partition: 3, next_offset: 300, clock_ms: 1_000 };
        Envelope {
            wire_version: 1,
            generation: 1,
            task: 3,
            owner: "tally-a-0",
            commit: 200,
            part: 0,
            parts: 1,
            input_next: 300,
            progress: vec![root],
            upstream: vec![vec![root]],
            outputs: None,
        }
    }

    #[test]
    fn the_bytes_are_what_they_have_always_been() {
        let mut bytes = Vec::new();
        envelope().encode(b"body", &mut bytes);
        let golden = [
            b"\x01\x01\x03\x09tally-a-0\xc8\x01\x00\x01\xac\x02".as_slice(),
            b"\x01\x03\xac\x02\xd0\x0f",
            b"\x01\x01\x03\xac\x02\xd0\x0f",
            b"body",
        ];
        assert_eq!(bytes, golden.concat());
        assert_eq!(Envelope::decode(&bytes), Ok((envelope(), b"body".as_slice())));
    }

    #[test]
    fn the_bytes_of_the_second_version_are_what_they_have_always_been() {
        let outputs = Some(vec![("counters".to_owned(), 200), ("rankings".to_owned(), 0)]);
        let envelope = Envelope { wire_version: 2, outputs, ..envelope() };
        let mut bytes = Vec::new();
        envelope.encode(b"body", &mut bytes);
        let golden = [
            b"\x02\x01\x03\x09tally-a-0\xc8\x01\x00\x01\xac\x02".as_slice(),
            b"\x01\x03\xac\x02\xd0\x0f",
            b"\x01\x01\x03\xac\x02\xd0\x0f",
            b"\x02\x08counters\xc8\x01\x08rankings\x00",
            b"body",
        ];
        assert_eq!(bytes, golden.concat());
        assert_eq!(Envelope::decode(&bytes), Ok((envelope, b"body".as_slice())));
    }

    #[test]
    fn newer_and_damaged_records_are_told_apart() {
        assert_eq!(Envelope::decode(b"\x04abc"), Err(EnvelopeError::Version(4)));
        assert!(matches!(Envelope::decode(b"\x01\x01"), Err(EnvelopeError::Damaged(_))));
        assert!(matches!(Envelope::decode(b""), Err(EnvelopeError::Damaged(_))));
    }
}
