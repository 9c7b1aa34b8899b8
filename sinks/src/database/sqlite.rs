//! SQLite: its statements, and its connection.
//!
//! WAL, so that readers and the one writer do not wait for each other. `synchronous=NORMAL`: a transaction is whole or
//! absent after a kill -9 and after a power failure; the latter may also take the last ones back, rows and positions
//! together, and what they held is read from the log again. FULL would cost a sync a batch and gain nothing here.

use super::rows::{Rows, Value};
use super::table::{TABLES, Table, Update};
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Row, Sqlite, Transaction};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tally_streams::log::TopicPartition;

/// Rows a statement, so that few statements have to be prepared. The largest stays far below SQLite's 32,766 variables.
const CHUNKS: [usize; 3] = [256, 32, 1];
/// How long a statement waits for another process's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Pages of tables and indexes that stay in memory. SQLite's 2 MB make it read and write each page again and again.
const CACHE_KIB: u32 = 64 << 10;
/// Pages in the write-ahead log before they are moved into the file: a batch of strangers touches 3,000, and the same
/// pages soon again.
const WAL_PAGES: u32 = 16_384;

/// The one connection that writes.
pub struct SqliteEngine {
    pool: SqlitePool,
    /// One upsert per table and chunk size.
    upserts: Vec<[Arc<str>; CHUNKS.len()]>,
}

/// A row of `sink_progress`.
pub struct ProgressRow {
    pub partition: TopicPartition,
    pub generation: i64,
    pub next_offset: u64,
    pub roots: String,
    pub version: i64,
}

impl SqliteEngine {
    /// Opens the file, creates it where it is missing, and brings its tables up to date.
    pub async fn open(url: &str) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::from_str(url)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("cache_size", format!("-{CACHE_KIB}"))
            .pragma("wal_autocheckpoint", WAL_PAGES.to_string())
            .pragma("journal_size_limit", (WAL_PAGES * 4_096).to_string())
            .disable_statement_logging();
        if let Some(directory) = options.get_filename().parent().filter(|path| !path.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory)?;
        }
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await?;
        sqlx::migrate!("src/database/migrations/sqlite").run(&pool).await?;
        let upserts = TABLES.iter().map(|table| CHUNKS.map(|rows| upsert(table, rows).into())).collect();
        Ok(Self { pool, upserts })
    }

    /// Opens a transaction that holds the write lock from the start, so that what it reads stays true until it ends.
    pub async fn begin(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.pool.begin_with("BEGIN IMMEDIATE").await
    }

    /// All of `sink_progress`: a row per topic partition.
    pub async fn progress(tx: &mut Transaction<'static, Sqlite>) -> Result<Vec<ProgressRow>, sqlx::Error> {
        let sql = "SELECT topic, `partition`, generation, next_offset, roots, version FROM sink_progress";
        let rows = sqlx::query(sql).fetch_all(&mut **tx).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            Ok(ProgressRow {
                partition: TopicPartition::new(row.try_get::<String, _>(0)?, row.try_get::<u32, _>(1)?),
                generation: row.try_get(2)?,
                next_offset: row.try_get::<i64, _>(3)? as u64,
                roots: row.try_get(4)?,
                version: row.try_get(5)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Where each partition goes on, without the rest.
    pub async fn positions(tx: &mut Transaction<'static, Sqlite>) -> Result<Vec<(TopicPartition, u64)>, sqlx::Error> {
        let sql = "SELECT topic, `partition`, next_offset FROM sink_progress";
        let rows = sqlx::query(sql).fetch_all(&mut **tx).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            let partition = TopicPartition::new(row.try_get::<String, _>(0)?, row.try_get::<u32, _>(1)?);
            Ok((partition, row.try_get::<i64, _>(2)? as u64))
        };
        rows.iter().map(read).collect()
    }

    /// Upserts rows, as many a statement as fit.
    pub async fn write(&self, tx: &mut Transaction<'static, Sqlite>, rows: Rows<'_>) -> Result<(), sqlx::Error> {
        let width = TABLES[rows.table].columns().count();
        let mut left = rows.values.len() / width;
        let mut values = rows.values.into_iter();
        while left > 0 {
            let chunk = CHUNKS.iter().position(|size| *size <= left).unwrap_or(CHUNKS.len() - 1);
            let mut arguments = SqliteArguments::default();
            arguments.reserve(CHUNKS[chunk] * width, 0);
            for value in values.by_ref().take(CHUNKS[chunk] * width) {
                add(&mut arguments, value).map_err(sqlx::Error::Encode)?;
            }
            let sql = AssertSqlSafe(self.upserts[rows.table][chunk].clone());
            sqlx::query_with(sql, arguments).execute(&mut **tx).await?;
            left -= CHUNKS[chunk];
        }
        Ok(())
    }

    /// Runs a statement with integers or text as its parameters; how many rows it changed.
    pub async fn execute(&self, sql: &'static str, parameters: Vec<Value<'_>>) -> Result<u64, sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        for value in parameters {
            add(&mut arguments, value).map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlx::query_with(sql, arguments).execute(&self.pool).await?.rows_affected())
    }

    /// Closes the connection: checkpoints the write-ahead log.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn add(arguments: &mut SqliteArguments, value: Value<'_>) -> Result<(), sqlx::error::BoxDynError> {
    match value {
        Value::Null => arguments.add(None::<i64>),
        Value::Int(value) => arguments.add(value),
        Value::Text(value) => arguments.add(value),
        Value::Owned(value) => arguments.add(value),
        Value::Blob(value) => arguments.add(value),
    }
}

