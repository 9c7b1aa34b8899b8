//! The sender of a request.

use crate::caller::Caller;
use axum::http::header;
use axum::http::request::Parts;
use std::sync::Arc;
use tally_access::Principal;
use tally_http::{TrustedProxies, peer_of};

/// User agents are cut at this length: each event carries its own.
const USER_AGENT_BYTES_MAX: usize = 512;

/// The caller: the address of the connection, or the one that a trusted proxy names; and the principal that the guard
/// found.
pub(crate) fn caller_of(parts: &Parts, proxies: &TrustedProxies) -> Caller {
    let ip = peer_of(&parts.extensions).map(|peer| proxies.caller(peer, &parts.headers).to_string());
    let user_agent = parts.headers.get(header::USER_AGENT).map(|value| {
        let text = String::from_utf8_lossy(value.as_bytes());
        text[..text.floor_char_boundary(USER_AGENT_BYTES_MAX)].to_owned()
    });
    let user_agent = user_agent.filter(|text| !text.is_empty());
    Caller { ip, user_agent, principal: parts.extensions.get::<Arc<Principal>>().cloned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    #[test]
    fn user_agents_are_cut_on_a_character() {
        let agent = |bytes: &[u8]| {
            let (parts, ()) = Request::builder().header(header::USER_AGENT, bytes).body(()).unwrap().into_parts();
            caller_of(&parts, &TrustedProxies::default()).user_agent
        };
        let long = format!("{}{}", "a".repeat(511), "é".repeat(10));
        assert_eq!(agent(long.as_bytes()), Some("a".repeat(511)));
        assert_eq!(agent(b"\xff").as_deref(), Some("\u{fffd}"));
    }
}
