//! Stream threads whose clocks lie: the wall clock of the process is set back and forward, and what is counted, and when,
//! is the same.

mod clocks_world;

use clocks_world::World;

const HOUR: i64 = 3_600_000;

#[test]
fn a_wall_clock_that_is_set_stops_no_commit() {
    for step_ms in [-60_000, -HOUR, HOUR, 30 * HOUR] {
        let world = World::new();
        let mut thread = world.thread();
        world.like("u1", "article:1");
        world.run(&mut thread, 20);
        assert_eq!(world.likes("article:1"), 1);
        world.wall.step(step_ms);
        world.like("u2", "article:1");
        // A commit is due every 50 ms, and 1 s passes here.
        world.run(&mut thread, 100);
        assert_eq!(world.likes("article:1"), 2, "after a step of {step_ms} ms");
    }
}
