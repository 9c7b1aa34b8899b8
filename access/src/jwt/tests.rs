//! Tokens: what is refused, and why. Statuses and problem types are tested in `guard/tests.rs`.

use super::*;
use crate::scope::Scope;
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

pub(crate) const NOW_S: i64 = 1_795_248_000;
const NOW_MS: i64 = NOW_S * 1_000;
const SECRET: [u8; 32] = [7; 32];
const SEED: [u8; 32] = [9; 32];
/// A key made for this test, 2048 bits; the private part was thrown away.
const RSA_JWKS: &str = include_str!("../../fixtures/rsa.jwks.json");
/// What that key has signed: sub u42, scope write, exp 4000000000, kid r.
pub(crate) const RSA_TOKEN: &str = include_str!("../../fixtures/rsa.jwt");

fn rsa_n() -> String {
    let jwks: Value = serde_json::from_str(RSA_JWKS).unwrap();
    jwks["keys"][0]["n"].as_str().unwrap().to_owned()
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn edwards() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&SEED).unwrap()
}

/// Keys `h` (HS256), `r` (RS256) and `e` (EdDSA), and two that are for something else.
pub(crate) fn jwks() -> String {
    json!({"keys": [
        {"kty": "oct", "kid": "h", "alg": "HS256", "k": b64(SECRET)},
        {"kty": "RSA", "kid": "r", "use": "sig", "n": rsa_n(), "e": "AQAB"},
        {"kty": "OKP", "kid": "e", "crv": "Ed25519", "x": b64(edwards().public_key().as_ref())},
        {"kty": "EC", "kid": "p", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "RSA", "kid": "enc", "use": "enc", "n": rsa_n(), "e": "AQAB"},
    ]})
    .to_string()
}

/// A token whose signature `algorithm` makes, whatever the header says.
fn signed(algorithm: &str, header: &Value, claims: &str) -> String {
    let text = format!("{}.{}", b64(header.to_string()), b64(claims));
    let signature = match algorithm {
        "HS256" => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &SECRET), text.as_bytes()).as_ref().to_vec(),
        "EdDSA" => edwards().sign(text.as_bytes()).as_ref().to_vec(),
        // As an attacker does who takes the public key for a secret.
        "HS256 by modulus" => {
            let n = URL_SAFE_NO_PAD.decode(rsa_n()).unwrap();
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &n), text.as_bytes()).as_ref().to_vec()
        }
        _ => Vec::new(),
    };
    format!("{text}.{}", b64(signature))
}

/// A good token of key `h`, but for what is given.
pub(crate) fn token(header: Value, claims: Value) -> String {
    let mut all =
        [json!({"alg": "HS256", "kid": "h"}), json!({"sub": "u42", "exp": NOW_S + 300, "scope": "write read"})];
    for (all, some) in all.iter_mut().zip([header, claims]) {
        for (name, value) in some.as_object().unwrap() {
            match value.is_null() {
                true => drop(all.as_object_mut().unwrap().remove(name)),
                false => all[name] = value.clone(),
            }
        }
    }
    signed("HS256", &all[0], &all[1].to_string())
}

fn find(token: &str, rules: &JwtRules) -> Result<Arc<Principal>, Refusal> {
    KeySet::parse(&jwks()).unwrap().find(token, rules, Moment::both(NOW_MS))
}

#[test]
fn each_algorithm_is_verified_by_its_key() {
    let claims = json!({"sub": "u42", "exp": NOW_S + 1, "scope": "write"}).to_string();
    for token in [
        signed("HS256", &json!({"alg": "HS256", "kid": "h", "typ": "JWT"}), &claims),
        signed("EdDSA", &json!({"alg": "EdDSA", "kid": "e"}), &claims),
        RSA_TOKEN.to_owned(),
    ] {
        let found = find(&token, &JwtRules::default()).unwrap();
        assert_eq!((found.actor.as_deref(), found.scopes.allow(Scope::Write)), (Some("u42"), true), "{token}");
        assert!(!found.scopes.allow(Scope::Read));
        // One bit of the signature, and one of the claims.
        for at in [token.len() - 3, token.find('.').unwrap() + 5] {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(find(std::str::from_utf8(&bytes).unwrap(), &JwtRules::default()).is_err());
        }
    }
}

