//! Time, injected: nothing else in this crate reads the wall clock.
//!
//! There are two kinds. The wall clock has the date; it may be wrong, and it jumps. The monotonic clock measures
//! durations. [`Now`] has both by name, so that no duration is measured by the wall clock.

use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Wall time, milliseconds since 1970. Shared by all threads; may jump in either direction.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The operating system's clock.
pub fn system_clock() -> Clock {
    Arc::new(wall_ms)
}

/// Both clocks. Shared by all threads.
pub type Time = Arc<dyn Fn() -> Now + Send + Sync>;

/// A moment, by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970, by a clock that may be wrong and may jump: for times of data.
    pub wall_ms: i64,
    /// Milliseconds since an arbitrary moment, by a clock that is never set and includes suspension: for durations.
    pub monotonic_ms: i64,
}

impl Now {
    /// By the clocks of the system. The monotonic one is `CLOCK_BOOTTIME`.
    pub fn of_system() -> Self {
        let boot = clock_gettime(ClockId::Boottime);
        let monotonic_ms = boot.tv_sec.saturating_mul(1_000).saturating_add(boot.tv_nsec / 1_000_000);
        Self { wall_ms: wall_ms(), monotonic_ms }
    }

    /// Both clocks show the same: in simulations whose wall clock is right.
    pub fn both(ms: i64) -> Self {
        Self { wall_ms: ms, monotonic_ms: ms }
    }

    /// How long ago that was, in milliseconds; `earlier_ms` by the monotonic clock, `i64::MIN` for never.
    pub fn since_ms(&self, earlier_ms: i64) -> i64 {
        self.monotonic_ms.saturating_sub(earlier_ms)
    }
}

/// The lag of something that advances with time. The wall clock alone is not enough: while it is set back, nothing
/// seems to lag. So the lag is at least the time since the last advance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lag {
    /// Its value, and since when it has that value, by the monotonic clock.
    stands: Option<(i64, i64)>,
}

impl Lag {
    /// For how long it has stood at this place, in milliseconds: since the first call with it.
    pub fn standing_ms(&mut self, place: i64, now: Now) -> i64 {
        let since_ms = match self.stands {
            Some((known, since_ms)) if known == place => since_ms,
            _ => now.monotonic_ms,
        };
        self.stands = Some((place, since_ms));
        now.since_ms(since_ms)
    }

    /// How far a clock that stands at `clock_ms` is behind, in milliseconds.
    pub fn clock_ms(&mut self, clock_ms: i64, now: Now) -> i64 {
        now.wall_ms.saturating_sub(clock_ms).max(self.standing_ms(clock_ms, now))
    }
}

fn wall_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    }
}
