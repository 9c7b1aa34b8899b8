//! The proof of a `read`.
//!
//! A client can report any duration. So the service signs a token when the page is opened, and a read is accepted for
//! no longer than the time since.

use crate::invalid::InvalidEvent;
use tally_model::{EventFields, ReadToken, ReceiptKey, Scalar};

/// The type of event that carries tokens.
pub(crate) const EVENT_TYPE: &str = "read";
/// The property that holds one.
const PROPERTY: &str = "read_token";

/// Removes the token from a read, and rejects a read that it does not prove.
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
