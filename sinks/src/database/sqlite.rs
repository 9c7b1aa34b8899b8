//! SQLite: its statements, and its connection.
//!
//! WAL, so that readers and the one writer do not wait for each other. `synchronous=NORMAL`: a transaction is whole or
//! absent after a kill -9 and after a power failure; the latter may also take the last ones back, rows and positions
//! together, and what they held is read from the log again. FULL would cost a sync a batch and gain nothing here.

use super::connection::{Address, Columns, ConnectError, Connection, STATEMENT_BYTES, Work, arguments, boxed};
use super::dialect::{Dialect, Expired, migrator, placeholders, quoted};
use super::rows::Value;
use super::table::{Table, Update};
use sqlx::sqlite::{Sqlite, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Error, Row};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// How long a statement waits for another process's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Pages of tables and indexes that stay in memory. SQLite's 2 MB make it read and write each page again and again.
const CACHE_KIB: u32 = 32 << 10;
/// Pages in the write-ahead log before they are moved into the file: a batch of strangers touches 3,000, and the same
/// pages soon again.
const WAL_PAGES: u32 = 16_384;

/// SQLite's statements.
static DIALECT: Dialect = Dialect {
    // Holds the write lock from the start, so that what it reads stays true until it ends.
    begin: "BEGIN IMMEDIATE",
    for_update: "",
    claim: None,
    claim_log: "INSERT OR IGNORE INTO sink_log (only_row, log_id) VALUES (1, ?)",
    upsert,
    is_refusal,
    expired: Expired {
        verdicts: "DELETE FROM verdicts WHERE (`partition`, `offset`) IN
            (SELECT `partition`, `offset` FROM verdicts WHERE appended_at < ? LIMIT ?)",
        dead_letters: "DELETE FROM dead_letters WHERE rowid IN
            (SELECT rowid FROM dead_letters WHERE appended_at < ? LIMIT ?)",
        counter_windows: "DELETE FROM counter_windows
            WHERE (subject_id, metric, window_ms, window_start, window_kind) IN
            (SELECT subject_id, metric, window_ms, window_start, window_kind FROM counter_windows
             WHERE window_start < ? AND COALESCE(variable_end, window_start + window_ms) < ? LIMIT ?)",
        windows_of: |metrics| {
            let list = placeholders(metrics, 1);
            format!(
                "DELETE FROM counter_windows WHERE (subject_id, metric, window_ms, window_start, window_kind) IN
                 (SELECT subject_id, metric, window_ms, window_start, window_kind FROM counter_windows
                  WHERE window_start >= ? AND window_start < ? AND window_ms = ? AND window_kind = ? AND metric IN {list}
                  LIMIT ?)"
            )
        },
    },
};

/// Parses `sqlite:FILE`; the error names the mistake.
pub fn address(url: &str) -> Result<Box<dyn Address>, String> {
    // The parser's messages name the mistake and never repeat the input.
    let options = SqliteConnectOptions::from_str(url).map_err(|e| e.to_string())?;
    Ok(Box::new(options.disable_statement_logging()))
}

impl Address for SqliteConnectOptions {
    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }

    fn reach(&self) -> Work<'_, Result<Option<Box<dyn Connection>>, ConnectError>> {
        Box::pin(async {
            let file = self.get_filename();
            if !file.exists() {
                return Ok(None);
            }
            let failed = |error: Error| ConnectError { is_transient: false, cause: explain(&error, file) };
            let options = self.clone().create_if_missing(false).busy_timeout(BUSY_TIMEOUT);
            let mut connection = options.connect().await.map_err(failed)?;
            // Only what is read shows what the file is.
            sqlx::raw_sql("SELECT COUNT(*) FROM sqlite_master").execute(&mut connection).await.map_err(failed)?;
            Ok(Some(Box::new(connection) as Box<dyn Connection>))
        })
    }

    fn look(&self) -> Work<'_, Result<Box<dyn Connection>, Error>> {
        Box::pin(async {
            let connection = self.clone().create_if_missing(false).connect().await?;
            Ok(Box::new(connection) as Box<dyn Connection>)
        })
    }

    fn open(&self) -> Work<'_, Result<Box<dyn Connection>, ConnectError>> {
        Box::pin(async {
            match connect(self).await {
                Ok(connection) => Ok(Box::new(connection) as Box<dyn Connection>),
                Err(error) => Err(ConnectError { is_transient: false, cause: explain(&error, self.get_filename()) }),
            }
        })
    }
}

impl Connection for SqliteConnection {
    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }

    fn statement_bytes(&self) -> (usize, usize) {
        (STATEMENT_BYTES, usize::MAX)
    }

    fn run(&mut self, sql: &'static str) -> Work<'_, Result<(), Error>> {
        Box::pin(async move { sqlx::raw_sql(sql).execute(self).await.map(drop) })
    }

    fn execute<'a>(&'a mut self, sql: Arc<str>, parameters: &'a [Value<'a>]) -> Work<'a, Result<u64, Error>> {
        Box::pin(async {
            let query = sqlx::query_with(AssertSqlSafe(sql), arguments::<Sqlite>(parameters)?);
            Ok(query.execute(self).await?.rows_affected())
        })
    }

    fn rows<'a>(
        &'a mut self,
        sql: String,
        parameters: &'a [Value<'a>],
    ) -> Work<'a, Result<Vec<Box<dyn Columns>>, Error>> {
        Box::pin(async {
            let query = sqlx::query_with(AssertSqlSafe(sql), arguments::<Sqlite>(parameters)?);
            Ok(boxed(query.fetch_all(self).await?))
        })
    }

    fn discard(self: Box<Self>) -> Work<'static, ()> {
        // Its thread closes the file: afterwards nothing holds the lock.
        self.close()
    }

    fn close(self: Box<Self>) -> Work<'static, ()> {
        Box::pin(async { drop(sqlx::Connection::close(*self).await) })
    }
}

