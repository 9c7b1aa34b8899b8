//! JSON Web Tokens (RFC 7519), verified with the keys of a JWKS file (RFC 7517, 7518, 8037).
//!
//! What the token says of its algorithm decides nothing: the key does, by its type. A token whose header names another
//! one is refused, so no public key is ever taken for a secret, and `none` is never an answer.

mod claims;
mod jwks;
mod verified;

pub use jwks::KeySet;

use crate::Moment;
use crate::principal::Principal;
use crate::refusal::Refusal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claims::{Claims, Header};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// Longer ones are no tokens of anybody.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// What a token has to say besides its signature.
#[derive(Clone, Debug)]
pub struct JwtRules {
    /// Who must have made it (`iss`).
    pub issuer: Option<String>,
    /// For whom it must be made (`aud`): one of these. A token that names an audience is refused where there is none.
    pub audiences: Vec<String>,
    /// By how much the clock of whoever made it may differ.
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
    /// Whose token this is. One that was good is remembered for a while.
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

    /// What a token says, if it is signed by a key of this set.
    fn verify(&self, token: &str) -> Result<Claims, Refusal> {
        let parts = token.rsplit_once('.').and_then(|(signed, signature)| {
            let (header, payload) = signed.split_once('.')?;
            Some((signed, header, payload, signature))
        });
        let (signed, header, payload, signature) = parts.ok_or_else(|| invalid("it is neither a key nor a JWT"))?;
        let decode = |text: &str| {
            URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid("a part of the JWT is not base64url without padding"))
        };
        let header: Header = serde_json::from_slice(&decode(header)?)
            .map_err(|_| invalid("the JWT's header is no JSON object with `alg`, or `kid` is no text"))?;
        if header.crit.is_some() {
            return Err(invalid("the JWT's header has `crit`, of which nothing is understood here"));
        }
        let key = self.key(header.kid.as_deref()).ok_or_else(|| match header.kid {
            Some(_) => invalid("no key of the JWKS has the JWT's `kid`"),
            None => invalid("the JWT has no `kid`, and the JWKS has several keys"),
        })?;
        if header.alg != key.algorithm() {
            return Err(invalid(format!("the JWT's `alg` is not that of its key, {}", key.algorithm())));
        }
        if !key.verify(signed.as_bytes(), &decode(signature)?) {
            return Err(invalid("the JWT's signature is wrong"));
        }
        serde_json::from_slice(&decode(payload)?)
            .map_err(|_| invalid("the JWT's claims cannot be understood: `exp` and `sub` are required, each once"))
    }
}

#[cfg(test)]
#[path = "jwt/tests.rs"]
pub(crate) mod tests;
