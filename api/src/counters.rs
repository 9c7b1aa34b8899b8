//! `GET /v1/subjects/{subject_id}/counters` and `GET /v1/counters`.

use crate::after::After;
use crate::api::Api;
use crate::cache::{CountersCache, Totals};
use crate::query::{Query, refused, subject_id};
use crate::roots::clock_ms;
use crate::totals::AllTotals;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tally_http::ApiProblem;
use tally_model::format_ms;
use tally_streams::log::partition_of;
use utoipa::ToSchema;

/// Subjects in one request.
const SUBJECTS_MAX: usize = 100;

/// The totals of one subject.
#[derive(Serialize, ToSchema)]
pub struct SubjectCounters {
    /// The subject.
    subject_id: String,
    /// Every metric of the topology; zero where nobody touched it.
    #[schema(value_type = HashMap<String, i64>)]
    counters: AllTotals,
    /// The metrics above that are estimates (about 1 %).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, required = false)]
    approximate: Vec<Arc<str>>,
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

/// Of when an answer is.
#[derive(Serialize, ToSchema)]
pub struct Freshness {
    /// Everything that the log had taken until then is contained (RFC 3339). 1970 where nothing was read from it yet.
    as_of: String,
    /// Whether what the receipt covers is contained: `applied`, or `pending` where it did not come in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'static str>,
}

/// The totals of a subject.
#[utoipa::path(
    get,
    path = "/v1/subjects/{subject_id}/counters",
    tag = "counters",
    params(
        ("subject_id" = String, Path, description = "`kind:id`, percent-encoded"),
        ("after" = Option<String>, Query, description = "A receipt: waits until what it covers is visible"),
        ("wait_ms" = Option<u64>, Query, description = "How long at most; 1000 by default, up to 10000"),
    ),
    responses(
        (status = 200, description = "The totals; zeros where nobody touched the subject", body = SubjectAnswer),
        (status = 400, description = "An id, receipt or parameter that is not valid", body = ApiProblem, content_type = "application/problem+json"),
        (status = 410, description = "A receipt of a log that was replaced", body = ApiProblem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn subject_counters(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Json<SubjectAnswer>, ApiProblem> {
    let Path(id) = path.map_err(|_| refused("`subject_id`", "is not percent-encoded UTF-8"))?;
    subject_id(&id)?;
    let query = Query::parse(query.as_deref(), &["after", "wait_ms"])?;
    let after = After::parse(&api, &query)?;
    let (mut items, freshness) = read(&api, &[&id], after).await?;
    let subject = items.pop().ok_or_else(ApiProblem::internal)?;
    Ok(Json(SubjectAnswer { subject, freshness }))
}

/// The totals of up to 100 subjects.
#[utoipa::path(
    get,
    path = "/v1/counters",
    tag = "counters",
    params(
        ("subject_id" = Vec<String>, Query, description = "1 to 100 times; the answer keeps the order"),
        ("after" = Option<String>, Query, description = "A receipt: waits until what it covers is visible"),
        ("wait_ms" = Option<u64>, Query, description = "How long at most; 1000 by default, up to 10000"),
    ),
    responses(
        (status = 200, description = "The totals", body = SubjectsAnswer),
        (status = 400, description = "An id, receipt or parameter that is not valid", body = ApiProblem, content_type = "application/problem+json"),
        (status = 410, description = "A receipt of a log that was replaced", body = ApiProblem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn many_counters(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
) -> Result<Json<SubjectsAnswer>, ApiProblem> {
    let query = Query::parse(query.as_deref(), &["subject_id", "after", "wait_ms"])?;
    let ids = query.all("subject_id");
    if ids.is_empty() || ids.len() > SUBJECTS_MAX {
        return Err(refused("`subject_id`", &format!("must be given 1 to {SUBJECTS_MAX} times, not {}", ids.len())));
    }
    ids.iter().try_for_each(|id| subject_id(id))?;
    let after = After::parse(&api, &query)?;
    let (items, freshness) = read(&api, &ids, after).await?;
    Ok(Json(SubjectsAnswer { items, freshness }))
}

/// What has been found so far, and what holds for all of it.
struct Found<'a> {
    totals: HashMap<&'a str, Totals>,
    clock_ms: i64,
    applied: bool,
}

async fn read(
    api: &Arc<Api>,
    ids: &[&str],
    after: Option<After>,
) -> Result<(Vec<SubjectCounters>, Freshness), ApiProblem> {
    let started = Instant::now();
    let mut found = Found { totals: HashMap::with_capacity(ids.len()), clock_ms: i64::MAX, applied: true };
    if let Some(cache) = api.cache.as_deref().filter(|cache| cache.ready()) {
        read_cache(api, cache, ids, after.as_ref(), &mut found).await;
    }
    let mut missing: Vec<&str> = ids.iter().copied().filter(|id| !found.totals.contains_key(id)).collect();
    missing.sort_unstable();
    missing.dedup();
    if !missing.is_empty() {
        read_database(api, &missing, after.as_ref(), &mut found).await?;
    }
    let after = after.map(|_| {
        api.metrics.wait_seconds.observe(started.elapsed().as_secs_f64());
        if found.applied { "applied" } else { "pending" }
    });
    let item = |id: &&str| {
        let counters = api.template.fill(found.totals.get(id).cloned().unwrap_or_default());
        SubjectCounters { subject_id: (*id).to_owned(), approximate: api.template.approximate(&counters), counters }
    };
    let as_of = format_ms(found.clock_ms.max(0));
    Ok((ids.iter().map(item).collect(), Freshness { as_of, after }))
}

/// Takes what the cache has.
async fn read_cache<'a>(
    api: &Api,
    cache: &dyn CountersCache,
    ids: &[&'a str],
    after: Option<&After>,
    found: &mut Found<'a>,
) {
    let applied = match after {
        Some(after) => after.wait_for_cache(cache, &partitions(api, ids)).await,
        None => true,
    };
    for id in ids {
        if found.totals.contains_key(id) {
            continue;
        }
        let roots = cache.roots(partition_of(id.as_bytes(), api.config.counters_partitions));
        if let Some(totals) = cache.get(id) {
            found.totals.insert(id, totals);
            found.clock_ms = found.clock_ms.min(clock_ms(&roots).unwrap_or(0));
            // Subjects that miss are judged by the database.
            found.applied &= applied;
            api.metrics.cache_reads.inc();
        }
    }
}

/// Takes the rest; a subject without rows was never touched.
async fn read_database<'a>(
    api: &Arc<Api>,
    ids: &[&'a str],
    after: Option<&After>,
    found: &mut Found<'a>,
) -> Result<(), ApiProblem> {
    let partitions = partitions(api, ids);
    if let Some(after) = after {
        found.applied &= after.wait_for_database(api, &partitions).await?;
    }
    let progress = api.database.progress().await?;
    for partition in partitions {
        let roots = progress.roots(&api.config.counters_topic, partition);
        found.clock_ms = found.clock_ms.min(clock_ms(&roots).unwrap_or(0));
    }
    let mut totals = api.database.totals(ids).await?;
    for id in ids {
        found.totals.insert(id, totals.remove(*id).unwrap_or_default());
    }
    api.metrics.database_reads.inc_by(ids.len() as u64);
    Ok(())
}

fn partitions(api: &Api, ids: &[&str]) -> Vec<u32> {
    let partition = |id: &&str| partition_of(id.as_bytes(), api.config.counters_partitions);
    let mut partitions: Vec<u32> = ids.iter().map(partition).collect();
    partitions.sort_unstable();
    partitions.dedup();
    partitions
}
