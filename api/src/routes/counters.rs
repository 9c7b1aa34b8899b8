//! `GET /v1/subjects/{subject_id}/counters` and `GET /v1/counters`.

use crate::reads::freshness::{Freshness, freshness};
use crate::reads::ladder::{Answer, Store};
use crate::reads::roots::{clock_ms, covers};
use crate::reads::totals::{AllTotals, Approximate};
use crate::routes::after::After;
use crate::routes::query::{self, Query, in_path, refused, subject_id};
use crate::routes::reactions::{self, Viewer};
use crate::routes::reply::{Has, Keep};
use crate::routes::series::{SeriesAnswer, series};
use crate::state::Api;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tally_cache::CachedCounters;
use tally_http::ApiProblem;
use tally_streams::log::TopicPartition;
use utoipa::ToSchema;

/// Subjects in one request.
const SUBJECTS_MAX: usize = 100;

/// The totals of one subject.
#[derive(Serialize, ToSchema)]
pub struct SubjectCounters {
    /// The subject.
    pub(crate) subject_id: String,
    /// Every metric of the topology; zero where nobody touched it.
    #[schema(value_type = HashMap<String, i64>)]
    pub(crate) counters: AllTotals,
    /// The metrics above that are estimates (about 1 %).
    #[serde(skip_serializing_if = "Approximate::is_empty")]
    #[schema(value_type = Vec<String>, required = false)]
    pub(crate) approximate: Approximate,
    /// Where `actor_id` was asked for: what that actor has switched on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub(crate) viewer: Option<Viewer>,
}

/// The totals of one subject, and of when they are.
#[derive(Serialize, ToSchema)]
pub struct SubjectAnswer {
    #[serde(flatten)]
    subject: SubjectCounters,
    #[serde(flatten)]
    freshness: Freshness,
}

/// The totals of several subjects, in the order asked.
#[derive(Serialize, ToSchema)]
pub struct SubjectsAnswer {
    /// One for every `subject_id` asked for.
    items: Vec<SubjectCounters>,
    #[serde(flatten)]
    freshness: Freshness,
}

/// What is asked of a subject: its totals, or with `window` what was counted in each window.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum SubjectReply {
    /// Of all time.
    Totals(SubjectAnswer),
    /// In windows.
    Series(SeriesAnswer),
}

