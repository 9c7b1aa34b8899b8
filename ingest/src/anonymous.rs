//! Names for actors who gave none: stable for a day, and no way back to the address they came from.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::net::IpAddr;
use tally_model::ANONYMOUS_PREFIX;

const DAY_MS: i64 = 86_400_000;
/// 96 bits: two visitors of a day share a name once in 2^48 visitors.
const HASH_BYTES: usize = 12;

/// Makes the names of one request; caches the last one, since the events of a request mostly have one origin.
pub(crate) struct AnonymousActors<'a> {
    secret: &'a [u8; 32],
    day: Option<(i64, Hmac<Sha256>)>,
    last: Option<(i64, String, String, String)>,
}

impl<'a> AnonymousActors<'a> {
    /// `secret` is the same in every process of an application, and known to no other.
    pub(crate) fn new(secret: &'a [u8; 32]) -> Self {
        Self { secret, day: None, last: None }
    }

    /// `anon:` and a hash of the UTC day's salt, the address and the user agent.
    ///
    /// The day is the event's, not the clock's: the same event sent again after midnight keeps its actor, and so
    /// stays a duplicate.
    pub(crate) fn name(&mut self, occurred_at_ms: i64, ip: Option<&str>, user_agent: Option<&str>) -> String {
        let day = occurred_at_ms.div_euclid(DAY_MS);
        let (ip, user_agent) = (ip.unwrap_or_default(), user_agent.unwrap_or_default());
        if let Some((d, i, a, name)) = &self.last
            && (*d, i.as_str(), a.as_str()) == (day, ip, user_agent)
        {
            return name.clone();
        }
        let mut mac = self.salted(day);
        // An address has many spellings.
        match ip.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
            Ok(IpAddr::V4(ip)) => mac.update(&ip.octets()),
            Ok(IpAddr::V6(ip)) => mac.update(&ip.octets()),
            Err(_) => mac.update(ip.as_bytes()),
        }
        mac.update(b"\0");
        mac.update(user_agent.as_bytes());
        let name = format!("{ANONYMOUS_PREFIX}{}", URL_SAFE_NO_PAD.encode(&mac.finalize().into_bytes()[..HASH_BYTES]));
        self.last = Some((day, ip.to_owned(), user_agent.to_owned(), name.clone()));
        name
    }

    /// A MAC keyed by the day's salt, which is itself a MAC of the day: who learns one day's salt knows no other's.
    fn salted(&mut self, day: i64) -> Hmac<Sha256> {
        match &self.day {
            Some((known, mac)) if *known == day => mac.clone(),
            _ => {
                let mut salt = keyed(self.secret);
                salt.update(b"tally anonymous actors of day ");
                salt.update(&day.to_be_bytes());
                let mac = keyed(&salt.finalize().into_bytes().into());
                self.day = Some((day, mac.clone()));
                mac
            }
        }
    }
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    // HMAC pads a short key with zeros to the block of the hash.
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    Hmac::<Sha256>::new(&block.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON_MS: i64 = 1_795_262_400_000;

    fn name(time_ms: i64, ip: &str, agent: &str) -> String {
        AnonymousActors::new(&[7; 32]).name(time_ms, Some(ip), Some(agent))
    }

    #[test]
    fn stable_within_a_day_and_different_otherwise() {
        let base = name(NOON_MS, "203.0.113.9", "curl");
        assert_eq!(base.len(), "anon:".len() + 16);
        assert_eq!(tally_model::check_actor_id(&base), Ok(()));
        assert_eq!(base, name(NOON_MS + DAY_MS / 2 - 1, "203.0.113.9", "curl"));
        assert_eq!(base, name(NOON_MS, "::ffff:203.0.113.9", "curl"));
        for other in [
            name(NOON_MS + DAY_MS / 2, "203.0.113.9", "curl"),
            name(NOON_MS - DAY_MS, "203.0.113.9", "curl"),
            name(NOON_MS, "203.0.113.10", "curl"),
            name(NOON_MS, "203.0.113.9", "curl/8"),
            AnonymousActors::new(&[8; 32]).name(NOON_MS, Some("203.0.113.9"), Some("curl")),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn names_given_out_before_stay_what_they_were() {
        assert_eq!(name(NOON_MS, "203.0.113.9", "curl"), "anon:df9im1LjTOm1VgLg");
    }

    #[test]
    fn memory_does_not_change_names() {
        let mut actors = AnonymousActors::new(&[7; 32]);
        for (time_ms, ip) in
            [(NOON_MS, "1.1.1.1"), (NOON_MS, "1.1.1.1"), (NOON_MS, "2.2.2.2"), (0, "2.2.2.2"), (-1, "1.1.1.1")]
        {
            assert_eq!(actors.name(time_ms, Some(ip), Some("a")), name(time_ms, ip, "a"));
        }
    }
}
