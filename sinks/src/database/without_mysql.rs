//! A build without MySQL. No address of a server can be made, so nothing else here ever runs.

use super::connection::{Columns, ConnectError};
use super::dialect::Dialect;
use super::rows::Value;
use sqlx::Error;
use std::convert::Infallible;
use std::sync::Arc;
use tally_model::MissingFeature;

/// The address of a server: none.
pub struct ServerAddress(Infallible);

/// A connection to a server: none.
pub struct Server(Infallible);

impl ServerAddress {
    /// Refuses every address.
    pub fn parse(_: &str) -> Result<Self, String> {
        Err(MissingFeature::MYSQL.to_string())
    }

    /// The statements of its server.
    pub fn dialect(&self) -> &'static Dialect {
        match self.0 {}
    }

    /// Connects, and nothing else.
    pub async fn reach(&self) -> Result<(), ConnectError> {
        match self.0 {}
    }

    /// Connects to look at what is there.
    pub async fn look(&self) -> Result<Server, Error> {
        match self.0 {}
    }

    /// Connects, checks the server, and brings the tables up to date.
    pub async fn connect(&self) -> Result<Server, ConnectError> {
        match self.0 {}
    }
}

impl Server {
    /// The statements that it understands.
    pub fn dialect(&self) -> &'static Dialect {
        match self.0 {}
    }

    /// How many bytes of values to put into a statement; the most that one may have.
    pub fn statement_bytes(&self) -> (usize, usize) {
        match self.0 {}
    }

    /// Whether an error means that the row itself cannot be stored.
    pub fn is_refusal(&self, _: &Error) -> bool {
        match self.0 {}
    }

    /// Runs a statement without parameters.
    pub async fn run(&mut self, _: &'static str) -> Result<(), Error> {
        match self.0 {}
    }

    /// Runs a statement.
    pub async fn execute(&mut self, _: Arc<str>, _: &[Value<'_>]) -> Result<u64, Error> {
        match self.0 {}
    }

    /// Reads rows.
    pub async fn fetch<T>(
        &mut self,
        _: String,
        _: &[Value<'_>],
        _: impl Fn(&dyn Columns) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        match self.0 {}
    }

    /// Closes the connection.
    pub fn discard(self) {
        match self.0 {}
    }

    /// Closes the connection in the protocol.
    pub async fn close(self) {
        match self.0 {}
    }
}
