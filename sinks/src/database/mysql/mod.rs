//! MySQL 8 and 9 and MariaDB 10.11: their statements, and a connection to them.
//!
//! READ COMMITTED, because the guards and the compared positions need nothing more and it locks no gaps, so that several
//! sinks seldom meet. Rows are written in the order of their keys, so that those who do meet mostly wait instead of
//! killing each other. The row alias `AS new` is not used: MariaDB does not know it.

mod server;

pub use server::address;

use super::connection::ConnectError;
use super::dialect::{Dialect, Expired, migrator, placeholders, quoted};
use super::table::{Table, Update};
use server::{STATEMENT_TIMEOUT, within};
use sqlx::Error;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::mysql::{MySqlConnection, MySqlDatabaseError};
use std::io::ErrorKind;
use std::sync::LazyLock;
use std::time::Duration;

/// How long the server waits for another transaction's lock; less than the time a statement may take.
const LOCK_WAIT_S: u64 = STATEMENT_TIMEOUT.as_secs() - 1;
/// How long one process waits while another brings the tables up to date.
const MIGRATION_TURN_S: u64 = STATEMENT_TIMEOUT.as_secs() - 1;
/// The lock's name: at most 64 characters, and the database's own name may have as many. MySQL 9 has no MD5() any more.
const TURN: &str = "CONCAT('tally-', LEFT(SHA2(DATABASE(), 256), 32))";
/// How long that may take at most: some migrations rewrite whole tables.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(4 * 3_600);
/// The oldest servers that are known to work.
const MYSQL_MIN: (u32, u32) = (8, 0);
const MARIADB_MIN: (u32, u32) = (10, 11);

/// In the order of their numbers; one that was released is never changed.
static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = migrator([
        ("tables", include_str!("../migrations/mysql/0001_tables.sql")),
        ("boards", include_str!("../migrations/mysql/0002_boards.sql")),
        ("collects", include_str!("../migrations/mysql/0003_collects.sql")),
        ("details", include_str!("../migrations/mysql/0004_details.sql")),
        ("log", include_str!("../migrations/mysql/0005_log.sql")),
        ("values", include_str!("../migrations/mysql/0006_values.sql")),
    ]);
    // The lock that it would take waits for ever.
    migrator.set_locking(false);
    migrator
});

/// The statements of MySQL and MariaDB.
static DIALECT: Dialect = Dialect {
    begin: "START TRANSACTION",
    for_update: " FOR UPDATE",
    claim: Some(
        "INSERT INTO sink_progress (topic, `partition`, generation, next_offset, roots, version)
         VALUES (?, ?, 0, -1, '[]', 0) ON DUPLICATE KEY UPDATE next_offset = next_offset",
    ),
    claim_log: "INSERT IGNORE INTO sink_log (only_row, log_id) VALUES (1, ?)",
    upsert,
    is_refusal,
    expired: Expired {
        verdicts: "DELETE FROM verdicts WHERE appended_at < ? ORDER BY appended_at LIMIT ?",
        dead_letters: "DELETE FROM dead_letters WHERE appended_at < ? ORDER BY appended_at LIMIT ?",
        counter_windows: "DELETE FROM counter_windows
             WHERE window_start < ? AND COALESCE(variable_end, window_start + window_ms) < ?
             ORDER BY window_start LIMIT ?",
        windows_of: |metrics| {
            let list = placeholders(metrics, 1);
            format!(
                "DELETE FROM counter_windows WHERE window_start >= ? AND window_start < ? AND window_ms = ? AND
                 window_kind = ? AND metric IN {list} ORDER BY window_start LIMIT ?"
            )
        },
    },
};

impl From<Error> for ConnectError {
    fn from(error: Error) -> Self {
        Self { is_transient: is_transient(&error), cause: explain(&error) }
    }
}

/// What the error is, and where it is a person's turn, what to do.
fn explain(error: &Error) -> String {
    let todo = match number(error) {
        Some(1044 | 1045 | 1698) => "check user, password and grants",
        Some(1049) => "create it, or name another",
        Some(_) => return error.to_string(),
        None if is_transient(error) => return error.to_string(),
        None if matches!(error, Error::Io(io) if io.to_string().contains("certificate")) => {
            "give the server a certificate for the name in the address, signed by whom `ssl-ca` names, or ask for less by \
             `ssl-mode`"
        }
        None => "check host, port and `ssl-mode`",
    };
    format!("{error}: {todo}")
}

