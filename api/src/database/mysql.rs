//! MySQL and MariaDB, for reading and for the API's own tables.

pub use sqlx::mysql::MySql;

use super::pool::{Columns, PATIENCE};
use super::write::{Dialect, LOCK_TIMEOUT, within};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlPool, MySqlPoolOptions, MySqlRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Error, Executor, Row};
use std::str::FromStr;
use std::time::Duration;

/// Readers of a server at the same time; a point read takes a round trip.
const CONNECTIONS: u32 = 16;
/// A connection that was idle for longer is checked before it is used.
const IDLE_TRUST: Duration = Duration::from_secs(1);
/// Deadlock, lock wait, a row that another transaction inserted at the same moment, killed, read-only for a moment.
const AGAIN: &[u16] = &[1213, 1205, 1062, 1927, 1290, 1836];

/// The statements of MySQL and MariaDB.
pub const DIALECT: Dialect = Dialect {
    begin: "START TRANSACTION",
    for_update: " FOR UPDATE",
    now_ms: "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
    add_count: "INSERT INTO collect_counts (subject_id, value) VALUES (?, CAST(? AS SIGNED))
        ON DUPLICATE KEY UPDATE value = value + VALUES(value)",
};

/// `mysql://user:password@host[:port]/db`.
#[derive(Clone)]
pub struct ServerAddress(Box<MySqlConnectOptions>);

impl ServerAddress {
    /// Reads an address. No error contains the password.
    pub fn parse(url: &str) -> Result<Self, Error> {
        Ok(Self(Box::new(MySqlConnectOptions::from_str(url)?.charset("utf8mb4").disable_statement_logging())))
    }

    /// Connections for reading. They are made when they are first needed.
    pub fn pool(self) -> MySqlPool {
        let pool = MySqlPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .test_before_acquire(false)
            .before_acquire(|connection, seen| {
                // A server that was started again, or that ends connections which do nothing.
                Box::pin(async move { Ok(seen.idle_for < IDLE_TRUST || connection.ping().await.is_ok()) })
            })
            .after_connect(|connection, _| {
                let session = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY";
                Box::pin(async move { connection.execute(session).await.map(drop) })
            });
        pool.connect_lazy_with(*self.0)
    }

    /// A new connection that writes.
    pub async fn connect(&self) -> Result<MySqlConnection, Error> {
        let mut connection = within(self.0.connect()).await?;
        let session = format!(
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
             SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', SESSION autocommit = 1,
                 SESSION innodb_lock_wait_timeout = {0}, SESSION lock_wait_timeout = {0}",
            LOCK_TIMEOUT.as_secs()
        );
        within(sqlx::raw_sql(AssertSqlSafe(session)).execute(&mut connection)).await?;
        Ok(connection)
    }
}

/// Whether an error of a server is one after which a new connection may succeed at once. None where no server of this
/// kind sent it.
pub fn is_worth_another_try(error: &Error) -> Option<bool> {
    let refused = error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(AGAIN.contains(&refused.number()))
}

impl Columns for MySqlRow {
    fn text_or_null(&self, column: usize) -> Result<Option<String>, Error> {
        let bytes = self.try_get::<Option<Vec<u8>>, _>(column)?;
        bytes.map(String::from_utf8).transpose().map_err(|e| Error::Decode(e.into()))
    }

    fn int(&self, column: usize) -> Result<i64, Error> {
        self.try_get_unchecked(column)
    }

    fn bytes_or_null(&self, column: usize) -> Result<Option<Vec<u8>>, Error> {
        self.try_get(column)
    }

    fn int_or_null(&self, column: usize) -> Result<Option<i64>, Error> {
        self.try_get_unchecked(column)
    }
}
