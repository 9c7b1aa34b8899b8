//! The database: every table that the sink fills, with the positions in the same transaction.
//!
//! What differs between databases (statements, connections) is in a file of its own; SQLite is [`sqlite`].

mod expiry;
mod rows;
mod sqlite;
mod table;

use crate::batch::{Batch, Move};
use crate::config::ValueType;
use crate::target::{StoredPosition, Target, TargetError};
use hashbrown::HashMap;
use rows::{Value, rows_of};
use sqlite::SqliteEngine;
use std::sync::Arc;
use tally_model::Roots;
use tokio::runtime::{Builder, Runtime};

pub use expiry::Retention;

/// The database as a target of a sink: its one writer.
///
/// It blocks: use it on a thread of its own, not within an async runtime.
pub struct Database {
    /// Of this thread alone; the connection's timers and sockets live in it.
    runtime: Runtime,
    engine: SqliteEngine,
    retention: Retention,
}

/// What a reset does with the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Readers go on seeing them while the topics are read again. Enough where rows were lost or damaged.
    Keep,
    /// They go. Needed where the log was replaced: the versions of a new one start low and would be refused.
    Delete,
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("database `{url}`: {cause}")]
pub struct DatabaseError {
    /// Its address, without a password.
    pub url: String,
    /// What is wrong and what to do.
    pub cause: String,
}

impl Database {
    /// Opens a database and brings its tables up to date. `url` is `sqlite:<file>`.
    pub fn open(url: &str, retention: Retention) -> Result<Self, DatabaseError> {
        let failed = |cause: String| DatabaseError { url: redacted(url), cause };
        if !url.starts_with("sqlite:") {
            return Err(failed("only `sqlite:<file>` can be used; `mysql://` comes later".into()));
        }
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| failed(e.to_string()))?;
        let engine = runtime.block_on(SqliteEngine::open(url)).map_err(|e| failed(e.to_string()))?;
        Ok(Self { runtime, engine, retention })
    }

    /// Forgets the positions of these topics, so that the sink reads them again from the start. A sink that runs
    /// notices by itself.
    pub fn reset(&mut self, topics: &[(String, ValueType)], rows: Rows) -> Result<(), TargetError> {
        let engine = &self.engine;
        self.runtime.block_on(async {
            for (topic, value_type) in topics {
                // The position first: whatever happens in between, the sink fills up what is missing.
                let topic = Value::Text(topic);
                engine.execute("DELETE FROM sink_progress WHERE topic = ?", vec![topic]).await.map_err(unavailable)?;
                if rows == Rows::Delete {
                    engine.execute(delete_all(*value_type), Vec::new()).await.map_err(unavailable)?;
                }
            }
            Ok(())
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.runtime.block_on(self.engine.close());
    }
}

impl Target for Database {
    fn positions(&mut self, topics: &[Arc<str>]) -> Result<Vec<StoredPosition>, TargetError> {
        let stored = self.runtime.block_on(async {
            let mut tx = self.engine.begin().await?;
            SqliteEngine::progress(&mut tx).await
        });
        let stored = stored.map_err(unavailable)?.into_iter().filter(|row| topics.contains(&row.partition.topic));
        let read = |row: sqlite::ProgressRow| {
            let roots = Roots::from_json(&row.roots, row.generation as u16)
                .map_err(|e| TargetError::Unavailable(format!("sink_progress of {}: roots: {e}", row.partition)))?;
            let (partition, next_offset, version) = (row.partition, row.next_offset, row.version);
            Ok(StoredPosition { partition, next_offset, roots, version })
        };
        stored.map(read).collect()
    }

    fn write(&mut self, batch: &Batch) -> Result<(), TargetError> {
        self.runtime.block_on(async {
            // Dropped on the way out, the transaction is rolled back.
            let mut tx = self.engine.begin().await.map_err(unavailable)?;
            let stored = SqliteEngine::positions(&mut tx).await.map_err(unavailable)?;
            compare(&batch.positions, &stored.into_iter().collect())?;
            for rows in rows_of(batch) {
                self.engine.write(&mut tx, rows).await.map_err(unavailable)?;
            }
            tx.commit().await.map_err(unavailable)
        })
    }

    fn expire(&mut self, now_ms: i64) -> Result<bool, TargetError> {
        self.runtime.block_on(self.retention.expire(&self.engine, now_ms)).map_err(unavailable)
    }
}

/// Positions are compared and set: a sink that was left behind, or one that runs twice, can never move one back.
fn compare(moves: &[Move], stored: &HashMap<tally_streams::log::TopicPartition, u64>) -> Result<(), TargetError> {
    for step in moves {
        let found = stored.get(&step.partition).copied();
        if found != step.expected {
            let (partition, expected) = (step.partition.clone(), step.expected);
            return Err(TargetError::Moved { partition, expected, found });
        }
    }
    Ok(())
}

fn delete_all(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Counters => "DELETE FROM counters",
        ValueType::CounterWindow => "DELETE FROM counter_windows",
        ValueType::Reaction => "DELETE FROM reactions",
        ValueType::Verdict => "DELETE FROM verdicts",
        ValueType::Raw => "DELETE FROM dead_letters",
    }
}

fn unavailable(error: sqlx::Error) -> TargetError {
    TargetError::Unavailable(error.to_string())
}

/// An address without its password.
fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.rsplit_once('@') {
        Some((login, host)) => format!("{scheme}://{}:…@{host}", login.split(':').next().unwrap_or_default()),
        None => url.to_owned(),
    }
}