/// The totals of a subject; or, with `window`, what was counted in each window.
#[utoipa::path(
    get,
    path = "/v1/subjects/{subject_id}/counters",
    tag = "counters",
    params(
        ("subject_id" = String, Path, description = "`kind:id`, percent-encoded"),
        ("window" = Option<String>, Query, description = "A length of windows of the topology, such as `1d`: what was counted in each"),
        ("from" = Option<String>, Query, description = "With `window`: the time from which, RFC 3339 or milliseconds since 1970; 30 windows by default"),
        ("to" = Option<String>, Query, description = "With `window`: the time before which; now by default. At most 1000 windows"),
        ("after" = Option<String>, Query, description = "A receipt: waits until what it covers is visible"),
        ("wait_ms" = Option<u64>, Query, maximum = 10_000, description = "How long at most; 1000 by default, up to 10000"),
    ),
    responses(
        (status = 200, description = "The totals, or the windows; zeros where nobody touched the subject", body = SubjectReply),
        (status = 304, description = "The content is the one that If-None-Match names"),
        (status = 400, description = "An id, time, window, receipt or parameter that is not valid", body = ApiProblem, content_type = "application/problem+json"),
        (status = 410, description = "A receipt of a log that was replaced", body = ApiProblem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn subject_counters(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    has: Has,
) -> Result<Response, ApiProblem> {
    let id = in_path(path, "`subject_id`")?;
    subject_id(&id)?;
    let query = Query::parse(query.as_deref(), &["window", "from", "to", "after", "wait_ms"])?;
    let after = After::parse(&api, &query)?;
    if query.one("window")?.is_some() {
        let answer = series(&api, id, &query, after).await?;
        let keep = answer.freshness.keep(Keep::Briefly);
        return has.reply(&SubjectReply::Series(answer), keep);
    }
    if query.one("from")?.is_some() || query.one("to")?.is_some() {
        return Err(refused("`from` and `to`", "go with `window`"));
    }
    let (mut counters, freshness) = read(&api, &[&id], after.as_ref()).await?;
    let counters = counters.pop().ok_or_else(ApiProblem::internal)?;
    let keep = freshness.keep(Keep::Second);
    has.reply(&SubjectReply::Totals(SubjectAnswer::new(&api, id, counters, freshness)), keep)
}

/// The totals of up to 100 subjects.
#[utoipa::path(
    get,
    path = "/v1/counters",
    tag = "counters",
    params(
        ("subject_id" = Vec<String>, Query, min_items = 1, max_items = 100, description = "1 to 100 times; the answer keeps the order"),
        ("actor_id" = Option<String>, Query, description = "Who looks: each item says what this actor has switched on"),
        ("after" = Option<String>, Query, description = "A receipt: waits until what it covers is visible"),
        ("wait_ms" = Option<u64>, Query, maximum = 10_000, description = "How long at most; 1000 by default, up to 10000"),
    ),
    responses(
        (status = 200, description = "The totals", body = SubjectsAnswer),
        (status = 304, description = "The content is the one that If-None-Match names"),
        (status = 400, description = "An id, receipt or parameter that is not valid", body = ApiProblem, content_type = "application/problem+json"),
        (status = 410, description = "A receipt of a log that was replaced", body = ApiProblem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn many_counters(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    has: Has,
) -> Result<Response, ApiProblem> {
    let query = Query::parse(query.as_deref(), &["subject_id", "actor_id", "after", "wait_ms"])?;
    let ids = query.all("subject_id");
    if ids.is_empty() || ids.len() > SUBJECTS_MAX {
        return Err(refused("`subject_id`", &format!("must be given 1 to {SUBJECTS_MAX} times, not {}", ids.len())));
    }
    ids.iter().try_for_each(|id| subject_id(id))?;
    let after = After::parse(&api, &query)?;
    let actor_id = query.one("actor_id")?;
    actor_id.map(query::actor_id).transpose()?;
    let (items, freshness) = items(&api, &ids, actor_id, after.as_ref()).await?;
    let keep = freshness.keep(if actor_id.is_some() { Keep::Own } else { Keep::Second });
    has.reply(&SubjectsAnswer { items, freshness }, keep)
}

/// The totals of some subjects, at least one, in the order asked; where somebody looks, with what that actor has
/// switched on.
pub(crate) async fn items(
    api: &Arc<Api>,
    ids: &[&str],
    actor_id: Option<&str>,
    after: Option<&After>,
) -> Result<(Vec<SubjectCounters>, Freshness), ApiProblem> {
    let of_viewer = match actor_id.zip(api.config.switched_topic()) {
        None => None,
        // Both parts of the answer have what the receipt covers.
        Some((actor_id, topic)) => {
            let freshness = freshness(api, topic, after).await?;
            Some((reactions::viewer(api, actor_id, ids).await?, freshness))
        }
    };
    let (counters, mut freshness) = read(api, ids, after).await?;
    let items = ids.iter().zip(counters).map(|(id, counters)| SubjectCounters::new(api, (*id).to_owned(), counters));
    let mut items: Vec<_> = items.collect();
    if let Some((viewers, of_viewer)) = of_viewer {
        freshness = freshness.least(of_viewer);
        for (item, viewer) in items.iter_mut().zip(viewers) {
            item.viewer = Some(viewer);
        }
    }
    Ok((items, freshness))
}

impl SubjectAnswer {
    pub(crate) fn new(api: &Api, subject_id: String, counters: Arc<CachedCounters>, freshness: Freshness) -> Self {
        Self { subject: SubjectCounters::new(api, subject_id, counters), freshness }
    }
}

impl SubjectCounters {
    fn new(api: &Api, subject_id: String, counters: Arc<CachedCounters>) -> Self {
        let counters = AllTotals::new(&api.loader.template, counters);
        Self { subject_id, approximate: Approximate(counters.clone()), counters, viewer: None }
    }
}

/// What was read, in the order asked.
type Read = (Vec<Arc<CachedCounters>>, Freshness);

/// Where the cache in the process has all of it.
fn read_cache(api: &Api, ids: &[&str]) -> Option<Read> {
    let cache = api.loader.cache.as_deref()?;
    let serving = cache.serving()?;
    let mut counters = Vec::with_capacity(ids.len());
    let mut clock_ms = i64::MAX;
    for id in ids {
        // The position before the totals: they are at least as new.
        clock_ms = serving.position(api.loader.partition(id))?.clock_ms.min(clock_ms);
        counters.push(cache.get(id)?);
    }
    api.loader.metrics.memory.hits.inc_by(ids.len() as u64);
    Some((counters, Freshness::new(clock_ms)))
}

/// Reads each subject from the first store that has it, and says what holds for all of them.
pub(crate) async fn read(api: &Arc<Api>, ids: &[&str], after: Option<&After>) -> Result<Read, ApiProblem> {
    if after.is_none()
        && let Some(read) = read_cache(api, ids)
    {
        return Ok(read);
    }
    let started = Instant::now();
    let mut answers = HashMap::with_capacity(ids.len());
    if let Some(after) = after {
        wait_for_cache(api, ids, after).await;
    }
    let mut missing = Vec::new();
    for id in ids {
        if answers.contains_key(id) {
            continue;
        }
        let is_enough = |answer: &Answer| after.is_none_or(|after| covers(&answer.roots, &after.receipt));
        match api.loader.cached(id).or_else(|| api.loader.absent(id).filter(is_enough)) {
            Some(answer) => drop(answers.insert(*id, answer)),
            None => missing.push(*id),
        }
    }
    missing.sort_unstable();
    missing.dedup();
    let mut is_late = false;
    while !missing.is_empty() {
        for (id, loaded) in missing.iter().zip(api.loader.load(&missing).await) {
            answers.insert(*id, loaded?);
        }
        let Some(after) = after.filter(|_| !is_late) else { break };
        // Even then they are asked once how far they are now: what was loaded may have been judged by a moment ago.
        is_late = Instant::now() >= after.deadline;
        missing = wait_for_stores(api, missing, &answers, after).await;
    }
    let covered = |after: &After| answers.values().all(|answer| covers(&answer.roots, &after.receipt));
    let is_covered = after.map(|after| {
        api.loader.metrics.wait_seconds.observe(started.elapsed().as_secs_f64());
        covered(after)
    });
    let oldest = answers.values().map(|answer| clock_ms(&answer.roots).unwrap_or(0)).min().unwrap_or(0);
    let stale = answers.values().any(|answer| answer.store == Store::LastKnown);
    let counters = ids.iter().map(|id| answers.get(id).map(|answer| answer.counters.clone()));
    let counters = counters.collect::<Option<_>>().ok_or_else(ApiProblem::internal)?;
    let freshness = Freshness::new(oldest).judged(is_covered);
    Ok((counters, if stale { freshness.of_last_known() } else { freshness }))
}

/// The cache is as far as the last of these partitions that it serves, or the deadline has come. A subject that nobody
/// has touched before the receipt's events appears there with them.
async fn wait_for_cache(api: &Api, ids: &[&str], after: &After) {
    let Some(cache) = api.loader.cache.as_deref() else { return };
    let mut partitions = partitions(api, ids);
    let Some(serving) = cache.serving() else { return };
    partitions.retain(|partition| serving.position(partition).is_some());
    let wanted = |id: &&str| cache.follows(id);
    // One that follows only what was asked for knows nothing of others: they need not wait for it.
    if ids.iter().any(wanted) {
        after.wait_for_cache(cache, &partitions).await;
    }
}

/// Waits for the stores whose answers do not contain what the receipt covers. Says what to load again.
async fn wait_for_stores<'a>(
    api: &Api,
    mut ids: Vec<&'a str>,
    answers: &HashMap<&str, Answer>,
    after: &After,
) -> Vec<&'a str> {
    ids.retain(|id| answers.get(id).is_some_and(|answer| !covers(&answer.roots, &after.receipt)));
    let mut again = Vec::new();
    for store in [Store::Redis, Store::Database] {
        let of_store: Vec<&str> = ids.iter().copied().filter(|id| answers[id].store == store).collect();
        if !of_store.is_empty()
            && api.loader.wait(store, &partitions(api, &of_store), &after.receipt, after.deadline).await
        {
            again.extend(of_store);
        }
    }
    again
}

fn partitions<'a>(api: &'a Api, ids: &[&str]) -> Vec<&'a TopicPartition> {
    let mut partitions: Vec<_> = ids.iter().map(|id| api.loader.partition(id)).collect();
    partitions.sort_unstable();
    partitions.dedup();
    partitions
}
