//! A wall clock that is set: what is written, and when, is the same, and nothing that is behind looks as if it were not.

mod fixture;

use fixture::*;
use std::time::Duration;
use tally_streams::log::Now;

#[test]
fn a_wall_clock_that_is_set_stops_no_sink() {
    for step_ms in [-86_400_000, -60_000, 60_000, 26 * 3_600_000] {
        let (mut world, place) = (World::new(), DatabasePlace::new());
        let mut task = world.task(place.target());
        world.history(20);
        world.drain(&mut task);
        let set = Now { wall_ms: world.now_ms() + step_ms, monotonic_ms: world.now_ms() };
        world.commits(21, 40);
        // 3 s, with a batch due every 50 ms and a check of the log's ends every 2 s.
        for passed_ms in (0..3_000).step_by(10) {
            let now = Now { wall_ms: set.wall_ms + passed_ms, monotonic_ms: set.monotonic_ms + passed_ms };
            task.poll_once(now, 0.0, Duration::ZERO).unwrap();
        }
        assert_eq!(place.all_rows(), expected(40), "after a step of {step_ms} ms");
    }
}

#[test]
fn a_clock_that_stands_still_is_behind_whatever_the_wall_says() {
    let (mut world, place) = (World::new(), DatabasePlace::new());
    let mut task = world.task(place.target());
    world.history(20);
    world.drain(&mut task);
    let begun_ms = world.now_ms();
    let mut poll = |passed_ms: i64| {
        // The marks of the history have clocks near 0, so this wall is behind them.
        task.poll_once(Now { wall_ms: 0, monotonic_ms: begun_ms + passed_ms }, 0.0, Duration::ZERO).unwrap();
        world.metric("tally_sink_clock_lag_seconds")
    };
    let before = poll(10_000);
    assert!(poll(40_000) >= before + 30.0, "30 s more than {before}");
}
