//! The authenticated caller.

use crate::keys::Limits;
use crate::refusal::Refusal;
use crate::scope::{Scope, Scopes};
use std::sync::Arc;
use tally_http::ApiProblem;

/// The authenticated caller, and its permissions. Handlers find it as `Arc<Principal>` among the request's extensions;
/// if there is none, every caller has every permission.
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    /// The name of the key, or the subject of the JWT.
    pub name: Arc<str>,
    /// The permissions.
    pub scopes: Scopes,
    /// The only actor that they may act as; None for a service, which acts for all.
    pub actor: Option<Arc<str>>,
    /// How much they may do.
    pub limits: Limits,
}

impl Principal {
    /// 403 if the principal is another actor.
    pub fn check_actor(&self, actor_id: &str) -> Result<(), ApiProblem> {
        match self.actor.as_deref().is_none_or(|own| own == actor_id) {
            true => Ok(()),
            false => Err(Refusal::OtherActor.into()),
        }
    }

    /// 403 if the principal may not read subjects of a private kind.
    pub fn check_private(&self, kind: &str) -> Result<(), ApiProblem> {
        match self.scopes.allow(Scope::Admin) {
            true => Ok(()),
            false => Err(Refusal::Private(kind.to_owned()).into()),
        }
    }
}
