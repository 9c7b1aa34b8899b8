//! Redis as the API reads it: with short time-outs, and trusted only as far as its progress goes.

use super::roots::covers;
use super::store::{Board, Contained, Key, ReadStore, StoreError, Stored, Totals};
use super::totals::Template;
use redis::{Pipeline, Value};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tally_cache::CachedCounters;
use tally_cache::redis::{
    EPOCH_FIELD, Keys, NodeIdentity, RANKING_FIELD, RedisAddress, RedisFailure, RedisProgress, RedisTimeouts, Shards,
    VERSION_FIELD, fields, slot_of, text,
};
use tally_model::{MetricValue, Ranking, Receipt};
use tally_streams::log::TopicPartition;

/// The longest wait of a reader, which then reads the database.
const TIMEOUTS: RedisTimeouts =
    RedisTimeouts { connect: Duration::from_millis(500), response: Duration::from_millis(300) };
/// Maximum age of the progress that is applied to totals. Older progress claims less, never too much.
const PROGRESS_AGE_MAX: Duration = Duration::from_millis(15);
/// How often the progress is read while a request waits for it.
const POLL: Duration = Duration::from_millis(15);

/// Redis, for reading: a master, a Cluster, or a replica of a single one.
pub struct RedisStore {
    address: RedisAddress,
    keys: Keys,
    template: Arc<Template>,
    connection: RwLock<Option<Arc<Connected>>>,
    connecting: tokio::sync::Mutex<()>,
}

/// Connections, with the state that was found when they were made.
struct Connected {
    shards: Shards,
    nodes: Vec<NodeIdentity>,
    progress: RwLock<Option<(Instant, Arc<Positions>)>>,
    refreshing: tokio::sync::Mutex<()>,
}

/// What can be trusted of Redis at one moment.
#[derive(Default)]
struct Positions {
    epoch: Option<String>,
    partitions: HashMap<TopicPartition, (u64, Contained)>,
}

impl RedisStore {
    /// A handle; connects when first used.
    pub fn new(address: RedisAddress, template: Arc<Template>) -> Self {
        let (connection, connecting) = (RwLock::default(), tokio::sync::Mutex::default());
        Self { keys: Keys::new(&address), address, template, connection, connecting }
    }

    async fn board_of(
        &self,
        connected: &Connected,
        positions: &Positions,
        board: &str,
    ) -> Result<Option<Ranking>, RedisFailure> {
        let (shards, key) = (&connected.shards, self.keys.ranking(board));
        let shard = shards.of(Keys::board_slot(board));
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.cmd("HMGET").arg(&key).arg(EPOCH_FIELD).arg(RANKING_FIELD);
        let answer = shards.ask(shard, &pipeline).await?.pop().unwrap_or_default();
        let Value::Array(values) = shards.checked(shard, answer)? else { return Ok(None) };
        let [epoch, json] = &values[..] else { return Ok(None) };
        let json = text(json).filter(|_| text(epoch) == positions.epoch);
        let ranking = json.map(|json| serde_json::from_str(&json)).transpose();
        ranking.map_err(|error| shards.failure(shard, format!("{key}: {error}")))
    }

    async fn totals_of(
        &self,
        connected: &Connected,
        positions: &Positions,
        subjects: &[Key<'_>],
    ) -> Result<Vec<Option<Stored<Totals>>>, RedisFailure> {
        let shards = &connected.shards;
        let mut pipelines = vec![(Pipeline::new(), Vec::new()); shards.len()];
        for (at, key) in subjects.iter().enumerate() {
            let Some(position) = positions.partitions.get(key.partition) else { continue };
            let shard = if shards.is_cluster() { shards.of(slot_of(key.id)) } else { 0 };
            let (pipeline, asked) = &mut pipelines[shard];
            pipeline.cmd("HGETALL").arg(self.keys.counters(key.id));
            asked.push((at, position));
        }
        let (mut to_ask, mut asked) = (Vec::new(), Vec::new());
        for (shard, (pipeline, of_shard)) in pipelines.into_iter().enumerate().filter(|(_, (_, of))| !of.is_empty()) {
            to_ask.push((shard, pipeline));
            asked.push((shard, of_shard));
        }
        let mut found = vec![None; subjects.len()];
        for ((shard, of_shard), answers) in asked.into_iter().zip(shards.ask_each(to_ask).await?) {
            for ((at, (next_offset, roots)), answer) in of_shard.into_iter().zip(answers) {
                let answer = shards.checked(shard, answer)?;
                let stored = |counters| Stored {
                    value: Arc::new(counters),
                    roots: roots.clone(),
                    next_offset: Some(*next_offset),
                };
                found[at] = self.counters(positions, &answer).map(stored);
            }
        }
        Ok(found)
    }

    /// Reads a hash. A hash of another epoch may be older than the positions claim: a miss.
    fn counters(&self, positions: &Positions, hash: &Value) -> Option<CachedCounters> {
        let (mut version, mut is_current) = (None, false);
        let mut counters = Vec::new();
        for (field, value) in fields(hash) {
            let Value::BulkString(field) = field else { return None };
            match std::str::from_utf8(field).ok()? {
                VERSION_FIELD => version = text(value)?.parse().ok(),
                EPOCH_FIELD => is_current = text(value).as_ref() == positions.epoch.as_ref(),
                metric => {
                    let value = MetricValue::from_json(&text(value)?).ok()?;
                    counters.push((self.template.name(metric), value));
                }
            }
        }
        counters.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        version.filter(|_| is_current).map(|version| CachedCounters { counters: counters.into(), version })
    }

    async fn positions_of(&self, connected: &Connected) -> Result<Arc<Positions>, RedisFailure> {
        let asked_at = Instant::now();
        let last = |not_before: Option<Instant>| {
            let last = connected.progress.read().unwrap_or_else(PoisonError::into_inner).clone();
            let fresh = |read_at: Instant| {
                read_at.elapsed() < PROGRESS_AGE_MAX || not_before.is_some_and(|not_before| read_at >= not_before)
            };
            last.filter(|(read_at, _)| fresh(*read_at)).map(|(_, positions)| positions)
        };
        if let Some(positions) = last(None) {
            return Ok(positions);
        }
        let _one = connected.refreshing.lock().await;
        // A read that began after this call answers it as well, whichever request began it.
        if let Some(positions) = last(Some(asked_at)) {
            return Ok(positions);
        }
        let read_at = Instant::now();
        let progress = RedisProgress::read(&connected.shards, &self.keys).await?;
        let positions = Arc::new(positions(connected, progress)?);
        *connected.progress.write().unwrap_or_else(PoisonError::into_inner) = Some((read_at, positions.clone()));
        Ok(positions)
    }

    /// After a failure all connections are replaced.
    fn outcome<T>(&self, connected: &Arc<Connected>, outcome: Result<T, RedisFailure>) -> Result<T, RedisFailure> {
        if outcome.is_err() {
            let mut held = self.connection.write().unwrap_or_else(PoisonError::into_inner);
            if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, connected)) {
                *held = None;
            }
        }
        outcome
    }

    fn held(&self) -> Option<Arc<Connected>> {
        self.connection.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn connected(&self) -> Result<Arc<Connected>, RedisFailure> {
        if let Some(connected) = self.held() {
            return Ok(connected);
        }
        let _one = self.connecting.lock().await;
        if let Some(connected) = self.held() {
            return Ok(connected);
        }
        let shards = Shards::connect(&self.address, TIMEOUTS).await?;
        let nodes = NodeIdentity::of_all(&shards).await?;
        let (progress, refreshing) = (RwLock::default(), tokio::sync::Mutex::default());
        let connected = Arc::new(Connected { shards, nodes, progress, refreshing });
        *self.connection.write().unwrap_or_else(PoisonError::into_inner) = Some(connected.clone());
        Ok(connected)
    }
}

