//! Sessions of an `aggregate` node: events of a subject without a longer gap.

use super::spanned::{Changed, Rule};
use super::spans::{Span, Spans};
use super::values::Values;
use std::collections::BTreeSet;
use tally_model::{Partial, SessionRule, Slot};

/// Sessions of one kind.
pub(super) struct Sessions {
    pub rule: SessionRule,
    pub grace_ms: i64,
}

impl Sessions {
    /// The clock at which nothing can join a session any more: a record that is not late, up to a gap behind the last
    /// event, was appended before.
    fn due_ms(&self, span: &Span) -> i64 {
        span.at.1 + 2 * self.rule.gap_ms + self.grace_ms + 1
    }
}

impl Rule for Sessions {
    fn add(&self, spans: &mut Spans, slot: &Slot, values: &[(u32, Partial)], changed: &mut Changed) {
        let times = (slot.from_ms, slot.to_ms);
        // Sessions that are apart stay apart, unless the new events lie between them.
        let mut joined = spans.0.extract_if(.., |span| self.rule.joins(span.at, times));
        let mut session = joined.next().unwrap_or(Span { at: times, ..Span::default() });
        changed.touched.remove(&session.at.0);
        for other in joined {
            changed.touched.remove(&other.at.0);
            session.values.merge(&other.values);
            session.at.1 = session.at.1.max(other.at.1);
        }
        session.values.add(values);
        session.at = (session.at.0.min(times.0), session.at.1.max(times.1));
        changed.touched.insert(session.at.0);
        spans.insert(session);
    }

    fn next_due_ms(&self, spans: &Spans, _after_ms: i64) -> Option<i64> {
        // They do not overlap, so that the first ends first.
        spans.0.first().map(|span| self.due_ms(span))
    }

    fn absorbable(&self, spans: &Spans) -> Vec<(i64, i64)> {
        spans.0.iter().map(|span| (span.at.0, span.at.1 + 1)).collect()
    }

    fn window(&self, spans: &Spans, start_ms: i64) -> Option<(i64, Values)> {
        let found = spans.0.iter().find(|span| span.at.0 == start_ms)?;
        Some((found.at.1 + 1, found.values.clone()))
    }

    fn is_closed(&self, spans: &Spans, start_ms: i64, clock_ms: i64) -> bool {
        let found = spans.0.iter().find(|span| span.at.0 == start_ms);
        found.is_some_and(|span| self.due_ms(span) <= clock_ms)
    }

    fn due(&self, spans: &Spans, due_ms: i64) -> BTreeSet<i64> {
        spans.0.iter().filter(|span| self.due_ms(span) <= due_ms).map(|span| span.at.0).collect()
    }

    fn forget(&self, spans: &mut Spans, due_ms: i64) {
        spans.0.retain(|span| self.due_ms(span) > due_ms);
    }
}
