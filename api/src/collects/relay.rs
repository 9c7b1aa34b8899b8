//! The relay: brings what is in the outbox to the log, and deletes what the log has acknowledged.
//!
//! Each process sends what it has put in itself, at once, in the order of the ids; so it knows the offsets that a
//! receipt needs. An actor's event waits as long as the outbox has an older one of that actor that another process
//! sends. What another process has left behind is taken over once it is older than a live process needs to send it. A
//! process that only seemed dead may then write an event a second time, after newer ones. This has no effect, because
//! the number in header `seq` decides the order.

use super::{Outcomes, RelayMetrics};
use crate::database::{Columns, WriteAddress, WriteConnection};
use sqlx::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_model::{MAC_HEADER, REQUEST_HEADER, SEQ_HEADER, SequenceKey, unhex};
use tally_streams::log::{AppendBatch, AppendedOffsets, Appender, Headers, LogError, OwnedRecord, partition_of};
use tokio::sync::{Notify, oneshot};

/// Rows per append.
const ROWS_MAX: usize = 512;
/// How often the outbox is read without a notification.
const IDLE: Duration = Duration::from_millis(250);
/// How often the outbox is measured and searched for rows that other processes have left.
const MEASURE: Duration = Duration::from_secs(1);
/// The most rows that are counted.
const COUNTED_MAX: usize = 100_000;
/// How long the log may take.
const APPEND_TIMEOUT: Duration = Duration::from_secs(10);
/// The first pause after a failure, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// See the module.
pub struct Relay {
    pub address: WriteAddress,
    pub appender: Arc<dyn Appender>,
    pub topic: Arc<str>,
    pub partitions: u32,
    pub key: SequenceKey,
    /// This process, among those that share the outbox.
    pub owner: Arc<str>,
    /// Rows of others that are as old are taken over.
    pub takeover_after: Duration,
    pub woken: Arc<Notify>,
    pub outcomes: Arc<Outcomes>,
    pub metrics: RelayMetrics,
    /// None until it is needed, and after an error.
    pub connection: Option<WriteConnection>,
    pub looked_at: Option<Instant>,
}

