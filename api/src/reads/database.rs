//! The database as a store. It has every subject and every board: a subject or board without rows was never written.

use super::roots::covers;
use super::store::{Board, Contained, Key, ReadStore, StoreError, Stored, Totals};
use super::totals::Template;
use crate::database::{DatabaseProgress, ReadDatabase};
use std::sync::Arc;
use std::time::Instant;
use tally_model::Receipt;
use tally_streams::log::TopicPartition;

/// See the module.
pub struct DatabaseStore {
    /// The database.
    pub database: Arc<ReadDatabase>,
    /// The names that the metrics of all subjects share.
    pub template: Arc<Template>,
}

impl ReadStore for DatabaseStore {
    async fn progress(&self, partitions: &[&TopicPartition]) -> Result<Vec<Option<Contained>>, StoreError> {
        let progress = self.database.progress().await?;
        Ok(partitions.iter().map(|partition| Some(progress.roots(&partition.topic, partition.partition))).collect())
    }

    async fn totals(&self, subjects: &[Key<'_>]) -> Result<Vec<Option<Stored<Totals>>>, StoreError> {
        // Progress before rows: they are at least as new.
        let progress = self.database.progress().await?;
        let ids: Vec<&str> = subjects.iter().map(|key| key.id).collect();
        let mut totals = self.database.totals(&ids, |metric, value| self.template.named(metric, value)).await?;
        let stored = |key: &Key<'_>| {
            // A subject without rows was never touched.
            Some(stored(*key, Arc::new(totals.remove(key.id).unwrap_or_default()), &progress))
        };
        Ok(subjects.iter().map(stored).collect())
    }

    async fn board(&self, board: Key<'_>) -> Result<Option<Stored<Board>>, StoreError> {
        let progress = self.database.progress().await?;
        Ok(Some(stored(board, self.database.board(board.id).await?.map(Arc::new), &progress)))
    }

    async fn wait(&self, partitions: &[&TopicPartition], receipt: &Receipt, deadline: Instant) -> bool {
        let passed = |progress: &DatabaseProgress| {
            let roots = |partition: &&TopicPartition| progress.roots(&partition.topic, partition.partition);
            partitions.iter().all(|partition| covers(&roots(partition), receipt))
        };
        match self.database.wait(deadline, passed).await {
            Ok(is_covered) => is_covered,
            Err(error) => {
                tracing::warn!("{error}");
                false
            }
        }
    }
}

fn stored<T>(key: Key<'_>, value: T, progress: &DatabaseProgress) -> Stored<T> {
    let (topic, partition) = (&key.partition.topic, key.partition.partition);
    Stored { value, roots: progress.roots(topic, partition), next_offset: progress.next_offset(topic, partition) }
}
