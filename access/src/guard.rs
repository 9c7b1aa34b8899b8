//! Authenticates and authorizes requests to the routes that are not open.

use crate::buckets::{Buckets, Demands, Rule};
use crate::jwt::{JwtRules, TokenKeys};
use crate::keys::{KEY_PREFIX, KeyRing};
use crate::metrics::AccessMetrics;
use crate::principal::Principal;
use crate::refusal::Refusal;
use crate::reload::Reloading;
use crate::scope::Scope;
use crate::{Clock, Moment};
use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderMap, HeaderName, Method, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::{RequestExt, Router};
use std::borrow::Cow;
use std::sync::Arc;
use tally_http::ApiProblem;

mod lasting;

pub use lasting::AlsoNeeds;
use lasting::Leave;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The query parameter with the token, for routes whose response lasts.
const QUERY_TOKEN: &str = "access_token";

/// Requires a key or a token of every request. Cheap to clone.
#[derive(Clone)]
pub struct Guard(Arc<Inner>);

struct Inner {
    keys: Option<Arc<Reloading<KeyRing>>>,
    tokens: Option<(Arc<TokenKeys>, JwtRules)>,
    /// Requests of keys, in this process alone.
    requests: Buckets,
    metrics: AccessMetrics,
    clock: Clock,
}

impl Guard {
    /// Accepts keys of the file, and tokens that a key of the JWKS has signed.
    pub fn new(
        keys: Option<Arc<Reloading<KeyRing>>>,
        tokens: Option<(Arc<TokenKeys>, JwtRules)>,
        metrics: AccessMetrics,
        clock: Clock,
    ) -> Self {
        let requests = Buckets::new(None, metrics.clone());
        Self(Arc::new(Inner { keys, tokens, requests, metrics, clock }))
    }

    /// Puts the guard in front of all routes of a router.
    pub(crate) fn wrap(&self, router: Router, scope: Scope, lasts: bool) -> Router {
        router.route_layer(from_fn_with_state(Gate { guard: self.clone(), scope, lasts }, pass))
    }

    /// Returns the validity of the credential, for a response that lasts.
    async fn admit(&self, request: &mut Request, scope: Scope, lasts: bool) -> Result<Option<Leave>, Refusal> {
        let query_token = if lasts { take_token(request.uri_mut()) } else { None };
        let credential = Credential::shown(request.headers(), query_token.as_deref())?;
        let now = (self.0.clock)();
        let principal = self.0.find_or_ask(&credential, now).await?;
        // A lasting response outlives the request that the credential is borrowed from.
        let leave = lasts.then(|| Leave {
            guard: self.clone(),
            credential: credential.into_owned(),
            scope,
            also: None,
            given_at_ms: now.monotonic_ms,
        });
        if !principal.scopes.allow(scope) {
            return Err(Refusal::Scope(scope));
        }
        if let Some(actor) = &principal.actor
            && matches!(*request.method(), Method::PUT | Method::DELETE)
            && names_another(request, actor).await
        {
            return Err(Refusal::OtherActor);
        }
        if let Some(per_minute) = principal.limits.requests_per_minute {
            let mut demands = Demands::default();
            let place =
                demands.add(Rule::Requests, per_minute, self.0.requests.hash(Rule::Requests, &[&principal.name]));
            self.0.requests.admit(demands).await.take(&[place]).map_err(|over| Refusal::Limited(over.retry_after_s))?;
        }
        request.extensions_mut().insert(principal);
        Ok(leave)
    }
}

/// The guard of routes with the same requirement.
#[derive(Clone)]
struct Gate {
    guard: Guard,
    scope: Scope,
    /// Whether their responses are endless streams.
    lasts: bool,
}

async fn pass(State(gate): State<Gate>, mut request: Request, next: Next) -> Result<Response, ApiProblem> {
    let Gate { guard, scope, lasts } = gate;
    match guard.admit(&mut request, scope, lasts).await {
        Ok(leave) => {
            let response = next.run(request).await;
            Ok(match leave.filter(|_| response.status().is_success()) {
                Some(leave) => {
                    let also = response.extensions().get().map(|AlsoNeeds(scope)| *scope);
                    response.map(|body| Leave { also, ..leave }.bind(body))
                }
                // An error response ends by itself.
                None => response,
            })
        }
        Err(refusal) => {
            guard.0.metrics.refused.with_label_values(&[refusal.reason()]).inc();
            Err(refusal.into())
        }
    }
}

