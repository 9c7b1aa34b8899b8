//! Sliding windows of an `aggregate` node, as those of Kafka Streams: for every event the window that ends with it, and
//! the window that begins a millisecond after it where it holds an event. Both ends belong to a window.
//!
//! The state is the timeline of a subject: what events add, by their time and by the end of the first window that is open
//! for them. Windows are computed from it, so that the order in which events arrive decides nothing.

use super::spanned::{Changed, Rule};
use super::spans::{Span, Spans};
use super::values::Values;
use std::collections::BTreeSet;
use tally_model::{Partial, Slot};

/// Sliding windows of one kind.
pub(super) struct Sliding {
    pub size_ms: i64,
    pub grace_ms: i64,
    /// Whether windows are emitted when they close.
    pub on_close: bool,
}

impl Sliding {
    /// The clock at which a window is closed.
    fn due_ms(&self, start_ms: i64) -> i64 {
        start_ms + self.size_ms + self.grace_ms + 1
    }

    /// The starts of the windows that an event gives rise to. A window that is closed for the event does not end with it.
    fn starts_of(&self, span: &Span) -> impl Iterator<Item = i64> + use<> {
        let (time_ms, open_ms) = span.at;
        let left = (open_ms <= time_ms).then_some(time_ms - self.size_ms);
        left.into_iter().chain([time_ms + 1])
    }

    /// When an event is part of no window any more.
    fn forget_ms(&self, span: &Span) -> i64 {
        self.due_ms(span.at.0 + 1)
    }
}

impl Rule for Sliding {
    fn add(&self, spans: &mut Spans, slot: &Slot, values: &[(u32, Partial)], changed: &mut Changed) {
        let (time_ms, open_ms) = (slot.from_ms, slot.to_ms);
        let right_ms = time_ms + 1;
        let had_right = spans.0.iter().any(|span| self.starts_of(span).any(|start_ms| start_ms == right_ms));
        let at = (time_ms, open_ms);
        match spans.0.binary_search_by(|span| span.at.cmp(&at)) {
            Ok(found) => spans.0[found].values.add(values),
            Err(_) => {
                let mut span = Span { at, ..Span::default() };
                span.values.add(values);
                spans.insert(span);
            }
        }
        let holds = |start_ms: &i64| (*start_ms..=start_ms + self.size_ms).contains(&time_ms);
        let is_open = |start_ms: &i64| start_ms + self.size_ms >= open_ms;
        let starts = spans.0.iter().flat_map(|span| self.starts_of(span));
        changed.touched.extend(starts.filter(|start_ms| holds(start_ms) && is_open(start_ms)));
        if !had_right {
            changed.touched.insert(right_ms);
        }
    }

    fn next_due_ms(&self, spans: &Spans, after_ms: i64) -> Option<i64> {
        let windows = spans.0.iter().filter(|_| self.on_close).flat_map(|span| self.starts_of(span));
        let windows = windows.map(|start_ms| self.due_ms(start_ms));
        let forgotten = spans.0.iter().map(|span| self.forget_ms(span));
        windows.chain(forgotten).filter(|due_ms| *due_ms > after_ms).min()
    }

    fn absorbable(&self, _spans: &Spans) -> Vec<(i64, i64)> {
        Vec::new()
    }

    fn window(&self, spans: &Spans, start_ms: i64) -> Option<(i64, Values)> {
        let end_ms = start_ms + self.size_ms;
        let first = spans.0.partition_point(|span| span.at.0 < start_ms);
        let within = spans.0[first..].iter().take_while(|span| span.at.0 <= end_ms);
        let mut values: Option<Values> = None;
        for span in within.filter(|span| span.at.1 <= end_ms) {
            match &mut values {
                Some(values) => values.merge(&span.values),
                None => values = Some(span.values.clone()),
            }
        }
        Some((end_ms + 1, values?))
    }

    fn is_closed(&self, _spans: &Spans, start_ms: i64, clock_ms: i64) -> bool {
        self.due_ms(start_ms) <= clock_ms
    }

    fn due(&self, spans: &Spans, due_ms: i64) -> BTreeSet<i64> {
        let starts = spans.0.iter().flat_map(|span| self.starts_of(span));
        starts.filter(|start_ms| self.due_ms(*start_ms) == due_ms).collect()
    }

    fn forget(&self, spans: &mut Spans, due_ms: i64) {
        spans.0.retain(|span| self.forget_ms(span) > due_ms);
    }
}
