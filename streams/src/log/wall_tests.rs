//! Clocks that jump, stand still, sleep, and come back.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const NOON: i64 = 1_795_248_000_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

struct Hands {
    wall: Arc<AtomicI64>,
    monotonic: Arc<AtomicI64>,
    clock: WallClock,
}

impl Hands {
    fn new() -> Self {
        let (wall, monotonic) = (Arc::new(AtomicI64::new(NOON)), Arc::new(AtomicI64::new(0)));
        let (of_wall, of_monotonic) = (wall.clone(), monotonic.clone());
        let time: Time = Arc::new(move || Now {
            wall_ms: of_wall.load(Ordering::SeqCst),
            monotonic_ms: of_monotonic.load(Ordering::SeqCst),
        });
        Self { wall, monotonic, clock: WallClock::new(time, WallLimits::default()) }
    }

    fn set(&self, by_ms: i64) {
        self.wall.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// Time passes, and the clock is read every second.
    fn pass(&self, ms: i64) -> Option<Doubt> {
        for _ in 0..ms / 1_000 {
            self.wall.fetch_add(1_000, Ordering::SeqCst);
            self.monotonic.fetch_add(1_000, Ordering::SeqCst);
            self.clock.read();
        }
        self.clock.read().doubt
    }
}

#[test]
fn a_jump_is_doubted_until_it_is_taken_back_or_has_lasted() {
    for by_ms in [26 * HOUR, 10 * MINUTE, 2 * MINUTE + 1, -3 * MINUTE, -HOUR] {
        let hands = Hands::new();
        assert_eq!(hands.pass(MINUTE), None);
        hands.set(by_ms);
        assert_eq!(hands.clock.read().doubt, Some(Doubt::Jumped(by_ms)), "at the first reading");
        assert_eq!(hands.clock.read().trusted_ms, NOON + MINUTE, "the time goes on as if nothing had happened");
        assert_eq!(hands.pass(10_000), Some(Doubt::Jumped(by_ms)));
        assert_eq!(hands.clock.stamp(), NOON + MINUTE + 10_000);
        hands.set(-by_ms);
        assert_eq!(hands.clock.read().doubt, None, "it was right all the time");
        hands.set(by_ms);
        assert!(hands.clock.read().doubt.is_some());
        assert!(hands.pass(10 * MINUTE - 1_000).is_some());
        // A clock that stays where it is may be right, but not where it is behind what was appended.
        let behind_ms = (-by_ms - 10 * MINUTE).max(0);
        assert_eq!(hands.pass(1_000), (behind_ms > 0).then_some(Doubt::Behind(behind_ms)));
    }
}

#[test]
fn what_is_small_is_followed() {
    let hands = Hands::new();
    for _ in 0..100 {
        hands.set(-60_000);
        assert_eq!(hands.pass(1_000), None);
        hands.set(90_000);
        assert_eq!(hands.pass(1_000), None);
    }
}

#[test]
fn each_jump_begins_the_wait_anew() {
    let hands = Hands::new();
    for _ in 0..10 {
        hands.set(HOUR);
        assert!(hands.pass(9 * MINUTE).is_some());
    }
    assert_eq!(hands.pass(2 * MINUTE), None);
}

/// The machine sleeps: the monotonic clock counts that.
#[test]
fn sleep_is_no_jump() {
    let hands = Hands::new();
    hands.wall.fetch_add(8 * HOUR, Ordering::SeqCst);
    hands.monotonic.fetch_add(8 * HOUR, Ordering::SeqCst);
    assert_eq!(hands.clock.read().doubt, None);
}

#[test]
fn a_clock_behind_the_log_is_doubted_until_it_has_caught_up_and_one_ahead_is_not() {
    let hands = Hands::new();
    hands.clock.has_appended(NOON - 30 * HOUR);
    assert_eq!(hands.clock.read().doubt, None, "the process was not running");
    hands.clock.has_appended(NOON + HOUR);
    assert_eq!(hands.clock.read().doubt, Some(Doubt::Behind(HOUR)));
    assert_eq!(hands.clock.stamp(), NOON + HOUR, "times never run back");
    assert_eq!(hands.pass(HOUR - 2 * MINUTE - 1_000), Some(Doubt::Behind(2 * MINUTE + 1_000)));
    assert_eq!(hands.pass(1_000), None);
    hands.clock.has_appended(NOON + 26 * HOUR);
    hands.clock.set_log_time(NOON + HOUR);
    assert_eq!(hands.clock.read().doubt, None, "confirmed");
}

#[test]
fn a_record_is_ahead_by_whichever_clock_is_earlier() {
    let hands = Hands::new();
    let is_ahead = |ms: i64| ms > hands.clock.read().latest_ms;
    assert!(!is_ahead(NOON + 2 * MINUTE) && is_ahead(NOON + 2 * MINUTE + 1));
    hands.set(26 * HOUR);
    assert!(is_ahead(NOON + HOUR), "a wall clock that has jumped proves nothing");
    hands.set(-28 * HOUR);
    assert!(is_ahead(NOON), "the wall is set back");
}
