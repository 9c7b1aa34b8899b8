//! A server that is stopped, killed, frozen, emptied, or set back to an old backup: whatever it was, in the end the rows
//! are what they would have been.

mod fixture;

use fixture::*;
use std::time::{Duration, Instant};
use tally_sinks::{SinkTask, Step};

/// Steps until the sink has detected the outage; no step may take long.
fn notice(world: &World, task: &mut SinkTask) {
    let (since, errors) = (Instant::now(), world.metric("tally_sink_errors_total"));
    while world.metric("tally_sink_errors_total") < errors + 6.0 {
        world.pass(10);
        let step_since = Instant::now();
        if let Step::Waiting(wait_ms) = task.poll_once(world.now(), 0.0, Duration::ZERO).unwrap() {
            world.pass(wait_ms);
        }
        assert!(step_since.elapsed() < Duration::from_secs(30), "a step took {:?}", step_since.elapsed());
        assert!(since.elapsed() < Duration::from_secs(300));
    }
    assert_eq!(world.metric("tally_sink_breaker_state"), 2.0);
}

#[test]
fn a_server_that_comes_and_goes_loses_nothing() {
    for server in OwnServer::each() {
        let database = ServerDatabase::new(server.url.clone());
        let place = DatabasePlace::Server(database);
        let mut world = World::new();
        let mut task = world.task(place.target());
        let mut commits = 0;
        for (away, back) in [("stop", "start"), ("kill", "start"), ("pause", "resume")] {
            for steps in [3, 14] {
                world.commits(commits + 1, commits + 20);
                commits += 20;
                for _ in 0..steps {
                    world.pass(5);
                    task.poll_once(world.now(), 0.0, Duration::ZERO).unwrap();
                }
                server.tell(away);
                notice(&world, &mut task);
                server.tell(back);
                world.drain(&mut task);
                assert_eq!(world.metric("tally_sink_breaker_state"), 0.0);
                assert_eq!(place.all_rows(), expected(commits), "{away} after {steps} steps");
            }
        }
    }
}

/// Keeps copies of the tables, and puts them back.
fn copy(place: &DatabasePlace, from: &str, to: &str) {
    for table in ["counters", "boards", "board_entries", "sink_progress"] {
        place.rows(&format!("CREATE TABLE IF NOT EXISTS {table}{to} AS SELECT * FROM {table}{from} WHERE 1 = 0"));
        place.rows(&format!("DELETE FROM {table}{to}"));
        place.rows(&format!("INSERT INTO {table}{to} SELECT * FROM {table}{from}"));
    }
}

#[test]
fn a_backup_that_is_restored_is_noticed_while_running_and_filled_up() {
    for place in DatabasePlace::all() {
        let mut world = World::new();
        world.history(20);
        let mut task = world.task(place.target());
        world.drain(&mut task);
        copy(&place, "", "_backup");
        world.commits(21, 40);
        world.drain(&mut task);
        assert_eq!(place.all_rows(), expected(40));
        // With something to write, and with nothing.
        copy(&place, "_backup", "");
        world.commits(41, 41);
        world.drain(&mut task);
        assert_eq!(place.all_rows(), expected(41));
        let errors = world.metric("tally_sink_errors_total");
        copy(&place, "_backup", "");
        for _ in 0..11 {
            world.pass(1_000);
            task.poll_once(world.now(), 0.0, Duration::ZERO).unwrap();
        }
        world.drain(&mut task);
        assert_eq!(world.metric("tally_sink_errors_total"), errors + 1.0, "noticed without a write");
        assert_eq!(place.all_rows(), expected(41));
        // And at the start.
        drop(task);
        copy(&place, "_backup", "");
        world.drain(&mut world.task(place.target()));
        assert_eq!(place.all_rows(), expected(41));
    }
}

#[test]
fn tables_that_are_gone_are_made_again_and_filled() {
    for place in server_databases().into_iter().map(DatabasePlace::Server) {
        let mut world = World::new();
        world.history(40);
        let mut task = world.task(place.target());
        world.drain(&mut task);
        let DatabasePlace::Server(database) = &place else { continue };
        database.admin(&format!("DROP DATABASE {0}; CREATE DATABASE {0}", database.name));
        world.commits(41, 42);
        world.drain(&mut task);
        assert_eq!(place.all_rows(), expected(42));
    }
}
