//! When to try again after a failure, and how much. Waits go by the monotonic clock: a wall clock that is set back or
//! forward makes none longer or shorter.

use tally_streams::log::Now;

/// The first wait.
const FIRST_MS: i64 = 100;
/// The longest wait between two attempts.
const LONGEST_MS: i64 = 10_000;
/// After this many failures in a row only a probe is sent, until one succeeds.
const TRIP: u32 = 5;

/// A circuit breaker.
///
/// Closed, whatever is to be done is done; after a failure it waits and does it again. Waits double, each cut by up to a
/// half at random, so that several sinks that failed together do not come back together. After some failures in a row it
/// is open: when a wait is over, only a probe is sent. A probe that succeeds leaves it half open: one real attempt
/// decides whether it closes or opens again.
#[derive(Debug, Default)]
pub struct Breaker {
    state: State,
    failures: u32,
    from_ms: i64,
    wait_ms: i64,
}

/// How much is tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Closed: everything is allowed.
    #[default]
    Closed = 0,
    /// One attempt, because a probe has succeeded.
    HalfOpen = 1,
    /// Probes.
    Open = 2,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Nothing is allowed for that many milliseconds.
    Wait(i64),
    /// Send a probe.
    Probe,
    /// Do what is to be done.
    Go,
}

impl Breaker {
    /// What to do now.
    pub fn permit(&self, now: Now) -> Permit {
        let left_ms = self.wait_ms - now.since_ms(self.from_ms);
        match self.state {
            _ if left_ms > 0 => Permit::Wait(left_ms),
            State::Open => Permit::Probe,
            State::Closed | State::HalfOpen => Permit::Go,
        }
    }

    /// After a failure; how long to wait. `jitter` is a random number from 0 to 1.
    pub fn fail(&mut self, now: Now, jitter: f64) -> i64 {
        let full_ms = FIRST_MS.saturating_mul(1 << self.failures.min(20)).min(LONGEST_MS);
        self.failures = self.failures.saturating_add(1);
        if self.failures >= TRIP {
            self.state = State::Open;
        }
        self.from_ms = now.monotonic_ms;
        self.wait_ms = full_ms - (full_ms as f64 / 2.0 * jitter.clamp(0.0, 1.0)) as i64;
        self.wait_ms
    }

    /// A probe was answered.
    pub fn probed(&mut self) {
        self.state = State::HalfOpen;
        self.wait_ms = 0;
    }

    /// After a success; whether there were failures before it.
    pub fn succeed(&mut self) -> bool {
        let failed = self.failures > 0;
        *self = Self::default();
        failed
    }

    /// How much is tried.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the last attempt failed.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wall clock without meaning.
    fn at(monotonic_ms: i64) -> Now {
        Now { wall_ms: -monotonic_ms, monotonic_ms }
    }

    #[test]
    fn waits_double_up_to_a_limit_and_start_over_after_a_success() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.permit(at(0)), Permit::Go);
        let waits: Vec<_> = (0..9).map(|_| breaker.fail(at(1_000), 0.0)).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert_eq!(breaker.permit(at(4_000)), Permit::Wait(7_000));
        assert_eq!(breaker.permit(at(11_000)), Permit::Probe);
        assert!(breaker.succeed() && !breaker.succeed());
        assert_eq!(breaker.fail(at(0), 1.0), 50);
    }

    #[test]
    fn it_opens_after_some_failures_and_closes_after_a_probe_and_a_success() {
        let mut breaker = Breaker::default();
        for failure in 1..TRIP {
            let wait_ms = breaker.fail(at(0), 0.0);
            assert_eq!((breaker.state(), breaker.permit(at(wait_ms))), (State::Closed, Permit::Go), "after {failure}");
        }
        let wait_ms = breaker.fail(at(0), 0.0);
        assert_eq!((breaker.state(), breaker.permit(at(wait_ms))), (State::Open, Permit::Probe));
        breaker.probed();
        assert_eq!((breaker.state(), breaker.permit(at(wait_ms))), (State::HalfOpen, Permit::Go));
        // The attempt fails: open again, with the longer wait.
        let longer_ms = breaker.fail(at(wait_ms), 0.0);
        assert_eq!((breaker.state(), longer_ms), (State::Open, 2 * wait_ms));
        assert_eq!(breaker.permit(at(wait_ms + longer_ms - 1)), Permit::Wait(1));
        assert_eq!(breaker.permit(at(wait_ms + longer_ms)), Permit::Probe);
        breaker.probed();
        assert!(breaker.succeed());
        assert_eq!((breaker.state(), breaker.permit(at(0))), (State::Closed, Permit::Go));
    }
}
