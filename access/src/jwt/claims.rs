//! The header and the claims of a token.

use super::{JwtRules, invalid};
use crate::keys::Limits;
use crate::principal::Principal;
use crate::refusal::Refusal;
use crate::scope::Scopes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::sync::Arc;
use tally_model::check_actor_id;

/// A year far enough away that milliseconds still fit.
const SECONDS_MAX: f64 = 1e12;

/// Each may be of any type here, so that the refusal can name the one that is wrong.
#[derive(Deserialize)]
pub(super) struct Header {
    #[serde(default)]
    pub(super) alg: Option<Value>,
    #[serde(default)]
    pub(super) kid: Option<Value>,
    #[serde(default)]
    pub(super) crit: Option<IgnoredAny>,
}

/// As in [`Header`]; other claims are ignored.
#[derive(Deserialize)]
pub(super) struct Claims {
    #[serde(default)]
    sub: Option<Value>,
    #[serde(default)]
    exp: Option<Value>,
    #[serde(default)]
    nbf: Option<Value>,
    #[serde(default)]
    iss: Option<Value>,
    #[serde(default)]
    aud: Option<Value>,
    #[serde(default)]
    scope: Option<Value>,
    #[serde(default)]
    scp: Option<Value>,
}

impl Header {
    /// A member that must be a text where it is there.
    pub(super) fn text<'a>(name: &str, value: &'a Option<Value>) -> Result<Option<&'a str>, Refusal> {
        match value {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(invalid(format!("the JWT's `{name}` must be a string"))),
        }
    }
}

impl Claims {
    /// Whether each is of its type.
    pub(super) fn check_types(&self) -> Result<(), Refusal> {
        time_ms("exp", &self.exp).and(time_ms("nbf", &self.nbf))?;
        Header::text("sub", &self.sub).and(Header::text("iss", &self.iss))?;
        texts("aud", &self.aud).map(drop)
    }

    /// The principal, and the time of its expiry, leeway included.
    pub(super) fn check(self, rules: &JwtRules, now_ms: i64) -> Result<(Principal, i64), Refusal> {
        let leeway_ms = i64::try_from(rules.leeway.as_millis()).unwrap_or(i64::MAX);
        let expires_at_ms = time_ms("exp", &self.exp)?.ok_or_else(|| missing("exp"))?.saturating_add(leeway_ms);
        if now_ms >= expires_at_ms {
            return Err(Refusal::Expired("token"));
        }
        if time_ms("nbf", &self.nbf)?.is_some_and(|begin_ms| now_ms < begin_ms.saturating_sub(leeway_ms)) {
            return Err(invalid("the JWT is not valid yet (`nbf`)"));
        }
        if let Some(issuer) = &rules.issuer {
            let named = Header::text("iss", &self.iss)?.ok_or_else(|| missing("iss"))?;
            if named != issuer {
                return Err(invalid("the JWT's `iss` is not the trusted issuer"));
            }
        }
        match self.aud {
            None if rules.audiences.is_empty() => {}
            None => return Err(missing("aud")),
            Some(_) => {
                let audiences = texts("aud", &self.aud)?;
                if !audiences.iter().any(|audience| rules.audiences.iter().any(|trusted| trusted == audience)) {
                    return Err(invalid("the JWT's `aud` does not name this service"));
                }
            }
        }
        let name = Header::text("sub", &self.sub)?.ok_or_else(|| missing("sub"))?;
        if let Err(rule) = check_actor_id(name) {
            return Err(invalid(format!("the JWT's `sub` is not a valid actor_id: it {rule}")));
        }
        let scopes = [texts("scope", &self.scope)?, texts("scp", &self.scp)?].concat();
        let name: Arc<str> = name.into();
        let scopes = Scopes::of_list(&scopes.join(" "));
        Ok((Principal { actor: Some(name.clone()), name, scopes, limits: Limits::default() }, expires_at_ms))
    }
}

fn missing(name: &str) -> Refusal {
    invalid(format!("the JWT has no `{name}`, which is required"))
}

/// A NumericDate of RFC 7519: seconds since 1970, perhaps with a fraction.
fn time_ms(name: &str, value: &Option<Value>) -> Result<Option<i64>, Refusal> {
    let Some(value) = value else { return Ok(None) };
    let seconds = value.as_f64().ok_or_else(|| invalid(format!("the JWT's `{name}` must be a number of seconds")))?;
    Ok(Some((seconds.clamp(-SECONDS_MAX, SECONDS_MAX) * 1_000.0) as i64))
}

/// A text, or a list of them.
fn texts<'a>(name: &str, value: &'a Option<Value>) -> Result<Vec<&'a str>, Refusal> {
    let wrong = || invalid(format!("the JWT's `{name}` must be a string or a list of strings"));
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(list)) => list.iter().map(|item| item.as_str().ok_or_else(wrong)).collect(),
        Some(_) => Err(wrong()),
    }
}