/// The credential of a request.
enum Credential<'a> {
    Key(Cow<'a, str>),
    Token(Cow<'a, str>),
}

impl<'a> Credential<'a> {
    fn shown(headers: &'a HeaderMap, query_token: Option<&'a str>) -> Result<Self, Refusal> {
        let mut bearers = headers.get_all(header::AUTHORIZATION).iter();
        let mut api_keys = headers.get_all(&API_KEY).iter();
        let (bearer, api_key) = (bearers.next(), api_keys.next());
        let unreadable = || Refusal::Invalid("it contains invalid characters".into());
        let credential = match (bearer, api_key, query_token) {
            _ if bearers.next().is_some() || api_keys.next().is_some() => return Err(Refusal::Ambiguous),
            (None, None, None) => return Err(Refusal::Missing),
            (Some(value), None, None) => bearer_of(value.to_str().map_err(|_| unreadable())?)?,
            (None, Some(value), None) => value.to_str().map_err(|_| unreadable())?,
            (None, None, Some(token)) => token,
            _ => return Err(Refusal::Ambiguous),
        };
        // A JWT has two dots; a key has none.
        let is_token = api_key.is_none() && !credential.starts_with(KEY_PREFIX) && credential.contains('.');
        Ok(if is_token { Self::Token(credential.into()) } else { Self::Key(credential.into()) })
    }

    fn into_owned(self) -> Credential<'static> {
        match self {
            Self::Key(key) => Credential::Key(Cow::Owned(key.into_owned())),
            Self::Token(token) => Credential::Token(Cow::Owned(token.into_owned())),
        }
    }
}

impl Inner {
    /// Like [`Inner::find`]; if a token names an unknown key, the JWKS is fetched again.
    async fn find_or_ask(&self, credential: &Credential<'_>, now: Moment) -> Result<Arc<Principal>, Refusal> {
        let known = self.tokens.as_ref().map(|(tokens, _)| (tokens, tokens.get()));
        match (self.find(credential, now), known) {
            (Err(Refusal::UnknownKid), Some((tokens, known))) if tokens.refresh_for_kid(&known).await => {
                self.find(credential, now)
            }
            (found, _) => found,
        }
    }

    fn find(&self, credential: &Credential<'_>, now: Moment) -> Result<Arc<Principal>, Refusal> {
        match (credential, &self.keys, &self.tokens) {
            (Credential::Token(token), _, Some((tokens, rules))) => tokens.get().find(token, rules, now),
            (Credential::Key(key), Some(keys), _) => keys.get().find(key, now.wall_ms),
            (Credential::Key(_), None, _) => Err(Refusal::Invalid("this service accepts JWTs only".into())),
            (Credential::Token(_), _, None) => Err(Refusal::Invalid("this service accepts API keys only".into())),
        }
    }
}

fn bearer_of(value: &str) -> Result<&str, Refusal> {
    let (scheme, credential) = value.trim().split_once(' ').unwrap_or((value, ""));
    match scheme.eq_ignore_ascii_case("bearer") && !credential.trim().is_empty() {
        true => Ok(credential.trim()),
        false => Err(Refusal::Invalid("`Authorization` must be `Bearer <key or JWT>`".into())),
    }
}

/// Whether the path has an actor, and not this one.
async fn names_another(request: &mut Request, actor: &str) -> bool {
    let Ok(params) = request.extract_parts::<RawPathParams>().await else { return true };
    params.iter().any(|(name, value)| name == "actor_id" && value != actor)
}

/// Removes the token from the query, so that later layers do not see it.
fn take_token(uri: &mut Uri) -> Option<String> {
    let query = uri.query()?;
    let is_token = |pair: &&str| pair.split('=').next() == Some(QUERY_TOKEN);
    let token = query.split('&').find(is_token)?.split_once('=').map_or("", |(_, token)| token).to_owned();
    // A second token stays in the query, which is then rejected.
    let mut taken = false;
    let keeps = |pair: &&str| !is_token(pair) || std::mem::replace(&mut taken, true);
    let rest: Vec<_> = query.split('&').filter(keeps).collect();
    let path = uri.path();
    let left = if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) };
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(left.parse().ok()?);
    *uri = Uri::from_parts(parts).ok()?;
    Some(token)
}

#[cfg(test)]
#[path = "guard/tests.rs"]
mod tests;
