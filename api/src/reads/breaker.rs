//! A circuit breaker for a store: a failing store gets no requests for a while.
//!
//! Many readers share it, none of them waits, and a request is its own probe. The breaker of a sink
//! (`sinks/src/breaker.rs`) decides how long its single writer waits, and when it probes before it writes.

use prometheus::IntGauge;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row that open it.
const TRIP: u32 = 3;
/// The first pause; each failed probe doubles it.
const FIRST_REST: Duration = Duration::from_millis(500);
/// The longest pause, and so the longest time until a recovered store is noticed.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// Lets requests through while they succeed. After some failures in a row it lets none through for a while, then one
/// probe; if that succeeds, all again.
pub struct Breaker {
    state: Mutex<State>,
    /// 0 closed, 1 half open, 2 open.
    gauge: IntGauge,
}

enum State {
    Closed { failures: u32 },
    Open { until: Instant, rest: Duration },
    HalfOpen { rest: Duration },
}

/// One request let through. If it is dropped without an outcome (the request was cancelled), it does not affect the
/// breaker.
pub struct Permit<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
}

impl Breaker {
    /// A closed one.
    pub fn new(gauge: IntGauge) -> Self {
        gauge.set(0);
        Self { state: Mutex::new(State::Closed { failures: 0 }), gauge }
    }

    /// Whether a request may go to the store now.
    pub fn permit(&self, now: Instant) -> Option<Permit<'_>> {
        let mut state = self.lock();
        let is_probe = match *state {
            State::Closed { .. } => false,
            State::Open { until, rest } if now >= until => {
                *state = State::HalfOpen { rest };
                self.gauge.set(1);
                true
            }
            State::Open { .. } | State::HalfOpen { .. } => return None,
        };
        Some(Permit { breaker: self, is_probe })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// The store answered.
    pub fn succeed(mut self) {
        *self.breaker.lock() = State::Closed { failures: 0 };
        self.breaker.gauge.set(0);
        self.is_probe = false;
    }

    /// It did not.
    pub fn fail(mut self, now: Instant) {
        let mut state = self.breaker.lock();
        let rest = match *state {
            State::HalfOpen { rest } if self.is_probe => Some((rest * 2).min(LONGEST_REST)),
            State::Closed { failures } if failures + 1 >= TRIP => Some(FIRST_REST),
            State::Closed { failures } => {
                *state = State::Closed { failures: failures + 1 };
                None
            }
            // Requests that were in flight when it opened do not count.
            State::Open { .. } | State::HalfOpen { .. } => None,
        };
        if let Some(rest) = rest {
            *state = State::Open { until: now + rest, rest };
            self.breaker.gauge.set(2);
        }
        drop(state);
        self.is_probe = false;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            let mut state = self.breaker.lock();
            if let State::HalfOpen { rest } = *state {
                // The next request is the probe.
                *state = State::Open { until: Instant::now(), rest };
                self.breaker.gauge.set(2);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(IntGauge::new("state", "State.").unwrap())
    }

    fn fail(breaker: &Breaker, now: Instant, times: u32) {
        (0..times).for_each(|_| breaker.permit(now).unwrap().fail(now));
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_probe_closes_it() {
        let (breaker, start) = (breaker(), Instant::now());
        fail(&breaker, start, TRIP - 1);
        breaker.permit(start).unwrap().succeed();
        fail(&breaker, start, TRIP);
        assert_eq!(breaker.gauge.get(), 2);
        let later = start + FIRST_REST;
        assert!(breaker.permit(start).is_none() && breaker.permit(later - Duration::from_millis(1)).is_none());
        let probe = breaker.permit(later).unwrap();
        assert!(breaker.permit(later).is_none(), "one probe at a time");
        assert_eq!(breaker.gauge.get(), 1);
        probe.succeed();
        assert_eq!(breaker.gauge.get(), 0);
        assert!(breaker.permit(later).is_some());
    }

    #[test]
    fn a_probe_that_fails_doubles_the_rest_up_to_a_limit() {
        let (breaker, mut now) = (breaker(), Instant::now());
        fail(&breaker, now, TRIP);
        for rest_ms in [500, 1_000, 2_000, 4_000, 5_000, 5_000] {
            let rest = Duration::from_millis(rest_ms);
            assert!(breaker.permit(now + rest - Duration::from_millis(1)).is_none(), "{rest:?}");
            now += rest;
            breaker.permit(now).unwrap().fail(now);
        }
    }

    #[test]
    fn a_probe_that_is_given_up_leaves_the_next_one_to_others() {
        let (breaker, now) = (breaker(), Instant::now());
        fail(&breaker, now, TRIP);
        drop(breaker.permit(now + FIRST_REST).unwrap());
        let later = Instant::now() + FIRST_REST;
        let late = breaker.permit(later).unwrap();
        late.fail(later);
        assert!(breaker.permit(later).is_none());
    }
}
