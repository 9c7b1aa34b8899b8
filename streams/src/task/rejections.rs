//! Rejected values by reason, for the log of the process.

use crate::processor::{Origin, Reject};
use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

/// Reasons that are kept apart; those beyond are counted together.
const KINDS_MAX: usize = 16;

/// Rejected values, by node and reason.
#[derive(Debug, Default)]
pub struct Rejections {
    kinds: BTreeMap<(Arc<str>, String), Kind>,
    /// Rejections with reasons beyond [`KINDS_MAX`].
    others: u64,
}

/// One reason of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// How many values.
    pub count: u64,
    /// The first of them: its topic, partition and offset.
    pub address: String,
    /// What was wrong with it in particular.
    pub detail: Option<String>,
}

impl Rejections {
    pub(super) fn note<V>(&mut self, node: &Arc<str>, reject: &Reject<V>, topic: &str, origin: &Origin) {
        let address = || format!("{topic}/{}@{}", origin.partition, origin.offset);
        let first = || Kind { count: 1, address: address(), detail: reject.detail.clone() };
        self.add(node.clone(), &reject.reason, first);
    }

    fn add(&mut self, node: Arc<str>, reason: &str, kind: impl FnOnce() -> Kind) {
        let is_full = self.kinds.len() >= KINDS_MAX;
        let key = (node, reason.to_owned());
        match self.kinds.get_mut(&key) {
            Some(known) => known.count += kind().count,
            None if is_full => self.others += kind().count,
            None => drop(self.kinds.insert(key, kind())),
        }
    }

    /// Takes in what another has, which is empty afterwards.
    pub fn append(&mut self, other: &mut Self) {
        for ((node, reason), kind) in mem::take(&mut other.kinds) {
            self.add(node, &reason, || kind);
        }
        self.others += mem::take(&mut other.others);
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.others == 0
    }

    /// Node, reason and what is known of the one that came most often, and how many there were of all others. Empty
    /// afterwards.
    pub fn take_most_frequent(&mut self) -> Option<(Arc<str>, String, Kind, u64)> {
        let kinds = mem::take(&mut self.kinds);
        let all: u64 = kinds.values().map(|kind| kind.count).sum::<u64>() + mem::take(&mut self.others);
        let ((node, reason), kind) = kinds.into_iter().max_by_key(|(_, kind)| kind.count)?;
        let others = all - kind.count;
        Some((node, reason, kind, others))
    }
}

#[cfg(test)]
impl Rejections {
    pub(crate) fn of_one(node: &str, reason: &str) -> Self {
        let mut one = Self::default();
        one.add(node.into(), reason, || Kind { count: 1, address: String::new(), detail: None });
        one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(offset: u64) -> Origin {
        Origin { partition: 3, offset, append_time_ms: 0, clock_ms: 0, request: None, forgotten: None }
    }

    fn reject(reason: &str, detail: &str) -> Reject<()> {
        Reject { reason: reason.to_owned(), detail: Some(detail.to_owned()), verdict: None }
    }

    #[test]
    fn the_most_frequent_reason_is_told_with_its_first_example_and_the_rest_is_counted() {
        let node: Arc<str> = "valid".into();
        let (mut one, mut other) = (Rejections::default(), Rejections::default());
        one.note(&node, &reject("wrong", "first"), "user-actions", &origin(7));
        for offset in 8..11 {
            other.note(&node, &reject("wrong", "later"), "user-actions", &origin(offset));
        }
        // Another producer may cause any number of reasons.
        for n in 0..100 {
            other.note(&node, &reject(&format!("other {n}"), ""), "user-actions", &origin(n));
        }
        one.append(&mut other);
        assert!(other.is_empty() && one.kinds.len() == KINDS_MAX);
        let (found, reason, kind, others) = one.take_most_frequent().unwrap();
        assert_eq!((&*found, reason.as_str(), others), ("valid", "wrong", 100));
        assert_eq!(kind, Kind { count: 4, address: "user-actions/3@7".into(), detail: Some("first".into()) });
        assert!(one.is_empty() && one.take_most_frequent().is_none());
    }
}
