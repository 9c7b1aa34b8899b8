//! A connection for writing, to either database: for the tables that belong to the API. Every statement has a time
//! limit, and after any error the connection is closed, which rolls back.

use super::mysql::{self, MySql, ServerAddress};
use super::pool::Columns;
use sqlx::sqlite::{Sqlite, SqliteConnectOptions, SqliteConnection, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Database, Encode, Error, Executor, IntoArguments, Type};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// How long a statement, or a new connection, may take. This detects a server that is frozen or lost.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a statement waits for another's lock; less than it may take.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// BUSY and LOCKED, in the last byte of an extended code.
const SQLITE_AGAIN: &[u32] = &[5, 6];

/// Where to write.
#[derive(Clone)]
pub enum WriteAddress {
    /// A file.
    Sqlite(Box<SqliteConnectOptions>),
    /// A MySQL or MariaDB server.
    MySql(ServerAddress),
}

/// A connection that writes.
pub enum WriteConnection {
    /// To a file.
    Sqlite(SqliteConnection),
    /// To a MySQL or MariaDB server.
    MySql(<MySql as Database>::Connection),
}

/// What differs between the databases' SQL.
pub struct Dialect {
    /// Opens a transaction that writes.
    pub begin: &'static str,
    /// The end of a SELECT whose rows must stay as they are until the transaction ends.
    pub for_update: &'static str,
    /// The database's clock, milliseconds since 1970.
    pub now_ms: &'static str,
    /// Adds a number (the second parameter) to the count of a subject (the first), which may have none.
    pub add_count: &'static str,
}

pub const SQLITE: Dialect = Dialect {
    // Holds the write lock from the start, so that what it reads stays true until it ends.
    begin: "BEGIN IMMEDIATE",
    for_update: "",
    now_ms: "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    add_count: "INSERT INTO collect_counts (subject_id, value) VALUES (?, CAST(? AS INTEGER))
        ON CONFLICT (subject_id) DO UPDATE SET value = value + excluded.value",
};

impl WriteAddress {
    /// Reads `sqlite:FILE` or `mysql://user:password@host[:port]/db`. No error contains the password.
    pub fn parse(url: &str) -> Result<Self, Error> {
        if url.starts_with("mysql:") {
            return ServerAddress::parse(url).map(Self::MySql);
        }
        let options = SqliteConnectOptions::from_str(url)?
            .create_if_missing(false)
            .busy_timeout(LOCK_TIMEOUT)
            // These rows exist nowhere else: a change that was confirmed must survive a power failure.
            .synchronous(SqliteSynchronous::Full)
            .disable_statement_logging();
        Ok(Self::Sqlite(Box::new(options)))
    }

    /// A new connection.
    pub async fn connect(&self) -> Result<WriteConnection, Error> {
        match self {
            Self::Sqlite(options) => Ok(WriteConnection::Sqlite(within(options.connect()).await?)),
            Self::MySql(server) => Ok(WriteConnection::MySql(server.connect().await?)),
        }
    }
}

impl WriteConnection {
    /// The statements that it understands.
    pub fn dialect(&self) -> &'static Dialect {
        match self {
            Self::Sqlite(_) => &SQLITE,
            Self::MySql(_) => &mysql::DIALECT,
        }
    }

    /// Runs a statement without parameters that cannot be prepared everywhere, like `COMMIT`.
    pub async fn run(&mut self, sql: &'static str) -> Result<(), Error> {
        match self {
            Self::Sqlite(connection) => within(sqlx::raw_sql(sql).execute(connection)).await.map(drop),
            Self::MySql(connection) => within(sqlx::raw_sql(sql).execute(connection)).await.map(drop),
        }
    }

    /// Runs a statement with text as its parameters.
    pub async fn execute(&mut self, sql: impl Into<Arc<str>>, parameters: &[&str]) -> Result<(), Error> {
        self.fetch(sql, parameters, |_| Ok(())).await.map(drop)
    }

    /// Runs a statement with text as its parameters, and reads its rows.
    pub async fn fetch<T>(
        &mut self,
        sql: impl Into<Arc<str>>,
        parameters: &[&str],
        read: impl Fn(&dyn Columns) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let sql = sql.into();
        match self {
            Self::Sqlite(connection) => {
                rows::<Sqlite>(connection, sql, parameters).await?.iter().map(|row| read(row)).collect()
            }
            Self::MySql(connection) => {
                rows::<MySql>(connection, sql, parameters).await?.iter().map(|row| read(row)).collect()
            }
        }
    }

    /// Closes the connection; an open transaction is rolled back.
    pub async fn discard(self) {
        match self {
            // Its thread closes the file: afterwards nothing holds the lock.
            Self::Sqlite(connection) => drop(within(connection.close()).await),
            // Closes the socket without sending anything, since the server may not answer.
            Self::MySql(connection) => drop(connection),
        }
    }
}

/// Whether an immediate retry on a new connection may succeed: another transaction was in the way, or the connection is
/// lost.
pub fn is_worth_another_try(error: &Error) -> bool {
    let Some(refused) = error.as_database_error() else { return matches!(error, Error::Io(_)) };
    mysql::is_worth_another_try(error).unwrap_or_else(|| {
        let code = refused.code().and_then(|code| code.parse::<u32>().ok());
        code.is_some_and(|code| SQLITE_AGAIN.contains(&(code & 0xff)))
    })
}

/// Runs a statement with text as its parameters.
async fn rows<DB>(connection: &mut DB::Connection, sql: Arc<str>, parameters: &[&str]) -> Result<Vec<DB::Row>, Error>
where
    DB: Database,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    for<'v> &'v str: Encode<'v, DB> + Type<DB>,
{
    let query =
        parameters.iter().fold(sqlx::query::<DB>(AssertSqlSafe(sql)), |query, parameter| query.bind(*parameter));
    within(query.fetch_all(connection)).await
}

/// Runs a future with a time limit; the error reports that the database did not answer in time.
pub async fn within<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(STATEMENT_TIMEOUT, work).await {
        Ok(done) => done,
        Err(_) => {
            let waited = format!("no answer within {} s", STATEMENT_TIMEOUT.as_secs());
            Err(Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, waited)))
        }
    }
}
