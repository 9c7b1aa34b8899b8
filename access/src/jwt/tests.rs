//! Tokens: what is refused, and why. Statuses and problem types are tested in `guard/tests.rs`.

use super::*;
use crate::scope::Scope;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair,
};
use serde_json::{Value, json};
use std::sync::LazyLock;

pub(crate) const NOW_S: i64 = 1_795_248_000;
const NOW_MS: i64 = NOW_S * 1_000;
const SECRET: [u8; 32] = [7; 32];
const SEED: [u8; 32] = [9; 32];
/// A key made for this test, 2048 bits; the private part was thrown away.
const RSA_JWKS: &str = include_str!("../../fixtures/rsa.jwks.json");
/// What that key has signed: sub u42, scope write, exp 4000000000, kid r.
pub(crate) const RSA_TOKEN: &str = include_str!("../../fixtures/rsa.jwt");
/// One key more, under each algorithm of RSA with that as its `kid`, and what it has signed by each: the same claims.
const RSA_ALGORITHMS: &str = include_str!("../../fixtures/rsa-algorithms.jwks.json");
const RSA_TOKENS: &str = include_str!("../../fixtures/rsa-algorithms.tokens");

static P256: LazyLock<EcdsaKeyPair> = LazyLock::new(|| elliptic(&ECDSA_P256_SHA256_FIXED_SIGNING));
static P384: LazyLock<EcdsaKeyPair> = LazyLock::new(|| elliptic(&ECDSA_P384_SHA384_FIXED_SIGNING));

fn elliptic(algorithm: &'static EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(algorithm, pair.as_ref(), &random).unwrap()
}

fn elliptic_jwk(kid: &str, curve: &str, pair: &EcdsaKeyPair) -> Value {
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    json!({"kty": "EC", "kid": kid, "crv": curve, "x": b64(x), "y": b64(y)})
}

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

/// Keys `h`, `h384` and `h512` (HS), `r` (RS256), `e` (EdDSA), `p` and `p384` (ES), and some that are for something else.
pub(crate) fn jwks() -> String {
    json!({"keys": [
        {"kty": "oct", "kid": "h", "alg": "HS256", "k": b64(SECRET)},
        {"kty": "RSA", "kid": "r", "use": "sig", "n": rsa_n(), "e": "AQAB"},
        {"kty": "OKP", "kid": "e", "crv": "Ed25519", "x": b64(edwards().public_key().as_ref())},
        elliptic_jwk("p", "P-256", &P256),
        elliptic_jwk("p384", "P-384", &P384),
        {"kty": "oct", "kid": "h384", "alg": "HS384", "k": b64([8; 48])},
        {"kty": "oct", "kid": "h512", "alg": "HS512", "k": b64([9; 64])},
        {"kty": "EC", "kid": "p521", "crv": "P-521", "x": "AA", "y": "AA"},
        {"kty": "AKP", "kid": "later", "alg": "ML-DSA-44", "pub": "AA"},
        {"kty": "oct", "kid": "signer", "key_ops": ["sign"], "k": b64(SECRET)},
        {"kty": "RSA", "kid": "enc", "use": "enc", "n": rsa_n(), "e": "AQAB"},
    ]})
    .to_string()
}

