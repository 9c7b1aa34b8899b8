//! Windows and sessions that wait for the clock: to emit their values, or to be forgotten.

use super::node::{Node, Subject};
use super::short::{ShortClosing, ShortClosingStore};
use crate::dataflow::Actions;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tally_streams::processor::Context;
use tally_streams::store::{DueStore, Hash128, StoreHandle, StoreValue};

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

/// A fixed window of a subject.
#[derive(Clone, Copy)]
pub(super) struct Window<'a> {
    pub subject: Subject<'a>,
    pub start_ms: i64,
    pub end_ms: i64,
}

impl Closing {
    fn new(node: &Node, Window { subject, start_ms, .. }: Window<'_>) -> Self {
        Self {
            node: node.aggregation.node.clone(),
            subject_id: subject.subject_id.clone(),
            window: node.windows()[subject.kind].id,
            at_ms: start_ms,
        }
    }

    fn key(hash_seed: u64, node: &Node, Window { subject, start_ms, .. }: Window<'_>) -> Hash128 {
        let (name, start) = (&node.windows()[subject.kind].name, start_ms.to_le_bytes());
        let parts = [node.aggregation.node.as_bytes(), subject.subject_id.as_bytes(), name.as_bytes(), &start];
        Hash128::of(hash_seed, &parts)
    }
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

/// The store of what waits.
#[derive(Clone, Copy)]
pub(super) enum ClosingHandle {
    Values(StoreHandle<ClosingStore>),
    /// That of the short forms.
    Short(StoreHandle<ShortClosingStore>),
}

impl ClosingHandle {
    /// Has a fixed window wait until it closes. In the store of the short forms its key is that of its values.
    pub fn wait_for(
        self,
        context: &mut Context<'_, Actions>,
        hash_seed: u64,
        node: &Node,
        window: Window<'_>,
        key: Hash128,
    ) {
        let due_ms = window.end_ms + node.aggregation.grace_ms;
        match self {
            Self::Values(store) => {
                let key = Closing::key(hash_seed, node, window);
                if context.store(store).get(&key).is_none() {
                    context.store(store).put(&key, due_ms, Closing::new(node, window));
                }
            }
            Self::Short(store) => {
                if context.store(store).get(&key).is_none() {
                    context.store(store).put(&key, due_ms, ShortClosing::new(node, window));
                }
            }
        }
    }

    /// Takes what is due earliest, with the time at which it was.
    pub fn take_due(self, context: &mut Context<'_, Actions>, clock_ms: i64) -> Option<(i64, Closing)> {
        match self {
            Self::Values(store) => context.store(store).take_due(clock_ms),
            Self::Short(store) => context.store(store).take_due(clock_ms).map(|(due_ms, short)| (due_ms, short.into())),
        }
    }

    /// When the earliest is due, if that is by now.
    pub fn next_due_ms(self, context: &mut Context<'_, Actions>, clock_ms: i64) -> Option<i64> {
        match self {
            Self::Values(store) => context.store(store).next_due_ms(clock_ms),
            Self::Short(store) => context.store(store).next_due_ms(clock_ms),
        }
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
