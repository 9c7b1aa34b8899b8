//! Whether the wall clock can be trusted.
//!
//! A single wrong reading must not become the time of the log: a record appended with tomorrow's time keeps it, and
//! everything after it would be late. So every reading is compared with a monotonic clock and with the log. A wall
//! clock that has jumped is not trusted until it has kept its new time for a while. One that is behind the log's last
//! append is not trusted at all: either it or the log's time is wrong, and an operator has to decide which.

use super::clock::{Now, Time};
use super::{Consumer, Log, LogError, Polled, TopicPartition};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The limits beyond which a wall clock is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallLimits {
    /// The greatest sudden difference from the expected time.
    pub jump: Duration,
    /// How long a clock that has jumped must keep its new time to be trusted again.
    pub settle: Duration,
}

impl Default for WallLimits {
    fn default() -> Self {
        Self { jump: Duration::from_secs(120), settle: Duration::from_secs(600) }
    }
}

/// Why a wall clock is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It has jumped by this many milliseconds.
    Jumped(i64),
    /// It is this many milliseconds behind the newest record of the log.
    Behind(i64),
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: &i64| ms.abs() as f64 / 1_000.0;
        match self {
            Self::Jumped(ms) => {
                let way = if *ms > 0 { "forward" } else { "back" };
                write!(f, "the wall clock has jumped {way} by {} s", seconds(ms))
            }
            Self::Behind(ms) => {
                write!(f, "the wall clock is {} s behind the log's last append", seconds(ms))
            }
        }
    }
}

/// A reading of the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The clocks themselves.
    pub now: Now,
    /// The expected wall time: the last trusted one, moved on by the monotonic clock.
    pub trusted_ms: i64,
    /// Why the wall clock is not trusted; None if it is.
    pub doubt: Option<Doubt>,
    /// A record that the log has taken later lies so far ahead that its time is wrong, or the wall.
    pub latest_ms: i64,
}

impl From<Now> for Reading {
    /// A reading that is not in doubt.
    fn from(now: Now) -> Self {
        Self { now, trusted_ms: now.wall_ms, doubt: None, latest_ms: i64::MAX }
    }
}

/// The clocks of a process, and whether the wall clock can be trusted. Shared by all threads: every reading contributes
/// to the judgement.
pub struct WallClock {
    time: Time,
    jump_ms: i64,
    settle_ms: i64,
    state: Mutex<State>,
}

struct State {
    /// Wall minus monotonic time when the clock was last trusted.
    trusted_ms: i64,
    /// The same after a jump, and since when by the monotonic clock.
    jumped: Option<(i64, i64)>,
    /// When the log has taken its newest record.
    log_ms: i64,
}

impl WallClock {
    /// Trusts the present wall time until there is evidence against it.
    pub fn new(time: Time, limits: WallLimits) -> Self {
        let now = time();
        let state = State { trusted_ms: now.wall_ms - now.monotonic_ms, jumped: None, log_ms: i64::MIN };
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self { time, jump_ms: ms(limits.jump), settle_ms: ms(limits.settle), state: Mutex::new(state) }
    }

    /// Looks at the clocks.
    pub fn read(&self) -> Reading {
        let mut state = self.lock();
        // Within the lock, so that readings are judged in the order in which they were taken.
        let now = (self.time)();
        self.judge(&mut state, now)
    }

    /// The append time of a commit: never before that of an earlier one, and never one that is not trusted.
    pub fn stamp(&self) -> i64 {
        let mut state = self.lock();
        let now = (self.time)();
        let reading = self.judge(&mut state, now);
        state.log_ms = state.log_ms.max(reading.trusted_ms);
        state.log_ms
    }

    /// The log has a record of this time.
    pub fn has_appended(&self, ms: i64) {
        let mut state = self.lock();
        state.log_ms = state.log_ms.max(ms);
    }

    /// Sets the log's time, whatever its records have: an operator has confirmed that they were ahead.
    pub fn set_log_time(&self, ms: i64) {
        self.lock().log_ms = ms;
    }

    /// Append time of the log's newest record known to this process; `i64::MIN` if none is known.
    pub fn log_time_ms(&self) -> i64 {
        self.lock().log_ms
    }

    fn judge(&self, state: &mut State, now: Now) -> Reading {
        let found_ms = now.wall_ms.saturating_sub(now.monotonic_ms);
        let by_ms = found_ms.saturating_sub(state.trusted_ms);
        let is_near = |ms: i64| ms.abs() <= self.jump_ms;
        if is_near(by_ms) {
            (state.trusted_ms, state.jumped) = (found_ms, None);
        } else {
            match state.jumped {
                Some((jumped_ms, since_ms)) if is_near(found_ms.saturating_sub(jumped_ms)) => {
                    if now.since_ms(since_ms) >= self.settle_ms {
                        (state.trusted_ms, state.jumped) = (found_ms, None);
                    }
                }
                // Again, or for the first time.
                _ => state.jumped = Some((found_ms, now.monotonic_ms)),
            }
        }
        let trusted_ms = now.monotonic_ms.saturating_add(state.trusted_ms);
        let behind_ms = state.log_ms.saturating_sub(trusted_ms);
        let doubt = match state.jumped {
            Some(_) => Some(Doubt::Jumped(by_ms)),
            None if behind_ms > self.jump_ms => Some(Doubt::Behind(behind_ms)),
            None => None,
        };
        let latest_ms = now.wall_ms.min(trusted_ms).saturating_add(self.jump_ms);
        Reading { now, trusted_ms, doubt, latest_ms }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the log may take to give its last records.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many offsets before the end the search for the last record begins.
const TAIL: u64 = 16;

/// The offset and the append time of the last record of each partition; None where it has none.
pub fn last_records(log: &dyn Log, places: &[TopicPartition]) -> Result<Vec<Option<(u64, i64)>>, LogError> {
    let mut consumer = log.consumer("")?;
    places.iter().map(|at| last_record(log, consumer.as_mut(), at)).collect()
}

fn last_record(
    log: &dyn Log,
    consumer: &mut dyn Consumer,
    at: &TopicPartition,
) -> Result<Option<(u64, i64)>, LogError> {
    let (start, end) = log.bounds(at)?;
    let (mut back, mut last) = (TAIL, None);
    while last.is_none() && start < end {
        let from = end.saturating_sub(back).max(start);
        consumer.assign(at, from)?;
        let mut next = from;
        while next < end {
            let Polled::Records { records, next_offset, .. } = consumer.poll(PATIENCE)? else {
                let reason = format!("{at}@{next}: nothing came for {} s", PATIENCE.as_secs());
                return Err(LogError::Unavailable(reason));
            };
            for record in records {
                let record = record?;
                last = Some((record.offset, record.append_time_ms));
            }
            next = next_offset;
        }
        consumer.unassign(at);
        if from == start {
            break;
        }
        back = back.saturating_mul(8);
    }
    Ok(last)
}

#[cfg(test)]
#[path = "wall_tests.rs"]
mod tests;