/// A token that is signed by `algorithm`, whatever its header names.
fn signed(algorithm: &str, header: &Value, claims: &str) -> String {
    let text = format!("{}.{}", b64(header.to_string()), b64(claims));
    let signature = match algorithm {
        "HS256" => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &SECRET), text.as_bytes()).as_ref().to_vec(),
        "HS384" => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA384, &[8; 48]), text.as_bytes()).as_ref().to_vec(),
        "HS512" => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, &[9; 64]), text.as_bytes()).as_ref().to_vec(),
        "EdDSA" => edwards().sign(text.as_bytes()).as_ref().to_vec(),
        "ES256" => P256.sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec(),
        "ES384" => P384.sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec(),
        // An attack that uses the public key as a secret.
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
        signed("HS384", &json!({"alg": "HS384", "kid": "h384"}), &claims),
        signed("HS512", &json!({"alg": "HS512", "kid": "h512"}), &claims),
        signed("EdDSA", &json!({"alg": "EdDSA", "kid": "e"}), &claims),
        signed("ES256", &json!({"alg": "ES256", "kid": "p"}), &claims),
        signed("ES384", &json!({"alg": "ES384", "kid": "p384"}), &claims),
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
fn each_algorithm_of_rsa_is_verified_by_a_key_that_names_it_and_by_no_other() {
    let set = KeySet::parse(RSA_ALGORITHMS).unwrap();
    let names = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
    let tokens: Vec<&str> = RSA_TOKENS.lines().collect();
    assert_eq!(tokens.len(), names.len());
    for (name, token) in names.iter().zip(&tokens) {
        let found = set.find(token, &JwtRules::default(), Moment::both(NOW_MS)).unwrap();
        assert_eq!(found.actor.as_deref(), Some("u42"), "{name}");
        // The same signature, and another algorithm or another key of the same modulus.
        let (_, rest) = token.split_once('.').unwrap();
        let find = |alg: &str, kid: &str| {
            let header = b64(json!({"alg": alg, "kid": kid}).to_string());
            set.find(&format!("{header}.{rest}"), &JwtRules::default(), Moment::both(NOW_MS))
        };
        for other in names.iter().filter(|other| *other != name) {
            for (alg, kid) in [(other, name), (name, other)] {
                let refused = invalid(format!("the JWT's `alg` must be that of its key, {kid}"));
                assert_eq!(find(alg, kid), Err(refused), "{alg} by {kid}");
            }
            assert_eq!(find(other, other), Err(invalid("the JWT's signature is invalid")), "{name} as {other}");
        }
    }
    // Without `alg` a key of RSA is for RS256.
    let unnamed = KeySet::parse(&RSA_ALGORITHMS.replace("\"alg\":\"PS512\",", "")).unwrap();
    let refused = unnamed.find(tokens[5], &JwtRules::default(), Moment::both(NOW_MS));
    assert_eq!(refused, Err(invalid("the JWT's `alg` must be that of its key, RS256")));
}

