//! Who has switched something on for a subject, what an actor has switched on, and what a viewer has: out of the
//! database's `reactions`.

use crate::after::After;
use crate::api::Api;
use crate::config::OutputTopic;
use crate::counters::Freshness;
use crate::cursor::Cursor;
use crate::database::{DatabaseProgress, Page};
use crate::query::{Query, refused};
use crate::roots::{applied, is_applied};
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use serde::Serialize;
use std::sync::Arc;
use tally_http::ApiProblem;
use tally_model::{check_actor_id, format_ms};
use utoipa::ToSchema;

/// Items of a page: the most, and where nothing is asked for.
const LIMIT_MAX: usize = 100;
const LIMIT_DEFAULT: usize = 50;

/// Actors who have switched a metric on for a subject, newest first.
#[derive(Serialize, ToSchema)]
pub struct ActorsAnswer {
    /// The subject.
    subject_id: String,
    /// The metric.
    metric: String,
    /// At most `limit`.
    items: Vec<ActorItem>,
    /// The cursor of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    #[serde(flatten)]
    freshness: Freshness,
}

/// An actor, and since when.
#[derive(Serialize, ToSchema)]
pub struct ActorItem {
    /// The actor.
    actor_id: String,
    /// When it was switched on (RFC 3339).
    occurred_at: String,
}

/// Subjects that an actor has switched a metric on for, newest first.
#[derive(Serialize, ToSchema)]
pub struct SubjectsOfActorAnswer {
    /// The actor.
    actor_id: String,
    /// The metric.
    metric: String,
    /// At most `limit`.
    items: Vec<SubjectItem>,
    /// The cursor of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    #[serde(flatten)]
    freshness: Freshness,
}

/// A subject, and since when.
#[derive(Serialize, ToSchema)]
pub struct SubjectItem {
    /// The subject.
    subject_id: String,
    /// When it was switched on (RFC 3339).
    occurred_at: String,
}