impl ReadStore for RedisStore {
    async fn progress(&self, partitions: &[&TopicPartition]) -> Result<Vec<Option<Contained>>, StoreError> {
        let connected = self.connected().await?;
        let positions = self.outcome(&connected, self.positions_of(&connected).await)?;
        let roots = |partition: &&TopicPartition| positions.partitions.get(*partition).map(|(_, roots)| roots.clone());
        Ok(partitions.iter().map(roots).collect())
    }

    /// One round trip, sometimes one more for the progress.
    async fn totals(&self, subjects: &[Key<'_>]) -> Result<Vec<Option<Stored<Totals>>>, StoreError> {
        let connected = self.connected().await?;
        // Positions before totals: these are at least as new.
        let found = async {
            let positions = self.positions_of(&connected).await?;
            self.totals_of(&connected, &positions, subjects).await
        };
        Ok(self.outcome(&connected, found.await)?)
    }

    async fn board(&self, board: Key<'_>) -> Result<Option<Stored<Board>>, StoreError> {
        let connected = self.connected().await?;
        // Positions before the board: it is at least as new.
        let found = async {
            let positions = self.positions_of(&connected).await?;
            let Some((next_offset, roots)) = positions.partitions.get(board.partition) else { return Ok(None) };
            let ranking = self.board_of(&connected, &positions, board.id).await?;
            let (roots, next_offset) = (roots.clone(), Some(*next_offset));
            Ok(ranking.map(|ranking| Stored { value: Some(Arc::new(ranking)), roots, next_offset }))
        };
        Ok(self.outcome(&connected, found.await)?)
    }

    async fn wait(&self, partitions: &[&TopicPartition], receipt: &Receipt, deadline: Instant) -> bool {
        loop {
            // Where Redis cannot be trusted any more, the next read shows which store answers instead.
            let Ok(progress) = self.progress(partitions).await else { return true };
            let Some(roots) = progress.into_iter().collect::<Option<Vec<_>>>() else { return true };
            if roots.iter().all(|roots| covers(roots, receipt)) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep_until((Instant::now() + POLL).min(deadline).into()).await;
        }
    }
}

/// The trusted part of the progress: nothing while an epoch is being opened, no partition that is being refilled, and
/// nothing if a node is not among those that the progress names. Then the connections are replaced: they may be the
/// stale part.
fn positions(connected: &Connected, progress: RedisProgress) -> Result<Positions, RedisFailure> {
    let RedisProgress { epoch, shards, partitions } = progress;
    if epoch.is_none() || shards.is_empty() {
        return Ok(Positions::default());
    }
    let known = |node: &NodeIdentity| shards.iter().any(|shard| shard.replication_id == node.replication_id);
    if let Some(at) = connected.nodes.iter().position(|node| !known(node)) {
        return Err(connected.shards.failure(at, "is not the node that the progress names"));
    }
    if connected.nodes.len() != shards.len() {
        return Err(connected.shards.failure(0, "the progress names a different number of masters"));
    }
    let whole = partitions.into_iter().filter(|(_, stored)| stored.refill_until.is_none());
    let position = |stored: tally_cache::redis::StoredPartition| (stored.next_offset, stored.roots.merged().into());
    Ok(Positions {
        epoch: epoch.map(|epoch| epoch.to_string()),
        partitions: whole.map(|(partition, stored)| (partition, position(stored))).collect(),
    })
}