/// A row of the outbox.
struct Row {
    id: i64,
    actor_id: String,
    seq: i64,
    request: Option<[u8; 16]>,
    event: String,
}

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("database: {0}")]
    Database(#[from] Error),
    #[error("log: {0}")]
    Log(#[from] LogError),
}

impl Relay {
    /// Works until it is dropped.
    pub async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            match self.round().await {
                Ok(ROWS_MAX) => pause = PAUSE_MIN,
                Ok(_) => {
                    pause = PAUSE_MIN;
                    // Either way the next read of the outbox shows what to do.
                    let _ = tokio::time::timeout(IDLE, self.woken.notified()).await;
                }
                Err(error) => {
                    tracing::warn!("the outbox cannot be relayed yet: {error}");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Sends what there is; how many rows.
    async fn round(&mut self) -> Result<usize, RelayError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.address.connect().await?,
        };
        match self.work(&mut connection).await {
            Err(error @ RelayError::Database(_)) => {
                connection.discard().await;
                Err(error)
            }
            outcome => {
                self.connection = Some(connection);
                outcome
            }
        }
    }

    async fn work(&mut self, connection: &mut WriteConnection) -> Result<usize, RelayError> {
        let mut rows = self.own(connection).await?;
        if self.looked_at.is_none_or(|at| at.elapsed() >= MEASURE) {
            self.looked_at = Some(Instant::now());
            self.measure(connection).await?;
            // Who cannot send what is its own does not take more.
            if rows.is_empty() && self.take_over(connection).await? {
                rows = self.own(connection).await?;
            }
        }
        if rows.is_empty() {
            return Ok(0);
        }
        let offsets = self.append(&rows).await?;
        for row in &rows {
            let partition = partition_of(row.actor_id.as_bytes(), self.partitions);
            let offset = offsets.iter().find(|(of, _)| *of == partition);
            if let (Some(request), Some((_, offset))) = (row.request, offset) {
                // The last offset of the partition is not before the row's own.
                self.outcomes.resolve(&request, (partition, *offset));
            }
        }
        self.metrics.relayed.inc_by(rows.len() as u64);
        delete(connection, &rows).await?;
        Ok(rows.len())
    }

    /// What this process has to send, but for events of actors of whom another has older ones to send.
    async fn own(&self, connection: &mut WriteConnection) -> Result<Vec<Row>, Error> {
        let sql = format!(
            "SELECT o.id, o.actor_id, o.seq, o.request, o.event FROM outbox o WHERE o.owner = ? AND NOT EXISTS
             (SELECT 1 FROM outbox e WHERE e.actor_id = o.actor_id AND e.id < o.id AND e.owner <> o.owner)
             ORDER BY o.id LIMIT {ROWS_MAX}"
        );
        let row = |row: &dyn Columns| {
            Ok(Row {
                id: row.int(0)?,
                actor_id: row.text(1)?,
                seq: row.int(2)?,
                // None where it is malformed: then no request waits for it.
                request: unhex(&row.text(3)?),
                event: row.text(4)?,
            })
        };
        connection.fetch(sql, &[&self.owner], row).await
    }

    /// Makes one's own what others have left. Whether there was any.
    async fn take_over(&self, connection: &mut WriteConnection) -> Result<bool, Error> {
        let now_ms = connection.dialect().now_ms;
        // A claim that lies ahead was made before the database's clock was set back.
        let after_ms = self.takeover_after.as_millis();
        let is_left =
            format!("owner <> ? AND (claimed_at <= {now_ms} - {after_ms} OR claimed_at > {now_ms} + {after_ms})");
        let sql = format!("SELECT id FROM outbox WHERE {is_left} ORDER BY id LIMIT {ROWS_MAX}");
        let left = connection.fetch(sql, &[&self.owner], |row| row.int(0)).await?;
        if left.is_empty() {
            return Ok(false);
        }
        // Another process may have been quicker.
        let sql = format!(
            "UPDATE outbox SET owner = ?, claimed_at = {now_ms} WHERE id IN ({}) AND {is_left}",
            listed(left.iter().copied())
        );
        connection.execute(sql, &[&self.owner, &self.owner]).await?;
        tracing::info!(rows = left.len(), "took over outbox rows of another process");
        Ok(true)
    }

    /// Waits until the log has the rows.
    async fn append(&self, rows: &[Row]) -> Result<AppendedOffsets, LogError> {
        let mut batch = AppendBatch::default();
        for row in rows {
            let (seq, mac) = (row.seq.to_be_bytes(), self.key.mac(row.seq, row.event.as_bytes()));
            let mut headers = Vec::new();
            if let Some(request) = &row.request {
                Headers::encode(&[(REQUEST_HEADER, request)], &mut headers);
            }
            Headers::encode(&[(SEQ_HEADER, &seq), (MAC_HEADER, &mac)], &mut headers);
            batch.push(OwnedRecord {
                partition: partition_of(row.actor_id.as_bytes(), self.partitions),
                key: Some(row.actor_id.as_bytes().to_vec().into()),
                value: Some(row.event.as_bytes().to_vec().into()),
                headers: headers.into(),
            });
        }
        let (outcome, appended) = oneshot::channel();
        let done = Box::new(move |result| drop(outcome.send(result)));
        self.appender.append(&self.topic, batch, done);
        match tokio::time::timeout(APPEND_TIMEOUT, appended).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(LogError::Unavailable("it went away without an answer".into())),
            Err(_) => Err(LogError::Unavailable(format!("no answer within {} s", APPEND_TIMEOUT.as_secs()))),
        }
    }

    async fn measure(&self, connection: &mut WriteConnection) -> Result<(), Error> {
        let now_ms = connection.dialect().now_ms;
        let sql = format!("SELECT COUNT(*) FROM (SELECT id FROM outbox LIMIT {COUNTED_MAX}) waiting");
        let rows = connection.fetch(sql, &[], |row| row.int(0)).await?;
        let sql = format!("SELECT {now_ms} - created_at FROM outbox ORDER BY id LIMIT 1");
        let age_ms = connection.fetch(sql, &[], |row| row.int(0)).await?;
        self.metrics.rows.set(rows.first().copied().unwrap_or(0));
        self.metrics.age_seconds.set(age_ms.first().map_or(0.0, |ms| *ms.max(&0) as f64 / 1e3));
        Ok(())
    }
}

/// Deletes what the log has. A failure only makes it be sent again.
async fn delete(connection: &mut WriteConnection, rows: &[Row]) -> Result<(), Error> {
    let sql = format!("DELETE FROM outbox WHERE id IN ({})", listed(rows.iter().map(|row| row.id)));
    connection.execute(sql, &[]).await
}

/// Numbers for an `IN`.
fn listed(ids: impl Iterator<Item = i64>) -> String {
    ids.map(|id| id.to_string()).collect::<Vec<_>>().join(", ")
}