impl Columns for SqliteRow {
    fn text(&self, column: usize) -> Result<String, Error> {
        self.try_get(column)
    }

    fn int(&self, column: usize) -> Result<i64, Error> {
        self.try_get(column)
    }
}

/// Opens the file, creates it where it is missing, and brings its tables up to date.
async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection, Error> {
    if let Some(directory) = options.get_filename().parent().filter(|path| !path.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory)?;
    }
    let options = options
        .clone()
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", format!("-{CACHE_KIB}"))
        .pragma("wal_autocheckpoint", WAL_PAGES.to_string())
        .pragma("journal_size_limit", (WAL_PAGES * 4_096).to_string());
    let mut connection = options.connect().await?;
    // In the order of their numbers; one that was released is never changed.
    migrator([
        ("tables", include_str!("migrations/sqlite/0001_tables.sql")),
        ("boards", include_str!("migrations/sqlite/0002_boards.sql")),
        ("collects", include_str!("migrations/sqlite/0003_collects.sql")),
        ("details", include_str!("migrations/sqlite/0004_details.sql")),
        ("log", include_str!("migrations/sqlite/0005_log.sql")),
        ("values", include_str!("migrations/sqlite/0006_values.sql")),
    ])
    .run(&mut connection)
    .await?;
    Ok(connection)
}

/// Why the file cannot be opened, and what to do.
fn explain(error: &Error, file: &Path) -> String {
    // The last byte of an extended code.
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok()).map(|code| code & 0xff);
    match code {
        _ if file.is_dir() => "it is a directory: name a file in it".to_owned(),
        Some(NOT_A_DATABASE) => {
            format!("it is not a SQLite database ({error}): name another file, or restore this one")
        }
        _ => error.to_string(),
    }
}

const NOT_A_DATABASE: u32 = 26;

/// Whether an error means that a row itself cannot be stored: a retry would not help.
fn is_refusal(error: &Error) -> bool {
    // Extended codes have the primary one in their last byte: TOOBIG, CONSTRAINT, MISMATCH.
    let code = error.as_database_error().and_then(|e| e.code()?.parse::<u32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, 18..=20))
}

/// `INSERT … ON CONFLICT … DO UPDATE … WHERE excluded.version >= version` for a number of rows.
///
/// `OR FAIL`, because a statement that might have to be undone by itself keeps a journal of its own; here any error
/// undoes the whole transaction.
fn upsert(table: &Table, rows: usize) -> String {
    let name = table.name;
    let columns = quoted(table.columns());
    let keys = quoted(table.keys.iter().chain(table.default_keys).copied());
    let values = placeholders(table.columns().count(), rows);
    let assigned = table.values.iter().map(|column| match (column.name, column.update) {
        (c, Update::Replace | Update::Guard) => format!("`{c}` = excluded.`{c}`"),
        (c, Update::Least) => format!("`{c}` = MIN({name}.`{c}`, excluded.`{c}`)"),
    });
    let nulls = table.nulls.iter().map(|c| format!("`{c}` = NULL"));
    let assigned = nulls.chain(assigned).collect::<Vec<_>>().join(", ");
    let guard = if table.is_guarded() { format!(" WHERE excluded.version >= {name}.version") } else { String::new() };
    format!(
        "INSERT OR FAIL INTO {name} ({columns}) VALUES {values} ON CONFLICT ({keys}) DO UPDATE SET {assigned}{guard}"
    )
}

#[cfg(test)]
mod tests {
    use super::super::CHUNKS;
    use super::super::table::{COUNTER_WINDOWS, COUNTERS, REACTIONS, TABLES};
    use super::*;

    #[test]
    fn statements() {
        assert_eq!(
            upsert(&COUNTERS, 2),
            "INSERT OR FAIL INTO counters (`subject_id`, `metric`, `value`, `version`) VALUES (?, ?, ?, ?), (?, ?, ?, ?) \
             ON CONFLICT (`subject_id`, `metric`) DO UPDATE SET `decimal_value` = NULL, `text_value` = NULL, \
             `value` = excluded.`value`, `version` = excluded.`version` WHERE excluded.version >= counters.version"
        );
        assert!(upsert(&COUNTER_WINDOWS, 1).contains(
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (`subject_id`, `metric`, `window_ms`, `window_start`, `window_kind`)"
        ));
        assert!(upsert(&REACTIONS, 1).contains("`created_at` = MIN(reactions.`created_at`, excluded.`created_at`)"));
    }

    #[test]
    fn every_chunk_stays_below_the_number_of_variables() {
        for table in TABLES {
            assert!(table.columns().count() * CHUNKS[0] <= 32_766, "{}", table.name);
        }
    }
}
