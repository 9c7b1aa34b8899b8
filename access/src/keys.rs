//! API keys: a file names each with a hash of it; the key itself is nowhere.
//!
//! A key has 256 random bits, so a plain SHA-256 is as hard to reverse as a slow hash, and cheap to compute per
//! request.

use crate::principal::Principal;
use crate::refusal::Refusal;
use crate::scope::{Scope, Scopes};
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tally_model::{Object, parse_ms, unhex};

/// What keys begin with, so that people and scanners for leaked secrets know one when they see it.
pub(crate) const KEY_PREFIX: &str = "tally_";
/// What hashes begin with.
pub(crate) const HASH_PREFIX: &str = "sha256:";
/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// The limits of a key per minute; None for the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests to one process.
    pub requests_per_minute: Option<u32>,
    /// Events, at all ingest services together if they share a Redis.
    pub events_per_minute: Option<u32>,
    /// Instead of the service's limit for one actor from one address; 0 for none, as imports need it.
    pub per_actor_per_minute: Option<u32>,
}

/// An entry of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Spanned<String>,
    hash: Spanned<String>,
    scopes: Spanned<Vec<Scope>>,
    #[serde(default)]
    expires: Option<Spanned<String>>,
    #[serde(default)]
    limits: Option<Spanned<Object<Limits>>>,
}

struct Key {
    digest: [u8; 32],
    expires_at_ms: Option<i64>,
    principal: Arc<Principal>,
}

/// The keys of a file.
#[derive(Default)]
pub struct KeyRing {
    /// By the first bytes of the digest. Learning them from the duration of a look-up would reveal nothing about a key;
    /// the rest is compared in constant time.
    by_prefix: HashMap<[u8; 8], Vec<Key>, ahash::RandomState>,
}

impl KeyRing {
    /// Reads a list of entries. Errors are `line:column: what`, and repeat nothing of the file but names.
    pub fn parse(text: &str) -> Result<Self, String> {
        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        let entries: Vec<Object<Entry>> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let place = error.location().unwrap_or(Location::UNKNOWN);
            at(
                place,
                "is not a list of keys with `name`, `hash`, `scopes` and optionally `expires` and `limits`; \
                       `tally key` writes entries",
            )
        })?;
        if entries.is_empty() {
            return Err("1:1: the file has no keys; `tally key` makes one".into());
        }
        let (mut ring, mut names, mut digests) = (Self::default(), HashSet::new(), HashSet::new());
        for Object(entry) in entries {
            let place = entry.name.referenced;
            let key = Key::of(entry)?;
            if !names.insert(key.principal.name.clone()) {
                return Err(at(place, &format!("another key has the name `{}`", key.principal.name)));
            }
            if !digests.insert(key.digest) {
                return Err(at(place, &format!("`{}` has the hash of another key", key.principal.name)));
            }
            ring.by_prefix.entry(prefix(&key.digest)).or_default().push(key);
        }
        Ok(ring)
    }

    /// Whose key this is.
    pub(crate) fn find(&self, key: &str, now_ms: i64) -> Result<Arc<Principal>, Refusal> {
        let asked: [u8; 32] = sha256(key.as_bytes());
        let candidates = self.by_prefix.get(&prefix(&asked)).map_or(&[][..], Vec::as_slice);
        let found = candidates.iter().find(|known| bool::from(known.digest.ct_eq(&asked)));
        let Some(found) = found else { return Err(Refusal::Invalid("unknown key".into())) };
        match found.expires_at_ms {
            Some(end_ms) if now_ms >= end_ms => Err(Refusal::Expired("key")),
            _ => Ok(found.principal.clone()),
        }
    }
}

impl Key {
    fn of(entry: Entry) -> Result<Self, String> {
        let Entry { name, hash, scopes, expires, limits } = entry;
        let wrong = |place: Location, what: &str| at(place, what);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if name.value.is_empty() || name.value.len() > NAME_BYTES_MAX || !name.value.chars().all(plain) {
            return Err(wrong(name.referenced, "`name` must be 1 to 64 letters, digits and `-` `.` `_`"));
        }
        let digest = hash.value.strip_prefix(HASH_PREFIX).and_then(unhex);
        // The value may be the key itself, so the error does not repeat it.
        let digest = digest.ok_or_else(|| {
            wrong(hash.referenced, "`hash` must be `sha256:` and 64 hexadecimal digits, as `tally key` prints it")
        })?;
        if scopes.value.is_empty() {
            return Err(wrong(scopes.referenced, "`scopes` must name some of `write`, `read`, `admin`, `metrics`"));
        }
        let end = |text: Spanned<String>| {
            parse_ms(&text.value)
                .ok_or_else(|| wrong(text.referenced, "`expires` must be a time like 2027-01-31T00:00:00Z"))
        };
        let expires_at_ms = expires.map(end).transpose()?;
        let limits = limits.map_or(Ok(Limits::default()), |limits| {
            let Object(value) = limits.value;
            let Limits { requests_per_minute, events_per_minute, .. } = value;
            match [requests_per_minute, events_per_minute].contains(&Some(0)) {
                true => Err(wrong(limits.referenced, "a limit must be at least 1; leave it out for no limit")),
                false => Ok(value),
            }
        })?;
        let scopes: Scopes = scopes.value.into_iter().collect();
        let principal = Principal { name: name.value.into(), scopes, actor: None, limits };
        Ok(Self { digest, expires_at_ms, principal: Arc::new(principal) })
    }
}

