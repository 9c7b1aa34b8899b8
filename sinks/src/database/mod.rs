//! The database: every table that the sink fills, with the positions in the same transaction.
//!
//! What differs between databases is in a file of its own: [`sqlite`] and [`mysql`], which the
//! feature `mysql` may leave out.

mod address;
mod connection;
mod dialect;
mod expiry;
mod file;
#[cfg_attr(not(feature = "mysql"), path = "without_mysql.rs")]
mod mysql;
mod options;
mod owner;
mod rows;
mod sqlite;
mod table;
mod transaction;

use crate::batch::Batch;
use crate::store::StoreUrl;
use crate::target::{Expired, StoredPosition, Target, TargetError};
use address::address;
use connection::{Address, Columns, Connection};
use std::sync::Arc;
use tally_model::Roots;
use tally_streams::log::TopicPartition;
use tokio::runtime::{Builder, Runtime};
use transaction::Upserts;

pub use address::SINK_TYPE;
use expiry::Expiry;

pub use expiry::{Retention, WindowRetention};
pub use file::{copy_database, database_file, log_of, rename_log};
pub use options::check_options;
pub use owner::{DatabaseOwner, log_name};

/// Rows a statement. Statements are prepared once and used again: numbers of rows that vary cost four times as much.
const CHUNKS: [usize; 4] = [512, 64, 8, 1];

/// The database as a target of a sink. Several processes may write to one: each the positions that are its own.
///
/// It blocks: use it on a thread of its own, not within an async runtime.
pub struct Database {
    /// Used by this thread only; it owns the timers and sockets of the connection.
    runtime: Runtime,
    address: Box<dyn Address>,
    upserts: Upserts,
    /// None until it is needed, and after an error: whatever failed, a new one is well.
    connection: Option<Box<dyn Connection>>,
    expiry: Expiry,
    /// The log that its rows must be from; None for any.
    log: Option<String>,
    /// Whether the database is known to contain the log's id.
    claimed: bool,
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("database `{url}`: {cause}")]
pub struct DatabaseError {
    /// What messages show of its address.
    pub url: String,
    /// What is wrong and what to do.
    pub cause: String,
}

/// A database that was reached. It keeps a connection to a SQLite file: closing the last one writes the whole write-ahead
/// log into the file, which takes long after a crash and is in vain where others are opened at once.
pub struct Reached(#[expect(dead_code, reason = "only kept open")] Option<Box<dyn Connection>>);

/// Connects to a database once and changes nothing there, for processes that only read it. A server that does not
/// answer now may come back, and a missing file may be created later; a mistake that an operator must correct is an
/// error.
pub fn reach(url: &StoreUrl) -> Result<Reached, DatabaseError> {
    let failed = |cause: String| DatabaseError { url: url.to_string(), cause };
    let address = address(url.as_str()).map_err(failed)?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| failed(e.to_string()))?;
    match runtime.block_on(address.reach()) {
        Err(error) if error.is_transient => {
            tracing::warn!("database `{url}`: {}: it will be tried again", error.cause);
            Ok(Reached(None))
        }
        outcome => outcome.map(Reached).map_err(|error| failed(error.cause)),
    }
}

impl Database {
    /// Opens a database and migrates its tables. `url` is `sqlite:FILE` or `mysql://user:password@host[:port]/db`.
    /// Callers retry a server that does not answer now; a mistake that an operator must correct is an error.
    pub fn open(url: impl Into<StoreUrl>, retention: Retention) -> Result<Self, DatabaseError> {
        let url = url.into();
        let failed = |cause: String| DatabaseError { url: url.to_string(), cause };
        let address = address(url.as_str()).map_err(failed)?;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| failed(e.to_string()))?;
        let mut database = Self {
            runtime,
            upserts: Upserts::new(address.dialect().upsert),
            address,
            connection: None,
            expiry: Expiry::new(retention),
            log: None,
            claimed: false,
        };
        match database.runtime.block_on(database.address.open()) {
            Ok(connection) => database.connection = Some(connection),
            Err(error) if error.is_transient => {
                tracing::warn!("database `{url}`: {}: it will be tried again", error.cause);
            }
            Err(error) => return Err(failed(error.cause)),
        }
        Ok(database)
    }

    /// Works with a connection. After an error it is discarded, which rolls back; the next work makes a new one.
    fn with<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut dyn Connection, &Upserts) -> Result<T, TargetError>,
    ) -> Result<T, TargetError> {
        let kept = self.connection.take();
        let (connection, outcome) = self.runtime.block_on(async {
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.address.open().await.map_err(|error| TargetError::Unavailable(error.cause))?,
            };
            let outcome = work(&mut *connection, &self.upserts).await;
            if outcome.is_err() {
                connection.discard().await;
                return Ok::<_, TargetError>((None, outcome));
            }
            Ok((Some(connection), outcome))
        })?;
        self.connection = connection;
        outcome
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.runtime.block_on(connection.close());
        }
    }
}

impl Target for Database {
    fn positions(&mut self, topics: &[Arc<str>]) -> Result<Vec<StoredPosition>, TargetError> {
        let sql = "SELECT topic, `partition`, generation, next_offset, roots, version FROM sink_progress";
        let read = |row: &dyn Columns| {
            let partition = TopicPartition::new(row.text(0)?, row.int(1)? as u32);
            let roots = roots(&partition, &row.text(4)?, row.int(2)? as u16)?;
            Ok(StoredPosition { partition, next_offset: row.int(3)? as u64, roots, version: row.int(5)? })
        };
        let log = self.log.clone();
        let stored = self.with(async |connection, _| {
            if let Some(log) = &log {
                owner::check(connection, log).await?;
            }
            connection.fetch(sql.into(), &[], read).await.map_err(unavailable)
        })?;
        Ok(stored.into_iter().filter(|stored| topics.contains(&stored.partition.topic)).collect())
    }

    fn write(&mut self, batch: &Batch) -> Result<(), TargetError> {
        let claim = self.log.clone().filter(|_| !self.claimed);
        let written = self.with(async |connection, upserts| {
            if let Some(log) = &claim {
                owner::claim(connection, log).await?;
            }
            transaction::write(connection, upserts, batch).await
        });
        // After an error it may be another database that answers.
        self.claimed = written.is_ok();
        written
    }

    fn expire(&mut self, now_ms: i64) -> Result<Expired, TargetError> {
        let mut expiry = std::mem::take(&mut self.expiry);
        let expired = self.with(async |connection, _| expiry.expire(connection, now_ms).await.map_err(unavailable));
        self.expiry = expiry;
        expired
    }

    fn probe(&mut self) -> Result<(), TargetError> {
        self.with(async |connection, _| {
            connection.fetch("SELECT 1".into(), &[], |_| Ok(())).await.map_err(unavailable)
        })?;
        Ok(())
    }
}

/// Reads a partition's roots as they are stored.
fn roots(partition: &TopicPartition, json: &str, generation: u16) -> Result<Roots, sqlx::Error> {
    Roots::from_json(json, generation)
        .map_err(|e| sqlx::Error::Decode(format!("sink_progress of {partition}: roots: {e}").into()))
}

fn unavailable(error: sqlx::Error) -> TargetError {
    TargetError::Unavailable(error.to_string())
}
