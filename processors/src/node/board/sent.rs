//! The last sent state of a board: an unchanged one is not sent again.

use std::sync::Arc;
use tally_streams::store::{KeyValueStore, StoreValue};
use xxhash_rust::xxh3::xxh3_128;

/// For each board, a digest of what was sent last.
pub(super) type Sent = KeyValueStore<Arc<str>, Digest>;

/// The key of what was sent, in [`of_group`].
pub(super) const SENT: &str = "sent";

/// The name for a group's board of something that has this name for the overall board: `<name>@<group>`.
pub(super) fn of_group(name: &str, group: Option<&str>) -> Arc<str> {
    group.map_or_else(|| name.into(), |group| format!("{name}@{group}").into())
}

/// XXH3-128 of the last sent state, enough to detect a change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Digest(u128);

impl Digest {
    pub fn of<'a>(epoch: i64, items: impl IntoIterator<Item = (&'a str, i128)>) -> Self {
        let mut bytes = epoch.to_le_bytes().to_vec();
        for (subject_id, score) in items {
            bytes.extend_from_slice(&(subject_id.len() as u16).to_le_bytes());
            bytes.extend_from_slice(subject_id.as_bytes());
            match i64::try_from(score) {
                Ok(score) => bytes.extend_from_slice(&score.to_le_bytes()),
                Err(_) => bytes.extend_from_slice(&score.to_le_bytes()),
            }
        }
        Self(xxh3_128(&bytes))
    }
}

/// Stores the digest of a board, None for an empty one; false if the same was sent last.
pub(super) fn is_news(sent: &mut Sent, key: &Arc<str>, digest: Option<Digest>) -> bool {
    let is_news = sent.get(key).copied() != digest;
    if is_news {
        *sent.modify(key) = digest;
    }
    is_news
}

impl StoreValue for Digest {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(u128::from_le_bytes).map(Self)
    }
}

pub(super) fn sent_name(node: &str) -> String {
    format!("{node}-sent")
}
