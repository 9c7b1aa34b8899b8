//! Reads of boards.

use super::after::After;
use super::freshness::Freshness;
use super::ladder::Away;
use super::memory::MemoryStore;
use super::roots::{clock_ms, covers};
use super::store::{Board, Key, ReadStore};
use super::{Boards, Reads};
use crate::database::DatabaseError;
use std::sync::Arc;
use tally_cache::MemoryCache;
use tally_model::{Ranked, Ranking};
use tally_streams::log::TopicPartition;

/// A board and its freshness.
pub type BoardRead = (Board, Freshness);

/// A board in the list of all.
pub struct Summary {
    /// Its name.
    pub board: String,
    /// How many items it has.
    pub items: i64,
    /// When it was written, by the clock of the task.
    pub as_of_ms: i64,
}

impl Summary {
    fn of(ranking: &Ranking) -> Self {
        Self { board: ranking.board.clone(), items: ranking.items.len() as i64, as_of_ms: ranking.as_of_ms }
    }
}

impl Boards {
    /// Whether a board can be one of the topology. Boards of other topologies stay in the stores.
    pub fn may_have(&self, board: &str) -> bool {
        let node = board.split('@').next().unwrap_or(board);
        self.rankings.nodes.iter().any(|known| known == node)
    }

    /// Whether a board exists, given what was read of it: a board of the topology that was never written is empty.
    pub fn has(&self, board: &str, (ranking, _): &BoardRead) -> bool {
        ranking.is_some() || self.rankings.nodes.iter().any(|node| node == board)
    }

    /// Reads a board. Waits until it contains the events of a receipt, or until the deadline.
    pub async fn board(&self, board: &str, after: Option<&After>) -> Result<BoardRead, Away> {
        let (boards, freshness) = self.ladder.read(&[board], after).await?;
        let board = boards.into_iter().next().flatten();
        Ok((board.map(|ranking| self.public(ranking)), freshness))
    }

    /// A board without subjects of private kinds: it may have been written before they were private.
    fn public(&self, ranking: Arc<Ranking>) -> Arc<Ranking> {
        let is_private = |item: &Ranked| self.private.contain(&item.subject_id);
        if !ranking.items.iter().any(is_private) {
            return ranking;
        }
        let mut public = Ranking::clone(&ranking);
        public.items.retain(|item| !is_private(item));
        public.into()
    }

    /// All boards that were ever written, by name: from the cache in this process, which has all of them, then from the
    /// database; if neither answers, their last known state.
    pub async fn list(&self, reads: &Reads, after: Option<&After>) -> Result<(Vec<Summary>, Freshness), DatabaseError> {
        let partitions: Vec<_> = self.ladder.partitions().iter().collect();
        if let Some(memory) = self.ladder.memory()
            && let Some(list) = list_memory(memory, &partitions, after).await
        {
            return Ok(list);
        }
        let of_database = async {
            let freshness = reads.database_freshness(&self.rankings.topic, after).await?;
            let summary = |(board, items, as_of_ms)| Summary { board, items, as_of_ms };
            Ok((reads.database.boards().await?.into_iter().map(summary).collect(), freshness))
        };
        let error = match of_database.await {
            Ok(list) => return Ok(list),
            Err(error) => error,
        };
        if let Some(list) = self.ladder.memory().and_then(|memory| last_list(&memory.cache, &partitions, after)) {
            return Ok(list);
        }
        self.list_redis(after).await.ok_or(error)
    }

    /// The boards that the topology names, from Redis: it has no list of its own, since a set of names would lie in
    /// another slot than the boards. None if it has none of them.
    async fn list_redis(&self, after: Option<&After>) -> Option<(Vec<Summary>, Freshness)> {
        let mut list: Option<(Vec<Summary>, Freshness)> = None;
        for node in &self.rankings.nodes {
            let Some((board, freshness)) = self.read_redis(self.ladder.key(node), after).await else { continue };
            let summary = board.iter().map(|ranking| Summary::of(ranking));
            match &mut list {
                Some((summaries, of_others)) => {
                    summaries.extend(summary);
                    *of_others = of_others.clone().least(freshness);
                }
                None => list = Some((summary.collect(), freshness)),
            }
        }
        list
    }

    async fn read_redis(&self, key: Key<'_>, after: Option<&After>) -> Option<BoardRead> {
        let redis = self.ladder.redis()?;
        let mut read = redis.read::<Board>(&[key]).await?.pop()??;
        if let Some(After { receipt, deadline }) = after
            && !covers(&read.roots, receipt)
        {
            // Even after the deadline: the progress behind the read may be a moment old.
            redis.store.wait(&[key.partition], receipt, *deadline).await;
            read = redis.read::<Board>(&[key]).await?.pop()??;
        }
        let is_covered = after.map(|after| covers(&read.roots, &after.receipt));
        Some((read.value, Freshness::new(clock_ms(&read.roots).unwrap_or(0)).judged(is_covered)))
    }
}

/// All boards of the cache in this process; None where it cannot be trusted.
async fn list_memory(
    memory: &MemoryStore,
    partitions: &[&TopicPartition],
    after: Option<&After>,
) -> Option<(Vec<Summary>, Freshness)> {
    memory.cache.serving()?;
    let is_covered = match after {
        Some(After { receipt, deadline }) => Some(memory.wait(partitions, receipt, *deadline).await),
        None => None,
    };
    // The positions before the boards: they are at least as new.
    let serving = memory.cache.serving()?;
    let clocks = partitions.iter().map(|partition| serving.position(partition).map(|position| position.clock_ms));
    let clock_ms = clocks.collect::<Option<Vec<_>>>()?.into_iter().min()?;
    Some((summaries(&memory.cache), Freshness::new(clock_ms).judged(is_covered)))
}

/// What the cache in this process has, whether or not it is current; None where it has no board.
fn last_list(
    cache: &MemoryCache,
    partitions: &[&TopicPartition],
    after: Option<&After>,
) -> Option<(Vec<Summary>, Freshness)> {
    let roots: Vec<_> = partitions.iter().map(|partition| cache.roots(partition)).collect();
    let known = Some(summaries(cache)).filter(|known| !known.is_empty())?;
    let clock_ms = roots.iter().map(|roots| clock_ms(roots).unwrap_or(0)).min().unwrap_or(0);
    let is_covered = after.map(|after| roots.iter().all(|roots| covers(roots, &after.receipt)));
    Some((known, Freshness::new(clock_ms).judged(is_covered).of_last_known()))
}

fn summaries(cache: &MemoryCache) -> Vec<Summary> {
    cache.boards().iter().map(|ranking| Summary::of(ranking)).collect()
}
