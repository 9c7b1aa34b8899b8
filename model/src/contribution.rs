//! Contributions: what events add to the aggregates of a subject, and their format in a repartition topic.
//!
//! An event is in some windows of a node, those that are still open for it: the record says which (`Slot`). Events of
//! the same windows are combined before they are sent, so that a hot subject costs a record per task and commit.
//!
//! A body is two bytes, 0 and the form, then in postcard the names of the nodes once, the number of entries, and the
//! entries (`docs/wire.md`).

use crate::WireError;
use crate::change::HASHES_PER_ENTRY_MAX;
use crate::partial::Partial;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// Distinguishes such a body from one of changes: those begin with the number of metrics, which is not 0.
const MARK: u8 = 0;
/// The format byte after the mark. Smaller ones are tops.
const FORM: u8 = 3;

/// What one or more events add to the values of a node, for one subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// The subject.
    pub subject_id: Arc<str>,
    /// The node's name.
    pub node: Arc<str>,
    /// The windows that it belongs to besides all time, at most one slot for each window of the node. A window that is
    /// closed for all of these events has none.
    pub slots: Vec<Slot>,
    /// By the id of the value. A value in which none of these events takes part has none.
    pub values: Vec<(u32, Partial)>,
}

/// The windows of one kind that events belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The id of the window.
    pub window: u32,
    /// Fixed windows: start of the first window that is still open. Sessions: time of the first event. Sliding: time of
    /// the event.
    pub from_ms: i64,
    /// Fixed windows: start of the last one. Sessions: time of the last event. Sliding: end of the first window that is
    /// still open.
    pub to_ms: i64,
    /// How sessions are joined; None for other windows, and not sent.
    pub session: Option<SessionRule>,
}

/// When two sessions are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRule {
    /// Two events at most this far apart belong to one session.
    pub gap_ms: i64,
    /// Sessions are cut at multiples of it.
    pub max_ms: i64,
}

impl SessionRule {
    /// Whether two sessions, from first to last event each, are one.
    pub fn joins(&self, a: (i64, i64), b: (i64, i64)) -> bool {
        let is_near = b.0 <= a.1.saturating_add(self.gap_ms) && a.0 <= b.1.saturating_add(self.gap_ms);
        is_near && self.part(a.0) == self.part(b.0)
    }

    /// The part of time that a session lies in: the number of the cut before it.
    pub fn part(&self, time_ms: i64) -> i64 {
        time_ms.div_euclid(self.max_ms)
    }
}

impl Slot {
    /// Whether events of two slots are in the same windows, or in one session.
    fn joins(&self, other: &Self) -> bool {
        match (self.session, other.session) {
            (Some(rule), Some(_)) => {
                self.window == other.window && rule.joins((self.from_ms, self.to_ms), (other.from_ms, other.to_ms))
            }
            _ => self == other,
        }
    }
}

impl Contribution {
    /// Whether another contribution is of the same subject and node, and in the same windows.
    pub fn joins(&self, other: &Self) -> bool {
        same_name(&self.subject_id, &other.subject_id)
            && same_name(&self.node, &other.node)
            && self.slots.len() == other.slots.len()
            && self.slots.iter().zip(&other.slots).all(|(a, b)| a.joins(b))
    }

    /// Takes in a contribution that joins it.
    pub fn merge(&mut self, other: &Self) {
        for (slot, other) in self.slots.iter_mut().zip(&other.slots) {
            if slot.session.is_some() {
                (slot.from_ms, slot.to_ms) = (slot.from_ms.min(other.from_ms), slot.to_ms.max(other.to_ms));
            }
        }
        for (value, partial) in &other.values {
            match self.values.iter_mut().find(|(known, _)| known == value) {
                Some((_, known)) => known.merge(partial),
                None => self.values.push((*value, partial.clone())),
            }
        }
    }

    /// Roughly how much memory it holds, in bytes.
    pub fn size_bytes(&self) -> usize {
        let values: usize = self.values.iter().map(|(_, partial)| partial.size_bytes()).sum();
        size_of::<Self>() + self.slots.len() * size_of::<Slot>() + values
    }
}

/// Names are shared, so equal ones are mostly the same allocation.
fn same_name(a: &Arc<str>, b: &Arc<str>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

#[derive(Serialize, Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    nodes: Vec<Cow<'a, str>>,
    entries: u32,
}

#[derive(Serialize, Deserialize)]
struct Entry<'a> {
    subject_id: &'a str,
    node: u16,
    /// (window, from_ms, to_ms)
    slots: Vec<(u32, i64, i64)>,
    values: Cow<'a, [(u32, Partial)]>,
}

