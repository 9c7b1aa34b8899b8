//! Events as they are sent: serialized once and shared by all readers.
//!
//! The id of an event is `<process>-<number>-<digest>` in hexadecimal digits. Numbers rise within a process and reach each
//! reader in that order; the digest is that of the content without its time, and the same in every process.

use bytes::Bytes;
use std::str::FromStr;

/// A comment that keeps an idle connection alive.
pub const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");
/// The start of a stream: how long a browser waits before it reconnects.
pub const PREAMBLE: Bytes = Bytes::from_static(b"retry: 2000\n\n");

/// The state of one subject or board, as a stream sends it.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// The name of the event.
    pub name: &'static str,
    /// The data as JSON: an object that ends with `as_of` and what follows it.
    pub json: Bytes,
    /// Hash of the content without its time: equal for equal states.
    pub digest: u64,
    /// Version of the record that it was made from. A smaller version is older.
    pub version: i64,
    /// When it holds, in milliseconds since 1970.
    pub as_of_ms: i64,
}

/// The id of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    /// Distinguishes this process from others and from itself before a restart.
    pub process: u64,
    /// Rises with every event of the process.
    pub number: u64,
    /// Digest of the content.
    pub digest: u64,
}

impl EventId {
    /// As sent to a reader.
    pub fn write(self, content: &Content) -> Bytes {
        let mut out = Vec::with_capacity(content.json.len() + 96);
        let Self { process, number, digest } = self;
        out.extend_from_slice(format!("id: {process:x}-{number:x}-{digest:x}\n").as_bytes());
        out.extend_from_slice(format!("event: {}\ndata: ", content.name).as_bytes());
        // Serialized JSON contains no line breaks.
        out.extend_from_slice(&content.json);
        out.extend_from_slice(b"\n\n");
        out.into()
    }
}

impl FromStr for EventId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.trim().split('-').map(|part| u64::from_str_radix(part, 16).map_err(drop));
        let mut next = || parts.next().unwrap_or(Err(()));
        let id = Self { process: next()?, number: next()?, digest: next()? };
        parts.next().map_or(Ok(id), |_| Err(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_as_it_was_sent_and_any_other_text_is_none() {
        let id = EventId { process: u64::MAX, number: 26, digest: 0 };
        let content = Content { name: "counters", json: Bytes::from_static(b"{}"), digest: 0, version: 1, as_of_ms: 0 };
        let sent = String::from_utf8(id.write(&content).to_vec()).unwrap();
        assert_eq!(sent, "id: ffffffffffffffff-1a-0\nevent: counters\ndata: {}\n\n");
        assert_eq!("ffffffffffffffff-1a-0".parse(), Ok(id));
        for text in ["", "1", "1-2", "1-2-3-4", "x-1-2", "1-2-", "11111111111111111-1-1", "-1-2-3"] {
            assert_eq!(text.parse::<EventId>(), Err(()), "{text}");
        }
    }
}
