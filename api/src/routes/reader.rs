//! The caller of a request as a reader of subjects: some kinds are private.

use super::query::refused;
use crate::collects::Collects;
use crate::config::PrivateKinds;
use crate::state::Api;
use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use std::convert::Infallible;
use std::sync::Arc;
use tally_access::Principal;
use tally_http::ApiProblem;
use tally_model::{check_subject_id, subject_kind};

/// Checks every id of a subject that a request names or an answer lists. There is no other way for a route to check an id,
/// so that none forgets the private kinds.
pub struct Reader {
    /// None where no authentication is configured: the caller may read everything.
    principal: Option<Arc<Principal>>,
    private: PrivateKinds,
}

impl FromRef<Arc<Api>> for PrivateKinds {
    fn from_ref(api: &Arc<Api>) -> Self {
        api.reads.config.private_kinds.clone()
    }
}

impl FromRef<Arc<Collects>> for PrivateKinds {
    fn from_ref(collects: &Arc<Collects>) -> Self {
        collects.private_kinds().clone()
    }
}

impl<S: Sync> FromRequestParts<S> for Reader
where
    PrivateKinds: FromRef<S>,
{
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let principal = parts.extensions.get::<Arc<Principal>>().cloned();
        Ok(Self { principal, private: PrivateKinds::from_ref(state) })
    }
}

impl Reader {
    /// 400 if it is no id by the rules; 403 if its kind is private and the caller may not read it.
    pub fn check(&self, subject_id: &str) -> Result<(), ApiProblem> {
        check_subject_id(subject_id).map_err(|rule| refused(&format!("`subject_id` {subject_id:?}"), rule))?;
        match &self.principal {
            Some(principal) if self.is_private(subject_id) => principal.check_private(subject_kind(subject_id)),
            _ => Ok(()),
        }
    }

    /// Whether the caller may read a subject.
    pub fn may_read(&self, subject_id: &str) -> bool {
        self.check(subject_id).is_ok()
    }

    /// Whether only some callers may read it.
    pub fn is_private(&self, subject_id: &str) -> bool {
        self.private.contain(subject_id)
    }
}
