//! Reads of what the cache in this process does not have: from Redis, then from the database.
//!
//! Many requests that miss the same subject at the same time make one read ([`Loader::load`]); what it brings is kept in
//! the cache, zeros as well. That is the negative cache: an entry of a subject that nobody touched is followed like any
//! other, so the first record of it replaces the zeros.

use crate::config::ApiConfig;
use crate::database::ReadDatabase;
use crate::metrics::ApiMetrics;
use crate::reads::breaker::Breaker;
use crate::reads::redis::RedisStore;
use crate::reads::roots::{clock_ms, covers};
use crate::reads::totals::Template;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tally_cache::redis::RedisFailure;
use tally_cache::{CachedCounters, Loaded, MemoryCache};
use tally_http::ApiProblem;
use tally_model::{Receipt, RootPosition};
use tally_streams::log::{Log, TopicPartition, partition_of};
use tokio::sync::watch;

/// How often Redis is asked how far it is while somebody waits for it.
const POLL: Duration = Duration::from_millis(15);

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// The cache in this process.
    Memory,
    /// Redis.
    Redis,
    /// The database.
    Database,
    /// What was last known: nobody answered.
    LastKnown,
}

/// The totals of a subject, and how far the input is contained in them.
#[derive(Clone)]
pub struct Answer {
    /// The totals.
    pub counters: Arc<CachedCounters>,
    /// What holds for them.
    pub roots: Arc<[RootPosition]>,
    /// Who said so.
    pub store: Store,
}

/// What became of a load: an answer, or nobody answered and nothing is known.
type Outcome = Result<Answer, Away>;

/// No store answers, and nothing was ever known of a subject.
#[derive(Clone, Copy, Debug)]
pub struct Away;

impl From<Away> for ApiProblem {
    fn from(_: Away) -> Self {
        Self::unavailable("The database does not answer. Try again.", 1)
    }
}

/// The stores behind the cache, and the loads under way.
pub struct Loader {
    pub(crate) cache: Option<Arc<MemoryCache>>,
    /// Knows which subjects there are, from the start of their topic on; may be the cache itself.
    subjects: Option<Arc<MemoryCache>>,
    /// Whether that topic has everything that was ever written to it, but for what newer records replace.
    is_whole: AtomicBool,
    pub(crate) redis: Option<RedisStore>,
    pub(crate) database: Arc<ReadDatabase>,
    pub(crate) template: Arc<Template>,
    pub(crate) metrics: ApiMetrics,
    /// Of the topic of totals, by number.
    partitions: Vec<TopicPartition>,
    redis_breaker: Breaker,
    database_breaker: Breaker,
    flights: Mutex<HashMap<Arc<str>, watch::Receiver<Option<Outcome>>>>,
}

/// What is asked before the database. Any of it may be missing.
pub struct Caches {
    /// Totals in this process.
    pub totals: Option<Arc<MemoryCache>>,
    /// What remembers all subjects.
    pub subjects: Option<Arc<MemoryCache>>,
    /// Redis.
    pub redis: Option<RedisStore>,
}

/// Loads that one task does. However it ends, nobody joins them afterwards.
struct Flight {
    loader: Arc<Loader>,
    subjects: Vec<(Arc<str>, watch::Sender<Option<Outcome>>)>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut flights = self.loader.flights();
        self.subjects.iter().for_each(|(id, _)| drop(flights.remove(id)));
    }
}

impl Loader {
    /// Over these stores.
    pub fn new(
        config: &ApiConfig,
        template: Arc<Template>,
        caches: Caches,
        database: Arc<ReadDatabase>,
        metrics: ApiMetrics,
    ) -> Arc<Self> {
        let Caches { totals: cache, subjects, redis } = caches;
        let topic: Arc<str> = config.counters_topic.as_str().into();
        let partition = |number| TopicPartition::new(topic.clone(), number);
        let breaker = |store| Breaker::new(metrics.breaker(store));
        Arc::new(Self {
            partitions: (0..config.counters_partitions).map(partition).collect(),
            redis_breaker: breaker("redis"),
            database_breaker: breaker("database"),
            flights: Mutex::default(),
            subjects,
            is_whole: AtomicBool::new(false),
            cache,
            redis,
            database,
            template,
            metrics,
        })
    }

    /// The partition that has a subject's records.
    pub fn partition(&self, subject_id: &str) -> &TopicPartition {
        &self.partitions[partition_of(subject_id.as_bytes(), self.partitions.len() as u32) as usize]
    }

