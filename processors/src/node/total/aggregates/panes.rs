//! Shared panes of hopping windows: events that are in the same windows are added up once, in one entry of the store. The
//! values of a window are those of its panes together.
//!
//! A pane is named by the first and the last start of its windows. Events for which one of the first windows was closed
//! already are in fewer windows. So that a window need not look for all such panes, they are added to each of their windows, in
//! an entry of the window's own.

use super::values::Values;
use crate::counting::aggregation::start_ms;

/// Windows of a size that begin every so often.
#[derive(Clone, Copy)]
pub(super) struct Panes {
    pub size_ms: i64,
    pub every_ms: i64,
}

impl Panes {
    /// Whether windows overlap.
    pub fn has_panes(self) -> bool {
        self.every_ms < self.size_ms
    }

    /// Whether events of these windows have a pane.
    pub fn is_pane(self, (from_ms, to_ms): (i64, i64)) -> bool {
        from_ms < to_ms && from_ms <= self.first_of(to_ms + self.every_ms - 1)
    }

    /// The panes whose last window begins then. There are two where the step does not divide the size.
    fn ending_with(self, to_ms: i64) -> impl Iterator<Item = (i64, i64)> {
        let (first, second) = (self.first_of(to_ms), self.first_of(to_ms + self.every_ms - 1));
        let second = (second > first).then_some(second);
        std::iter::once(first)
            .chain(second)
            .map(move |from_ms| (from_ms, to_ms))
            .filter(|(from_ms, to_ms)| from_ms < to_ms)
    }

    /// The start of the first window that holds a time.
    fn first_of(self, time_ms: i64) -> i64 {
        start_ms(time_ms - self.size_ms, self.every_ms) + self.every_ms
    }

    /// The starts of windows, from the first to the last.
    pub fn starts(self, (from_ms, to_ms): (i64, i64)) -> impl Iterator<Item = i64> {
        (from_ms..=to_ms).step_by(self.every_ms.max(1) as usize)
    }

    /// The values of windows, ascending by their starts. `add` adds what the store has for a pane or for a single window, to
    /// the windows that begin from the first of two times to the second.
    pub fn combine(
        self,
        starts: &[i64],
        mut add: impl FnMut((i64, i64), &mut dyn FnMut(&Values)),
    ) -> Vec<(i64, Option<Values>)> {
        let mut windows: Vec<(i64, Option<Values>)> = starts.iter().map(|start_ms| (*start_ms, None)).collect();
        let (Some(first), Some(last)) = (starts.first(), starts.last()) else { return windows };
        let panes = self.starts((*first, start_ms(last + self.size_ms - 1, self.every_ms)));
        let panes = panes.flat_map(|to_ms| self.ending_with(to_ms));
        for (from_ms, to_ms) in panes.chain(starts.iter().map(|start_ms| (*start_ms, *start_ms))) {
            add((from_ms, to_ms), &mut |values| {
                for (_, window) in windows.iter_mut().filter(|(start_ms, _)| (from_ms..=to_ms).contains(start_ms)) {
                    match window {
                        Some(window) => window.merge(values),
                        None => *window = Some(values.clone()),
                    }
                }
            });
        }
        windows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counting::aggregation::AggregateWindow;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use tally_model::{Partial, WindowSpec};

    proptest! {
        #[test]
        fn a_window_has_what_was_added_to_it(
            (size_ms, every_ms) in (2..40i64, 1..40i64).prop_map(|(size, every)| (size, every.min(size - 1).max(1))),
            events in prop::collection::vec((-60..60i64, 0..50i64), 1..40),
        ) {
            let (panes, spec) = (Panes { size_ms, every_ms }, WindowSpec::Hopping { size_ms, every_ms });
            let (mut store, mut expected) = (BTreeMap::<(i64, i64), Values>::new(), BTreeMap::<i64, u64>::new());
            for (time_ms, age_ms) in events {
                let (Some(slot), _) = AggregateWindow::new(spec).open_for(time_ms, time_ms + age_ms, 5) else { continue };
                panes.starts(slot).for_each(|start_ms| *expected.entry(start_ms).or_default() += 1);
                let entries = match panes.is_pane(slot) {
                    true => vec![slot],
                    false => panes.starts(slot).map(|start_ms| (start_ms, start_ms)).collect(),
                };
                // Events that are in time cost one entry.
                prop_assert!(age_ms > 5 || entries.len() == 1);
                entries.into_iter().for_each(|entry| store.entry(entry).or_default().add(&[(1, Partial::Count(1))]));
            }
            let starts: Vec<i64> = expected.keys().copied().collect();
            let found = panes.combine(&starts, |entry, add| store.get(&entry).into_iter().for_each(add));
            let mut wanted = Vec::new();
            for (start_ms, count) in expected {
                let mut values = Values::default();
                values.add(&[(1, Partial::Count(count))]);
                wanted.push((start_ms, Some(values)));
            }
            prop_assert_eq!(found, wanted);
        }
    }
}