fn at(place: Location, what: &str) -> String {
    format!("{}:{}: {what}", place.line().max(1), place.column().max(1))
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut array = [0; 32];
    array.copy_from_slice(digest(&SHA256, bytes).as_ref());
    array
}

fn prefix(digest: &[u8; 32]) -> [u8; 8] {
    let mut prefix = [0; 8];
    prefix.copy_from_slice(&digest[..8]);
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash of `tally_secret`.
    const HASH: &str = "sha256:c46ad6b6a1ed63cb0c0c0a4c25cd8b9f3d7a5e1fe14dd0a2c6bd7e1ddc9f3cf9";

    #[test]
    fn a_key_is_found_by_its_hash_until_it_expires() {
        let hash: String = sha256(b"tally_secret").iter().map(|byte| format!("{byte:02X}")).collect();
        let text = format!(
            "- name: shop\n  hash: sha256:{hash}\n  scopes: [write, read]\n  expires: 1970-01-01T00:00:01Z\n  \
             limits: {{ events_per_minute: 5 }}\n"
        );
        let ring = KeyRing::parse(&text).unwrap();
        let found = ring.find("tally_secret", 999).unwrap();
        assert_eq!((&*found.name, found.limits.events_per_minute, found.actor.as_ref()), ("shop", Some(5), None));
        assert!(found.scopes.allow(Scope::Write) && !found.scopes.allow(Scope::Admin));
        assert_eq!(ring.find("tally_secret", 1_000), Err(Refusal::Expired("key")));
        for other in ["", "tally_secre", "tally_secret ", "TALLY_SECRET"] {
            assert!(matches!(ring.find(other, 0), Err(Refusal::Invalid(_))), "{other}");
        }
    }

    #[test]
    fn mistakes_are_told_by_their_place_and_without_secrets() {
        let second = HASH.replace("c46a", "c46b");
        for (text, expected) in [
            ("", "1:1: "),
            ("[]", "1:1: the file has no keys"),
            ("shop: secret\n", "1:1: is not a list of keys"),
            (&format!("- name: a\n  key: secret\n  hash: {HASH}\n  scopes: [read]\n"), "2:3: is not a list of keys"),
            (&format!("- name: a\n  hash: {HASH}\n"), "2:3: is not a list of keys"),
            (&format!("- [a, '{HASH}', [read]]\n"), "1:3: is not a list of keys"),
            (
                &format!("- name: a\n  hash: {HASH}\n  scopes: [read]\n  limits: [5, 5]\n"),
                "4:11: is not a list of keys",
            ),
            (
                &format!("- name: a\n  hash: {HASH}\n  scopes: [read]\n  expires: 20270131T00Z\n"),
                "4:12: `expires` must be",
            ),
            (&format!("- name: a\n  hash: {HASH}\n  scopes: [root]\n"), "3:12: is not a list of keys"),
            (&format!("- name: a\n  hash: {HASH}\n  scopes: []\n"), "3:11: `scopes` must name some"),
            ("- name: a\n  hash: tally_secret\n  scopes: [read]\n", "2:9: `hash` must be `sha256:` and 64"),
            (&format!("- name: a b\n  hash: {HASH}\n  scopes: [read]\n"), "1:9: `name` must be"),
            (&format!("- name: a\n  hash: {HASH}\n  scopes: [read]\n  expires: secret\n"), "4:12: `expires` must be"),
            (
                &format!("- name: a\n  hash: {HASH}\n  scopes: [read]\n  limits: {{ events_per_minute: 0 }}\n"),
                "4:11: a limit must be at least 1",
            ),
            (
                &format!(
                    "- name: a\n  hash: {HASH}\n  scopes: [read]\n- name: a\n  hash: {second}\n  scopes: [read]\n"
                ),
                "4:9: another key has the name `a`",
            ),
            (
                &format!("- name: a\n  hash: {HASH}\n  scopes: [read]\n- name: b\n  hash: {HASH}\n  scopes: [read]\n"),
                "4:9: `b` has the hash of another key",
            ),
        ] {
            let error = KeyRing::parse(text).err().unwrap_or_default();
            assert!(error.starts_with(expected) && !error.contains("secret"), "{text}\n{error}");
        }
    }
}