    /// All partitions of the topic of totals, by number.
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// From the cache in this process.
    pub fn cached(&self, subject_id: &str) -> Option<Answer> {
        let cache = self.cache.as_deref()?;
        // The position before the totals: they are at least as new.
        let serving = cache.serving();
        let position = serving.as_ref().and_then(|serving| serving.position(self.partition(subject_id)));
        let found = position.and_then(|position| Some((cache.get(subject_id)?, position.merged.clone())));
        let layer = &self.metrics.memory;
        if found.is_some() {
            layer.hits.inc()
        } else {
            layer.misses.inc()
        }
        found.map(|(counters, roots)| Answer { counters, roots, store: Store::Memory })
    }

    /// Zeros of a subject of which there is no record, as far as its topic was read. No store is asked, whoever makes up
    /// names. Records that came since are beyond what the answer claims.
    pub fn absent(&self, subject_id: &str) -> Option<Answer> {
        let subjects = self.subjects.as_deref().filter(|_| self.is_whole.load(Ordering::Relaxed))?;
        // The position before the question: what lies below it was taken in.
        let roots = subjects.serving()?.position(self.partition(subject_id))?.merged.clone();
        // Who has not heard of a time yet would say zeros as of 1970; a store may know better.
        clock_ms(&roots).filter(|clock_ms| *clock_ms > 0)?;
        subjects.lacks(subject_id).then(|| {
            self.metrics.absent.inc();
            Answer { counters: Arc::default(), roots, store: Store::Memory }
        })
    }

    /// Whether it is the cache of totals that knows which subjects there are.
    pub fn remembers_subjects(&self) -> bool {
        self.cache.as_ref().zip(self.subjects.as_ref()).is_some_and(|(cache, subjects)| Arc::ptr_eq(cache, subjects))
    }

    /// Looks whether the topic of totals begins with its first record. Where somebody has cut it, a subject without a
    /// record may still have rows. Blocks.
    pub fn look_at_start(&self, log: &dyn Log) {
        let starts = self.partitions.iter().map(|partition| log.bounds(partition).map(|(start, _)| start));
        match starts.collect::<Result<Vec<_>, _>>() {
            Ok(starts) => self.is_whole.store(starts.iter().all(|start| *start == 0), Ordering::Relaxed),
            Err(error) => tracing::warn!("the stores are asked for unknown subjects too: {error}"),
        }
    }

    /// From the stores, in the order asked. Whoever comes while a subject is being loaded joins that load; it may have
    /// begun a moment ago, so what holds for the answer is what the answer says.
    pub async fn load(self: &Arc<Self>, ids: &[&str]) -> Vec<Outcome> {
        let mut waiting = Vec::with_capacity(ids.len());
        let mut subjects = Vec::new();
        {
            let mut flights = self.flights();
            for id in ids {
                if let Some(flight) = flights.get(*id) {
                    self.metrics.coalesced.inc();
                    waiting.push(flight.clone());
                    continue;
                }
                let (id, (sender, receiver)) = (Arc::<str>::from(*id), watch::channel(None));
                flights.insert(id.clone(), receiver.clone());
                subjects.push((id, sender));
                waiting.push(receiver);
            }
        }
        if !subjects.is_empty() {
            // On a task of its own: whoever began it may be gone before the others have their answer.
            let flight = Flight { loader: self.clone(), subjects };
            tokio::spawn(flight.fly());
        }
        let mut outcomes = Vec::with_capacity(waiting.len());
        for mut flight in waiting {
            let landed = flight.wait_for(Option::is_some).await;
            outcomes.push(landed.ok().and_then(|outcome| outcome.clone()).unwrap_or(Err(Away)));
        }
        outcomes
    }

