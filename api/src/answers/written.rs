//! Answers as bytes.
//!
//! The content of an answer and its freshness are separate: an answer ends with its freshness, and its ETag is computed from
//! the content before it.

use bytes::Bytes;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

/// The text that begins the freshness.
const AS_OF: &[u8] = b"\"as_of\":";

/// An answer as JSON.
pub struct Written {
    /// The complete JSON.
    pub json: Bytes,
    /// Length of the content before the freshness.
    content_bytes: usize,
}

impl Written {
    /// Writes an answer whose freshness comes last.
    pub fn of<T: Serialize>(answer: &T) -> Result<Self, serde_json::Error> {
        let json = serde_json::to_vec(answer)?;
        let freshness = json.windows(AS_OF.len()).rposition(|window| window == AS_OF);
        Ok(Self { content_bytes: freshness.unwrap_or(json.len()), json: json.into() })
    }

    /// Digest for the ETag: equal for equal content, in every process and at any time.
    pub fn digest(&self) -> u64 {
        digest(&self.json[..self.content_bytes])
    }
}

/// A digest that is the same in every process.
pub fn digest(content: &[u8]) -> u64 {
    xxh3_64(content)
}
