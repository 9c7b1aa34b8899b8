//! `PUT` and `DELETE /v1/subjects/{subject_id}/collects/{actor_id}`.

use super::described::{Responses, problems};
use super::query::{InPath, Query, actor_id as check_actor_id, in_path};
use super::reader::Reader;
use crate::collects::{Caller, Collect, Collected, Collects};
use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use serde::Serialize;
use std::sync::Arc;
use tally_access::{Access, Principal, Routes, Scope};
use tally_http::{ApiProblem, peer_of};
use utoipa::{IntoParams, IntoResponses, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The path of the route.
pub const PATH: &str = "/v1/subjects/{subject_id}/collects/{actor_id}";

/// What is so now.
#[derive(Serialize, ToSchema)]
pub struct CollectAnswer {
    /// The subject.
    pub subject_id: String,
    /// The actor.
    pub actor_id: String,
    /// Whether the actor has collected the subject.
    pub active: bool,
    /// Number of actors who have collected the subject, right after this change.
    pub count: i64,
    /// For `after` on reads of counters and boards. Null if nothing changed, or if the log did not confirm the change
    /// within 0.5 s; the change is stored anyway and reaches the log later.
    #[schema(required = true)]
    pub receipt: Option<String>,
}

/// The parameters of both routes.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code, reason = "only described")]
struct CollectPath {
    /// `kind:id`, percent-encoded
    subject_id: String,
    /// Percent-encoded
    actor_id: String,
}

/// The problems of both routes.
enum CollectProblems {}

impl IntoResponses for CollectProblems {
    fn responses() -> Responses {
        problems([
            (400, "Invalid id or parameter"),
            (429, "Over a limit; see Retry-After"),
            (503, "The database does not respond, or the server's clock is in doubt; see Retry-After"),
        ])
    }
}

/// A route that switches a collect on or off.
macro_rules! route {
    ($(#[doc = $doc:tt])* $method:ident, $operation_id:literal, $active:literal) => {
        $(#[doc = $doc])*
        ///
        /// The state and its count change in one database transaction before the response is sent. The request is
        /// idempotent.
        #[utoipa::path(
            $method,
            path = "/v1/subjects/{subject_id}/collects/{actor_id}",
            operation_id = $operation_id,
            tag = "collects",
            params(CollectPath),
            responses((status = 200, description = "The state after the request", body = CollectAnswer), CollectProblems),
        )]
        async fn $method(
            State(collects): State<Arc<Collects>>,
            path: InPath<(String, String)>,
            reader: Reader,
            parts: Parts,
        ) -> Result<Json<CollectAnswer>, ApiProblem> {
            set(&collects, (&parts, &reader), path, $active).await
        }
    };
}

route! {
    /// Collect a subject.
    put, "collect", true
}

route! {
    /// Undo a collect.
    delete, "uncollect", false
}

/// Switches a collect for the caller of a request.
pub async fn set(
    collects: &Collects,
    (parts, reader): (&Parts, &Reader),
    path: InPath<(String, String)>,
    active: bool,
) -> Result<Json<CollectAnswer>, ApiProblem> {
    Query::parse(parts.uri.query(), &[])?;
    let (subject_id, actor_id) = in_path(path, "The path")?;
    reader.check(&subject_id)?;
    check_actor_id(&actor_id)?;
    let ip = peer_of(&parts.extensions).map(|peer| collects.trusted_proxies().caller(peer, &parts.headers).to_string());
    let caller = Caller {
        principal: parts.extensions.get::<Arc<Principal>>().map(|principal| &**principal),
        ip: ip.as_deref().unwrap_or_default(),
    };
    let collect = Collect { subject_id: &subject_id, actor_id: &actor_id, active };
    let Collected { count, receipt } = collects.set(collect, caller).await?;
    Ok(Json(CollectAnswer { subject_id, actor_id, active, count, receipt }))
}

/// The routes, described for `/openapi.json`.
pub fn collects_router(collects: Arc<Collects>) -> Routes {
    let routes = OpenApiRouter::new().routes(routes!(put, delete)).with_state(collects);
    Routes::new(Access::Needs(Scope::Write), routes)
}
