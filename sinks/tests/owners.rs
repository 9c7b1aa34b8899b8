//! Whether a database and a log belong together: another log, and one that has less than was read from it, are refused
//! with the way out.

mod fixture;

use fixture::*;
use std::time::Duration;
use tally_sinks::*;

/// Steps until the sink stops; why it did.
fn stopped(world: &World, task: &mut SinkTask) -> String {
    for _ in 0..1_000 {
        world.pass(1_000);
        if let Err(error) = task.poll_once(world.now(), 0.0, Duration::ZERO) {
            return error.to_string();
        }
    }
    panic!("it goes on")
}

/// An old copy of the log: its rows have smaller versions than those in the database, which would reject each of them.
#[test]
fn a_database_beyond_the_end_is_refused_until_an_operator_decides() {
    for place in DatabasePlace::all() {
        let mut world = World::new();
        world.history(40);
        world.drain(&mut world.task(Box::new(place.open().of_log([1; 8]))));
        let before = place.all_rows();
        let mut copy = World::new();
        copy.history(30);
        let mut task = copy.task(Box::new(place.open().of_log([1; 8])));
        let refused = task.check_origin().unwrap_err();
        assert!(matches!(refused, SinkError::Origin { may_pass: true, .. }), "{refused}");
        for refused in [refused.to_string(), stopped(&copy, &mut task)] {
            let way_out = "DELETE FROM sink_progress WHERE topic = 'counters'";
            assert!(refused.contains("the target has read up to offset") && refused.contains(way_out), "{refused}");
        }
        assert_eq!((place.all_rows(), copy.metric("tally_sink_position_reset_total")), (before, 0.0));
        // The operator who recreated the topics confirms it.
        place.rows("DELETE FROM sink_progress");
        copy.commits(41, 50);
        copy.drain(&mut task);
        assert_eq!(task.check_origin().map_err(|e| e.to_string()), Ok(()));
        assert_eq!(place.rows("SELECT MAX(version) FROM counters"), ["50"]);
    }
}

/// A broker that has just come back may answer with less than there is, for a moment.
#[test]
fn a_stale_end_stops_no_sink() {
    let place = DatabasePlace::new();
    let mut world = World::new();
    world.history(10);
    world.drain(&mut world.task(Box::new(place.open())));
    let mut behind = World::new();
    behind.history(7);
    let mut task = behind.task(Box::new(place.open()));
    let mut waited = 0;
    while waited < 3 {
        behind.pass(1_000);
        match task.poll_once(behind.now(), 0.0, Duration::ZERO) {
            Ok(Step::Waiting(_)) => waited += 1,
            // The group has given nothing yet.
            other => assert!(matches!(other, Ok(Step::Idle)), "{other:?}"),
        }
    }
    behind.commits(8, 12);
    behind.drain(&mut task);
    assert_eq!(place.rows("SELECT MAX(version) FROM counters"), ["12"]);
}

#[test]
fn a_second_log_on_the_same_database_is_refused_with_both_names() {
    for place in DatabasePlace::all() {
        let world_of = |last: i64| {
            let mut world = World::new();
            world.history(last);
            world
        };
        let (first, second) = (world_of(10), world_of(20));
        // An older release has filled it without a name: the log whose positions fit takes it over.
        first.drain(&mut first.task(Box::new(place.open())));
        assert_eq!(place.rows("SELECT log_id FROM sink_log"), [""; 0]);
        let before = (place.all_rows(), Some(DatabaseOwner { log_id: None, is_filled: true }));
        assert_eq!((place.all_rows(), Database::owner(&place.url())), before);
        let mut first = first;
        first.commits(11, 12);
        first.drain(&mut first.task(Box::new(place.open().of_log([0xa1; 8]))));
        assert_eq!(place.rows("SELECT log_id FROM sink_log"), ["a1a1a1a1a1a1a1a1"]);

        let before = place.all_rows();
        let mut task = second.task(Box::new(place.open().of_log([0xb2; 8])));
        let refused = task.check_origin().unwrap_err();
        assert!(matches!(refused, SinkError::Origin { may_pass: false, .. }), "{refused}");
        for refused in [refused.to_string(), stopped(&second, &mut task)] {
            let both = "belongs to log a1a1a1a1a1a1a1a1, and this is log b2b2b2b2b2b2b2b2";
            assert!(refused.contains(both) && refused.contains("--database"), "{refused}");
        }
        assert_eq!(place.all_rows(), before);
        // The remedy: an empty database can belong to any log.
        place.clear();
        second.drain(&mut second.task(Box::new(place.open().of_log([0xb2; 8]))));
        let owner = DatabaseOwner { log_id: Some("b2b2b2b2b2b2b2b2".into()), is_filled: true };
        assert_eq!(Database::owner(&place.url()), Some(owner));
    }
}

#[test]
fn a_missing_database_has_no_owner() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tally.db");
    for url in [format!("sqlite:{}", file.display()), "mysql://u:p@127.0.0.1:1/db".into(), "no address".into()] {
        assert_eq!(Database::owner(&url), None, "{url}");
    }
    assert!(!file.exists(), "looking makes none");
}