/// Checks a server, and brings the tables up to date. Returns the largest packet that the server takes, in bytes.
async fn set_up(connection: &mut MySqlConnection) -> Result<usize, ConnectError> {
    within(sqlx::raw_sql("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").execute(&mut *connection)).await?;
    let settings = format!(
        "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', SESSION autocommit = 1,
         SESSION innodb_lock_wait_timeout = {LOCK_WAIT_S}, SESSION lock_wait_timeout = {LOCK_WAIT_S}"
    );
    within(sqlx::raw_sql(sqlx::AssertSqlSafe(settings)).execute(&mut *connection)).await?;
    let (version, packet, engines): (String, i64, i64) = within(
        sqlx::query_as(
            "SELECT VERSION(), CAST(@@max_allowed_packet AS SIGNED), (SELECT COUNT(*) FROM information_schema.engines
             WHERE engine = 'InnoDB' AND support IN ('YES', 'DEFAULT'))",
        )
        .fetch_one(&mut *connection),
    )
    .await?;
    check_server(&version, engines > 0).map_err(|cause| ConnectError { is_transient: false, cause })?;
    migrate(connection).await?;
    Ok(usize::try_from(packet).unwrap_or(1 << 20))
}

fn check_server(version: &str, has_innodb: bool) -> Result<(), String> {
    let is_mariadb = version.to_ascii_lowercase().contains("mariadb");
    let (name, least) = if is_mariadb { ("MariaDB", MARIADB_MIN) } else { ("MySQL", MYSQL_MIN) };
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < least {
        return Err(format!(
            "the server is {name} {}.{}: tally needs MySQL {}.{} or MariaDB {}.{}, or newer",
            found.0, found.1, MYSQL_MIN.0, MYSQL_MIN.1, MARIADB_MIN.0, MARIADB_MIN.1
        ));
    }
    match has_innodb {
        true => Ok(()),
        false => Err("the server has no InnoDB: batches need its transactions; switch it on".into()),
    }
}

/// Brings the tables up to date, one process at a time.
async fn migrate(connection: &mut MySqlConnection) -> Result<(), ConnectError> {
    let applied = within(
        sqlx::query_scalar::<_, i64>("SELECT version FROM _sqlx_migrations WHERE success = TRUE ORDER BY version")
            .fetch_all(&mut *connection),
    )
    .await;
    // An error: there is no such table yet.
    let known: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
    if applied.is_ok_and(|applied| applied == known) {
        return Ok(());
    }
    let turn = format!("SELECT GET_LOCK({TURN}, {MIGRATION_TURN_S})");
    let turn = sqlx::query_scalar::<_, Option<i64>>(sqlx::AssertSqlSafe(turn));
    if within(turn.fetch_one(&mut *connection)).await? != Some(1) {
        let cause = "another process brings the tables up to date".into();
        return Err(ConnectError { is_transient: true, cause });
    }
    // One that was cut short. Its statements bear to be run again.
    match within(sqlx::raw_sql("DELETE FROM _sqlx_migrations WHERE success = FALSE").execute(&mut *connection)).await {
        Err(error) if number(&error) != Some(NO_SUCH_TABLE) => return Err(error.into()),
        Ok(_) | Err(_) => {}
    }
    let migrated = tokio::time::timeout(MIGRATION_TIMEOUT, MIGRATIONS.run_direct(None, &mut *connection, false)).await;
    match migrated {
        Ok(Ok(())) => {}
        Ok(Err(MigrateError::VersionMissing(version))) => {
            let cause = format!("its tables have version {version}, made by a newer tally: use that one");
            return Err(ConnectError { is_transient: false, cause });
        }
        Ok(Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _))) => return Err(error.into()),
        Ok(Err(error)) => return Err(ConnectError { is_transient: false, cause: error.to_string() }),
        Err(_) => {
            let cause = format!("the tables were not up to date within {} s", MIGRATION_TIMEOUT.as_secs());
            return Err(ConnectError { is_transient: true, cause });
        }
    }
    let release = format!("DO RELEASE_LOCK({TURN})");
    within(sqlx::raw_sql(sqlx::AssertSqlSafe(release)).execute(connection)).await?;
    Ok(())
}

const NO_SUCH_TABLE: u16 = 1146;
/// Too many connections (of the server, the user, a resource, the host), out of memory, stopping, the network; lock
/// waits and deadlocks, read-only, interrupted, killed; a cluster's node that is not ready.
const TRANSIENT: &[u16] = &[
    1040, 1203, 1226, 1129, 1037, 1038, 1041, 1053, 1077, 1079, 1158, 1159, 1160, 1161, 1205, 1213, 1290, 1836, 1317,
    1927, 1047,
];

fn number(error: &Error) -> Option<u16> {
    error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}

