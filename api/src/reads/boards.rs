//! Reads of boards: from the cache in this process where it has them, then from Redis, then from the database; where none
//! answers, as they were last known.
//!
//! The cache has all boards or none, so one that it does not have is not there. Redis may have lost one: that is a miss.

use crate::config::Rankings;
use crate::reads::freshness::{Freshness, freshness};
use crate::reads::ladder::{Loader, Store};
use crate::reads::roots::{clock_ms, covers};
use crate::routes::after::After;
use crate::state::Api;
use prometheus::IntCounter;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tally_cache::MemoryCache;
use tally_http::ApiProblem;
use tally_model::Ranking;
use tally_streams::log::{TopicPartition, partition_of};
use tokio::sync::OnceCell;

/// What is told of a board in a list.
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

/// A board, or that nobody has written it; and of when that is.
type Found = (Option<Arc<Ranking>>, Freshness);

/// A read whose answer several wait for.
type Flight = OnceCell<Result<Found, ApiProblem>>;

/// Reads of boards that the cache in this process does not have, each under way once.
#[derive(Default)]
pub struct Flights(Mutex<HashMap<String, Weak<Flight>>>);

impl Flights {
    /// The read of a board that is under way, or the place for one.
    fn join(&self, board: &str, coalesced: &IntCounter) -> Arc<Flight> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(board).and_then(Weak::upgrade) {
            coalesced.inc();
            return flight;
        }
        // Nobody waits for those any more.
        flights.retain(|_, flight| flight.strong_count() > 0);
        let flight = Arc::default();
        flights.insert(board.to_owned(), Arc::downgrade(&flight));
        flight
    }
}

/// A board, once what a receipt covers is there or its time is over; None where nobody has written it.
pub async fn board(
    api: &Arc<Api>,
    rankings: &Rankings,
    board: &str,
    after: Option<&After>,
) -> Result<Found, ApiProblem> {
    let partitions =
        [TopicPartition::new(rankings.topic.name.as_str(), partition_of(board.as_bytes(), rankings.topic.partitions))];
    let metrics = &api.loader.metrics;
    if let Some(found) = of_cache(api, &partitions, after, |cache| cache.board(board)).await {
        metrics.boards.memory.inc();
        return Ok(found);
    }
    let read = || of_stores(api, rankings, board, &partitions, after);
    match after {
        // Everybody waits for a receipt of their own.
        Some(_) => read().await,
        None => api.board_flights.join(board, &metrics.coalesced).get_or_init(read).await.clone(),
    }
}

async fn of_stores(
    api: &Arc<Api>,
    rankings: &Rankings,
    board: &str,
    partitions: &[TopicPartition; 1],
    after: Option<&After>,
) -> Result<Found, ApiProblem> {
    let reads = &api.loader.metrics.boards;
    if rankings.cached
        && let Some((ranking, freshness)) = of_redis(&api.loader, board, &partitions[0], after).await
    {
        reads.redis.inc();
        return Ok((Some(ranking), freshness));
    }
    let of_database = async {
        let freshness = freshness(api, &rankings.topic, after).await?;
        let found = (api.database.board(board).await?.map(Arc::new), freshness);
        reads.database.inc();
        Ok(found)
    };
    of_database.await.or_else(|problem: ApiProblem| {
        let known = api.boards.as_deref().and_then(|cache| last_known(cache, partitions, after, |c| c.board(board)));
        let (ranking, freshness) = known.ok_or(problem)?;
        reads.last_known.inc();
        Ok((Some(ranking), freshness))
    })
}