    /// Waits until the store that gave these answers contains what a receipt covers, or the deadline.
    pub async fn wait(
        &self,
        store: Store,
        partitions: &[&TopicPartition],
        receipt: &Receipt,
        deadline: Instant,
    ) -> bool {
        match (store, &self.redis) {
            (Store::LastKnown, _) => false,
            (Store::Redis, Some(redis)) => loop {
                let positions = redis.positions().await;
                let covered = |positions: &crate::reads::redis::Positions, partition: &&TopicPartition| {
                    positions.roots(partition).is_some_and(|roots| covers(roots, receipt))
                };
                match positions {
                    // Somebody else answers now, or nobody: the next load will show.
                    Err(_) => return true,
                    Ok(positions) if partitions.iter().any(|partition| positions.roots(partition).is_none()) => {
                        return true;
                    }
                    Ok(positions) if partitions.iter().all(|partition| covered(&positions, partition)) => return true,
                    Ok(_) if Instant::now() >= deadline => return false,
                    Ok(_) => tokio::time::sleep_until((Instant::now() + POLL).min(deadline).into()).await,
                }
            },
            (Store::Memory | Store::Redis | Store::Database, _) => {
                let passed = |progress: &crate::database::DatabaseProgress| {
                    let roots = |partition: &&TopicPartition| progress.roots(&partition.topic, partition.partition);
                    partitions.iter().all(|partition| covers(&roots(partition), receipt))
                };
                self.database.wait(deadline, passed).await.unwrap_or(false)
            }
        }
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Arc<str>, watch::Receiver<Option<Outcome>>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What Redis says; None where there is none, it is left alone for a while, or it does not answer.
    pub(crate) async fn of_redis<'a, T, F>(&'a self, ask: impl FnOnce(&'a RedisStore) -> F) -> Option<T>
    where
        F: Future<Output = Result<T, RedisFailure>>,
    {
        let redis = self.redis.as_ref()?;
        let permit = self.redis_breaker.permit(Instant::now())?;
        match ask(redis).await {
            Ok(found) => {
                permit.succeed();
                Some(found)
            }
            Err(failure) => {
                tracing::warn!("{failure}");
                permit.fail(Instant::now());
                None
            }
        }
    }

    async fn ask_redis(&self, ids: &[&str]) -> HashMap<String, Loaded> {
        if self.redis.is_none() {
            return HashMap::new();
        }
        let asked: Vec<_> = ids.iter().map(|id| (*id, self.partition(id))).collect();
        let found = self.of_redis(|redis| redis.totals(&asked)).await.unwrap_or_default();
        self.metrics.redis.hits.inc_by(found.len() as u64);
        self.metrics.redis.misses.inc_by((ids.len() - found.len()) as u64);
        found
    }

    /// All that are asked for: one without rows was never touched. None where the database does not answer.
    async fn ask_database(&self, ids: &[&str]) -> Option<HashMap<String, Loaded>> {
        let permit = self.database_breaker.permit(Instant::now())?;
        let found = async {
            // Progress before rows: they are at least as new.
            let progress = self.database.progress().await?;
            Ok::<_, ApiProblem>((progress, self.database.totals(ids, |metric| self.template.name(metric)).await?))
        };
        let (progress, mut totals) = match found.await {
            Ok(found) => found,
            Err(_) => {
                permit.fail(Instant::now());
                return None;
            }
        };
        permit.succeed();
        let loaded = |id: &&str| {
            let partition = self.partition(id);
            let counters = Arc::new(totals.remove(*id).unwrap_or_default());
            let roots = progress.roots(&partition.topic, partition.partition);
            let next_offset = progress.next_offset(&partition.topic, partition.partition);
            ((*id).to_owned(), Loaded { counters, roots, next_offset })
        };
        Some(ids.iter().map(loaded).collect())
    }
}

impl Flight {
    async fn fly(self) {
        let loader = &self.loader;
        let ids: Vec<&str> = self.subjects.iter().map(|(id, _)| &**id).collect();
        if let Some(cache) = &loader.cache {
            ids.iter().for_each(|id| cache.follow(id, loader.partition(id)));
        }
        let mut of_redis = loader.ask_redis(&ids).await;
        let missing: Vec<&str> = ids.iter().copied().filter(|id| !of_redis.contains_key(*id)).collect();
        let mut of_database = match missing.is_empty() {
            true => Some(HashMap::new()),
            false => loader.ask_database(&missing).await,
        };
        let database = &loader.metrics.database;
        if of_database.is_some() { &database.hits } else { &database.misses }.inc_by(missing.len() as u64);
        let outcomes: Vec<Outcome> = ids
            .iter()
            .map(|id| match of_redis.remove(*id) {
                Some(loaded) => Ok(loader.keep(id, loaded, Store::Redis)),
                None => match of_database.as_mut().and_then(|found| found.remove(*id)) {
                    Some(loaded) => Ok(loader.keep(id, loaded, Store::Database)),
                    None => loader.last_known(id),
                },
            })
            .collect();
        for ((_, sender), outcome) in self.subjects.iter().zip(outcomes) {
            sender.send_replace(Some(outcome));
        }
    }
}

impl Loader {
    fn keep(&self, id: &str, loaded: Loaded, store: Store) -> Answer {
        let answer = Answer { counters: loaded.counters.clone(), roots: loaded.roots.clone(), store };
        if let Some(cache) = &self.cache {
            cache.fill(id, loaded);
        }
        answer
    }

    fn last_known(&self, id: &str) -> Outcome {
        let known = self.cache.as_ref().and_then(|cache| cache.last(id, self.partition(id)));
        let Loaded { counters, roots, .. } = known.ok_or(Away)?;
        self.metrics.last_known.inc();
        Ok(Answer { counters, roots, store: Store::LastKnown })
    }
}
