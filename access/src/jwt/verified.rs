//! Tokens that were verified a moment ago: a look-up is far cheaper than verifying a signature.

use crate::Moment;
use crate::keys::sha256;
use crate::principal::Principal;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How long a token is remembered.
const REMEMBERED_MS: i64 = 60_000;
/// How many tokens are remembered: about 3 MB.
const TOKENS_MAX: usize = 16_384;

/// Valid tokens by their SHA-256, which cannot be used as a token.
#[derive(Default)]
pub(super) struct Verified(Mutex<Generations>);

/// Two generations: when the young one is full it becomes the old one, and entries not used in the meantime are
/// dropped.
#[derive(Default)]
struct Generations {
    young: HashMap<[u8; 32], Good>,
    old: HashMap<[u8; 32], Good>,
}

#[derive(Clone)]
struct Good {
    expires_at_ms: i64,
    /// By the monotonic clock.
    since_ms: i64,
    principal: Arc<Principal>,
}

impl Verified {
    pub(super) fn get(&self, token: &str, now: Moment) -> Option<Arc<Principal>> {
        let digest = sha256(token.as_bytes());
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match generations.young.get(&digest) {
            Some(good) => good.clone(),
            None => {
                let good = generations.old.remove(&digest)?;
                generations.keep(digest, good.clone());
                good
            }
        };
        let is_recent = now.monotonic_ms - found.since_ms < REMEMBERED_MS;
        (is_recent && now.wall_ms < found.expires_at_ms).then_some(found.principal)
    }

    pub(super) fn put(&self, token: &str, principal: Arc<Principal>, now: Moment, expires_at_ms: i64) {
        let since_ms = now.monotonic_ms;
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generations.keep(sha256(token.as_bytes()), Good { expires_at_ms, since_ms, principal });
    }
}

impl Generations {
    fn keep(&mut self, digest: [u8; 32], good: Good) {
        if self.young.len() >= TOKENS_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, good);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Limits;
    use crate::scope::Scopes;

    fn at(ms: i64) -> Moment {
        Moment::both(ms)
    }

    fn principal(name: &str) -> Arc<Principal> {
        let (scopes, limits) = (Scopes::default(), Limits::default());
        Arc::new(Principal { name: name.into(), scopes, actor: Some(name.into()), limits })
    }

    #[test]
    fn a_token_is_remembered_for_a_minute_and_never_longer_than_it_is_good() {
        let verified = Verified::default();
        verified.put("long", principal("u1"), at(0), i64::MAX);
        verified.put("short", principal("u2"), at(0), 5_000);
        assert_eq!(verified.get("long", at(59_999)).as_deref(), Some(&*principal("u1")));
        assert_eq!(verified.get("long", at(60_000)), None);
        assert!(verified.get("short", at(4_999)).is_some() && verified.get("short", at(5_000)).is_none());
        let set_back = Moment { wall_ms: -60_000, monotonic_ms: 60_000 };
        assert_eq!(verified.get("long", set_back), None, "whatever the wall clock says");
        assert_eq!(verified.get("other", at(0)), None);
    }

    #[test]
    fn memory_is_bounded_and_who_comes_often_stays() {
        let verified = Verified::default();
        verified.put("often", principal("u"), at(0), i64::MAX);
        for i in 0..3 * TOKENS_MAX {
            verified.put(&i.to_string(), principal("x"), at(0), i64::MAX);
            if i % 1_000 == 0 {
                assert!(verified.get("often", at(0)).is_some(), "{i}");
            }
        }
        let generations = verified.0.lock().unwrap();
        assert!(generations.young.len() + generations.old.len() <= TOKENS_MAX);
    }
}
