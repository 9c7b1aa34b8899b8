//! Processing progress, as the API returns it.

use crate::config::{Marks, OutputTopic};
use crate::database::{DatabaseError, DatabaseProgress};
use crate::reads::Reads;
use crate::reads::roots::applied;
use crate::reads::store::Contained;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use tally_model::RootPosition;
use tally_streams::log::{Lag, Log, LogError, Time, TopicPartition};
use utoipa::ToSchema;

/// Processing progress per partition of the root topic.
#[derive(Serialize, ToSchema)]
pub struct ProgressAnswer {
    /// The root topic.
    topic: String,
    /// Ascending.
    partitions: Vec<PartitionProgress>,
}

/// Processing progress of one partition.
#[derive(Serialize, ToSchema)]
pub struct PartitionProgress {
    partition: u32,
    /// The offset after the last event.
    end: u64,
    /// Events below this offset are processed; null before the first commit.
    #[schema(required = true)]
    committed: Option<u64>,
    /// By store: it contains all results of the events below this offset; null before the first.
    #[schema(value_type = HashMap<String, Option<u64>>)]
    applied: BTreeMap<&'static str, Option<u64>>,
    /// Consumer lag: events that at least one store is missing.
    lag_records: u64,
    /// Age of the slowest store's state; 0 only if nothing is missing, null before anything was stored.
    #[schema(required = true)]
    lag_seconds: Option<f64>,
}

/// Reads the progress of the log and of all stores.
pub struct ProgressReader {
    reads: Arc<Reads>,
    log: Arc<dyn Log>,
    clock: Time,
    /// By root partition, for as long as events wait there.
    lags: Mutex<HashMap<u32, Lag>>,
}

/// Why the progress cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The log does not answer.
    #[error("log: {0}")]
    Log(#[from] LogError),
    /// The database does not.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The task that read the log has ended.
    #[error("{0}")]
    Gone(#[from] tokio::task::JoinError),
}

impl ProgressReader {
    /// Over the stores and the log.
    pub fn new(reads: Arc<Reads>, log: Arc<dyn Log>, clock: Time) -> Arc<Self> {
        Arc::new(Self { reads, log, clock, lags: Mutex::default() })
    }

    /// The current progress. `stored` reads the progress of the database, after the log's ends.
    pub async fn read(
        self: &Arc<Self>,
        stored: impl Future<Output = Result<Arc<DatabaseProgress>, DatabaseError>>,
    ) -> Result<ProgressAnswer, Unread> {
        let reader = self.clone();
        let positions = tokio::task::spawn_blocking(move || reader.positions()).await??;
        let stored = stored.await?;
        let cached = self.cached().await;
        let config = &self.reads.config;
        let partitions = positions.into_iter().enumerate().map(|(partition, (start, end, committed))| {
            let partition = partition as u32;
            let database =
                config.outputs.iter().map(|topic| applied(topic, partition, |p| stored.roots(&topic.name, p)));
            let mut stores = vec![("database", least(database))];
            if let Some(cached) = &cached {
                let of_topic = |(topic, roots): &(OutputTopic, Vec<Contained>)| {
                    applied(topic, partition, |p| roots[p as usize].clone())
                };
                stores.push(("cache", least(cached.iter().map(of_topic))));
            }
            let all = least(stores.iter().map(|(_, root)| *root));
            let lag_records = end.saturating_sub(all.map_or(start, |root| root.next_offset));
            let lag_seconds = self.lag_ms(partition, all, lag_records).map(|ms| ms as f64 / 1_000.0);
            let applied = stores.into_iter().map(|(store, root)| (store, root.map(|root| root.next_offset))).collect();
            PartitionProgress { partition, end, committed, applied, lag_records, lag_seconds }
        });
        Ok(ProgressAnswer { topic: config.input_topic.clone(), partitions: partitions.collect() })
    }

    /// How long ago everything was up to date, in milliseconds. Whatever the clocks show, it is never 0 while records
    /// wait, and at least as long as this process has seen them wait at the same place.
    fn lag_ms(&self, partition: u32, stored: Option<RootPosition>, lag_records: u64) -> Option<i64> {
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        if lag_records == 0 {
            lags.remove(&partition);
            return Some(0);
        }
        let (now, root) = ((self.clock)(), stored?);
        let standing_ms = lags.entry(partition).or_default().standing_ms(root.next_offset as i64, now);
        Some(now.wall_ms.saturating_sub(root.clock_ms).max(standing_ms).max(1))
    }

    /// The topics of the cache that the sinks fill, each with the positions of its partitions; None without such a
    /// cache.
    async fn cached(&self) -> Option<Vec<(OutputTopic, Vec<Contained>)>> {
        let config = &self.reads.config;
        let (name, partitions) = (config.counters_topic.clone(), config.counters_partitions);
        let rankings = config.rankings.iter().filter(|rankings| rankings.cached).map(|rankings| &rankings.topic);
        let mut topics = vec![OutputTopic { name, partitions, marks: Marks::All }];
        topics.extend(rankings.cloned());
        let of_topic = |topic: &OutputTopic| {
            let name = Arc::<str>::from(topic.name.as_str());
            (0..topic.partitions).map(move |number| TopicPartition::new(name.clone(), number))
        };
        let partitions: Vec<_> = topics.iter().flat_map(of_topic).collect();
        let mut roots = self.reads.cached(&partitions.iter().collect::<Vec<_>>()).await?.into_iter();
        let with_roots = |topic: OutputTopic| {
            let roots = roots.by_ref().take(topic.partitions as usize).collect();
            (topic, roots)
        };
        Some(topics.into_iter().map(with_roots).collect())
    }

    /// Start, end and committed offset of every input partition. Blocks.
    fn positions(&self) -> Result<Vec<(u64, u64, Option<u64>)>, LogError> {
        let config = &self.reads.config;
        let position = |number| {
            let address = TopicPartition::new(config.input_topic.as_str(), number);
            // The committed offset first, so that it never lies beyond the end.
            let committed = self.log.committed(&config.group, &address)?;
            let (start, end) = self.log.bounds(&address)?;
            Ok((start, end, committed.map(|committed| committed.offset)))
        };
        (0..config.input_partitions).map(position).collect()
    }
}

impl ProgressAnswer {
    /// The events of all partitions.
    pub fn end(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.end).sum()
    }

    /// Consumer lag: events that at least one store is missing.
    pub fn lag_records(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.lag_records).sum()
    }

    /// The lag of the slowest partition; None if one is unknown.
    pub fn lag_seconds(&self) -> Option<f64> {
        self.partitions.iter().try_fold(0.0, |most: f64, partition| Some(most.max(partition.lag_seconds?)))
    }
}

/// The progress that all stores contain; None while one contains nothing.
fn least(all: impl Iterator<Item = Option<RootPosition>>) -> Option<RootPosition> {
    let all = all.collect::<Option<Vec<_>>>()?;
    let least = |a: RootPosition, b: RootPosition| RootPosition {
        next_offset: a.next_offset.min(b.next_offset),
        clock_ms: a.clock_ms.min(b.clock_ms),
        ..a
    };
    all.into_iter().reduce(least)
}