/// Packs contributions into bodies of about `bytes_max` each.
#[derive(Default)]
pub struct ContributionsEncoder {
    nodes: Vec<Arc<str>>,
    entries: u32,
    bytes: Vec<u8>,
}

impl ContributionsEncoder {
    /// Adds a contribution; emits a body when it is full.
    pub fn push(&mut self, contribution: &mut Contribution, bytes_max: usize, mut emit: impl FnMut(Vec<u8>)) {
        for (_, partial) in &mut contribution.values {
            if let Partial::Distinct(hashes) = partial {
                hashes.sort_unstable();
                hashes.dedup();
            }
        }
        // What does not fit into one entry follows in others of the same windows: they are merged again.
        let mut rest = Vec::new();
        for (value, partial) in &mut contribution.values {
            if let Partial::Distinct(hashes) = partial {
                while hashes.len() > HASHES_PER_ENTRY_MAX {
                    let hashes = hashes.split_off(hashes.len() - HASHES_PER_ENTRY_MAX);
                    rest.push((*value, Partial::Distinct(hashes)));
                }
            }
        }
        self.push_entry(contribution, &contribution.values, bytes_max, &mut emit);
        for one in &rest {
            self.push_entry(contribution, std::slice::from_ref(one), bytes_max, &mut emit);
        }
    }

    fn push_entry(
        &mut self,
        of: &Contribution,
        values: &[(u32, Partial)],
        bytes_max: usize,
        emit: &mut impl FnMut(Vec<u8>),
    ) {
        let known = self.nodes.iter().position(|node| same_name(node, &of.node));
        let node = known.unwrap_or_else(|| {
            self.nodes.push(of.node.clone());
            self.nodes.len() - 1
        }) as u16;
        let slots = of.slots.iter().map(|slot| (slot.window, slot.from_ms, slot.to_ms)).collect();
        let entry = Entry { subject_id: &of.subject_id, node, slots, values: Cow::Borrowed(values) };
        // Only a failing writer fails here, and a vector does not.
        if let Ok(bytes) = postcard::to_extend(&entry, std::mem::take(&mut self.bytes)) {
            self.bytes = bytes;
            self.entries += 1;
        }
        if self.bytes.len() >= bytes_max {
            self.finish(emit);
        }
    }

    /// The last body, if there is one.
    pub fn finish(&mut self, mut emit: impl FnMut(Vec<u8>)) {
        if self.entries == 0 {
            return;
        }
        let nodes = self.nodes.iter().map(|node| Cow::Borrowed(node.as_ref())).collect();
        let head = Head { nodes, entries: self.entries };
        let mut body = postcard::to_extend(&head, vec![MARK, FORM]).unwrap_or_default();
        body.extend_from_slice(&self.bytes);
        *self = Self::default();
        emit(body);
    }
}

/// Whether a body holds contributions.
pub fn holds_contributions(body: &[u8]) -> bool {
    body.starts_with(&[MARK, FORM])
}

/// Unpacks a body. Contributions of the same windows may come more than once.
pub fn decode_contributions(body: &[u8], mut each: impl FnMut(Contribution)) -> Result<(), WireError> {
    let wrong = |e: postcard::Error| WireError(e.to_string());
    let rest = body.strip_prefix(&[MARK, FORM]).ok_or_else(|| WireError("no contributions".to_owned()))?;
    let (head, mut rest) = postcard::take_from_bytes::<Head<'_>>(rest).map_err(wrong)?;
    let nodes: Vec<Arc<str>> = head.nodes.iter().map(|node| Arc::from(node.as_ref())).collect();
    let node = |index: u16| nodes.get(index as usize).cloned().ok_or_else(|| WireError(format!("no node {index}")));
    for _ in 0..head.entries {
        let (entry, tail) = postcard::take_from_bytes::<Entry<'_>>(rest).map_err(wrong)?;
        rest = tail;
        let slot = |(window, from_ms, to_ms)| Slot { window, from_ms, to_ms, session: None };
        each(Contribution {
            subject_id: entry.subject_id.into(),
            node: node(entry.node)?,
            slots: entry.slots.into_iter().map(slot).collect(),
            values: entry.values.into_owned(),
        });
    }
    match rest.is_empty() {
        true => Ok(()),
        false => Err(WireError(format!("{} bytes too many", rest.len()))),
    }
}

#[cfg(test)]
#[path = "contribution_tests.rs"]
mod tests;
