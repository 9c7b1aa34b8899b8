//! What only a server can do to a sink: lock, kill, refuse, forget. On MariaDB, and on MySQL where there is one.

mod fixture;

use fixture::*;
use std::thread;
use std::time::{Duration, Instant};
use tally_model::DeadLetter;
use tally_sinks::*;
use tally_streams::log::TopicPartition;

/// Totals of `rows` subjects.
fn batch(rows: i64, version: i64, expected: Option<u64>, next_offset: u64) -> Batch {
    let mut batch = Batch::default();
    for i in 0..rows {
        add_counters(&mut batch, &counters(&format!("article:{i:05}"), &[("likes", i)], &["likes"], version), false);
    }
    batch.positions.push(step(expected.map(|expected| (expected, 0)), next_offset, &[], version));
    batch
}

/// Waits until a statement of the test's database is seen by the server in that state, and returns its connection.
fn waiting(session: &mut Session<'_>, database: &ServerDatabase, statement: &str) -> String {
    let since = Instant::now();
    loop {
        let sql = format!(
            "SELECT id FROM information_schema.processlist
             WHERE db = '{}' AND id <> CONNECTION_ID() AND info LIKE '{statement}%'",
            database.name
        );
        if let Some(id) = session.rows(&sql).pop() {
            return id;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "no connection runs {statement}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn refused(outcome: Result<(), TargetError>, part: &str) {
    match outcome {
        Err(TargetError::Unavailable(cause)) => assert!(cause.contains(part), "{cause}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_deadlock_is_tried_again() {
    for database in server_databases() {
        let place = DatabasePlace::Server(database);
        let DatabasePlace::Server(database) = &place else { continue };
        let mut target = place.open();
        target.write(&batch(2, 1, None, 1)).unwrap();
        // Heavier than the batch, so that the batch is the victim; and it locks in the opposite order.
        let mut other = database.connect();
        other.rows("START TRANSACTION");
        for i in 0..50 {
            other.rows(&format!(
                "INSERT INTO counters (subject_id, metric, value, version) VALUES ('other:{i}', 'likes', 1, 1)"
            ));
        }
        other.rows("UPDATE counters SET value = 7 WHERE subject_id = 'article:00001'");
        let (outcome, mut target) = thread::scope(|scope| {
            let writer = scope.spawn(move || (target.write(&batch(2, 2, Some(1), 2)), target));
            waiting(&mut database.connect(), database, "INSERT INTO counters");
            other.rows("UPDATE counters SET value = 7 WHERE subject_id = 'article:00000'");
            writer.join().unwrap()
        });
        refused(outcome, "Deadlock");
        other.rows("COMMIT");
        assert_eq!(place.totals("article:00000")["likes"], 7, "all of the batch was rolled back");
        target.write(&batch(2, 2, Some(1), 2)).unwrap();
        assert_eq!([place.totals("article:00000")["likes"], place.totals("article:00001")["likes"]], [0, 1]);
    }
}

#[test]
fn a_lock_that_is_held_too_long_is_an_error_and_writes_nothing() {
    for database in server_databases() {
        let place = DatabasePlace::Server(database);
        let DatabasePlace::Server(database) = &place else { continue };
        let mut target = place.open();
        target.write(&batch(2, 1, None, 1)).unwrap();
        let mut other = database.connect();
        other.rows("START TRANSACTION");
        other.rows("UPDATE counters SET value = 7 WHERE subject_id = 'article:00001'");
        let since = Instant::now();
        refused(target.write(&batch(2, 2, Some(1), 2)), "Lock wait timeout");
        // By default a server waits for 50 s.
        assert!(since.elapsed() < Duration::from_secs(40), "{:?}", since.elapsed());
        assert!(target.expire(NOW_MS).is_ok(), "it works on with another connection");
        other.rows("ROLLBACK");
        target.write(&batch(2, 2, Some(1), 2)).unwrap();
    }
}

#[test]
fn a_connection_that_is_killed_in_mid_batch_takes_the_batch_with_it() {
    for database in server_databases() {
        let place = DatabasePlace::Server(database);
        let DatabasePlace::Server(database) = &place else { continue };
        let mut target = place.open();
        target.write(&batch(600, 1, None, 1)).unwrap();
        let mut other = database.connect();
        other.rows("START TRANSACTION");
        // In the second statement of the batch.
        other.rows("UPDATE counters SET value = value WHERE subject_id = 'article:00550'");
        let (outcome, mut target) = thread::scope(|scope| {
            let writer = scope.spawn(move || (target.write(&batch(600, 2, Some(1), 2)), target));
            let mut killer = database.connect();
            let id = waiting(&mut killer, database, "INSERT INTO counters");
            killer.rows(&format!("KILL CONNECTION {id}"));
            writer.join().unwrap()
        });
        assert!(matches!(outcome, Err(TargetError::Unavailable(_))), "{outcome:?}");
        other.rows("ROLLBACK");
        assert_eq!(place.rows("SELECT MAX(version) FROM counters"), ["1"], "nothing of it was written");
        target.write(&batch(600, 2, Some(1), 2)).unwrap();
        assert_eq!(place.rows("SELECT COUNT(*), MIN(version) FROM counters"), ["600|2"]);
    }
}

#[test]
fn of_two_writers_that_expect_the_same_position_one_moves_it() {
    for database in server_databases() {
        let place = DatabasePlace::Server(database);
        let targets = [place.open(), place.open()];
        let wins: Vec<u64> = thread::scope(|scope| {
            let run = |mut target: Database| {
                move || {
                    let (mut expected, mut wins) = (None, 0);
                    // The first position is made by both at once.
                    while expected.unwrap_or(0) < 40 {
                        let next = expected.unwrap_or(0) + 1;
                        match target.write(&batch(20, next as i64, expected, next)) {
                            Ok(()) => (expected, wins) = (Some(next), wins + 1),
                            Err(TargetError::Moved { found, .. }) => expected = found.map(|found| found.next_offset),
                            // A deadlock: again.
                            Err(TargetError::Unavailable(_)) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                    wins
                }
            };
            let writers = targets.map(|target| scope.spawn(run(target)));
            writers.map(|writer| writer.join().unwrap()).into()
        });
        assert_eq!(wins.iter().sum::<u64>(), 40, "every position was moved to once: {wins:?}");
        assert_eq!(place.rows("SELECT next_offset FROM sink_progress"), ["40"]);
        assert_eq!(place.rows("SELECT COUNT(*), MIN(version), MAX(version) FROM counters"), ["20|40|40"]);
    }
}

#[test]
fn a_position_that_is_not_there_is_made_by_one_of_two_writers() {
    for database in server_databases() {
        let place = DatabasePlace::Server(database);
        let DatabasePlace::Server(database) = &place else { continue };
        let [mut first, mut second] = [place.open(), place.open()];
        let mut other = database.connect();
        other.rows("INSERT INTO counters (subject_id, metric, value, version) VALUES ('article:00000', 'likes', 0, 0)");
        other.rows("START TRANSACTION");
        other.rows("UPDATE counters SET value = 7");
        // The first has found no position, and waits for a row. The second comes, and needs no such row.
        let outcomes = thread::scope(|scope| {
            let slow = scope.spawn(move || first.write(&batch(1, 1, None, 1)));
            waiting(&mut database.connect(), database, "INSERT INTO counters");
            let mut empty = Batch::default();
            empty.positions.push(step(None, 9, &[], 9));
            let quick = scope.spawn(move || second.write(&empty));
            thread::sleep(Duration::from_millis(300));
            other.rows("ROLLBACK");
            [slow.join().unwrap(), quick.join().unwrap()]
        });
        assert!(outcomes[0].is_ok(), "{outcomes:?}");
        assert!(matches!(&outcomes[1], Err(TargetError::Moved { expected: None, found: Some(_), .. })), "{outcomes:?}");
        assert_eq!(place.rows("SELECT next_offset FROM sink_progress"), ["1"]);
    }
}

#[test]
fn a_row_that_does_not_fit_is_refused_with_its_key_and_stops_the_sink() {
    for database in server_databases() {
        let place = DatabasePlace::Server(database);
        let mut target = place.open();
        let mut long = batch(700, 1, None, 1);
        let id = format!("article:0{}", "x".repeat(120));
        add_counters(&mut long, &counters(&id, &[("likes", 1)], &["likes"], 1), false);
        let outcome = target.write(&long);
        let Err(TargetError::Refused { row, cause }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(row, format!("counters (subject_id \"{id}\", metric \"likes\")"));
        assert!(cause.contains("Data too long"), "{cause}");
        assert_eq!(place.rows("SELECT COUNT(*) FROM counters"), ["0"], "all or nothing");

        let mut world = World::new();
        world.counters(&counters(&id, &[("likes", 1)], &["likes"], 1));
        world.producer.commit().unwrap();
        let mut task = world.task(Box::new(target));
        let error = loop {
            world.pass(10);
            if let Err(error) = task.poll_once(world.now(), 0.0, Duration::ZERO) {
                break error.to_string();
            }
        };
        let expected = format!("sink `test`: counters (subject_id \"{id}\", metric \"likes\"): cannot be stored: ");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn dead_letters_of_any_size_fit_but_for_one_over_the_packet() {
    for database in server_databases() {
        let place = DatabasePlace::Server(database);
        let mut target = place.open();
        let packet: usize = place.rows("SELECT @@max_allowed_packet")[0].parse().unwrap();
        let letter = |place_offset, bytes| DeadLetterRow {
            place: TopicPartition::new("dead-letters", 0),
            place_offset,
            letter: DeadLetter {
                reason: Some("\u{fffd}".repeat(65_535)),
                detail: Some("\u{fffd}".repeat(65_535)),
                node: Some("n".repeat(65_535)),
                key: Some(vec![0; 1 << 20]),
                value: Some(vec![b'\''; bytes]),
                appended_at_ms: NOW_MS,
                ..DeadLetter::default()
            },
        };
        let mut batch = Batch::default();
        batch.dead_letters.extend((0..40).map(|offset| letter(offset, 1 << 20)));
        target.write(&batch).unwrap();
        assert_eq!(place.rows("SELECT COUNT(*), SUM(LENGTH(value)) FROM dead_letters"), ["40|41943040"]);
        let mut batch = Batch::default();
        batch.dead_letters.push(letter(99, packet));
        let outcome = target.write(&batch);
        let Err(TargetError::Refused { row, cause }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(row, "dead_letters (letter_topic \"dead-letters\", letter_partition 0, letter_offset 99)");
        assert!(cause.contains("max_allowed_packet"), "{cause}");
    }
}

#[test]
fn tables_are_created_once_by_the_first_process_and_again_after_an_interruption() {
    for database in server_databases() {
        let place = DatabasePlace::Server(database);
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(|| place.open()))));
        assert_eq!(
            place.rows("SELECT version, success FROM _sqlx_migrations"),
            ["1|1", "2|1", "3|1", "4|1", "5|1", "6|1"]
        );
        // Cut short after some of its statements.
        place.rows("UPDATE _sqlx_migrations SET success = FALSE");
        place.rows("DROP VIEW subject_totals");
        place.rows("DROP TABLE sink_progress");
        let mut target = place.open();
        target.write(&batch(1, 1, None, 1)).unwrap();
        assert_eq!(
            place.rows("SELECT version, success FROM _sqlx_migrations"),
            ["1|1", "2|1", "3|1", "4|1", "5|1", "6|1"]
        );
        // A newer tally has been here.
        place.rows("INSERT INTO _sqlx_migrations VALUES (9999, 'later', NOW(), TRUE, '', 1)");
        let error = Database::open(&place.url(), Retention::default()).err().unwrap().to_string();
        assert!(error.contains("version 9999, made by a newer tally") && !error.contains(":tally@"), "{error}");
    }
}

#[test]
fn what_a_person_must_put_right_is_told_at_the_start_and_what_goes_away_is_waited_for() {
    for database in server_databases() {
        let open = |url: &str| Database::open(url, Retention::default());
        let (start, end) = (database.url.find("://").unwrap() + 3, database.url.find('@').unwrap());
        let with_login = |login: &str| format!("{}{login}{}", &database.url[..start], &database.url[end..]);
        let error = open(&with_login("tally:wrong-secret")).err().unwrap().to_string();
        assert!(error.contains("Access denied") && !error.contains("secret"), "{error}");
        let error = open(&database.url.replace(&database.name, "tally_test_missing")).err().unwrap().to_string();
        assert!(error.contains("Unknown database") || error.contains("Access denied"), "{error}");
        // No server listens there: that may change.
        let mut absent = open("mysql://u:secret@127.0.0.1:1/db").unwrap();
        let error = absent.write(&batch(1, 1, None, 1)).unwrap_err().to_string();
        assert!(error.contains("refused") && !error.contains("secret"), "{error}");
    }
}

#[test]
fn the_grants_that_the_documentation_names_are_enough() {
    for database in server_databases() {
        let user = database.name.replace("tally_test_", "t_");
        let grants = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, CREATE VIEW";
        database.admin(&format!(
            "CREATE USER '{user}'@'%' IDENTIFIED BY 'p'; GRANT {grants} ON {}.* TO '{user}'@'%'",
            database.name
        ));
        let (start, end) = (database.url.find("://").unwrap() + 3, database.url.find('@').unwrap());
        let url = format!("{}{user}:p{}", &database.url[..start], &database.url[end..]);
        let mut target = Database::open(&url, Retention::default()).unwrap();
        target.write(&batch(600, 1, None, 1)).unwrap();
        target.expire(NOW_MS).unwrap();
        assert_eq!(database.rows("SELECT COUNT(*) FROM subject_totals"), ["600"]);
        drop(target);
        database.admin(&format!("DROP USER '{user}'@'%'"));
    }
}

#[test]
fn the_session_is_what_batches_rely_on() {
    for database in server_databases() {
        let place = DatabasePlace::Server(database);
        let mut target = place.open();
        target.write(&batch(1, 1, None, 1)).unwrap();
        let plan = place.rows("EXPLAIN SELECT value FROM counters WHERE subject_id IN ('article:00000', 'b')");
        assert!(plan[0].contains("PRIMARY"), "{plan:?}");
        // MySQL shows partitions by itself, and does not know the word any more.
        let is_mariadb = place.rows("SELECT VERSION()")[0].contains("MariaDB");
        let explain = if is_mariadb { "EXPLAIN PARTITIONS" } else { "EXPLAIN FORMAT=TRADITIONAL" };
        let plan = place.rows(&format!("{explain} SELECT active FROM reactions WHERE actor_id = 'u1'"));
        let partitions = plan[0].split('|').nth(3).unwrap();
        assert!(partitions.starts_with('p') && !partitions.contains(','), "one partition is looked at: {plan:?}");
        let engines = place.rows(
            "SELECT DISTINCT engine, table_collation FROM information_schema.tables
             WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE' AND table_name <> '_sqlx_migrations'",
        );
        assert_eq!(engines, ["InnoDB|utf8mb4_bin"]);
    }
}
