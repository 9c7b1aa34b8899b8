//! Connections for reading, to either database: the same statements, run in time or not at all.

use super::mysql::{MySql, ServerAddress};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Database, Encode, Error, Executor, IntoArguments, Pool, Row, Type};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Readers of a file at the same time; a point read takes some 50 us.
const SQLITE_CONNECTIONS: u32 = 4;
/// How long a read waits for a connection, and how long for its answer: a server that was frozen or lost is noticed by
/// this.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Connections to one database. They are made when they are first needed.
pub enum ReadPool {
    /// To a file.
    Sqlite(SqlitePool),
    /// To a MySQL or MariaDB server.
    MySql(Pool<MySql>),
}

/// A row that was read.
pub trait Columns {
    /// Text, or bytes that are text; None is null.
    fn text_or_null(&self, column: usize) -> Result<Option<String>, Error>;
    /// A number.
    fn int(&self, column: usize) -> Result<i64, Error>;

    /// Bytes as they are.
    fn bytes_or_null(&self, column: usize) -> Result<Option<Vec<u8>>, Error>;
    /// A number; None is null.
    fn int_or_null(&self, column: usize) -> Result<Option<i64>, Error>;

    /// Text that is never null.
    fn text(&self, column: usize) -> Result<String, Error> {
        self.text_or_null(column)?.ok_or_else(|| Error::Decode(format!("column {column} is null").into()))
    }
}

impl Columns for SqliteRow {
    fn text_or_null(&self, column: usize) -> Result<Option<String>, Error> {
        self.try_get(column)
    }

    fn int(&self, column: usize) -> Result<i64, Error> {
        self.try_get(column)
    }

    fn bytes_or_null(&self, column: usize) -> Result<Option<Vec<u8>>, Error> {
        self.try_get(column)
    }

    fn int_or_null(&self, column: usize) -> Result<Option<i64>, Error> {
        self.try_get(column)
    }
}

impl ReadPool {
    /// Connections to `sqlite:FILE` or `mysql://user:password@host[:port]/db`. No error contains the password.
    pub fn open(url: &str) -> Result<Self, Error> {
        if url.starts_with("mysql:") {
            return Ok(Self::MySql(ServerAddress::parse(url)?.pool()));
        }
        let options = SqliteConnectOptions::from_str(url)?
            .create_if_missing(false)
            .busy_timeout(PATIENCE)
            .pragma("query_only", "ON")
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new()
            .max_connections(SQLITE_CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .test_before_acquire(false);
        Ok(Self::Sqlite(pool.connect_lazy_with(options)))
    }

    /// Runs a statement with text as its parameters, and reads its rows.
    pub async fn fetch<T>(
        &self,
        sql: impl Into<Arc<str>>,
        parameters: &[&str],
        read: impl Fn(&dyn Columns) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let sql = sql.into();
        match self {
            Self::Sqlite(pool) => rows(pool, sql, parameters).await?.iter().map(|row| read(row)).collect(),
            Self::MySql(pool) => rows(pool, sql, parameters).await?.iter().map(|row| read(row)).collect(),
        }
    }
}

/// Runs a statement. A connection that does not answer in time, or that is broken, never goes back into the pool;
/// where it was broken, another one is tried.
async fn rows<DB>(pool: &Pool<DB>, sql: Arc<str>, parameters: &[&str]) -> Result<Vec<DB::Row>, Error>
where
    DB: Database,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    for<'v> &'v str: Encode<'v, DB> + Type<DB>,
{
    let mut last_try = false;
    loop {
        let mut connection = pool.acquire().await?;
        let query = parameters
            .iter()
            .fold(sqlx::query::<DB>(AssertSqlSafe(sql.clone())), |query, parameter| query.bind(*parameter));
        match tokio::time::timeout(PATIENCE, query.fetch_all(&mut *connection)).await {
            Ok(Err(error @ Error::Io(_))) => {
                drop(connection.detach());
                if std::mem::replace(&mut last_try, true) {
                    return Err(error);
                }
            }
            Ok(answer) => return answer,
            Err(_) => {
                drop(connection.detach());
                let waited = format!("no answer within {} s", PATIENCE.as_secs());
                return Err(Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, waited)));
            }
        }
    }
}
