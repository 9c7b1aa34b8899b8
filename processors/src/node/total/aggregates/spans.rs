//! Values of a subject over spans of time: its sessions, or the events of its sliding windows.

use super::values::Values;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use tally_streams::store::{Deltas, StoreValue};

/// Values over a span of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    /// Sessions: first and last event. Sliding windows: time of the events, and end of the first window that is open for
    /// them.
    pub at: (i64, i64),
    /// The values.
    pub values: Values,
}

/// The spans of a subject, ascending.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spans(pub Vec<Span>);

impl Spans {
    /// Adds a span that is none of the present ones.
    pub fn insert(&mut self, span: Span) {
        let at = self.0.partition_point(|known| known.at < span.at);
        self.0.insert(at, span);
    }

    fn find(&self, at: (i64, i64)) -> Option<&Span> {
        self.0.binary_search_by(|span| span.at.cmp(&at)).ok().map(|found| &self.0[found])
    }

    /// The former span that a changed one grew from: the one with the same times, or else one that begins at the same
    /// time, is no more, and that no other one grew from.
    fn origin<'a>(&self, span: &Span, before: &'a Self, changed: &[Change<'_>]) -> Option<&'a Span> {
        let is_free = |old: &&Span| self.find(old.at).is_none() && !is_origin(old, changed);
        before.find(span.at).or_else(|| before.0.iter().filter(|old| old.at.0 == span.at.0).find(is_free))
    }
}

/// The stored form of what changed.
#[derive(Default, Serialize, Deserialize)]
struct Stored<'a> {
    /// Spans that are no more.
    gone: Vec<(i64, i64)>,
    /// The times of a span, those of the span that it grew from, and the difference of the values.
    changed: Vec<Change<'a>>,
}

type Change<'a> = ((i64, i64), Option<(i64, i64)>, Cow<'a, [u8]>);

/// Whether a changed span grew from this one.
fn is_origin(old: &Span, changed: &[Change<'_>]) -> bool {
    changed.iter().any(|(_, origin, _)| *origin == Some(old.at))
}

impl Deltas for Spans {
    fn delta(&self, before: &Self, out: &mut Vec<u8>) {
        let mut stored = Stored::default();
        for span in &self.0 {
            let origin = self.origin(span, before, &stored.changed);
            if origin == Some(span) {
                continue;
            }
            let mut values = Vec::new();
            span.values.delta(origin.map_or(&Values::default(), |origin| &origin.values), &mut values);
            stored.changed.push((span.at, origin.map(|origin| origin.at), values.into()));
        }
        let gone = before.0.iter().filter(|old| self.find(old.at).is_none() && !is_origin(old, &stored.changed));
        stored.gone = gone.map(|old| old.at).collect();
        if !(stored.gone.is_empty() && stored.changed.is_empty())
            && let Ok(bytes) = postcard::to_extend(&stored, std::mem::take(out))
        {
            *out = bytes;
        }
    }

    fn apply(&mut self, delta: &[u8]) -> bool {
        if delta.is_empty() {
            return true;
        }
        let Ok(Stored { gone, changed }) = postcard::from_bytes::<Stored<'_>>(delta) else { return false };
        self.0.retain(|span| !gone.contains(&span.at));
        changed.into_iter().all(|(at, origin, values)| {
            // Applied again, the span is there already.
            let place = |times| self.0.iter().position(|span| span.at == times);
            let taken = origin.and_then(place).or_else(|| place(at));
            let mut span = taken.map(|found| self.0.remove(found)).unwrap_or_default();
            span.at = at;
            let is_valid = span.values.apply(&values);
            self.insert(span);
            is_valid
        })
    }
}

impl StoreValue for Spans {
    /// The difference to nothing.
    fn encode(&self, out: &mut Vec<u8>) {
        self.delta(&Self::default(), out);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut spans = Self::default();
        spans.apply(bytes).then_some(spans)
    }
}

#[cfg(test)]
#[path = "spans_tests.rs"]
mod tests;
