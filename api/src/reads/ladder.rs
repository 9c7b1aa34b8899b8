//! The read ladder: the cache in this process, then Redis, then the database, then what was last known.
//!
//! Readers that miss the same key at the same time share one load ([`Flights`]). Loaded values are kept in the cache of
//! this process, zeros too. That is the negative cache: an entry of an untouched subject is followed like any other, so
//! the first record of it replaces the zeros.

use super::after::After;
use super::database::DatabaseStore;
use super::flights::{Flight, Flights};
use super::freshness::Freshness;
use super::guarded::Guarded;
use super::memory::MemoryStore;
use super::readable::Readable;
use super::redis::RedisStore;
use super::roots::covers;
use super::store::{Answer, Key, ReadStore, Source, Totals};
use crate::metrics::{LadderMetrics, Layer};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tally_streams::log::{Log, TopicPartition, partition_of};

/// No store answers, and a key has no last known value.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no store answers")]
pub struct Away;

/// The outcome of a load.
type Outcome<T> = Result<Answer<T>, Away>;

/// The stores of a ladder, from the top. Redis and the database are shared by all ladders.
pub struct Rungs {
    /// The cache in this process, where there is one.
    pub memory: Option<MemoryStore>,
    /// Redis, where a sink fills it.
    pub redis: Option<Arc<Guarded<RedisStore>>>,
    /// The database.
    pub database: Arc<Guarded<DatabaseStore>>,
}

/// See the module.
pub struct Ladder<T: Readable> {
    rungs: Rungs,
    /// Partitions of the output topic, by number.
    partitions: Vec<TopicPartition>,
    flights: Flights<Outcome<T>>,
    metrics: LadderMetrics,
}

impl<T: Readable> Ladder<T> {
    /// A ladder over these stores, which contain all partitions of an output topic.
    pub fn new(rungs: Rungs, topic: &str, partitions: u32, metrics: LadderMetrics) -> Arc<Self> {
        let topic: Arc<str> = topic.into();
        let partitions = (0..partitions).map(|number| TopicPartition::new(topic.clone(), number)).collect();
        Arc::new(Self { rungs, partitions, flights: Flights::default(), metrics })
    }

    /// The cache in this process, where there is one.
    pub fn memory(&self) -> Option<&MemoryStore> {
        self.rungs.memory.as_ref()
    }

    /// Redis, where a sink fills it.
    pub fn redis(&self) -> Option<&Guarded<RedisStore>> {
        self.rungs.redis.as_deref()
    }

    /// All partitions of the output topic, by number.
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// An id with the partition that has its records.
    pub fn key<'a>(&'a self, id: &'a str) -> Key<'a> {
        let partition = partition_of(id.as_bytes(), self.partitions.len() as u32);
        Key { id, partition: &self.partitions[partition as usize] }
    }

