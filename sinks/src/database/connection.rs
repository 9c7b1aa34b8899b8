//! A connection to either database.

use super::dialect::Dialect;
use super::mysql::Server;
use super::rows::Value;
use super::sqlite;
use sqlx::sqlite::{Sqlite, SqliteConnection, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Connection as _, Encode, Error, Row, Type};
use std::sync::Arc;

/// Bytes of values in one statement, unless a single row has more.
pub const STATEMENT_BYTES: usize = 4 << 20;

/// A connection to either database, ready for use: tables are up to date.
///
/// After any error it must be given up ([`Connection::discard`]): it may be in the middle of a transaction, or of an
/// answer.
pub enum Connection {
    /// To a file.
    Sqlite(SqliteConnection),
    /// To a MySQL or MariaDB server.
    MySql(Server),
}

/// Why there is no connection.
pub struct ConnectError {
    /// Whether the failure may pass by itself: then the caller tries again.
    pub is_transient: bool,
    /// What is wrong, and what to do.
    pub cause: String,
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

impl Connection {
    /// The statements that it understands.
    pub fn dialect(&self) -> &'static Dialect {
        match self {
            Self::Sqlite(_) => &sqlite::DIALECT,
            Self::MySql(server) => server.dialect(),
        }
    }

    /// How many bytes of values to put into a statement; the most that one may have.
    pub fn statement_bytes(&self) -> (usize, usize) {
        match self {
            Self::Sqlite(_) => (STATEMENT_BYTES, usize::MAX),
            Self::MySql(server) => server.statement_bytes(),
        }
    }

    /// Whether an error means that the row itself cannot be stored, so that a retry would not help.
    pub fn is_refusal(&self, error: &Error) -> bool {
        match self {
            Self::Sqlite(_) => sqlite::is_refusal(error),
            Self::MySql(server) => server.is_refusal(error),
        }
    }

    /// Runs a statement without parameters that cannot be prepared everywhere, like `COMMIT`.
    pub async fn run(&mut self, sql: &'static str) -> Result<(), Error> {
        match self {
            Self::Sqlite(connection) => sqlx::raw_sql(sql).execute(connection).await.map(drop),
            Self::MySql(server) => server.run(sql).await,
        }
    }

    /// Runs a statement; how many rows it changed.
    pub async fn execute(&mut self, sql: Arc<str>, parameters: &[Value<'_>]) -> Result<u64, Error> {
        match self {
            Self::Sqlite(connection) => {
                let query = sqlx::query_with(AssertSqlSafe(sql), arguments::<Sqlite>(parameters)?);
                Ok(query.execute(connection).await?.rows_affected())
            }
            Self::MySql(server) => server.execute(sql, parameters).await,
        }
    }

    /// Reads rows.
    pub async fn fetch<T>(
        &mut self,
        sql: String,
        parameters: &[Value<'_>],
        read: impl Fn(&dyn Columns) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        match self {
            Self::Sqlite(connection) => {
                let query = sqlx::query_with(AssertSqlSafe(sql), arguments::<Sqlite>(parameters)?);
                query.fetch_all(connection).await?.iter().map(|row| read(row)).collect()
            }
            Self::MySql(server) => server.fetch(sql, parameters, read).await,
        }
    }

    /// Closes the connection; an open transaction is rolled back.
    pub async fn discard(self) {
        match self {
            // Its thread closes the file: afterwards nothing holds the lock.
            Self::Sqlite(connection) => drop(connection.close().await),
            Self::MySql(server) => server.discard(),
        }
    }

    /// Closes the connection in the protocol.
    pub async fn close(self) {
        match self {
            Self::Sqlite(connection) => drop(connection.close().await),
            Self::MySql(server) => server.close().await,
        }
    }
}

/// The parameters of a statement.
pub fn arguments<DB>(values: &[Value<'_>]) -> Result<DB::Arguments, Error>
where
    DB: sqlx::Database,
    i64: for<'v> Encode<'v, DB> + Type<DB>,
    Option<i64>: for<'v> Encode<'v, DB> + Type<DB>,
    Arc<str>: for<'v> Encode<'v, DB> + Type<DB>,
    for<'v> &'v str: Encode<'v, DB> + Type<DB>,
    for<'v> &'v [u8]: Encode<'v, DB> + Type<DB>,
{
    let mut arguments = DB::Arguments::default();
    arguments.reserve(values.len(), values.iter().map(Value::len_bytes).sum());
    for value in values {
        let added = match value {
            Value::Null => arguments.add(None::<i64>),
            Value::Int(value) => arguments.add(*value),
            Value::Text(value) => arguments.add(*value),
            Value::Shared(value) => arguments.add(Arc::clone(value)),
            Value::Owned(value) => arguments.add(value.as_str()),
            Value::Blob(value) => arguments.add(*value),
        };
        added.map_err(Error::Encode)?;
    }
    Ok(arguments)
}
