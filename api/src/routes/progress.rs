//! `GET /v1/progress`: how far everything has come.

use crate::config::{Marks, OutputTopic};
use crate::database::DatabaseProgress;
use crate::reads::roots::applied;
use crate::routes::query::Query;
use crate::routes::reply::of_moment;
use crate::state::Api;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use tally_http::ApiProblem;
use tally_model::RootPosition;
use tally_streams::log::{LogError, TopicPartition};
use utoipa::ToSchema;

/// How far everything has come, by partition of the root topic.
#[derive(Serialize, ToSchema)]
pub struct ProgressAnswer {
    /// The root topic.
    topic: String,
    /// Ascending.
    partitions: Vec<PartitionProgress>,
}

/// How far the events of one partition have come.
#[derive(Serialize, ToSchema)]
pub struct PartitionProgress {
    partition: u32,
    /// The offset after the last event.
    end: u64,
    /// The offset up to which events are processed; null where none was.
    #[schema(required = true)]
    committed: Option<u64>,
    /// By sink: the offset up to which everything that follows from the events is in its store; null before the first.
    #[schema(value_type = HashMap<String, Option<u64>>)]
    applied: BTreeMap<&'static str, Option<u64>>,
    /// Events that are not in every store yet.
    lag_records: u64,
    /// How long ago the last store was up to date; 0 only where nothing is missing, null where nothing was ever stored.
    #[schema(required = true)]
    lag_seconds: Option<f64>,
}

/// How far everything has come.
#[utoipa::path(
    get,
    path = "/v1/progress",
    tag = "operations",
    responses(
        (status = 200, description = "By partition of the root topic", body = ProgressAnswer),
        (status = 503, description = "The database or the log does not answer; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn progress(State(api): State<Arc<Api>>, RawQuery(query): RawQuery) -> Result<Response, ApiProblem> {
    Query::parse(query.as_deref(), &[])?;
    of_moment(&read(&api, api.database.progress_now()).await?)
}

/// Why nobody can say how far everything has come.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The log does not say.
    #[error("log: {0}")]
    Log(#[from] LogError),
    /// The database does not.
    #[error("{0}")]
    Database(ApiProblem),
    /// Whoever read it is gone.
    #[error("{0}")]
    Gone(#[from] tokio::task::JoinError),
}

impl From<Unread> for ApiProblem {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Log(error) => {
                tracing::warn!("log: {error}");
                Self::unavailable("The log does not answer. Try again.", 1)
            }
            Unread::Database(problem) => problem,
            Unread::Gone(_) => Self::internal(),
        }
    }
}

/// How far everything has come now. `stored` reads what the database says, after the log's ends.
pub async fn read(
    api: &Arc<Api>,
    stored: impl Future<Output = Result<Arc<DatabaseProgress>, ApiProblem>>,
) -> Result<ProgressAnswer, Unread> {
    let asked = api.clone();
    let positions = tokio::task::spawn_blocking(move || positions(&asked)).await??;
    let stored = stored.await.map_err(Unread::Database)?;
    let cached = cached(api).await;
    let partitions = positions.into_iter().enumerate().map(|(partition, (start, end, committed))| {
        let partition = partition as u32;
        let database =
            api.config.outputs.iter().map(|topic| applied(topic, partition, |p| stored.roots(&topic.name, p)));
        let mut stores = vec![("database", least(database))];
        if let Some(cached) = &cached {
            let of_topic = |(topic, roots): &(OutputTopic, Vec<Arc<[RootPosition]>>)| {
                applied(topic, partition, |p| roots[p as usize].clone())
            };
            stores.push(("cache", least(cached.iter().map(of_topic))));
        }
        let all = least(stores.iter().map(|(_, root)| *root));
        let lag_records = end.saturating_sub(all.map_or(start, |root| root.next_offset));
        let lag_seconds = api.lag_ms(partition, all, lag_records).map(|ms| ms as f64 / 1_000.0);
        let applied = stores.into_iter().map(|(store, root)| (store, root.map(|root| root.next_offset))).collect();
        PartitionProgress { partition, end, committed, applied, lag_records, lag_seconds }
    });
    Ok(ProgressAnswer { topic: api.config.input_topic.clone(), partitions: partitions.collect() })
}

impl ProgressAnswer {
    /// The events of all partitions.
    pub fn end(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.end).sum()
    }

    /// Events that are not in every store yet.
    pub fn lag_records(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.lag_records).sum()
    }

    /// How far the slowest partition is behind; None where that is unknown of one.
    pub fn lag_seconds(&self) -> Option<f64> {
        self.partitions.iter().try_fold(0.0, |most: f64, partition| Some(most.max(partition.lag_seconds?)))
    }
}

impl Api {
    /// How long ago everything was up to date, in milliseconds. Whatever the clocks say, it is never 0 while records wait,
    /// and at least as long as this process has seen them wait at the same place.
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
}

/// How far the cache that the sinks fill is: its topics, each with what is said of its partitions. None where there is no
/// such cache.
async fn cached(api: &Api) -> Option<Vec<(OutputTopic, Vec<Arc<[RootPosition]>>)>> {
    let (name, partitions) = (api.config.counters_topic.clone(), api.config.counters_partitions);
    let rankings = api.config.rankings.iter().filter(|rankings| rankings.cached).map(|rankings| rankings.topic.clone());
    let topics = std::iter::once(OutputTopic { name, partitions, marks: Marks::All }).chain(rankings);
    let all = |roots: &dyn Fn(&TopicPartition) -> Arc<[RootPosition]>| {
        let of_topic = |topic: OutputTopic| {
            let name = Arc::<str>::from(topic.name.as_str());
            let roots = (0..topic.partitions).map(|p| roots(&TopicPartition::new(name.clone(), p))).collect();
            (topic, roots)
        };
        topics.map(of_topic).collect()
    };
    if let Some(redis) = &api.loader.redis {
        // Redis that does not answer contains nothing that anybody could read.
        let positions = redis.positions().await.unwrap_or_default();
        return Some(all(&|partition| positions.roots(partition).cloned().unwrap_or_else(|| Arc::from([]))));
    }
    let cache = api.loader.cache.as_ref()?;
    Some(all(&|partition| cache.roots(partition)))
}

/// Start, end and committed offset of every input partition. Blocks.
fn positions(api: &Api) -> Result<Vec<(u64, u64, Option<u64>)>, LogError> {
    let position = |number| {
        let address = TopicPartition::new(api.config.input_topic.as_str(), number);
        // The committed offset first, so that it never lies beyond the end told.
        let committed = api.log.committed(&api.config.group, &address)?;
        let (start, end) = api.log.bounds(&address)?;
        Ok((start, end, committed.map(|committed| committed.offset)))
    };
    (0..api.config.input_partitions).map(position).collect()
}

/// What all contain; None while one contains nothing.
fn least(all: impl Iterator<Item = Option<RootPosition>>) -> Option<RootPosition> {
    let all = all.collect::<Option<Vec<_>>>()?;
    let least = |a: RootPosition, b: RootPosition| RootPosition {
        next_offset: a.next_offset.min(b.next_offset),
        clock_ms: a.clock_ms.min(b.clock_ms),
        ..a
    };
    all.into_iter().reduce(least)
}