    /// Reads each key from the first store that has it, in the order of the ids, and what holds for all of them. With
    /// `after` it waits for the stores that answer.
    pub async fn read(self: &Arc<Self>, ids: &[&str], after: Option<&After>) -> Result<(Vec<T>, Freshness), Away> {
        let keys: Vec<_> = ids.iter().map(|id| self.key(id)).collect();
        match (after, &self.rungs.memory) {
            (Some(after), _) => self.wait_for_memory(&keys, after).await,
            (None, Some(memory)) => {
                if let Some((all, oldest_ms)) = T::all_in_memory(memory, &keys) {
                    self.metrics.memory.count(keys.len(), keys.len());
                    return Ok((all, Freshness::new(oldest_ms)));
                }
            }
            (None, None) => {}
        }
        let mut answers = self.read_memory(&keys).await;
        for (key, answer) in keys.iter().zip(&mut answers).filter(|(_, answer)| answer.is_none()) {
            *answer = self.absent(*key).filter(|absent| after.is_none_or(|after| is_covered(absent, after)));
        }
        let missing = ids.iter().zip(&answers).filter(|(_, answer)| answer.is_none());
        let mut missing: Vec<_> = missing.map(|(id, _)| *id).collect();
        missing.sort_unstable();
        missing.dedup();
        let mut loaded = HashMap::with_capacity(missing.len());
        let mut is_late = false;
        while !missing.is_empty() {
            for (id, outcome) in missing.iter().zip(self.load(&missing).await) {
                loaded.insert(*id, outcome?);
            }
            let Some(after) = after.filter(|_| !is_late) else { break };
            // Even then the progress of the stores is read once: the progress behind what was loaded may be a moment old.
            is_late = Instant::now() >= after.deadline;
            missing = self.wait_for_stores(missing, &loaded, after).await;
        }
        let all = ids.iter().zip(answers).map(|(id, answer)| answer.or_else(|| loaded.get(id).cloned()));
        let all = all.collect::<Option<Vec<_>>>().ok_or(Away)?;
        let freshness = Freshness::of(&all, after);
        Ok((all.into_iter().map(|answer| answer.stored.value).collect(), freshness))
    }

    /// From the stores below the cache in this process, in the order of the ids. A load that is joined may have begun a
    /// moment ago, so what holds for an answer is what the answer claims.
    pub async fn load(self: &Arc<Self>, ids: &[&str]) -> Vec<Outcome<T>> {
        let (landings, flight) = self.flights.join(ids);
        let begun = flight.as_ref().map_or(0, |flight| flight.ids().count());
        self.metrics.coalesced.inc_by((ids.len() - begun) as u64);
        if let Some(flight) = flight {
            // In a separate task: the reader that began it may be dropped before the others have their answer.
            tokio::spawn(self.clone().fly(flight));
        }
        let mut outcomes = Vec::with_capacity(landings.len());
        for landing in landings {
            outcomes.push(landing.value().await.unwrap_or(Err(Away)));
        }
        outcomes
    }

