//! Windows and sessions that wait for the clock: to emit their values, or to be forgotten.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tally_streams::store::{DueStore, Hash128, StoreValue};

/// By a hash of node, subject and window; of a fixed window also of its start.
pub(in crate::node::total) type ClosingStore = DueStore<Hash128, Closing>;

/// What waits.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::node::total) struct Closing {
    pub node: Arc<str>,
    pub subject_id: Arc<str>,
    /// The id of the window.
    pub window: u32,
    /// Fixed windows: the start. Sessions and sliding windows: when it is due, since one entry stands for all of a subject.
    pub at_ms: i64,
}

/// The stored form.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    node: &'a str,
    subject_id: &'a str,
    window: u32,
    at_ms: i64,
}

impl StoreValue for Closing {
    /// Postcard of [`Stored`].
    fn encode(&self, out: &mut Vec<u8>) {
        let Self { node, subject_id, window, at_ms } = self;
        let stored = Stored { node, subject_id, window: *window, at_ms: *at_ms };
        if let Ok(bytes) = postcard::to_extend(&stored, std::mem::take(out)) {
            *out = bytes;
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let Stored { node, subject_id, window, at_ms } = postcard::from_bytes(bytes).ok()?;
        Some(Self { node: node.into(), subject_id: subject_id.into(), window, at_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_bytes_are_what_they_have_always_been() {
        let closing = Closing { node: "dwell".into(), subject_id: "a:1".into(), window: 300, at_ms: 120_000 };
        let mut bytes = Vec::new();
        closing.encode(&mut bytes);
        assert_eq!(bytes, b"\x05dwell\x03a:1\xac\x02\x80\xd3\x0e");
        assert_eq!(Closing::decode(&bytes), Some(closing));
    }
}
