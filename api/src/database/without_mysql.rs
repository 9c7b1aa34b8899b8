//! A build without MySQL. No address of a server can be made; SQLite's types stand in for those of its connections.

pub use super::write::SQLITE as DIALECT;
pub use sqlx::Sqlite as MySql;

use sqlx::Error;
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use std::convert::Infallible;
use tally_model::MissingFeature;

/// The address of a server: none.
#[derive(Clone)]
pub struct ServerAddress(Infallible);

impl ServerAddress {
    /// Refuses every address.
    pub fn parse(_: &str) -> Result<Self, Error> {
        Err(Error::Configuration(MissingFeature::MYSQL.into()))
    }

    /// Connections for reading.
    pub fn pool(self) -> SqlitePool {
        match self.0 {}
    }

    /// A new connection that writes.
    pub async fn connect(&self) -> Result<SqliteConnection, Error> {
        match self.0 {}
    }
}

/// Whether an error of a server is one after which a new connection may succeed at once: no server sent it.
pub fn is_worth_another_try(_: &Error) -> Option<bool> {
    None
}
