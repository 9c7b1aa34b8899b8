//! Who has switched something on for a subject, and what an actor has switched on: out of the database's `reactions` and
//! `collects`.

use super::after::after;
use super::described::{AfterParams, AfterResponses, PageParams, Responses, problems};
use super::paging::paging;
use super::query::{self, InPath, Query, in_path, listed};
use super::reader::Reader;
use super::reply::{Has, Keep};
use crate::config::OutputTopic;
use crate::database::{Page, Switched};
use crate::reads::freshness::Freshness;
use crate::state::Api;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::ALLOW;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use tally_http::ApiProblem;
use tally_model::format_ms;
use utoipa::{IntoParams, IntoResponses, ToSchema};

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
    #[schema(nullable = false)]
    next: Option<String>,
    #[serde(flatten)]
    freshness: Freshness,
}

/// An actor and the time of its like.
#[derive(Serialize, ToSchema)]
pub struct ActorItem {
    /// The actor.
    actor_id: String,
    /// When the toggle was activated (RFC 3339).
    occurred_at: String,
}

/// Subjects of an actor's active toggles, newest first.
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
    #[schema(nullable = false)]
    next: Option<String>,
    #[serde(flatten)]
    freshness: Freshness,
}

/// A subject and the time of the like.
#[derive(Serialize, ToSchema)]
pub struct SubjectItem {
    /// The subject.
    subject_id: String,
    /// When the toggle was activated (RFC 3339).
    occurred_at: String,
}

/// The parameter of both lists, besides the id.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code, reason = "only described")]
struct ToggleParam {
    /// A metric of a `toggle` of the topology
    metric: String,
}

/// The responses of both lists, besides the list.
enum ListResponses {}

impl IntoResponses for ListResponses {
    fn responses() -> Responses {
        let mut all = AfterResponses::responses();
        all.extend(problems([(400, "Invalid id, cursor, receipt or parameter"), (404, "No such metric")]));
        all
    }
}

/// The actors who like a subject, newest first; likewise for the other toggles.
///
/// Pages continue after the last item of the previous page, whatever changed in between.
#[utoipa::path(
    get,
    path = "/v1/subjects/{subject_id}/{metric}/actors",
    tag = "reactions",
    params(("subject_id" = String, Path, description = "`kind:id`, percent-encoded"), ToggleParam, PageParams, AfterParams),
    responses((status = 200, description = "The actors; empty if there are none", body = ActorsAnswer), ListResponses),
)]
pub async fn actors(
    State(api): State<Arc<Api>>,
    path: InPath<(String, String)>,
    RawQuery(query): RawQuery,
    reader: Reader,
    has: Has,
) -> Result<Response, ApiProblem> {
    let (subject_id, metric) = in_path(path, "The path")?;
    reader.check(&subject_id)?;
    let item = |actor_id, occurred_at| ActorItem { actor_id, occurred_at };
    let (items, next, freshness) = page(&api, Page::actors_of(&subject_id), &metric, query.as_deref(), item).await?;
    let keep = Keep::Asking.unless_singular(&freshness);
    has.reply(&ActorsAnswer { subject_id, metric, items, next, freshness }, keep)
}

/// The list of the metric that the database owns: its path is also that of the write for an actor of this name.
pub async fn owned_actors(
    state: State<Arc<Api>>,
    path: InPath<(String, String)>,
    query: RawQuery,
    reader: Reader,
    has: Has,
) -> Response {
    match path {
        Ok(Path((subject_id, list))) if list == "actors" => {
            let metric = state.reads.config.collects.clone().unwrap_or_default();
            actors(state, Ok(Path((subject_id, metric))), query, reader, has).await.into_response()
        }
        Ok(_) => {
            let detail = "This path supports PUT and DELETE; GET `…/collects/actors` lists who collected the subject.";
            let status = StatusCode::METHOD_NOT_ALLOWED;
            let problem = ApiProblem::new(status, "method-not-allowed", "Method Not Allowed", detail);
            ([(ALLOW, "PUT,DELETE")], problem).into_response()
        }
        Err(path) => actors(state, Err(path), query, reader, has).await.into_response(),
    }
}

/// The subjects that an actor likes, newest first; likewise for the other toggles. Without the scope `admin`, subjects of
/// private kinds are left out.
///
/// Pages continue after the last item of the previous page, whatever changed in between.
#[utoipa::path(
    get,
    path = "/v1/actors/{actor_id}/{metric}/subjects",
    tag = "reactions",
    params(("actor_id" = String, Path, description = "Percent-encoded"), ToggleParam, PageParams, AfterParams),
    responses((status = 200, description = "The subjects; empty if there are none", body = SubjectsOfActorAnswer), ListResponses),
)]
pub async fn subjects(
    State(api): State<Arc<Api>>,
    path: InPath<(String, String)>,
    RawQuery(query): RawQuery,
    reader: Reader,
    has: Has,
) -> Result<Response, ApiProblem> {
    let (actor_id, metric) = in_path(path, "The path")?;
    query::actor_id(&actor_id)?;
    let item = |subject_id, occurred_at| SubjectItem { subject_id, occurred_at };
    let (mut items, next, freshness) =
        page(&api, Page::subjects_of(&actor_id), &metric, query.as_deref(), item).await?;
    items.retain(|item| reader.may_read(&item.subject_id));
    let keep = Keep::Own.unless_singular(&freshness);
    has.reply(&SubjectsOfActorAnswer { actor_id, metric, items, next, freshness }, keep)
}

/// A page as `item` makes its items of an id and a time; the cursor behind it, and of when it is.
async fn page<T>(
    api: &Arc<Api>,
    page: Page<'_>,
    metric: &str,
    query: Option<&str>,
    item: impl Fn(String, String) -> T,
) -> Result<(Vec<T>, Option<String>, Freshness), ApiProblem> {
    let (topic, switched) = switched(api, metric)?;
    let query = Query::parse(query, &["limit", "cursor", "after", "wait_ms"])?;
    let paging = paging(api, &query, format!("{page:?}\0{metric}"), "list")?;
    let after = after(api, &query)?;
    let freshness = api.reads.database_freshness(topic, after.as_ref()).await?;
    let behind = paging.cursor.as_ref().map(|cursor| (cursor.order, cursor.id.as_str()));
    let mut found = api.reads.database.page(page, switched, behind, paging.limit + 1).await?;
    let next = paging.cut(&api.receipt_key, &mut found, |(id, time_ms)| (*time_ms, id.clone()));
    Ok((found.into_iter().map(|(id, time_ms)| item(id, format_ms(time_ms))).collect(), next, freshness))
}

/// Where the rows of a metric are, and the topic whose progress limits their age.
fn switched<'a>(api: &'a Api, metric: &'a str) -> Result<(&'a OutputTopic, Switched<'a>), ApiProblem> {
    let (known, owned) = (&api.reads.config.toggles, api.reads.config.collects.as_deref());
    let found = match owned == Some(metric) {
        true => api.reads.config.switched_topic().map(|topic| (topic, Switched::Collects)),
        false => api
            .reads
            .config
            .reactions
            .as_ref()
            .filter(|_| known.iter().any(|known| known == metric))
            .map(|topic| (topic, Switched::Reactions(metric))),
    };
    found.ok_or_else(|| {
        let known: Vec<_> = known.iter().map(String::as_str).chain(owned).collect();
        let known = listed(&known);
        ApiProblem::not_found(format!("`{metric}` is not a toggle metric; toggle metrics: {known}."))
    })
}
