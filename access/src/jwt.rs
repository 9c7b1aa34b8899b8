//! JSON Web Tokens (RFC 7519), verified by `jsonwebtoken` with the keys of a JWKS.
//!
//! The key determines the algorithm, by its type and its `alg`; the token's header does not. A token whose header names
//! another algorithm is rejected, so a public key is never used as a secret, and `none` is never accepted.

mod claims;
mod fetch;
mod jwks;
mod ring_provider;
mod source;
mod verified;

pub use fetch::{JwksUrl, JwksUrlError};
pub use jwks::KeySet;
pub use source::{Fetched, TokenKeys};

use crate::Moment;
use crate::principal::Principal;
use crate::refusal::Refusal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claims::{Claims, Header};
use jsonwebtoken::errors::ErrorKind;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tally_model::{Object, from_object};

/// Longer tokens are rejected unread.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// Requirements on the claims of a token.
#[derive(Clone, Debug)]
pub struct JwtRules {
    /// The required issuer (`iss`).
    pub issuer: Option<String>,
    /// The accepted audiences (`aud`). Without any, a token that names an audience is rejected.
    pub audiences: Vec<String>,
    /// The tolerated difference from the issuer's clock.
    pub leeway: Duration,
}

impl Default for JwtRules {
    fn default() -> Self {
        Self { issuer: None, audiences: Vec::new(), leeway: Duration::from_secs(60) }
    }
}

fn invalid(why: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::Invalid(why.into())
}

impl KeySet {
    /// The principal of a token. Valid tokens are cached for a while.
    pub(crate) fn find(&self, token: &str, rules: &JwtRules, now: Moment) -> Result<Arc<Principal>, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(invalid("it is too long"));
        }
        if let Some(principal) = self.verified.get(token, now) {
            return Ok(principal);
        }
        let claims = self.verify(token)?;
        let (principal, expires_at_ms) = claims.check(rules, now.wall_ms)?;
        let principal = Arc::new(principal);
        self.verified.put(token, principal.clone(), now, expires_at_ms);
        Ok(principal)
    }

    /// The claims of a token, if it is signed by a key of this set.
    fn verify(&self, token: &str) -> Result<Claims, Refusal> {
        let parts: Vec<&str> = token.split('.').collect();
        let [header, payload, _] = parts[..] else { return Err(invalid("it is neither a key nor a JWT")) };
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| not_base64())?;
        let header: Header = from_object(&header).map_err(|error| {
            invalid(format!("the JWT's header is not a JSON object with `alg`: {}", without_place(&error.to_string())))
        })?;
        if header.crit.is_some() {
            return Err(invalid("the JWT's header has `crit`, which is not supported"));
        }
        let kid = Header::text("kid", &header.kid)?;
        let key = self.key(kid).ok_or_else(|| match kid {
            _ if self.is_empty() => Refusal::NoKeysYet,
            Some(_) => Refusal::UnknownKid,
            None => invalid("the JWT has no `kid`, and the JWKS has several keys"),
        })?;
        let named = Header::text("alg", &header.alg)?;
        if named.is_none_or(|named| named != key.name()) {
            return Err(invalid(format!("the JWT's `alg` must be that of its key, {}", key.name())));
        }
        match jsonwebtoken::decode::<Object<Claims>>(token, &key.key, &key.validation) {
            Ok(token) => Ok(token.claims.0),
            Err(error) => Err(match error.kind() {
                ErrorKind::InvalidSignature => invalid("the JWT's signature is invalid"),
                ErrorKind::Base64(_) => not_base64(),
                ErrorKind::Json(error) => unread(payload, &error.to_string()),
                other => invalid(format!("the JWT cannot be verified: {other:?}")),
            }),
        }
    }
}

/// Why claims are refused that the crate cannot read: it does not name the one that is of another type.
fn unread(payload: &str, error: &str) -> Refusal {
    let bytes = URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
    let named = from_object::<Claims>(&bytes).ok().and_then(|claims| claims.check_types().err());
    named.unwrap_or_else(|| invalid(format!("the JWT's claims cannot be read: {}", without_place(error))))
}

fn not_base64() -> Refusal {
    invalid("a part of the JWT is not base64url without padding")
}

/// Without line and column, which refer to the decoded JSON.
fn without_place(message: &str) -> &str {
    message.split(" at line ").next().unwrap_or(message)
}

#[cfg(test)]
#[path = "jwt/tests.rs"]
pub(crate) mod tests;
