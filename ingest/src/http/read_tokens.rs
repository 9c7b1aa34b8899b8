//! `POST /v1/read-tokens`.

use super::{IngestRoutes, schema};
use crate::elements::without_bom;
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tally_access::Principal;
use tally_http::{ApiProblem, MediaType, read_body};
use tally_model::{ReadToken, check_actor_id, check_subject_id, format_ms, from_object};
use utoipa::ToSchema;

/// Two ids, and room for how they are written.
const BODY_BYTES_MAX: usize = 4 << 10;

/// A page is opened. Its schema is in `schema.rs`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PageOpened {
    /// The subject of the page.
    subject_id: String,
    /// The reader; by default the `sub` of the JWT, or an anonymous one.
    #[serde(default)]
    actor_id: Option<String>,
}

/// Proof of when a page was opened.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignedReadToken {
    /// For `properties.read_token` of the `read` event.
    token: String,
    /// When it expires.
    #[schema(example = "2026-11-22T08:00:00.000Z")]
    expires_at: String,
}

/// Issue a read token when a page opens.
///
/// A `read` event with the token in `properties.read_token` is accepted only if at least its `duration_ms` have passed
/// since then, and subject and actor match the token. The property is not stored.
#[utoipa::path(
    post,
    path = "/v1/read-tokens",
    tag = "events",
    request_body = schema::PageOpened,
    responses(
        (status = 200, description = "The token", body = SignedReadToken),
        (status = 400, description = "Not JSON, or an invalid id", body = ApiProblem, content_type = "application/problem+json"),
        (status = 408, description = "Request body timeout", body = ApiProblem, content_type = "application/problem+json"),
        (status = 413, description = "Request body too large", body = ApiProblem, content_type = "application/problem+json"),
        (status = 415, description = "Unsupported media type", body = ApiProblem, content_type = "application/problem+json"),
        (status = 503, description = "The server's clock is in doubt; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn post_read_token(
    State(routes): State<IngestRoutes>,
    request: Request<Body>,
) -> Result<Json<SignedReadToken>, ApiProblem> {
    let (parts, body) = request.into_parts();
    const JSON: &str = "application/json";
    let media = MediaType::of(&parts.headers).map_err(|why| ApiProblem::unsupported_media_type(why, &[JSON]))?;
    if media.as_str() != JSON {
        return Err(ApiProblem::unsupported_media_type(format!("`{}` is not supported", media.as_str()), &[JSON]));
    }
    let body = without_bom(read_body(&parts.headers, body, BODY_BYTES_MAX, |_| Ok(())).await?);
    let opened: PageOpened =
        from_object(&body).map_err(|error| ApiProblem::bad_request(format!("Invalid read-token request: {error}.")))?;
    let wrong = |name: &str| {
        let name = name.to_owned();
        move |rule| ApiProblem::bad_request(format!("`{name}` {rule}."))
    };
    check_subject_id(&opened.subject_id).map_err(wrong("subject_id"))?;
    opened.actor_id.as_deref().map_or(Ok(()), check_actor_id).map_err(wrong("actor_id"))?;
    let principal = parts.extensions.get::<Arc<Principal>>();
    if let (Some(principal), Some(actor_id)) = (principal, &opened.actor_id) {
        principal.check_actor(actor_id)?;
    }
    let own = || principal?.actor.as_deref().map(str::to_owned);
    let actor_id = opened.actor_id.or_else(own);
    let token = ReadToken { signed_at_ms: routes.service.now_ms()?, subject_id: opened.subject_id, actor_id };
    Ok(Json(SignedReadToken {
        token: token.encode(routes.service.key()),
        expires_at: format_ms(token.expires_at_ms()),
    }))
}
