//! The database as the API reads it: statements at run time over a small pool, and one view of the sinks' progress that
//! all readers share. And a connection for the tables that the API writes.

mod boards;
mod counters;
mod dead_letters;
#[cfg_attr(not(feature = "mysql"), path = "without_mysql.rs")]
mod mysql;
mod pool;
mod progress;
mod reactions;
mod verdicts;
mod write;

use pool::ReadPool;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock};
use std::time::Instant;
use tokio::sync::watch;

pub use counters::WindowQuery;
pub use dead_letters::{DeadLetterFilter, DeadLetterRow, KEY_BYTES_MAX, ReasonRow};
pub use pool::Columns;
pub use progress::DatabaseProgress;
pub use reactions::{Page, Switched};
pub use verdicts::VerdictRow;
pub use write::{WriteAddress, WriteConnection, is_worth_another_try};

/// How many ids a statement has; fewer are padded, so that few statements have to be prepared.
const ID_LISTS: [usize; 4] = [1, 4, 16, 100];

/// The database, for reading.
pub struct ReadDatabase {
    pool: ReadPool,
    progress: RwLock<Arc<DatabaseProgress>>,
    /// One request reads progress at a time. When the last read that failed began, and why it failed.
    refreshing: tokio::sync::Mutex<Option<(Instant, String)>>,
    /// Counts the times that progress was read. Its receivers are those who wait.
    refreshed: watch::Sender<u64>,
    polling: AtomicBool,
}

/// Why a statement failed: the database is unavailable, or its rows are not as expected.
#[derive(Debug, thiserror::Error)]
#[error("database: {0}")]
pub struct DatabaseError(#[from] sqlx::Error);

/// Ids, at least one, filled up to one of the lengths that statements are prepared for.
fn padded<'a>(ids: &[&'a str]) -> impl Iterator<Item = &'a str> {
    let len = ID_LISTS.into_iter().find(|len| *len >= ids.len()).unwrap_or(ids.len());
    ids.iter().copied().chain(std::iter::repeat(ids[0])).take(len)
}

fn placeholders(count: usize) -> String {
    vec!["?"; count].join(", ")
}

impl ReadDatabase {
    /// A handle; connects when first used, so the database may start later. `url` is `sqlite:FILE` or
    /// `mysql://user:password@host[:port]/db`. Call it within a tokio runtime. No error contains the password.
    pub fn open(url: &str) -> Result<Arc<Self>, sqlx::Error> {
        Ok(Arc::new(Self {
            pool: ReadPool::open(url)?,
            progress: RwLock::default(),
            refreshing: tokio::sync::Mutex::default(),
            refreshed: watch::Sender::new(0),
            polling: AtomicBool::new(false),
        }))
    }

    /// Runs a statement with text as its parameters, and reads its rows.
    async fn fetch<T>(
        &self,
        sql: impl Into<Arc<str>>,
        parameters: &[&str],
        read: impl Fn(&dyn Columns) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, DatabaseError> {
        Ok(self.pool.fetch(sql, parameters, read).await?)
    }
}
