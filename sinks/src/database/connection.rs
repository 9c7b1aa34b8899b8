//! What the kinds of databases do, each in its own way: connect, and run statements.

use super::dialect::Dialect;
use super::rows::Value;
use sqlx::{Arguments, Encode, Error, Type};
use std::pin::Pin;
use std::sync::Arc;

/// Bytes of values in one statement, unless a single row has more.
pub const STATEMENT_BYTES: usize = 4 << 20;

/// The future of a method.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Where a database is, and how to connect to it.
pub trait Address: Send {
    /// The statements that it understands.
    fn dialect(&self) -> &'static Dialect;
    /// Connects, and changes nothing. Returns the connection where closing it costs something.
    fn reach(&self) -> Work<'_, Result<Option<Box<dyn Connection>>, ConnectError>>;
    /// Connects to look at what is there, whatever the tables are.
    fn look(&self) -> Work<'_, Result<Box<dyn Connection>, Error>>;
    /// Connects, and brings the tables up to date.
    fn open(&self) -> Work<'_, Result<Box<dyn Connection>, ConnectError>>;
}

/// A connection to a database.
///
/// After any error it must be discarded ([`Connection::discard`]): it may be in the middle of a transaction, or of an
/// answer.
pub trait Connection: Send {
    /// The statements that it understands.
    fn dialect(&self) -> &'static Dialect;
    /// How many bytes of values to put into a statement; the most that one may have.
    fn statement_bytes(&self) -> (usize, usize);
    /// Runs a statement without parameters that cannot be prepared everywhere, like `COMMIT`.
    fn run(&mut self, sql: &'static str) -> Work<'_, Result<(), Error>>;
    /// Runs a statement; how many rows it changed.
    fn execute<'a>(&'a mut self, sql: Arc<str>, parameters: &'a [Value<'a>]) -> Work<'a, Result<u64, Error>>;
    /// Reads rows.
    fn rows<'a>(
        &'a mut self,
        sql: String,
        parameters: &'a [Value<'a>],
    ) -> Work<'a, Result<Vec<Box<dyn Columns>>, Error>>;
    /// Closes the connection; an open transaction is rolled back.
    fn discard(self: Box<Self>) -> Work<'static, ()>;
    /// Closes the connection in the protocol.
    fn close(self: Box<Self>) -> Work<'static, ()>;
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

impl dyn Connection + '_ {
    /// Reads rows, each by a function.
    pub async fn fetch<T>(
        &mut self,
        sql: String,
        parameters: &[Value<'_>],
        read: impl Fn(&dyn Columns) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        self.rows(sql, parameters).await?.iter().map(|row| read(&**row)).collect()
    }
}

/// Rows as they are read.
pub fn boxed<R: Columns + 'static>(rows: Vec<R>) -> Vec<Box<dyn Columns>> {
    rows.into_iter().map(|row| Box::new(row) as Box<dyn Columns>).collect()
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