/// All boards that somebody has written, by name.
pub async fn boards(
    api: &Arc<Api>,
    rankings: &Rankings,
    after: Option<&After>,
) -> Result<(Vec<Summary>, Freshness), ApiProblem> {
    let name = Arc::<str>::from(rankings.topic.name.as_str());
    let partitions: Vec<_> = (0..rankings.topic.partitions).map(|p| TopicPartition::new(name.clone(), p)).collect();
    let summaries = |cache: &MemoryCache| cache.boards().iter().map(|ranking| Summary::of(ranking)).collect::<Vec<_>>();
    if let Some(found) = of_cache(api, &partitions, after, summaries).await {
        return Ok(found);
    }
    let of_database = async {
        let freshness = freshness(api, &rankings.topic, after).await?;
        let summary = |(board, items, as_of_ms)| Summary { board, items, as_of_ms };
        Ok((api.database.boards().await?.into_iter().map(summary).collect(), freshness))
    };
    let problem = match of_database.await {
        Ok(found) => return Ok(found),
        Err(problem) => problem,
    };
    let all = |cache: &MemoryCache| Some(summaries(cache)).filter(|known| !known.is_empty());
    if let Some(known) = api.boards.as_deref().and_then(|cache| last_known(cache, &partitions, after, all)) {
        return Ok(known);
    }
    named(api, rankings, &partitions, after).await.ok_or(problem)
}

/// The boards that the topology names, from Redis: it has no list of its own, since a set of names would lie in another
/// slot than the boards. None where it has none of them.
async fn named(
    api: &Arc<Api>,
    rankings: &Rankings,
    partitions: &[TopicPartition],
    after: Option<&After>,
) -> Option<(Vec<Summary>, Freshness)> {
    let mut all: Option<(Vec<Summary>, Freshness)> = None;
    for node in rankings.nodes.iter().filter(|_| rankings.cached) {
        let partition = &partitions[partition_of(node.as_bytes(), rankings.topic.partitions) as usize];
        let Some((ranking, freshness)) = of_redis(&api.loader, node, partition, after).await else { continue };
        all = Some(match all {
            Some((summaries, of_others)) => (summaries, of_others.least(freshness)),
            None => (Vec::new(), freshness),
        });
        all.iter_mut().for_each(|(summaries, _)| summaries.push(Summary::of(&ranking)));
    }
    all
}

/// From the cache in this process; None where it may not be believed.
async fn of_cache<T>(
    api: &Api,
    partitions: &[TopicPartition],
    after: Option<&After>,
    read: impl FnOnce(&MemoryCache) -> T,
) -> Option<(T, Freshness)> {
    let cache = api.boards.as_deref()?;
    cache.serving()?;
    let is_covered = match after {
        Some(after) => Some(after.wait_for_cache(cache, &partitions.iter().collect::<Vec<_>>()).await),
        None => None,
    };
    // The positions before the boards: they are at least as new.
    let serving = cache.serving()?;
    let clocks = partitions.iter().map(|partition| serving.position(partition).map(|position| position.clock_ms));
    let clock_ms = clocks.collect::<Option<Vec<_>>>()?.into_iter().min()?;
    Some((read(cache), Freshness::new(clock_ms).judged(is_covered)))
}

/// What the cache in this process has, whether or not it may be believed.
fn last_known<T>(
    cache: &MemoryCache,
    partitions: &[TopicPartition],
    after: Option<&After>,
    read: impl FnOnce(&MemoryCache) -> Option<T>,
) -> Option<(T, Freshness)> {
    let roots: Vec<_> = partitions.iter().map(|partition| cache.roots(partition)).collect();
    let known = read(cache)?;
    let clock_ms = roots.iter().map(|roots| clock_ms(roots).unwrap_or(0)).min().unwrap_or(0);
    let is_covered = after.map(|after| roots.iter().all(|roots| covers(roots, &after.receipt)));
    Some((known, Freshness::new(clock_ms).judged(is_covered).of_last_known()))
}

/// From Redis; None where it does not have the board, may not be believed, or does not answer.
async fn of_redis(
    loader: &Loader,
    board: &str,
    partition: &TopicPartition,
    after: Option<&After>,
) -> Option<(Arc<Ranking>, Freshness)> {
    let ask = || loader.of_redis(|redis| redis.board(board, partition));
    let mut found = ask().await??;
    if let Some(After { receipt, deadline }) = after
        && !covers(&found.1, receipt)
    {
        // Even where it is too late: what was found may have been judged by a moment ago.
        loader.wait(Store::Redis, &[partition], receipt, *deadline).await;
        found = ask().await??;
    }
    let (ranking, roots) = found;
    let is_covered = after.map(|after| covers(&roots, &after.receipt));
    Some((Arc::new(ranking), Freshness::new(clock_ms(&roots).unwrap_or(0)).judged(is_covered)))
}
