//! Warnings about rejected records, at most once a minute for all threads of a process.

use crate::task::Rejections;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two warnings. A client that is set up wrongly may send thousands of records a second.
const EVERY: Duration = Duration::from_secs(60);

/// Rejections that were not reported yet, and the time of the last report.
#[derive(Default)]
pub(super) struct Refusals(Mutex<State>);

#[derive(Default)]
struct State {
    reported_at: Option<Instant>,
    waiting: Rejections,
}

impl Refusals {
    /// Takes in what tasks have rejected, and warns when it is time. `now` is for the messages alone: nothing is decided
    /// by it.
    pub fn report(&self, rejected: &mut Rejections, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.append(rejected);
        if state.reported_at.is_some_and(|reported_at| now.duration_since(reported_at) < EVERY) {
            return false;
        }
        let Some((node, reason, kind, others)) = state.waiting.take_most_frequent() else { return false };
        state.reported_at = Some(now);
        tracing::warn!(
            node = &*node,
            reason,
            records = kind.count,
            first = kind.address,
            detail = kind.detail,
            records_for_other_reasons = others,
            "records cannot be taken"
        );
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_warns_at_once_and_then_once_a_minute() {
        let refusals = Refusals::default();
        let mut now = Instant::now();
        let mut reported = 0;
        for second in 0..=180 {
            let mut rejected = Rejections::of_one("valid", "wrong");
            reported += u32::from(refusals.report(&mut rejected, now));
            assert_eq!(reported, 1 + second / 60, "after {second} s");
            now += Duration::from_secs(1);
        }
        // Rejections in between are not lost: they are reported when the minute is over, without a new one.
        assert!(!refusals.report(&mut Rejections::of_one("valid", "wrong"), now));
        now += EVERY;
        assert!(refusals.report(&mut Rejections::default(), now));
        assert!(!refusals.report(&mut Rejections::default(), now + EVERY));
    }
}
