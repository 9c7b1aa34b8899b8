//! Where a request comes from: what fills an event's `ip` and `user_agent`.

use axum::http::{HeaderMap, header};
use std::net::IpAddr;
use std::sync::Arc;
use tally_access::Principal;
use tally_http::TrustedProxies;

/// User agents are cut there: longer ones say nothing more, and each event carries its own.
const USER_AGENT_BYTES_MAX: usize = 512;

/// Who sent a request.
pub(crate) struct Caller {
    pub(crate) ip: Option<String>,
    pub(crate) user_agent: Option<String>,
    /// None where everybody may do everything.
    pub(crate) principal: Option<Arc<Principal>>,
}

impl Caller {
    pub(crate) fn of(peer: Option<IpAddr>, headers: &HeaderMap, proxies: &TrustedProxies) -> Self {
        let ip = peer.map(|peer| proxies.caller(peer, headers).to_string());
        let user_agent = headers.get(header::USER_AGENT).map(|value| {
            let text = String::from_utf8_lossy(value.as_bytes());
            text[..text.floor_char_boundary(USER_AGENT_BYTES_MAX)].to_owned()
        });
        Self { ip, user_agent: user_agent.filter(|text| !text.is_empty()), principal: None }
    }

    /// The only actor that may act in this request.
    pub(crate) fn actor(&self) -> Option<&str> {
        self.principal.as_ref()?.actor.as_deref()
    }

    /// Whether it is a service with a key, which may say where the events of others come from.
    pub(crate) fn is_service(&self) -> bool {
        self.principal.as_ref().is_some_and(|principal| principal.actor.is_none())
    }

    /// How many bytes the fields add to an event.
    pub(crate) fn size_bytes(&self) -> usize {
        let field = |text: &Option<String>, name: &str| text.as_ref().map_or(0, |text| text.len() + name.len() + 6);
        field(&self.ip, "ip") + field(&self.user_agent, "user_agent")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_agents_are_cut_on_a_character() {
        let mut headers = HeaderMap::new();
        let long = format!("{}{}", "a".repeat(511), "é".repeat(10));
        headers.insert(header::USER_AGENT, axum::http::HeaderValue::from_bytes(long.as_bytes()).unwrap());
        let caller = Caller::of(None, &headers, &TrustedProxies::default());
        assert_eq!(caller.user_agent, Some("a".repeat(511)));
        headers.insert(header::USER_AGENT, axum::http::HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(Caller::of(None, &headers, &TrustedProxies::default()).user_agent.as_deref(), Some("\u{fffd}"));
    }
}
