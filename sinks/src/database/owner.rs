//! Which log a database was filled from. Positions and versions of one log mean nothing for another: rows of the other
//! would be taken for newer or older than they are. So the database contains the log's id from the first write on.

use super::address::address;
use super::connection::{Address, Connection};
use super::rows::Value;
use super::{Database, unavailable};
use crate::target::TargetError;
use sqlx::Error;
use std::time::Duration;
use tokio::runtime::Builder;

/// How long a look at a database may take.
const LOOK: Duration = Duration::from_secs(4);

/// The origin of a database's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatabaseOwner {
    /// The log that they were read from; None in a database that an older release filled.
    pub log_id: Option<String>,
    /// Sinks have positions in it.
    pub is_filled: bool,
}

/// A log's id as people read it.
pub fn log_name(log_id: [u8; 8]) -> String {
    format!("{:016x}", u64::from_be_bytes(log_id))
}

impl Database {
    /// Refuses to work where the rows were read from another log than this one.
    pub fn of_log(mut self, log_id: [u8; 8]) -> Self {
        self.log = Some(log_name(log_id));
        self
    }

    /// Reads the owner of a database without changing anything. None if there is no database, or it does not answer.
    pub fn owner(url: &str) -> Option<DatabaseOwner> {
        let address = address(url).ok()?;
        let runtime = Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(async { tokio::time::timeout(LOOK, look(&*address)).await.ok()?.ok() })
    }
}

async fn look(address: &dyn Address) -> Result<DatabaseOwner, Error> {
    let mut connection = address.look().await?;
    let positions = "SELECT COUNT(*) FROM sink_progress".to_owned();
    let is_filled = connection.fetch(positions, &[], |row| row.int(0)).await?.first().is_some_and(|count| *count > 0);
    // Older releases have no such table.
    let log_id = stored(&mut *connection).await.unwrap_or_default();
    connection.close().await;
    Ok(DatabaseOwner { log_id, is_filled })
}

/// The log that a database names.
pub(super) async fn stored(connection: &mut dyn Connection) -> Result<Option<String>, Error> {
    let ids = connection.fetch("SELECT log_id FROM sink_log".to_owned(), &[], |row| row.text(0)).await?;
    Ok(ids.into_iter().next())
}

/// Compares the log with the one that the rows are from; Ok also where none is named yet.
pub(super) async fn check(connection: &mut dyn Connection, log: &str) -> Result<(), TargetError> {
    match stored(connection).await.map_err(unavailable)? {
        Some(theirs) if theirs != log => Err(TargetError::Foreign { theirs, ours: log.to_owned() }),
        _ => Ok(()),
    }
}

/// Makes the database this log's, unless it is another's.
pub(super) async fn claim(connection: &mut dyn Connection, log: &str) -> Result<(), TargetError> {
    let insert = connection.dialect().claim_log;
    // The second of two concurrent writers finds the row of the first.
    connection.execute(insert.into(), &[Value::Text(log)]).await.map_err(unavailable)?;
    check(connection, log).await
}
