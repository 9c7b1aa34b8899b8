//! A build without MySQL. No address of a server can be made, so nothing else here ever runs.

use super::pool::Columns;
use super::write::Dialect;
use sqlx::Error;
use std::convert::Infallible;
use std::sync::Arc;
use tally_model::MissingFeature;

/// The address of a server: none.
#[derive(Clone)]
pub struct ServerAddress(Infallible);

/// Connections for reading: none.
pub struct ReadServer(Infallible);

/// A connection that writes: none.
pub struct WriteServer(Infallible);

impl ServerAddress {
    /// Refuses every address.
    pub fn parse(_: &str) -> Result<Self, Error> {
        Err(Error::Configuration(MissingFeature::MYSQL.into()))
    }

    /// Connections for reading.
    pub fn pool(self) -> ReadServer {
        match self.0 {}
    }

    /// A new connection that writes.
    pub async fn connect(&self) -> Result<WriteServer, Error> {
        match self.0 {}
    }
}

impl ReadServer {
    /// Runs a statement, and reads its rows.
    pub async fn fetch<T>(
        &self,
        _: Arc<str>,
        _: &[&str],
        _: impl Fn(&dyn Columns) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        match self.0 {}
    }
}

impl WriteServer {
    /// The statements that it understands.
    pub fn dialect(&self) -> &'static Dialect {
        match self.0 {}
    }

    /// Runs a statement without parameters.
    pub async fn run(&mut self, _: &'static str) -> Result<(), Error> {
        match self.0 {}
    }

    /// Runs a statement, and reads its rows.
    pub async fn fetch<T>(
        &mut self,
        _: Arc<str>,
        _: &[&str],
        _: impl Fn(&dyn Columns) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        match self.0 {}
    }

    /// Closes the connection.
    pub fn discard(self) {
        match self.0 {}
    }
}

/// Whether an error of a server is one after which a new connection may succeed at once: no server sent it.
pub fn is_worth_another_try(_: &Error) -> Option<bool> {
    None
}
