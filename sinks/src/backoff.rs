//! How long to wait after a failure.

/// The first wait.
const FIRST_MS: i64 = 100;
/// No wait is longer.
const LONGEST_MS: i64 = 10_000;

/// Waits that double with every failure in a row, each cut by up to a half at random, so that several sinks that
/// failed together do not come back together.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    from_ms: i64,
    wait_ms: i64,
}

impl Backoff {
    /// After a failure. `jitter` is a random number from 0 to 1.
    pub fn fail(&mut self, now_ms: i64, jitter: f64) -> i64 {
        let full_ms = FIRST_MS.saturating_mul(1 << self.failures.min(20)).min(LONGEST_MS);
        self.failures = self.failures.saturating_add(1);
        self.from_ms = now_ms;
        self.wait_ms = full_ms - (full_ms as f64 / 2.0 * jitter.clamp(0.0, 1.0)) as i64;
        self.wait_ms
    }

    /// After a success; says whether there were failures before it.
    pub fn succeed(&mut self) -> bool {
        let failed = self.failures > 0;
        *self = Self::default();
        failed
    }

    /// How much of the wait is left. A clock that was set back does not make it longer.
    pub fn remaining_ms(&self, now_ms: i64) -> i64 {
        let elapsed_ms = now_ms - self.from_ms;
        if elapsed_ms < 0 { 0 } else { (self.wait_ms - elapsed_ms).max(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_start_over_after_a_success() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.remaining_ms(0), 0);
        let waits: Vec<_> = (0..9).map(|_| backoff.fail(1_000, 0.0)).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert_eq!(backoff.remaining_ms(4_000), 7_000);
        assert_eq!(backoff.remaining_ms(0), 0);
        assert!(backoff.succeed() && !backoff.succeed());
        assert_eq!(backoff.fail(0, 1.0), 50);
    }
}