    async fn fly(self: Arc<Self>, flight: Flight<Outcome<T>>) {
        let keys: Vec<_> = flight.ids().map(|id| self.key(id)).collect();
        if let Some(memory) = &self.rungs.memory {
            T::follow(memory, &keys);
        }
        let mut answers = vec![None; keys.len()];
        if let Some(redis) = &self.rungs.redis {
            self.descend(redis, (Source::Redis, &self.metrics.redis), &keys, &mut answers).await;
        }
        self.descend(&self.rungs.database, (Source::Database, &self.metrics.database), &keys, &mut answers).await;
        let outcome =
            |(key, answer): (&Key<'_>, Option<Answer<T>>)| answer.or_else(|| self.last_known(*key)).ok_or(Away);
        let outcomes: Vec<_> = keys.iter().zip(answers).map(outcome).collect();
        flight.land(outcomes);
    }

    /// Reads the keys without an answer from a store.
    async fn descend<S: ReadStore>(
        &self,
        store: &Guarded<S>,
        (source, layer): (Source, &Layer),
        keys: &[Key<'_>],
        answers: &mut [Option<Answer<T>>],
    ) {
        let missing: Vec<_> = (0..keys.len()).filter(|at| answers[*at].is_none()).collect();
        if missing.is_empty() {
            return;
        }
        let asked: Vec<_> = missing.iter().map(|at| keys[*at]).collect();
        let read = store.read::<T>(&asked).await.unwrap_or_default();
        layer.count(asked.len(), read.iter().flatten().count());
        for (at, stored) in missing.into_iter().zip(read) {
            let Some(stored) = stored else { continue };
            if let Some(memory) = &self.rungs.memory {
                T::keep(memory, keys[at], &stored);
            }
            answers[at] = Some(Answer { stored, source });
        }
    }

    /// What the cache in this process has of these keys.
    pub async fn read_memory(&self, keys: &[Key<'_>]) -> Vec<Option<Answer<T>>> {
        let Some(memory) = &self.rungs.memory else { return vec![None; keys.len()] };
        let read = T::read(memory, keys).await.unwrap_or_else(|_| vec![None; keys.len()]);
        let source = Source::Memory;
        let answers: Vec<_> = read.into_iter().map(|stored| Some(Answer { stored: stored?, source })).collect();
        self.metrics.memory.count(keys.len(), answers.iter().flatten().count());
        answers
    }

    /// The value of a key without records, if the cache of this process knows that there are none.
    pub fn absent(&self, key: Key<'_>) -> Option<Answer<T>> {
        let stored = T::absent(self.rungs.memory.as_ref()?, key)?;
        self.metrics.absent.iter().for_each(prometheus::IntCounter::inc);
        Some(Answer { stored, source: Source::Memory })
    }

    fn last_known(&self, key: Key<'_>) -> Option<Answer<T>> {
        let stored = T::last_known(self.rungs.memory.as_ref()?, key)?;
        self.metrics.last_known.inc();
        Some(Answer { stored, source: Source::LastKnown })
    }

    /// Waits until the cache of this process contains the receipt's events for all partitions of these keys that it
    /// serves, or until the deadline. A subject whose first events are those of the receipt appears there with them.
    async fn wait_for_memory(&self, keys: &[Key<'_>], After { receipt, deadline }: &After) {
        let Some(memory) = &self.rungs.memory else { return };
        let Some(serving) = memory.cache.serving() else { return };
        let mut partitions = partitions_of(keys);
        partitions.retain(|partition| serving.position(partition).is_some());
        drop(serving);
        // A cache that follows only what was requested knows nothing of other keys: they need not wait for it.
        if keys.iter().any(|key| memory.cache.follows(key.id)) {
            memory.wait(&partitions, receipt, *deadline).await;
        }
    }

    /// Waits for the stores whose answers do not contain what the receipt covers. Returns what to load again.
    async fn wait_for_stores<'a>(
        &self,
        mut ids: Vec<&'a str>,
        answers: &HashMap<&str, Answer<T>>,
        after: &After,
    ) -> Vec<&'a str> {
        ids.retain(|id| answers.get(id).is_some_and(|answer| !is_covered(answer, after)));
        let mut again = Vec::new();
        for source in [Source::Redis, Source::Database] {
            let of_source: Vec<_> = ids.iter().copied().filter(|id| answers[id].source == source).collect();
            if !of_source.is_empty() && self.wait(source, &of_source, after).await {
                again.extend(of_source);
            }
        }
        again
    }

    async fn wait(&self, source: Source, ids: &[&str], After { receipt, deadline }: &After) -> bool {
        let keys: Vec<_> = ids.iter().map(|id| self.key(id)).collect();
        let partitions = partitions_of(&keys);
        match (source, &self.rungs.redis) {
            (Source::Redis, Some(redis)) => redis.store.wait(&partitions, receipt, *deadline).await,
            (Source::Memory | Source::LastKnown, _) => false,
            (Source::Redis | Source::Database, _) => {
                self.rungs.database.store.wait(&partitions, receipt, *deadline).await
            }
        }
    }
}

impl Ladder<Totals> {
    /// Determines whether subjects without a record certainly have no rows: see [`MemoryStore::look_at_start`]. Blocks.
    pub fn look_at_start(&self, log: &dyn Log) {
        if let Some(memory) = &self.rungs.memory {
            memory.look_at_start(log, &self.partitions);
        }
    }
}

fn is_covered<T>(answer: &Answer<T>, after: &After) -> bool {
    covers(&answer.stored.roots, &after.receipt)
}

fn partitions_of<'a>(keys: &[Key<'a>]) -> Vec<&'a TopicPartition> {
    let mut partitions: Vec<_> = keys.iter().map(|key| key.partition).collect();
    partitions.sort_unstable();
    partitions.dedup();
    partitions
}
