//! New keys.

use crate::keys::{HASH_PREFIX, KEY_PREFIX, Limits, sha256};
use crate::scope::Scope;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tally_model::{format_ms, hex};

/// A key, to be shown once, and the entry that lets it in.
pub struct MintedKey {
    /// 256 random bits behind `tally_`.
    pub key: String,
    /// For the file of keys: YAML, an element of its list.
    pub entry: String,
}

/// Makes a key. The name must be one that the file may hold: parse the entry to know.
pub fn mint(
    name: &str,
    scopes: &[Scope],
    expires_at_ms: Option<i64>,
    limits: &Limits,
) -> Result<MintedKey, getrandom::Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    let key = format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let scopes: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
    // Quoted: `1e3` and `null` are names too.
    let hash = hex(&sha256(key.as_bytes()));
    let mut entry = format!("- name: \"{name}\"\n  hash: {HASH_PREFIX}{hash}\n  scopes: [{}]\n", scopes.join(", "));
    if let Some(end_ms) = expires_at_ms {
        entry += &format!("  expires: {}\n", format_ms(end_ms));
    }
    let limits = [
        ("requests_per_minute", limits.requests_per_minute),
        ("events_per_minute", limits.events_per_minute),
        ("per_actor_per_minute", limits.per_actor_per_minute),
    ];
    let limits: Vec<_> = limits.into_iter().filter_map(|(name, limit)| Some(format!("{name}: {}", limit?))).collect();
    if !limits.is_empty() {
        entry += &format!("  limits: {{ {} }}\n", limits.join(", "));
    }
    Ok(MintedKey { key, entry })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyRing;

    #[test]
    fn what_is_made_is_let_in() {
        let limits = Limits { events_per_minute: Some(7), per_actor_per_minute: Some(0), ..Limits::default() };
        let minted = mint("1e3", &[Scope::Write, Scope::Admin], Some(1_000), &limits).unwrap();
        assert_eq!(minted.key.len(), KEY_PREFIX.len() + 43);
        assert!(!minted.entry.contains(&minted.key));
        let other = mint("null", &[Scope::Read], None, &Limits::default()).unwrap();
        let ring = KeyRing::parse(&format!("# mine\n{}{}", minted.entry, other.entry)).unwrap();
        let found = ring.find(&minted.key, 999).unwrap();
        assert_eq!((&*found.name, found.limits), ("1e3", limits));
        assert!(found.scopes.allow(Scope::Write) && found.scopes.allow(Scope::Admin));
        assert!(ring.find(&minted.key, 1_000).is_err());
        assert_eq!(&*ring.find(&other.key, 5_000).unwrap().name, "null");
    }
}
