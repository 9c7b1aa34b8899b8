//! Authentication, authorization and limits: API keys, JWTs, scopes, rate limits, CORS.
//!
//! [`Routes`] declare the scopes that they require; a [`Guard`] in front of them authenticates the caller; handlers
//! find a [`Principal`] among the request's extensions, or none if no authentication is configured. [`Buckets`] limit
//! rates. This crate never writes a key, a token or a hash of one to a log or a response.

mod action_limits;
mod buckets;
mod cors;
mod description;
mod guard;
mod jwt;
mod keys;
mod metrics;
mod mint;
mod principal;
mod refusal;
mod reload;
mod routes;
mod scope;

pub use action_limits::{Action, ActionLimits, IPV6_PREFIX_BITS, Places};
pub use buckets::{Buckets, Demands, Grants, LimitHash, Over, Rule, SharedBuckets};
pub use cors::{CorsError, cors};
pub use guard::{AlsoNeeds, Guard};
pub use jwt::{Fetched, JwksUrl, JwksUrlError, JwtRules, KeySet, TokenKeys};
pub use keys::{KeyRing, Limits};
pub use metrics::AccessMetrics;
pub use mint::{MintedKey, mint};
pub use principal::Principal;
pub use reload::Reloading;
pub use routes::{Access, Routes};
pub use scope::{Scope, Scopes};

/// A clock.
pub type Clock = std::sync::Arc<dyn Fn() -> Moment + Send + Sync>;

/// The readings of two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since 1970, to compare with times in keys and tokens. It may jump.
    pub wall_ms: i64,
    /// Milliseconds by a clock that is never set: for how long something is remembered.
    pub monotonic_ms: i64,
}

impl Moment {
    /// Both show the same.
    #[cfg(test)]
    fn both(ms: i64) -> Self {
        Self { wall_ms: ms, monotonic_ms: ms }
    }
}
