//! What a token says.

use super::{JwtRules, invalid};
use crate::keys::Limits;
use crate::principal::Principal;
use crate::refusal::Refusal;
use crate::scope::Scopes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tally_model::check_actor_id;

/// A year far enough away that milliseconds still fit.
const SECONDS_MAX: f64 = 1e12;

#[derive(Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    #[serde(default)]
    pub(super) kid: Option<String>,
    #[serde(default)]
    pub(super) crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct Claims {
    sub: String,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    iss: Option<String>,
    #[serde(default)]
    aud: Option<Audience>,
    #[serde(default)]
    scope: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn has_one_of(&self, wanted: &[String]) -> bool {
        match self {
            Self::One(name) => wanted.contains(name),
            Self::Many(names) => names.iter().any(|name| wanted.contains(name)),
        }
    }
}

impl Claims {
    /// Who it is, and until when, leeway included.
    pub(super) fn check(self, rules: &JwtRules, now_ms: i64) -> Result<(Principal, i64), Refusal> {
        let leeway_ms = rules.leeway.as_millis() as i64;
        let in_ms = |seconds: f64| (seconds.clamp(-SECONDS_MAX, SECONDS_MAX) * 1_000.0) as i64;
        let expires_at_ms = in_ms(self.exp).saturating_add(leeway_ms);
        if now_ms >= expires_at_ms {
            return Err(Refusal::Expired("token"));
        }
        if self.nbf.is_some_and(|begin| now_ms < in_ms(begin).saturating_sub(leeway_ms)) {
            return Err(invalid("the JWT is not valid yet (`nbf`)"));
        }
        if rules.issuer.is_some() && self.iss != rules.issuer {
            return Err(invalid("the JWT's `iss` is not the issuer that is trusted here"));
        }
        match &self.aud {
            Some(audience) if audience.has_one_of(&rules.audiences) => {}
            None if rules.audiences.is_empty() => {}
            _ => return Err(invalid("the JWT is made for another audience (`aud`)")),
        }
        if let Err(rule) = check_actor_id(&self.sub) {
            return Err(invalid(format!("the JWT's `sub` is no actor_id: it {rule}")));
        }
        let name: std::sync::Arc<str> = self.sub.into();
        let scopes = Scopes::of_list(self.scope.as_deref().unwrap_or_default());
        Ok((Principal { actor: Some(name.clone()), name, scopes, limits: Limits::default() }, expires_at_ms))
    }
}