#[test]
fn what_is_no_good_token_is_refused_with_the_reason() {
    let none = json!({"alg": "none", "kid": "h"});
    let good = json!({"sub": "u42", "exp": NOW_S + 300}).to_string();
    let rs = json!({"alg": "RS256", "kid": "r"});
    let hs_with_rsa = json!({"alg": "HS256", "kid": "r"});
    let twice = r#"{"sub":"u42","sub":"u1","exp":4000000000}"#;
    for (token, reason) in [
        ("a.b".to_owned(), "neither a key nor a JWT"),
        ("..".to_owned(), "header is no JSON object"),
        ("!.!.!".to_owned(), "base64url"),
        (format!("{}=", token(json!({}), json!({}))), "base64url"),
        ("x".repeat(9_000), "too long"),
        (signed("", &none, &good), "`alg` is not that of its key, HS256"),
        (signed("", &json!({"alg": "HS256", "kid": "h"}), &good), "signature is wrong"),
        (signed("HS256 by modulus", &hs_with_rsa, &good), "`alg` is not that of its key, RS256"),
        (signed("HS256 by modulus", &rs, &good), "signature is wrong"),
        (token(json!({"alg": "HS512"}), json!({})), "`alg` is not that of its key"),
        (token(json!({"alg": "hs256"}), json!({})), "`alg` is not that of its key"),
        (token(json!({"alg": null}), json!({})), "header is no JSON object with `alg`"),
        (token(json!({"kid": "x"}), json!({})), "no key of the JWKS"),
        (token(json!({"kid": "enc"}), json!({})), "no key of the JWKS"),
        (token(json!({"kid": 5}), json!({})), "`kid` is no text"),
        (token(json!({"kid": null}), json!({})), "has several keys"),
        (token(json!({"kid": "e"}), json!({})), "`alg` is not that of its key, EdDSA"),
        (token(json!({"crit": ["b64"], "b64": false}), json!({})), "`crit`"),
        (token(json!({}), json!({"exp": null})), "`exp` and `sub` are required"),
        (token(json!({}), json!({"exp": "tomorrow"})), "`exp` and `sub` are required"),
        (token(json!({}), json!({"sub": null})), "`exp` and `sub` are required"),
        (token(json!({}), json!({"sub": "a b"})), "`sub` is no actor_id"),
        (token(json!({}), json!({"sub": ""})), "`sub` is no actor_id"),
        (token(json!({}), json!({"nbf": NOW_S + 61})), "not valid yet"),
        (token(json!({}), json!({"aud": "other"})), "another audience"),
        (signed("HS256", &json!({"alg": "HS256", "kid": "h"}), twice), "each once"),
    ] {
        match find(&token, &JwtRules::default()) {
            Err(Refusal::Invalid(why)) => assert!(why.contains(reason), "{token}\n  said: {why}\n  not:  {reason}"),
            other => panic!("{token}: {other:?}"),
        }
    }
}

#[test]
fn a_token_ends_with_its_leeway_also_when_it_is_remembered() {
    let set = KeySet::parse(&jwks()).unwrap();
    let rules = JwtRules::default();
    let token = token(json!({}), json!({"exp": NOW_S}));
    let end_ms = NOW_MS + 60_000;
    assert!(set.find(&token, &rules, Moment::both(end_ms - 1)).is_ok());
    assert_eq!(set.find(&token, &rules, Moment::both(end_ms)), Err(Refusal::Expired("token")));
    let strict = JwtRules { leeway: Duration::ZERO, ..rules };
    assert_eq!(find(&token, &strict), Err(Refusal::Expired("token")));
}

#[test]
fn issuer_and_audience_are_those_that_are_trusted() {
    let rules = JwtRules {
        issuer: Some("https://id".into()),
        audiences: vec!["tally".into(), "b".into()],
        ..JwtRules::default()
    };
    for (claims, good) in [
        (json!({"iss": "https://id", "aud": "tally"}), true),
        (json!({"iss": "https://id", "aud": ["x", "b"]}), true),
        (json!({"iss": "https://id", "aud": ["x"]}), false),
        (json!({"iss": "https://id", "aud": []}), false),
        (json!({"iss": "https://id"}), false),
        (json!({"iss": "https://id/", "aud": "tally"}), false),
        (json!({"aud": "tally"}), false),
    ] {
        assert_eq!(find(&token(json!({}), claims.clone()), &rules).is_ok(), good, "{claims}");
    }
}

#[test]
fn a_file_that_cannot_be_trusted_is_refused_without_its_secrets() {
    let short = b64([1; 31]);
    for (text, expected) in [
        ("", "1:1: is no JWKS"),
        ("{\"keys\": [}", "1:11: is no JWKS"),
        (r#"{"keys":[]}"#, "1:1: has no key for"),
        (r#"{"keys":[{"kty":"EC","kid":"p"}]}"#, "1:1: has no key for"),
        (&format!(r#"{{"keys":[{{"kty":"oct","kid":"s","k":"{short}"}}]}}"#), "1:1: key \"s\": `k` has 31 bytes"),
        (r#"{"keys":[{"kty":"oct","k":"se cret"}]}"#, "1:1: key 1: `k` must be base64url"),
        (r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#, "1:1: key 1: `n` has 24 bits"),
        (r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AQAB"}]}"#, "1:1: key 1: `x` must have 32 bytes"),
        (&jwks().replace("\"kid\":\"r\"", "\"kid\":\"h\""), "1:1: key \"h\": there is another"),
    ] {
        let error = KeySet::parse(text).err().unwrap_or_default();
        assert!(error.starts_with(expected) && !error.contains("cret") && !error.contains(&short), "{text}: {error}");
    }
    let only = json!({"keys": [{"kty": "oct", "k": b64(SECRET)}]}).to_string();
    let found = KeySet::parse(&only).unwrap().find(
        &token(json!({"kid": null}), json!({})),
        &JwtRules::default(),
        Moment::both(NOW_MS),
    );
    assert!(found.is_ok(), "the only key needs no name");
}
