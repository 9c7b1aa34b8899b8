//! A connection to either database.

use super::dialect::Dialect;
use super::rows::Value;
use super::{mysql, sqlite};
use sqlx::mysql::{MySql, MySqlConnection, MySqlRow};
use sqlx::sqlite::{Sqlite, SqliteConnection, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Connection as _, Encode, Error, Row, Type};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// How long a statement may take. A server that was frozen or that the network lost is noticed by this. The server
/// gives up waiting for a lock earlier.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(4);
/// Bytes of values in one statement, unless a single row has more.
const STATEMENT_BYTES: usize = 4 << 20;

/// A connection to either database, ready for use: tables are up to date.
///
/// After any error it must be given up ([`Connection::discard`]): it may be in the middle of a transaction, or of an
/// answer.
pub enum Connection {
    /// To a file.
    Sqlite(SqliteConnection),
    /// To a MySQL or MariaDB server, and the largest packet that it takes.
    MySql(MySqlConnection, usize),
}

/// A row that was read.
pub trait Columns {
    /// Text, or bytes that are text.
    fn text(&self, column: usize) -> Result<String, Error>;
    /// A number.
    fn int(&self, column: usize) -> Result<i64, Error>;
}

impl Columns for SqliteRow {
    fn text(&self, column: usize) -> Result<String, Error> {
        self.try_get(column)
    }

    fn int(&self, column: usize) -> Result<i64, Error> {
        self.try_get(column)
    }
}

impl Columns for MySqlRow {
    fn text(&self, column: usize) -> Result<String, Error> {
        String::from_utf8(self.try_get(column)?).map_err(|e| Error::Decode(e.into()))
    }

    fn int(&self, column: usize) -> Result<i64, Error> {
        self.try_get_unchecked(column)
    }
}

impl Connection {
    /// The statements that it understands.
    pub fn dialect(&self) -> &'static Dialect {
        match self {
            Self::Sqlite(_) => &sqlite::DIALECT,
            Self::MySql(..) => &mysql::DIALECT,
        }
    }

    /// How many bytes of values to put into a statement; the most that one may have.
    pub fn statement_bytes(&self) -> (usize, usize) {
        match self {
            Self::Sqlite(_) => (STATEMENT_BYTES, usize::MAX),
            // Beside the values a packet has some bytes per parameter.
            Self::MySql(_, packet) => (STATEMENT_BYTES.min(packet / 2), packet - packet / 16),
        }
    }

    /// Whether an error says that a row itself cannot be stored: trying again would not help.
    pub fn is_refusal(&self, error: &Error) -> bool {
        match self {
            Self::Sqlite(_) => sqlite::is_refusal(error),
            Self::MySql(..) => mysql::is_refusal(error),
        }
    }

    /// Runs a statement without parameters that cannot be prepared everywhere, like `COMMIT`.
    pub async fn run(&mut self, sql: &'static str) -> Result<(), Error> {
        match self {
            Self::Sqlite(connection) => sqlx::raw_sql(sql).execute(connection).await.map(drop),
            Self::MySql(connection, _) => within(sqlx::raw_sql(sql).execute(connection)).await.map(drop),
        }
    }

    /// Runs a statement; how many rows it changed.
    pub async fn execute(&mut self, sql: Arc<str>, parameters: &[Value<'_>]) -> Result<u64, Error> {
        let sql = AssertSqlSafe(sql);
        match self {
            Self::Sqlite(connection) => {
                let query = sqlx::query_with(sql, arguments::<Sqlite>(parameters)?);
                Ok(query.execute(connection).await?.rows_affected())
            }
            Self::MySql(connection, _) => {
                let query = sqlx::query_with(sql, arguments::<MySql>(parameters)?);
                Ok(within(query.execute(connection)).await?.rows_affected())
            }
        }
    }

    /// Reads rows.
    pub async fn fetch<T>(
        &mut self,
        sql: String,
        parameters: &[Value<'_>],
        read: impl Fn(&dyn Columns) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let sql = AssertSqlSafe(sql);
        match self {
            Self::Sqlite(connection) => {
                let query = sqlx::query_with(sql, arguments::<Sqlite>(parameters)?);
                query.fetch_all(connection).await?.iter().map(|row| read(row)).collect()
            }
            Self::MySql(connection, _) => {
                let query = sqlx::query_with(sql, arguments::<MySql>(parameters)?);
                within(query.fetch_all(connection)).await?.iter().map(|row| read(row)).collect()
            }
        }
    }

    /// Gives it up; an open transaction is rolled back.
    pub async fn discard(self) {
        match self {
            // Its thread closes the file: afterwards nothing holds the lock.
            Self::Sqlite(connection) => drop(connection.close().await),
            // Nothing is said to a server that may not answer: it sees the end of the connection.
            Self::MySql(connection, _) => drop(connection),
        }
    }

    /// Says goodbye.
    pub async fn close(self) {
        match self {
            Self::Sqlite(connection) => drop(connection.close().await),
            Self::MySql(connection, _) => drop(within(connection.close()).await),
        }
    }
}

/// Does something in time, or says that the server did not.
pub async fn within<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(STATEMENT_TIMEOUT, work).await {
        Ok(done) => done,
        Err(_) => {
            let waited = format!("no answer within {} s", STATEMENT_TIMEOUT.as_secs());
            Err(Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, waited)))
        }
    }
}

fn arguments<DB>(values: &[Value<'_>]) -> Result<DB::Arguments, Error>
where
    DB: sqlx::Database,
    i64: for<'v> Encode<'v, DB> + Type<DB>,
    Option<i64>: for<'v> Encode<'v, DB> + Type<DB>,
    for<'v> &'v str: Encode<'v, DB> + Type<DB>,
    for<'v> &'v [u8]: Encode<'v, DB> + Type<DB>,
{
    let mut arguments = DB::Arguments::default();
    arguments.reserve(values.len(), 0);
    for value in values {
        let added = match value {
            Value::Null => arguments.add(None::<i64>),
            Value::Int(value) => arguments.add(*value),
            Value::Text(value) => arguments.add(*value),
            Value::Owned(value) => arguments.add(value.as_str()),
            Value::Blob(value) => arguments.add(*value),
        };
        added.map_err(Error::Encode)?;
    }
    Ok(arguments)
}