/// Whether a failure to connect may go away by itself; what a person must put right may not: a wrong password, a
/// database that does not exist, missing grants.
fn is_transient(error: &Error) -> bool {
    match number(error) {
        Some(number) => TRANSIENT.contains(&number),
        // TLS reports "invalid data" for a rejected certificate and for a peer with another protocol; the other kinds
        // are of files that the address names. All else is of a network or a server that may come back.
        None => matches!(error, Error::Io(io) if !matches!(
            io.kind(),
            ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::NotFound | ErrorKind::PermissionDenied
        )),
    }
}

/// Whether an error means that the row itself cannot be stored, so that a retry would not help.
fn is_refusal(error: &Error) -> bool {
    let state = error.as_database_error().and_then(|e| e.code().map(|code| code.starts_with("22")));
    // Data exceptions; null where none may be, a failed check, a packet over `max_allowed_packet`, a string that is no
    // valid one of its character set.
    state == Some(true) || matches!(number(error), Some(1048 | 3819 | 4025 | 1153 | 1301 | 1366))
}

/// `INSERT … ON DUPLICATE KEY UPDATE column = IF(VALUES(version) >= version, VALUES(column), column)` for a number of
/// rows. Assignments run from left to right: `version` comes last, because the guard looks at it.
fn upsert(table: &Table, rows: usize) -> String {
    let name = table.name;
    let columns = quoted(table.columns());
    let values = placeholders(table.columns().count(), rows);
    let assigned = table.values.iter().map(|column| {
        let c = column.name;
        let next = match column.update {
            Update::Replace => format!("VALUES(`{c}`)"),
            Update::Least => format!("LEAST(`{c}`, VALUES(`{c}`))"),
            Update::Guard => return format!("`{c}` = GREATEST(`{c}`, VALUES(`{c}`))"),
        };
        match table.is_guarded() {
            true => format!("`{c}` = IF(VALUES(`version`) >= `version`, {next}, `{c}`)"),
            false => format!("`{c}` = {next}"),
        }
    });
    let nulls = table.nulls.iter().map(|c| format!("`{c}` = IF(VALUES(`version`) >= `version`, NULL, `{c}`)"));
    let assigned = nulls.chain(assigned).collect::<Vec<_>>().join(", ");
    format!("INSERT INTO {name} ({columns}) VALUES {values} ON DUPLICATE KEY UPDATE {assigned}")
}

#[cfg(test)]
mod tests {
    use super::super::CHUNKS;
    use super::super::table::{COUNTERS, REACTIONS, SINK_PROGRESS, TABLES};
    use super::*;

    #[test]
    fn statements() {
        assert_eq!(
            upsert(&COUNTERS, 2),
            "INSERT INTO counters (`subject_id`, `metric`, `value`, `version`) VALUES (?, ?, ?, ?), (?, ?, ?, ?) \
             ON DUPLICATE KEY UPDATE `decimal_value` = IF(VALUES(`version`) >= `version`, NULL, `decimal_value`), \
             `text_value` = IF(VALUES(`version`) >= `version`, NULL, `text_value`), `value` = IF(VALUES(`version`) >= `version`, VALUES(`value`), `value`), \
             `version` = GREATEST(`version`, VALUES(`version`))"
        );
        assert!(upsert(&REACTIONS, 1).contains(
            "`created_at` = IF(VALUES(`version`) >= `version`, LEAST(`created_at`, VALUES(`created_at`)), `created_at`)"
        ));
        assert!(upsert(&SINK_PROGRESS, 1).ends_with("`version` = VALUES(`version`)"));
    }

    #[test]
    fn every_chunk_stays_below_the_number_of_parameters() {
        for table in TABLES {
            assert!(table.columns().count() * CHUNKS[0] <= 65_535, "{}", table.name);
        }
    }

    #[test]
    fn old_servers_are_refused_with_what_is_needed() {
        for version in
            ["8.0.36", "8.4.0", "9.1.0-commercial", "9.7.4-2", "10.11.19-MariaDB-0+deb12u1", "11.4.2-MariaDB"]
        {
            assert_eq!(check_server(version, true), Ok(()), "{version}");
        }
        for (version, found) in [
            ("5.7.44-log", "MySQL 5.7"),
            ("10.6.18-MariaDB", "MariaDB 10.6"),
            ("5.5.68-MariaDB", "MariaDB 5.5"),
            ("", "MySQL 0.0"),
        ] {
            let refused = check_server(version, true).unwrap_err();
            assert_eq!(refused, format!("the server is {found}: tally needs MySQL 8.0 or MariaDB 10.11, or newer"));
        }
        assert!(check_server("8.0.36", false).unwrap_err().contains("no InnoDB"));
    }
}
