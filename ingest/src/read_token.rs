//! What a `read` has to prove.
//!
//! The timer of a page can be set to whatever its reader likes. So the service signs when the page is opened, and a read is
//! trusted for no longer than has gone by since.

use crate::invalid::InvalidEvent;
use tally_model::{EventFields, ReadToken, ReceiptKey, Scalar};

/// The type of event that carries tokens.
pub(crate) const EVENT_TYPE: &str = "read";
/// The property that holds one.
const PROPERTY: &str = "read_token";
<<<<<<< HEAD
=======
/// Two ids, and room for how they are written.
const BODY_BYTES_MAX: usize = 4 << 10;

/// A page is opened. Its schema is in `schema.rs`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PageOpened {
    /// What is read.
    subject_id: String,
    /// Who reads; by default the `sub` of the JWT, or nobody in particular.
    #[serde(default)]
    actor_id: Option<String>,
}

/// Proof of when a page was opened.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignedReadToken {
    /// For `properties.read_token` of the `read` event.
    token: String,
    /// When it stops being good.
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
pub(crate) async fn post_read_token(
    State(door): State<Door>,
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
    let token = ReadToken { signed_at_ms: door.now_ms()?, subject_id: opened.subject_id, actor_id };
    Ok(Json(SignedReadToken { token: token.encode(door.key()), expires_at: format_ms(token.expires_at_ms()) }))
}
>>>>>>> 30f839c (API: descriptions of routes and fields in plain English)

/// Takes the token out of a read, and refuses what it does not prove.
pub(crate) fn check(
    fields: &mut EventFields<'_>,
    key: &ReceiptKey,
    now_ms: i64,
    required: bool,
) -> Result<(), InvalidEvent> {
    let refused = |reason: &'static str| Err(InvalidEvent::field("properties", reason));
    let token = match fields.take_property(PROPERTY)? {
        None if required => {
            return refused("needs `read_token`: request one from POST /v1/read-tokens when the page opens");
        }
        None => return Ok(()),
        Some(Scalar::Text(text)) => ReadToken::decode(&text, key),
        Some(_) => None,
    };
    let Some(token) = token else { return refused("has a `read_token` that this service did not sign") };
    if Some(&*token.subject_id) != fields.subject_id.as_deref() {
        return refused("has a `read_token` for another subject");
    }
    if token.actor_id.as_deref() != fields.actor_id.as_deref() {
        return refused("has a `read_token` for another actor");
    }
    if now_ms >= token.expires_at_ms() {
        return refused("has a `read_token` that has expired");
    }
    match fields.duration_ms {
        Some(duration_ms) if duration_ms > now_ms.saturating_sub(token.signed_at_ms) => {
            Err(InvalidEvent::field("duration_ms", "is longer than the time since its `read_token` was signed"))
        }
        _ => Ok(()),
    }
}
