//! Why a request is rejected.

use crate::scope::Scope;
use axum::http::{HeaderValue, StatusCode, header};
use std::borrow::Cow;
use std::fmt;
use tally_http::ApiProblem;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No credential.
    Missing,
    /// More than one credential.
    Ambiguous,
    /// Neither a key nor a token that is known here.
    Invalid(Cow<'static, str>),
    /// A token of a key that is not in the JWKS.
    UnknownKid,
    /// A token, and the JWKS could not be fetched so far.
    NoKeysYet,
    /// The credential has expired.
    Expired(&'static str),
    /// The credential lacks this scope.
    Scope(Scope),
    /// Subjects of this kind are private, and the credential lacks the scope `admin`.
    Private(String),
    /// The credential is for one actor, and the request is about another.
    OtherActor,
    /// The key's requests of this minute are used up.
    Limited(u32),
}

impl Refusal {
    /// The name in metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Ambiguous => "ambiguous",
            Self::Invalid(_) | Self::UnknownKid => "invalid",
            Self::NoKeysYet => "no_jwks",
            Self::Expired(_) => "expired",
            Self::Scope(_) | Self::Private(_) => "scope",
            Self::OtherActor => "other_actor",
            Self::Limited(_) => "limited",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str(
                "Authentication required: send `Authorization: Bearer <key or JWT>`, or `X-Api-Key: <key>`.",
            ),
            Self::Ambiguous => f.write_str("Send exactly one key or token, in one header."),
            Self::Invalid(why) => write!(f, "Invalid key or token: {why}."),
            Self::UnknownKid => f.write_str("Invalid key or token: no key of the JWKS has the JWT's `kid`."),
            Self::NoKeysYet => {
                f.write_str("The JWKS has not been fetched yet (--jwks); see the service log. API keys work meanwhile.")
            }
            Self::Expired(what) => write!(f, "The {what} has expired: send a new one."),
            Self::Scope(scope) => {
                write!(f, "This route requires the scope `{scope}`, which the key or token does not have.")
            }
            Self::Private(kind) => {
                let scope = Scope::Admin;
                write!(
                    f,
                    "Subjects of kind `{kind}` require the scope `{scope}`, which the key or token does not have."
                )
            }
            Self::OtherActor => f.write_str("The token's `sub` is a different actor: a user can act only as itself."),
            Self::Limited(_) => f.write_str("This key has used up its requests for this minute."),
        }
    }
}

impl From<Refusal> for ApiProblem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        let unauthorized = |slug, title| Self::new(StatusCode::UNAUTHORIZED, slug, title, detail.clone());
        // RFC 6750, section 3: no error code where no credential was sent.
        match refusal {
            Refusal::Missing => challenged(unauthorized("unauthenticated", "Missing credentials"), String::new()),
            Refusal::Ambiguous => Self::bad_request(detail),
            Refusal::NoKeysYet => Self::unavailable(detail, 5),
            Refusal::Invalid(_) | Refusal::UnknownKid => challenged(
                unauthorized("invalid-credentials", "Invalid credentials"),
                ", error=\"invalid_token\"".into(),
            ),
            Refusal::Expired(_) => challenged(
                unauthorized("expired-credentials", "Expired credentials"),
                ", error=\"invalid_token\", error_description=\"expired\"".into(),
            ),
            Refusal::Scope(scope) => insufficient(scope, detail),
            Refusal::Private(_) => insufficient(Scope::Admin, detail),
            Refusal::OtherActor => Self::new(StatusCode::FORBIDDEN, "other-actor", "Token of another actor", detail),
            Refusal::Limited(seconds) => Self::too_many_requests(detail, seconds),
        }
    }
}

fn insufficient(scope: Scope, detail: String) -> ApiProblem {
    challenged(
        ApiProblem::new(StatusCode::FORBIDDEN, "insufficient-scope", "Insufficient scope", detail),
        format!(", error=\"insufficient_scope\", scope=\"{scope}\""),
    )
}

fn challenged(problem: ApiProblem, error: String) -> ApiProblem {
    match HeaderValue::from_str(&format!("Bearer realm=\"tally\"{error}")) {
        Ok(challenge) => problem.header(header::WWW_AUTHENTICATE, challenge),
        Err(_) => problem,
    }
}