/// `INSERT … ON CONFLICT … DO UPDATE … WHERE excluded.version >= version` for a number of rows.
///
/// `OR FAIL`, because a statement that might have to be undone by itself keeps a journal of its own; here any error
/// undoes the whole transaction.
fn upsert(table: &Table, rows: usize) -> String {
    let quoted = |names: &mut dyn Iterator<Item = &str>| names.map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    let name = table.name;
    let columns = quoted(&mut table.columns());
    let keys = quoted(&mut table.keys.iter().copied());
    let row = format!("({})", vec!["?"; table.columns().count()].join(", "));
    let values = vec![row; rows].join(", ");
    let assigned = table.values.iter().map(|column| match (column.name, column.update) {
        (c, Update::Replace | Update::Guard) => format!("`{c}` = excluded.`{c}`"),
        (c, Update::Least) => format!("`{c}` = MIN({name}.`{c}`, excluded.`{c}`)"),
    });
    let assigned = assigned.collect::<Vec<_>>().join(", ");
    let guard = if table.is_guarded() { format!(" WHERE excluded.version >= {name}.version") } else { String::new() };
    format!(
        "INSERT OR FAIL INTO {name} ({columns}) VALUES {values} ON CONFLICT ({keys}) DO UPDATE SET {assigned}{guard}"
    )
}

#[cfg(test)]
mod tests {
    use super::super::table::{COUNTERS, REACTIONS};
    use super::*;

    #[test]
    fn statements() {
        assert_eq!(
            upsert(&TABLES[COUNTERS], 2),
            "INSERT OR FAIL INTO counters (`subject_id`, `metric`, `value`, `version`) VALUES (?, ?, ?, ?), (?, ?, ?, ?) \
             ON CONFLICT (`subject_id`, `metric`) DO UPDATE SET `value` = excluded.`value`, \
             `version` = excluded.`version` WHERE excluded.version >= counters.version"
        );
        assert!(
            upsert(&TABLES[REACTIONS], 1).contains("`created_at` = MIN(reactions.`created_at`, excluded.`created_at`)")
        );
    }

    #[test]
    fn every_chunk_stays_below_the_number_of_variables() {
        for table in &TABLES {
            assert!(table.columns().count() * CHUNKS[0] <= 32_766, "{}", table.name);
        }
    }
}
