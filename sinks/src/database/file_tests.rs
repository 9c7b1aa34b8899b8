//! The moment of a copy, and the log that it names.

use super::*;
use std::thread;

/// Runs statements on a thread of their own, since the functions of a copy are called within its runtime.
fn try_run(file: &Path, sql: &'static str) -> Result<(), String> {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true).busy_timeout(Duration::ZERO);
    let work = || {
        runtime().unwrap().block_on(async {
            let mut connection = options.connect().await.unwrap();
            let outcome = sqlx::raw_sql(sql).execute(&mut connection).await;
            Connection::close(connection).await.unwrap();
            outcome.map(drop).map_err(|e| e.to_string())
        })
    };
    thread::scope(|scope| scope.spawn(work).join().unwrap())
}

fn run(file: &Path, sql: &'static str) {
    try_run(file, sql).unwrap();
}

fn numbers(file: &Path) -> Vec<i64> {
    runtime().unwrap().block_on(async {
        let mut connection = connect(file).await.unwrap();
        let numbers = sqlx::query_scalar("SELECT n FROM numbers ORDER BY n").fetch_all(&mut connection).await;
        Connection::close(connection).await.unwrap();
        numbers.unwrap()
    })
}

#[test]
fn nobody_writes_at_the_moment_of_the_copy_and_everybody_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let (file, copy) = (dir.path().join("a.db"), dir.path().join("it's a copy.db"));
    run(&file, "PRAGMA journal_mode = WAL; CREATE TABLE numbers (n INTEGER); INSERT INTO numbers VALUES (1), (2)");
    let refused = || Ok(try_run(&file, "INSERT INTO numbers VALUES (3)").unwrap_err());
    let finish = |refused: String| {
        run(&file, "INSERT INTO numbers VALUES (4)");
        Ok(refused)
    };
    assert!(copy_database(&file, &copy, refused, finish).unwrap().contains("locked"));
    assert_eq!((numbers(&copy), numbers(&file)), (vec![1, 2], vec![1, 2, 4]));
    let refused = copy_database(&file, &copy, || Ok(()), Ok).unwrap_err();
    assert!(refused.contains("already exists"), "{refused}");
    run(&file, "INSERT INTO numbers VALUES (5)");
}

#[test]
fn a_database_gets_another_log() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.db");
    run(&file, "CREATE TABLE other (n INTEGER)");
    assert_eq!(log_of(&file), Ok(None), "an older release");
    run(&file, include_str!("migrations/sqlite/0005_log.sql"));
    assert_eq!(log_of(&file), Ok(None), "no sink has written");
    run(&file, "INSERT INTO sink_log (only_row, log_id) VALUES (1, 'a1')");
    assert_eq!(log_of(&file), Ok(Some("a1".into())));
    rename_log(&file, "b2").unwrap();
    assert_eq!(log_of(&file), Ok(Some("b2".into())));
}

#[test]
fn a_database_on_a_server_has_no_file() {
    assert_eq!(database_file("sqlite:./data/tally.db"), Ok(Some("./data/tally.db".into())));
    assert_eq!(database_file("mysql://u:p@h/db"), Ok(None));
}
