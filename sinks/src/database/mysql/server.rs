//! An address and a connection of a MySQL or MariaDB server.

use super::super::connection::{Columns, ConnectError, STATEMENT_BYTES, arguments};
use super::super::dialect::Dialect;
use super::super::rows::Value;
use super::{DIALECT, is_refusal, set_up};
use sqlx::mysql::{MySql, MySqlConnectOptions, MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Error, Row};
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// How long a statement may take. A server that was frozen or that the network lost is noticed by this. The server
/// gives up waiting for a lock earlier.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(4);

/// `mysql://user:password@host[:port]/db`.
pub struct ServerAddress(Box<MySqlConnectOptions>);

/// A connection to a server.
pub struct Server {
    connection: MySqlConnection,
    /// The largest packet that the server takes.
    packet_bytes_max: usize,
}

impl ServerAddress {
    /// Parses an address; the error names the mistake. No message contains a password.
    pub fn parse(url: &str) -> Result<Self, String> {
        // The parser's messages name the mistake and never repeat the input.
        let options = MySqlConnectOptions::from_str(url).map_err(|e| {
            format!("{e}: use `mysql://user:password@host[:port]/db`, special characters percent-encoded")
        })?;
        match options.get_database() {
            None | Some("") => Err("it names no database: use `mysql://user:password@host[:port]/db`".into()),
            Some(_) => Ok(Self(Box::new(options.charset("utf8mb4").disable_statement_logging()))),
        }
    }

    /// The statements of its server.
    pub fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }

    /// Connects, and nothing else.
    pub async fn reach(&self) -> Result<(), ConnectError> {
        let connection = within(self.0.connect()).await?;
        // The next caller makes a new connection.
        drop(connection);
        Ok(())
    }

    /// Connects to look at what is there, whatever the tables are.
    pub async fn look(&self) -> Result<Server, Error> {
        Ok(Server { connection: self.0.connect().await?, packet_bytes_max: 1 << 20 })
    }

    /// Connects, checks the server, and brings the tables up to date.
    pub async fn connect(&self) -> Result<Server, ConnectError> {
        let mut connection = within(self.0.connect()).await?;
        let packet_bytes_max = set_up(&mut connection).await?;
        Ok(Server { connection, packet_bytes_max })
    }
}

impl Server {
    /// The statements that it understands.
    pub fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }

    /// How many bytes of values to put into a statement; the most that one may have.
    pub fn statement_bytes(&self) -> (usize, usize) {
        let packet = self.packet_bytes_max;
        // Beside the values a packet has some bytes per parameter.
        (STATEMENT_BYTES.min(packet / 2), packet - packet / 16)
    }

    /// Whether an error means that the row itself cannot be stored, so that a retry would not help.
    pub fn is_refusal(&self, error: &Error) -> bool {
        is_refusal(error)
    }

    /// Runs a statement without parameters that cannot be prepared everywhere.
    pub async fn run(&mut self, sql: &'static str) -> Result<(), Error> {
        within(sqlx::raw_sql(sql).execute(&mut self.connection)).await.map(drop)
    }

    /// Runs a statement; how many rows it changed.
    pub async fn execute(&mut self, sql: Arc<str>, parameters: &[Value<'_>]) -> Result<u64, Error> {
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments::<MySql>(parameters)?);
        Ok(within(query.execute(&mut self.connection)).await?.rows_affected())
    }

    /// Reads rows.
    pub async fn fetch<T>(
        &mut self,
        sql: String,
        parameters: &[Value<'_>],
        read: impl Fn(&dyn Columns) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments::<MySql>(parameters)?);
        within(query.fetch_all(&mut self.connection)).await?.iter().map(|row| read(row)).collect()
    }

    /// Closes the socket without sending anything, since the server may not answer.
    pub fn discard(self) {
        drop(self.connection);
    }

    /// Closes the connection in the protocol.
    pub async fn close(self) {
        drop(within(self.connection.close()).await);
    }
}

/// Runs a future with a time limit; the error reports that the server did not answer in time.
pub async fn within<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(STATEMENT_TIMEOUT, work).await {
        Ok(done) => done,
        Err(_) => {
            let waited = format!("no answer within {} s", STATEMENT_TIMEOUT.as_secs());
            Err(Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, waited)))
        }
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
