//! `GET /v1/subjects/{subject_id}/counters` and `GET /v1/counters`.

use super::after::after;
use super::described::{AfterParams, AfterResponses};
use super::query::{self, InPath, Query, in_path, refused};
use super::reader::Reader;
use super::reply::{Has, Keep};
use super::series::{SeriesAnswer, series};
use crate::answers::counters::{SubjectAnswer, SubjectCounters, items};
use crate::reads::freshness::Freshness;
use crate::state::Api;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;
use tally_http::ApiProblem;
use utoipa::ToSchema;

/// Subjects in one request.
const SUBJECTS_MAX: usize = 100;

/// The totals of several subjects, in the order of the request.
#[derive(Serialize, ToSchema)]
pub struct SubjectsAnswer {
    /// One per `subject_id` of the request.
    items: Vec<SubjectCounters>,
    #[serde(flatten)]
    freshness: Freshness,
}

/// The requested form: the totals of a subject, or with `window` the values of each window.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum SubjectReply {
    /// Totals of all time.
    Totals(SubjectAnswer),
    /// In windows.
    Series(SeriesAnswer),
}

/// The totals of a subject, or with `window` its values per window.
#[utoipa::path(
    get,
    path = "/v1/subjects/{subject_id}/counters",
    tag = "counters",
    params(
        ("subject_id" = String, Path, description = "`kind:id`, percent-encoded"),
        ("window" = Option<String>, Query, description = "A window of the topology: returns the values per window. `1d`, `hopping:1h:5m` (length, time between starts), `session:30m` (gap; also `session:30m:12h`), or `sliding:10s`"),
        ("metric" = Option<Vec<String>>, Query, description = "With `window`: only these metrics; may be repeated"),
        ("from" = Option<String>, Query, description = "With `window`: start time, RFC 3339 or milliseconds since 1970; the last 30 windows by default"),
        ("to" = Option<String>, Query, description = "With `window`: end time, exclusive; now by default. At most 1000 windows"),
        AfterParams,
    ),
    responses(
        (status = 200, description = "The totals, or the windows; those of no events for a subject without events", body = SubjectReply),
        (status = 400, description = "Invalid id, time, window, receipt or parameter", body = ApiProblem, content_type = "application/problem+json"),
        AfterResponses,
    ),
)]
pub async fn subject_counters(
    State(api): State<Arc<Api>>,
    path: InPath<String>,
    RawQuery(query): RawQuery,
    reader: Reader,
    has: Has,
) -> Result<Response, ApiProblem> {
    let id = in_path(path, "`subject_id`")?;
    reader.check(&id)?;
    let query = Query::parse(query.as_deref(), &["window", "metric", "from", "to", "after", "wait_ms"])?;
    let after = after(&api, &query)?;
    if query.one("window")?.is_some() {
        let answer = series(&api, id, &query, after).await?;
        let keep = Keep::Briefly.unless_singular(&answer.freshness);
        return has.reply(&SubjectReply::Series(answer), keep);
    }
    if query.one("from")?.is_some() || query.one("to")?.is_some() {
        return Err(refused("`from` and `to`", "require `window`"));
    }
    if !query.all("metric").is_empty() {
        return Err(refused("`metric`", "requires `window`"));
    }
    let (mut totals, freshness) = api.reads.totals(&[&id], after.as_ref()).await?;
    let totals = totals.pop().ok_or_else(ApiProblem::internal)?;
    let keep = Keep::Second.unless_singular(&freshness);
    has.reply(&SubjectReply::Totals(SubjectAnswer::new(&api.reads.template, id, totals, freshness)), keep)
}

/// The totals of up to 100 subjects.
#[utoipa::path(
    get,
    path = "/v1/counters",
    tag = "counters",
    params(
        ("subject_id" = Vec<String>, Query, min_items = 1, max_items = 100, description = "1 to 100 times; the response keeps the order"),
        ("actor_id" = Option<String>, Query, description = "The viewer: each item has this actor's toggles"),
        AfterParams,
    ),
    responses(
        (status = 200, description = "The totals", body = SubjectsAnswer),
        (status = 400, description = "Invalid id, receipt or parameter", body = ApiProblem, content_type = "application/problem+json"),
        AfterResponses,
    ),
)]
pub async fn many_counters(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    reader: Reader,
    has: Has,
) -> Result<Response, ApiProblem> {
    let query = Query::parse(query.as_deref(), &["subject_id", "actor_id", "after", "wait_ms"])?;
    let ids = query.all("subject_id");
    if ids.is_empty() || ids.len() > SUBJECTS_MAX {
        return Err(refused("`subject_id`", &format!("must be given 1 to {SUBJECTS_MAX} times, not {}", ids.len())));
    }
    ids.iter().try_for_each(|id| reader.check(id))?;
    let after = after(&api, &query)?;
    let actor_id = query.one("actor_id")?;
    actor_id.map(query::actor_id).transpose()?;
    let (items, freshness) = items(&api.reads, &ids, actor_id, after.as_ref()).await?;
    let keep = if actor_id.is_some() { Keep::Own } else { Keep::Second }.unless_singular(&freshness);
    has.reply(&SubjectsAnswer { items, freshness }, keep)
}
