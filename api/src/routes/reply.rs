//! Responses, and how long others may keep them.

use crate::answers::written::Written;
use crate::reads::freshness::Freshness;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;
use std::convert::Infallible;
use tally_http::{ApiProblem, names_tag};

/// What an answer depends on beside its address.
const VARY: HeaderValue = HeaderValue::from_static("authorization, x-api-key");

/// How long an answer may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Not at all: it belongs to one moment or one request.
    Never,
    /// By this client, which revalidates each time.
    Own,
    /// By any cache, which revalidates each time.
    Asking,
    /// By any cache for a second: a client that polls counters wants to see them move.
    Second,
    /// By any cache for a second, and for some more while revalidating.
    Briefly,
}

impl Keep {
    /// For an answer of this freshness: one that waited for a receipt belongs to its request alone, and what was last known
    /// should be requested again.
    pub fn unless_singular(self, freshness: &Freshness) -> Self {
        if freshness.is_singular() { Self::Never } else { self }
    }

    fn cache_control(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Never => "no-store",
            Self::Own => "private, no-cache",
            Self::Asking => "no-cache",
            Self::Second => "max-age=1",
            Self::Briefly => "max-age=1, stale-while-revalidate=5",
        })
    }
}

/// An answer as JSON.
pub fn written<T: Serialize>(answer: &T) -> Result<Written, ApiProblem> {
    Written::of(answer).map_err(|error| {
        tracing::error!(%error, "a response cannot be serialized");
        ApiProblem::internal()
    })
}

/// An answer that is true for a moment only.
pub fn of_moment<T: Serialize>(answer: &T) -> Result<Response, ApiProblem> {
    Has::NOTHING.reply(answer, Keep::Never)
}

/// What the client has: `If-None-Match`.
pub struct Has(Option<HeaderValue>);

impl<S: Sync> FromRequestParts<S> for Has {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.headers.get(header::IF_NONE_MATCH).cloned()))
    }
}

impl Has {
    /// The client has no answer yet.
    pub const NOTHING: Self = Self(None);

    /// The answer; or that the client has it.
    pub fn reply<T: Serialize>(&self, answer: &T, keep: Keep) -> Result<Response, ApiProblem> {
        Ok(self.reply_written(&written(answer)?, keep))
    }

    /// The same of what was written before.
    pub fn reply_written(&self, written: &Written, keep: Keep) -> Response {
        let tag = (keep != Keep::Never).then(|| format!("W/\"{:016x}\"", written.digest()));
        let is_known = tag.as_deref().is_some_and(|tag| self.0.as_ref().is_some_and(|listed| names_tag(listed, tag)));
        let mut response = Response::new(if is_known { Body::empty() } else { Body::from(written.json.clone()) });
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, keep.cache_control());
        if let Some(tag) = tag.and_then(|tag| HeaderValue::try_from(tag).ok()) {
            headers.insert(header::ETAG, tag);
            headers.insert(header::VARY, VARY);
        }
        match is_known {
            true => *response.status_mut() = StatusCode::NOT_MODIFIED,
            false => drop(headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))),
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_of_what_was_found_and_not_of_when() {
        let tag = |value: serde_json::Value| {
            let reply = Has(None).reply(&value, Keep::Briefly).unwrap();
            reply.headers()["etag"].to_str().unwrap().to_owned()
        };
        let of = |likes: i64, as_of: &str| serde_json::json!({"a": [{"as_of": likes}], "as_of": as_of});
        assert_eq!(tag(of(1, "1970")), tag(of(1, "2026")));
        assert_ne!(tag(of(1, "1970")), tag(of(2, "1970")));
        let kept = tag(of(1, ""));
        let status = |known: &str, keep| {
            let reply = Has(Some(HeaderValue::from_str(known).unwrap())).reply(&of(1, "later"), keep).unwrap();
            assert_eq!(reply.headers().contains_key("etag"), keep != Keep::Never);
            reply.status().as_u16()
        };
        for (known, expected) in [(kept.as_str(), 304), ("*", 304), ("\"x\"", 200)] {
            assert_eq!(status(known, Keep::Briefly), expected, "{known}");
            assert_eq!(status(known, Keep::Never), 200, "{known}");
        }
    }
}
