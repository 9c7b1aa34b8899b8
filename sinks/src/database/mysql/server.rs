//! An address and a connection of a MySQL or MariaDB server.

use super::super::connection::{Address, Columns, ConnectError, Connection, STATEMENT_BYTES, Work, arguments, boxed};
use super::super::dialect::Dialect;
use super::super::rows::Value;
use super::{DIALECT, set_up};
use sqlx::mysql::{MySql, MySqlConnectOptions, MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Error, Row};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// How long a statement may take. A server that was frozen or that the network lost is noticed by this. The server
/// gives up waiting for a lock earlier.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(4);

/// A connection to a server.
struct Server {
    connection: MySqlConnection,
    /// The largest packet that the server takes.
    packet_bytes_max: usize,
}

/// Parses `mysql://user:password@host[:port]/db`; the error names the mistake. No message contains a password.
pub fn address(url: &str) -> Result<Box<dyn Address>, String> {
    // The parser's messages name the mistake and never repeat the input.
    let options = MySqlConnectOptions::from_str(url)
        .map_err(|e| format!("{e}: use `mysql://user:password@host[:port]/db`, special characters percent-encoded"))?;
    match options.get_database() {
        None | Some("") => Err("it names no database: use `mysql://user:password@host[:port]/db`".into()),
        Some(_) => Ok(Box::new(options.charset("utf8mb4").disable_statement_logging())),
    }
}

impl Address for MySqlConnectOptions {
    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }

    fn reach(&self) -> Work<'_, Result<Option<Box<dyn Connection>>, ConnectError>> {
        // The next caller makes a new connection.
        Box::pin(async { Ok(within(self.connect()).await.map(|_| None)?) })
    }

    fn look(&self) -> Work<'_, Result<Box<dyn Connection>, Error>> {
        Box::pin(async {
            let connection = self.connect().await?;
            Ok(Box::new(Server { connection, packet_bytes_max: 1 << 20 }) as Box<dyn Connection>)
        })
    }

    fn open(&self) -> Work<'_, Result<Box<dyn Connection>, ConnectError>> {
        Box::pin(async {
            let mut connection = within(self.connect()).await?;
            let packet_bytes_max = set_up(&mut connection).await?;
            Ok(Box::new(Server { connection, packet_bytes_max }) as Box<dyn Connection>)
        })
    }
}

impl Connection for Server {
    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }

    fn statement_bytes(&self) -> (usize, usize) {
        let packet = self.packet_bytes_max;
        // Beside the values a packet has some bytes per parameter.
        (STATEMENT_BYTES.min(packet / 2), packet - packet / 16)
    }

    fn run(&mut self, sql: &'static str) -> Work<'_, Result<(), Error>> {
        Box::pin(async move { within(sqlx::raw_sql(sql).execute(&mut self.connection)).await.map(drop) })
    }

    fn execute<'a>(&'a mut self, sql: Arc<str>, parameters: &'a [Value<'a>]) -> Work<'a, Result<u64, Error>> {
        Box::pin(async {
            let query = sqlx::query_with(AssertSqlSafe(sql), arguments::<MySql>(parameters)?);
            Ok(within(query.execute(&mut self.connection)).await?.rows_affected())
        })
    }

    fn rows<'a>(
        &'a mut self,
        sql: String,
        parameters: &'a [Value<'a>],
    ) -> Work<'a, Result<Vec<Box<dyn Columns>>, Error>> {
        Box::pin(async {
            let query = sqlx::query_with(AssertSqlSafe(sql), arguments::<MySql>(parameters)?);
            Ok(boxed(within(query.fetch_all(&mut self.connection)).await?))
        })
    }

    fn discard(self: Box<Self>) -> Work<'static, ()> {
        // Closes the socket without sending anything, since the server may not answer.
        Box::pin(async { drop(self.connection) })
    }

    fn close(self: Box<Self>) -> Work<'static, ()> {
        Box::pin(async { drop(within(sqlx::Connection::close(self.connection)).await) })
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
