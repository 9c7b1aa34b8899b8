//! The one writer of a process: takes all waiting requests and applies them in one transaction after the other.

use super::CollectEvents;
use super::transaction::{Granted, Wish, grant};
use crate::database::{WriteAddress, WriteConnection, is_worth_another_try};
use prometheus::IntCounter;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot};

/// Most requests that wait; further ones are rejected.
pub const WAITING_MAX: usize = 1_024;
/// Requests that share a transaction.
const TOGETHER_MAX: usize = 128;
/// Tries of one transaction, and how long they may take together. The lock of another transaction is released soon; an
/// unavailable server fails the requests immediately.
const TRIES_MAX: usize = 8;
const TRYING_MAX: Duration = Duration::from_secs(4);

/// A wish, and the channel for its outcome: None if the database does not answer.
pub struct Waiting {
    pub wish: Wish,
    pub granted: oneshot::Sender<Option<Granted>>,
}

/// See the module.
pub struct Writer {
    pub address: WriteAddress,
    pub events: CollectEvents,
    /// Whose relay sends what is put into the outbox.
    pub owner: Arc<str>,
    /// Woken when there is something to send.
    pub relay: Arc<Notify>,
    pub changes: IntCounter,
    /// None until it is needed, and after an error.
    pub connection: Option<WriteConnection>,
}

impl Writer {
    /// Works until no request can come any more.
    pub async fn run(mut self, mut queue: mpsc::Receiver<Waiting>) {
        let mut together = Vec::with_capacity(TOGETHER_MAX);
        while queue.recv_many(&mut together, TOGETHER_MAX).await > 0 {
            // A handler that was dropped has already sent its response, so its transaction need not begin.
            together.retain(|waiting| !waiting.granted.is_closed());
            let (wishes, waiting): (Vec<_>, Vec<_>) =
                together.drain(..).map(|Waiting { wish, granted }| (wish, granted)).unzip();
            let granted = self.grant(&wishes).await;
            if let Some(granted) = &granted {
                let changes = granted.iter().filter(|granted| granted.changed).count();
                self.changes.inc_by(changes as u64);
                if changes > 0 {
                    self.relay.notify_one();
                }
            }
            for (at, waiting) in waiting.into_iter().enumerate() {
                // The client may have left.
                let _ = waiting.send(granted.as_ref().and_then(|granted| granted.get(at).copied()));
            }
        }
    }

    /// None if the database does not answer or rejects the statement.
    async fn grant(&mut self, wishes: &[Wish]) -> Option<Vec<Granted>> {
        let begun = Instant::now();
        for tried in 1.. {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => match self.address.connect().await {
                    Ok(connection) => connection,
                    Err(error) => {
                        tracing::warn!("collects: database: {error}");
                        return None;
                    }
                },
            };
            match grant(&mut connection, &self.events, &self.owner, wishes).await {
                Ok(granted) => {
                    self.connection = Some(connection);
                    return Some(granted);
                }
                Err(error) => {
                    connection.discard().await;
                    // A retry is safe even if the response of the commit was lost: changes that were made are not made
                    // again.
                    if tried == TRIES_MAX || begun.elapsed() > TRYING_MAX || !is_worth_another_try(&error) {
                        tracing::warn!(tried, "collects: database: {error}");
                        return None;
                    }
                    tracing::debug!(tried, "collects: database: {error}: retrying");
                }
            }
        }
        None
    }
}
