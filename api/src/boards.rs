//! Reads of boards: from the cache in this process where it has them, then from Redis, then from the database; where none
//! answers, as they were last known.
//!
//! The cache has all boards or none, so one that it does not have is not there. Redis may have lost one: that is a miss.

use crate::after::After;
use crate::api::Api;
use crate::config::Rankings;
use crate::counters::Freshness;
use crate::loading::{Loader, Store};
use crate::reactions::freshness;
use crate::roots::{clock_ms, covers};
use std::sync::Arc;
use std::time::Instant;
use tally_cache::MemoryCache;
use tally_http::ApiProblem;
use tally_model::{Ranking, RootPosition};
use tally_streams::log::{TopicPartition, partition_of};

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

/// A board, once what a receipt covers is there or its time is over; None where nobody has written it.
pub async fn board(
    api: &Arc<Api>,
    rankings: &Rankings,
    board: &str,
    after: Option<&After>,
) -> Result<(Option<Arc<Ranking>>, Freshness), ApiProblem> {
    let partitions =
        [TopicPartition::new(rankings.topic.name.as_str(), partition_of(board.as_bytes(), rankings.topic.partitions))];
    if let Some(found) = of_cache(api, &partitions, after, |cache| cache.board(board)).await {
        return Ok(found);
    }
    if rankings.cached
        && let Some((ranking, freshness)) = of_redis(&api.loader, board, &partitions[0], after).await
    {
        return Ok((Some(ranking), freshness));
    }
    let of_database = async {
        let freshness = freshness(api, &rankings.topic, after).await?;
        Ok((api.database.board(board).await?.map(Arc::new), freshness))
    };
    of_database.await.or_else(|problem: ApiProblem| {
        let known = api.boards.as_deref().and_then(|cache| last_known(cache, &partitions, after, |c| c.board(board)));
        known.map(|(ranking, freshness)| (Some(ranking), freshness)).ok_or(problem)
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
    // Redis has no list of its own: a set of names would lie in another slot than the boards.
    let of_database = async {
        let freshness = freshness(api, &rankings.topic, after).await?;
        let summary = |(board, items, as_of_ms)| Summary { board, items, as_of_ms };
        Ok((api.database.boards().await?.into_iter().map(summary).collect(), freshness))
    };
    of_database.await.or_else(|problem: ApiProblem| {
        let all = |cache: &MemoryCache| Some(summaries(cache)).filter(|known| !known.is_empty());
        api.boards.as_deref().and_then(|cache| last_known(cache, &partitions, after, all)).ok_or(problem)
    })
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
    let mut found = ask_redis(loader, board, partition).await?;
    if let Some(After { receipt, deadline }) = after
        && !covers(&found.1, receipt)
    {
        // Even where it is too late: what was found may have been judged by a moment ago.
        loader.wait(Store::Redis, &[partition], receipt, *deadline).await;
        found = ask_redis(loader, board, partition).await?;
    }
    let (ranking, roots) = found;
    let is_covered = after.map(|after| covers(&roots, &after.receipt));
    Some((Arc::new(ranking), Freshness::new(clock_ms(&roots).unwrap_or(0)).judged(is_covered)))
}

async fn ask_redis(loader: &Loader, board: &str, partition: &TopicPartition) -> Option<(Ranking, Arc<[RootPosition]>)> {
    let redis = loader.redis.as_ref()?;
    let permit = loader.redis_breaker.permit(Instant::now())?;
    match redis.board(board, partition).await {
        Ok(found) => {
            permit.succeed();
            found
        }
        Err(failure) => {
            tracing::warn!("{failure}");
            permit.fail(Instant::now());
            None
        }
    }
}
