//! Reads of totals and boards: the stores, the ladder over them, and the freshness of answers.

pub mod after;
pub mod append_times;
pub mod boards;
mod breaker;
mod database;
mod flights;
pub mod freshness;
mod guarded;
pub mod ladder;
pub mod memory;
mod readable;
#[cfg_attr(not(feature = "redis"), path = "without_redis.rs")]
mod redis;
pub mod roots;
pub mod store;
pub mod totals;
pub mod view_metrics;
pub mod warm_up;

use self::redis::RedisStore;
use crate::config::{ApiConfig, OutputTopic, PrivateKinds, Rankings};
use crate::database::{DatabaseError, DatabaseProgress, ReadDatabase};
use crate::metrics::ApiMetrics;
use after::After;
use database::DatabaseStore;
use freshness::Freshness;
use guarded::Guarded;
use ladder::{Away, Ladder, Rungs};
use memory::MemoryStore;
use roots::{applied, is_applied};
use std::sync::Arc;
use std::time::Instant;
use store::{Board, Contained, ReadStore, Totals};
use tally_cache::MemoryCache;
use tally_cache::redis::RedisAddress;
use tally_streams::log::TopicPartition;
use totals::Template;

/// All that can be read.
pub struct Reads {
    /// Names and numbers of the topology.
    pub config: ApiConfig,
    /// The metrics of the topology.
    pub template: Arc<Template>,
    /// Totals of subjects.
    pub totals: Arc<Ladder<Totals>>,
    /// Boards, if the topology has any and the database stores them.
    pub boards: Option<Boards>,
    /// Data that only the database has.
    pub database: Arc<ReadDatabase>,
    redis: Option<Arc<Guarded<RedisStore>>>,
    /// The metrics of all reads.
    pub metrics: ApiMetrics,
}

/// The boards of the topology.
pub struct Boards {
    /// Their names, and the topic that has them.
    pub rankings: Rankings,
    /// Where they are read.
    pub ladder: Arc<Ladder<Board>>,
    private: PrivateKinds,
}

/// The caches in front of the database, which sinks fill. Any of them may be missing.
#[derive(Default)]
pub struct Caches {
    /// The cache in this process that has totals: all of them, or beside a Redis those of requested subjects.
    pub totals: Option<Arc<MemoryCache>>,
    /// The cache in this process that has all boards; may be the same.
    pub boards: Option<Arc<MemoryCache>>,
    /// Redis. The caches in this process then are a view in front of it.
    pub redis: Option<RedisAddress>,
}

impl Reads {
    /// Over these stores.
    pub fn new(
        config: ApiConfig,
        template: Arc<Template>,
        caches: Caches,
        database: Arc<ReadDatabase>,
        metrics: ApiMetrics,
    ) -> Arc<Self> {
        // Both breakers are visible as metrics, with or without a Redis.
        let (of_redis, of_database) = (metrics.breaker("redis"), metrics.breaker("database"));
        let redis = |address| Arc::new(Guarded::new(RedisStore::new(address, template.clone()), of_redis));
        let redis = caches.redis.map(redis);
        let store = DatabaseStore { database: database.clone(), template: template.clone() };
        let store = Arc::new(Guarded::new(store, of_database));
        let rungs = |memory, redis| Rungs { memory, redis, database: store.clone() };
        let (topic, partitions) = (&config.counters_topic, config.counters_partitions);
        let totals = rungs(caches.totals.map(MemoryStore::new), redis.clone());
        let totals = Ladder::new(totals, topic, partitions, metrics.totals.clone());
        let boards = config.rankings.clone().map(|rankings| {
            let rungs = rungs(caches.boards.map(MemoryStore::new), redis.clone().filter(|_| rankings.cached));
            let OutputTopic { name, partitions, .. } = &rankings.topic;
            let ladder = Ladder::new(rungs, name, *partitions, metrics.boards.clone());
            Boards { rankings, ladder, private: config.private_kinds.clone() }
        });
        Arc::new(Self { config, template, totals, boards, database, redis, metrics })
    }

    /// The totals of subjects, in the order of the ids, and what holds for all of them.
    pub async fn totals(&self, ids: &[&str], after: Option<&After>) -> Result<(Vec<Totals>, Freshness), Away> {
        let begun = Instant::now();
        let read = self.totals.read(ids, after).await;
        if after.is_some() && read.is_ok() {
            self.metrics.wait_seconds.observe(begun.elapsed().as_secs_f64());
        }
        read
    }

    /// The boards, if the topology can have one of this name.
    pub fn boards_with(&self, board: &str) -> Option<&Boards> {
        self.boards.as_ref().filter(|boards| boards.may_have(board))
    }

    /// The freshness of rows that are read from the database afterwards. Waits until the events of a receipt are there,
    /// or until its deadline.
    pub async fn database_freshness(
        &self,
        topic: &OutputTopic,
        after: Option<&After>,
    ) -> Result<Freshness, DatabaseError> {
        let is_covered = match after {
            None => None,
            Some(After { receipt, deadline }) => {
                let covered = |progress: &DatabaseProgress| is_applied(topic, progress, receipt);
                Some(self.database.wait(*deadline, covered).await?)
            }
        };
        let progress = self.database.progress().await?;
        let clocks = (0..self.config.input_partitions).map(|partition| {
            applied(topic, partition, |p| progress.roots(&topic.name, p)).map_or(0, |root| root.clock_ms)
        });
        Ok(Freshness::new(clocks.min().unwrap_or(0)).judged(is_covered))
    }

    /// How far the input is contained in each of these partitions of the cache that the sinks fill; None where there is
    /// no such cache.
    pub async fn cached(&self, partitions: &[&TopicPartition]) -> Option<Vec<Contained>> {
        let progress = match (&self.redis, self.totals.memory()) {
            // A Redis that does not answer contains nothing.
            (Some(redis), _) => redis.store.progress(partitions).await,
            (None, memory) => memory?.progress(partitions).await,
        };
        let progress = progress.unwrap_or_else(|_| vec![None; partitions.len()]);
        Some(progress.into_iter().map(|roots| roots.unwrap_or_else(|| Arc::from([]))).collect())
    }
}
