//! The origin of a batch: the default of an event's `ip` and `user_agent`.

use std::sync::Arc;
use tally_access::Principal;

/// The sender of a batch.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The address in its [canonical spelling](tally_model::canonical_ip); None if unknown.
    pub ip: Option<String>,
    /// The user agent that the sender names; cut to a length that each event can carry.
    pub user_agent: Option<String>,
    /// None in a process without authentication.
    pub principal: Option<Arc<Principal>>,
}

impl Caller {
    /// The only actor that may act in this batch.
    pub(crate) fn actor(&self) -> Option<&str> {
        self.principal.as_ref()?.actor.as_deref()
    }

    /// Whether the caller is a service with a key, which may set the addresses of the events it forwards.
    pub(crate) fn is_service(&self) -> bool {
        self.principal.as_ref().is_some_and(|principal| principal.actor.is_none())
    }

    /// How many bytes the fields add to an event.
    pub(crate) fn size_bytes(&self) -> usize {
        let field = |text: &Option<String>, name: &str| text.as_ref().map_or(0, |text| text.len() + name.len() + 6);
        field(&self.ip, "ip") + field(&self.user_agent, "user_agent")
    }
}