/// Who likes a subject: the actors who have switched a metric on, newest first.
///
/// A page goes on where the one before ended, whatever came or went meanwhile.
#[utoipa::path(
    get,
    path = "/v1/subjects/{subject_id}/{metric}/actors",
    tag = "reactions",
    params(
        ("subject_id" = String, Path, description = "`kind:id`, percent-encoded"),
        ("metric" = String, Path, description = "A metric that actors switch on and off: a `toggle` of the topology"),
        ("limit" = Option<u32>, Query, description = "1 to 100; 50 by default"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("after" = Option<String>, Query, description = "A receipt: waits until what it covers is visible"),
        ("wait_ms" = Option<u64>, Query, description = "How long at most; 1000 by default, up to 10000"),
    ),
    responses(
        (status = 200, description = "The actors; none where nobody has", body = ActorsAnswer),
        (status = 400, description = "An id, cursor, receipt or parameter that is not valid", body = ApiProblem, content_type = "application/problem+json"),
        (status = 404, description = "No such metric", body = ApiProblem, content_type = "application/problem+json"),
        (status = 410, description = "A receipt of a log that was replaced", body = ApiProblem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn actors(
    State(api): State<Arc<Api>>,
    path: Result<Path<(String, String)>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Json<ActorsAnswer>, ApiProblem> {
    let Path((subject_id, metric)) = path.map_err(|_| refused("The path", "is not percent-encoded UTF-8"))?;
    crate::query::subject_id(&subject_id)?;
    let (page, next, freshness) = page(&api, Page::actors_of(&subject_id), &metric, query.as_deref()).await?;
    let item = |(actor_id, time_ms)| ActorItem { actor_id, occurred_at: format_ms(time_ms) };
    Ok(Json(ActorsAnswer { subject_id, metric, items: page.into_iter().map(item).collect(), next, freshness }))
}

/// What an actor likes: the subjects that it has switched a metric on for, newest first.
///
/// A page goes on where the one before ended, whatever came or went meanwhile.
#[utoipa::path(
    get,
    path = "/v1/actors/{actor_id}/{metric}/subjects",
    tag = "reactions",
    params(
        ("actor_id" = String, Path, description = "Percent-encoded"),
        ("metric" = String, Path, description = "A metric that actors switch on and off: a `toggle` of the topology"),
        ("limit" = Option<u32>, Query, description = "1 to 100; 50 by default"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("after" = Option<String>, Query, description = "A receipt: waits until what it covers is visible"),
        ("wait_ms" = Option<u64>, Query, description = "How long at most; 1000 by default, up to 10000"),
    ),
    responses(
        (status = 200, description = "The subjects; none where there is nothing", body = SubjectsOfActorAnswer),
        (status = 400, description = "An id, cursor, receipt or parameter that is not valid", body = ApiProblem, content_type = "application/problem+json"),
        (status = 404, description = "No such metric", body = ApiProblem, content_type = "application/problem+json"),
        (status = 410, description = "A receipt of a log that was replaced", body = ApiProblem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn subjects(
    State(api): State<Arc<Api>>,
    path: Result<Path<(String, String)>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Json<SubjectsOfActorAnswer>, ApiProblem> {
    let Path((actor_id, metric)) = path.map_err(|_| refused("The path", "is not percent-encoded UTF-8"))?;
    actor(&actor_id)?;
    let (page, next, freshness) = page(&api, Page::subjects_of(&actor_id), &metric, query.as_deref()).await?;
    let item = |(subject_id, time_ms)| SubjectItem { subject_id, occurred_at: format_ms(time_ms) };
    Ok(Json(SubjectsOfActorAnswer { actor_id, metric, items: page.into_iter().map(item).collect(), next, freshness }))
}

/// An actor's id by the rules, or which of them it breaks.
pub fn actor(text: &str) -> Result<(), ApiProblem> {
    check_actor_id(text).map_err(|rule| refused(&format!("`actor_id` {text:?}"), rule))
}

/// Items and the cursor behind them.
type Items = (Vec<(String, i64)>, Option<String>, Freshness);

async fn page(api: &Arc<Api>, page: Page<'_>, metric: &str, query: Option<&str>) -> Result<Items, ApiProblem> {
    let reactions = reactions(api, metric)?;
    let query = Query::parse(query, &["limit", "cursor", "after", "wait_ms"])?;
    let limit = limit(&query)?;
    let of = format!("{page:?}\0{metric}");
    let cursor = query.one("cursor")?.map(|text| {
        let cursor = Cursor::decode(text, &of, &api.receipt_key);
        cursor.ok_or_else(|| refused("`cursor`", "is not one that this service gave out for this list"))
    });
    let cursor = cursor.transpose()?;
    let after = After::parse(api, &query)?;
    let freshness = freshness(api, reactions, after.as_ref()).await?;
    // One more tells whether there is a next page.
    let mut items = api.database.page(page, metric, cursor.as_ref(), limit + 1).await?;
    let more = items.len() > limit;
    items.truncate(limit);
    let last = items.last().filter(|_| more);
    let next = last.map(|(id, time_ms)| Cursor { order: *time_ms, id: id.clone() }.encode(&of, &api.receipt_key));
    Ok((items, next, freshness))
}

/// The topic of reactions, where this is a metric that it has.
fn reactions<'a>(api: &'a Api, metric: &str) -> Result<&'a OutputTopic, ApiProblem> {
    let known = &api.config.toggles;
    let topic = api.config.reactions.as_ref().filter(|_| known.iter().any(|known| known == metric));
    topic.ok_or_else(|| {
        let known: Vec<_> = known.iter().map(|known| format!("`{known}`")).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        ApiProblem::not_found(format!("`{metric}` is no metric that actors switch on and off; those are: {known}."))
    })
}

/// How many items a page may have.
pub fn limit(query: &Query<'_>) -> Result<usize, ApiProblem> {
    let Some(text) = query.one("limit")? else { return Ok(LIMIT_DEFAULT) };
    let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| refused("`limit`", &format!("must be a number from 1 to {LIMIT_MAX}")))
}

/// Of when the rows are that are read afterwards, once what a receipt covers is there or its time is over.
pub async fn freshness(api: &Arc<Api>, topic: &OutputTopic, after: Option<&After>) -> Result<Freshness, ApiProblem> {
    let state = match after {
        None => None,
        Some(After { receipt, deadline }) => {
            let covered = |progress: &DatabaseProgress| is_applied(topic, progress, receipt);
            Some(if api.database.wait(*deadline, covered).await? { "applied" } else { "pending" })
        }
    };
    let progress = api.database.progress().await?;
    let clocks = (0..api.config.input_partitions)
        .map(|partition| applied(topic, partition, |p| progress.roots(&topic.name, p)).map_or(0, |root| root.clock_ms));
    let mut freshness = Freshness::new(clocks.min().unwrap_or(0));
    freshness.after = state;
    Ok(freshness)
}

/// What a viewer has switched on, of the subjects asked for.
pub async fn viewer(api: &Arc<Api>, actor_id: &str, subjects: &[&str]) -> Result<Vec<Viewer>, ApiProblem> {
    let on = api.database.switched_on(actor_id, &api.config.toggles, subjects).await?;
    let of = |subject: &&str| {
        let metrics = api.config.toggles.iter();
        Viewer(metrics.map(|metric| (metric.clone(), on.contains(&((*subject).to_owned(), metric.clone())))).collect())
    };
    Ok(subjects.iter().map(of).collect())
}

/// By metric: whether the viewer has switched it on.
#[derive(Serialize, ToSchema)]
#[schema(value_type = std::collections::HashMap<String, bool>)]
pub struct Viewer(std::collections::BTreeMap<String, bool>);