#[test]
fn scopes_are_a_text_or_a_list_under_either_name() {
    for (claims, expected) in [
        (json!({"scope": "write read"}), [true, true]),
        (json!({"scope": ["write", "read"]}), [true, true]),
        (json!({"scope": ["write read", "openid"]}), [true, true]),
        (json!({"scope": null, "scp": "write"}), [true, false]),
        (json!({"scope": null, "scp": ["read", "offline_access"]}), [false, true]),
        (json!({"scope": "write", "scp": ["read"]}), [true, true]),
        (json!({"scope": [], "scp": ""}), [false, false]),
        (json!({"scope": null}), [false, false]),
        (json!({"scope": "Write,read"}), [false, false]),
    ] {
        let found = find(&token(json!({}), claims.clone()), &JwtRules::default()).unwrap();
        assert_eq!([Scope::Write, Scope::Read].map(|scope| found.scopes.allow(scope)), expected, "{claims}");
        assert!(!found.scopes.allow(Scope::Admin) && !found.scopes.allow(Scope::Metrics));
    }
    let prometheus = find(&token(json!({}), json!({"scope": "metrics"})), &JwtRules::default()).unwrap();
    assert!(prometheus.scopes.allow(Scope::Metrics) && !prometheus.scopes.allow(Scope::Read));
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
        ("..".to_owned(), "header is not a JSON object"),
        ("!.!.!".to_owned(), "base64url"),
        (format!("{}=", token(json!({}), json!({}))), "base64url"),
        ("x".repeat(9_000), "too long"),
        (signed("", &none, &good), "`alg` must be that of its key, HS256"),
        (signed("", &json!({"alg": "HS256", "kid": "h"}), &good), "signature is invalid"),
        (signed("HS256 by modulus", &hs_with_rsa, &good), "`alg` must be that of its key, RS256"),
        (signed("HS256 by modulus", &rs, &good), "signature is invalid"),
        (token(json!({"alg": "HS512"}), json!({})), "`alg` must be that of its key"),
        (token(json!({"alg": "hs256"}), json!({})), "`alg` must be that of its key"),
        (token(json!({"alg": null}), json!({})), "`alg` must be that of its key"),
        (token(json!({"alg": 5}), json!({})), "`alg` must be a string"),
        (token(json!({"alg": ["HS256"]}), json!({})), "`alg` must be a string"),
        (token(json!({"alg": {"HS256": null}}), json!({})), "`alg` must be a string"),
        (token(json!({"kid": "x"}), json!({})), "no key of the JWKS"),
        (token(json!({"kid": "enc"}), json!({})), "no key of the JWKS"),
        (token(json!({"kid": "p521"}), json!({})), "no key of the JWKS"),
        (token(json!({"kid": "signer"}), json!({})), "no key of the JWKS"),
        (token(json!({"kid": 5}), json!({})), "`kid` must be a string"),
        (token(json!({"kid": null}), json!({})), "has several keys"),
        (token(json!({"kid": "e"}), json!({})), "`alg` must be that of its key, EdDSA"),
        (token(json!({"crit": ["b64"], "b64": false}), json!({})), "`crit`"),
        (token(json!({}), json!({"exp": null})), "has no `exp`"),
        (token(json!({}), json!({"exp": "tomorrow"})), "`exp` must be a number"),
        (token(json!({}), json!({"exp": "4000000000"})), "`exp` must be a number"),
        (token(json!({}), json!({"exp": [4_000_000_000i64]})), "`exp` must be a number"),
        (token(json!({}), json!({"nbf": "0"})), "`nbf` must be a number"),
        (token(json!({}), json!({"nbf": {}})), "`nbf` must be a number"),
        (token(json!({}), json!({"sub": null})), "has no `sub`"),
        (token(json!({}), json!({"sub": 42})), "`sub` must be a string"),
        (token(json!({}), json!({"sub": ["u42"]})), "`sub` must be a string"),
        (token(json!({}), json!({"scope": 5})), "`scope` must be a string or a list of strings"),
        (token(json!({}), json!({"scope": {"write": true}})), "`scope` must be a string or a list of strings"),
        (token(json!({}), json!({"scp": ["write", 5]})), "`scp` must be a string or a list of strings"),
        (token(json!({}), json!({"aud": 5})), "`aud` must be a string or a list of strings"),
        (token(json!({}), json!({"sub": "a b"})), "`sub` is not a valid actor_id"),
        (token(json!({}), json!({"sub": ""})), "`sub` is not a valid actor_id"),
        (token(json!({}), json!({"nbf": NOW_S + 61})), "not valid yet"),
        (token(json!({}), json!({"aud": "other"})), "`aud` does not name this service"),
        (signed("HS256", &json!({"alg": "HS256", "kid": "h"}), twice), "duplicate field `sub`"),
        // What other tokens have as objects, in the order of the declaration.
        (signed("HS256", &json!(["HS256", "h", null]), &good), "header is not a JSON object"),
        (signed("HS256", &json!(["HS256", "h"]), &good), "header is not a JSON object"),
        (
            signed("HS256", &json!({"alg": "HS256", "kid": "h"}), r#"["u42",4000000000]"#),
            "claims cannot be read: invalid type: sequence",
        ),
        (
            signed("HS256", &json!({"alg": "HS256", "kid": "h"}), r#"["u42",4000000000,null,null,null,"write"]"#),
            "claims cannot be read: invalid type: sequence",
        ),
    ] {
        match find(&token, &JwtRules::default()) {
            Err(refused @ Refusal::UnknownKid) => assert!(refused.to_string().contains(reason), "{token}: {refused}"),
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
        ("", "1:1: is not a JWKS"),
        ("{\"keys\": [}", "1:11: is not a JWKS"),
        (r#"{"keys":[]}"#, "1:1: has no key for"),
        (r#"[[{"kty":"EC","kid":"p"}]]"#, "1:1: is not a JWKS"),
        (&format!(r#"{{"keys":[["oct","h",null,null,null,"{}"]]}}"#, b64(SECRET)), "1:9: is not a JWKS"),
        (r#"{"keys":[{"kty":"EC","kid":"p"}]}"#, "1:1: has no key for"),
        (r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AQAB","y":"AQAB"}]}"#, "1:1: key 1: `x` must have 32 bytes"),
        (r#"{"keys":[{"kty":"RSA","alg":"RSA-OAEP","n":"AQAB","e":"AQAB"}]}"#, "1:1: has no key for"),
        (r#"{"keys":[{"kty":"RSA","alg":"ES256","n":"AQAB","e":"AQAB"}]}"#, "1:1: has no key for"),
        (r#"{"keys":[{"kty":"oct","alg":"RS256","k":"AQAB"}]}"#, "1:1: has no key for"),
        (r#"{"keys":[{"kty":"oct","alg":"HS512","k":"AQAB"}]}"#, "1:1: key 1: `k` has 3 bytes; HS512 needs 64"),
        (&format!(r#"{{"keys":[{{"kty":"oct","kid":"s","k":"{short}"}}]}}"#), "1:1: key \"s\": `k` has 31 bytes"),
        (r#"{"keys":[{"kty":"oct","k":"se cret"}]}"#, "1:1: key 1: `k` must be base64url"),
        (r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#, "1:1: key 1: `n` has 24 bits"),
        (r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AQAB"}]}"#, "1:1: key 1: `x` must have 32 bytes"),
        (&jwks().replace("\"kid\":\"r\"", "\"kid\":\"h\""), "1:1: key \"h\": another key has the same `kid`"),
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
