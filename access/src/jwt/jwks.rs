//! The keys that tokens are verified with: a JWKS (RFC 7517, 7518, 8037).

use super::ring_provider;
use super::verified::Verified;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use std::collections::HashSet;
use tally_model::{Object, from_object};

/// 2048 to 8192 bits: shorter keys are weak, longer ones slow.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The keys of a JWKS that sign.
pub struct KeySet {
    keys: Vec<(Option<Box<str>>, JwtKey)>,
    pub(super) verified: Verified,
}

/// A key, with the only algorithm that it is used for.
pub(super) struct JwtKey {
    pub(super) key: DecodingKey,
    pub(super) algorithm: Algorithm,
    /// Signature and algorithm alone: claims are checked here, with the injected clock.
    pub(super) validation: Validation,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Object<Jwk>>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default, rename = "use")]
    used_for: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    k: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

impl KeySet {
    /// Reads a file. Keys for other algorithms, or for encryption, are skipped; an invalid key is an error, and so is a
    /// file without any usable key. Errors are `line:column: what` and repeat nothing but `kid`s.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::read(text, |wrong| Err(format!("1:1: {wrong}")))
    }

    /// Reads a published JWKS: an invalid or unknown key does not affect the others (RFC 7517, section 5).
    pub fn parse_published(text: &str) -> Result<Self, String> {
        Self::read(text, |wrong| {
            tracing::warn!("JWKS: {wrong}; skipped");
            Ok(())
        })
    }

    fn read(text: &str, wrong: impl Fn(String) -> Result<(), String>) -> Result<Self, String> {
        ring_provider::install();
        let document: Document = from_object(text.as_bytes()).map_err(|error| {
            let (line, column) = (error.line().max(1), error.column().max(1));
            format!("{line}:{column}: is not a JWKS: expected a JSON object with `keys`, each with `kty`")
        })?;
        let mut keys: Vec<(Option<Box<str>>, JwtKey)> = Vec::new();
        for (place, Object(jwk)) in (1..).zip(document.keys) {
            let name = jwk.kid.as_deref().map_or_else(|| format!("key {place}"), |kid| format!("key {kid:?}"));
            match JwtKey::of(&jwk) {
                Err(why) => wrong(format!("{name}: {why}"))?,
                Ok(None) => tracing::warn!("JWKS: {name} is not for a supported signature algorithm; skipped"),
                Ok(Some(_))
                    if jwk.kid.is_some() && keys.iter().any(|(known, _)| known.as_deref() == jwk.kid.as_deref()) =>
                {
                    wrong(format!("{name}: another key has the same `kid`"))?;
                }
                Ok(Some(key)) => keys.push((jwk.kid.map(Into::into), key)),
            }
        }
        match keys.is_empty() {
            true => Err("1:1: has no key for HS, RS or PS with 256 to 512, ES256, ES384 or EdDSA".into()),
            false => Ok(Self { keys, verified: Verified::default() }),
        }
    }

    /// An empty set, until one has been fetched.
    pub(crate) fn none() -> Self {
        Self { keys: Vec::new(), verified: Verified::default() }
    }

    /// Whether the set has no keys.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key with that name; without a name, the only key.
    pub(super) fn key(&self, kid: Option<&str>) -> Option<&JwtKey> {
        match (kid, &self.keys[..]) {
            (None, [(_, only)]) => Some(only),
            (None, _) => None,
            (Some(kid), keys) => keys.iter().find(|(known, _)| known.as_deref() == Some(kid)).map(|(_, key)| key),
        }
    }
}

impl JwtKey {
    /// None where the key is for something else.
    fn of(jwk: &Jwk) -> Result<Option<Self>, String> {
        let signs = jwk.used_for.as_deref().is_none_or(|used_for| used_for == "sig")
            && jwk.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
        let Some(algorithm) = algorithm_of(jwk).filter(|_| signs) else { return Ok(None) };
        let key = match algorithm {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
                let (secret, least) = (bytes(&jwk.k, "k")?, hash_bytes(algorithm));
                if secret.len() < least {
                    return Err(format!("`k` has {} bytes; {algorithm:?} needs {least}", secret.len()));
                }
                DecodingKey::from_secret(&secret).map_err(|error| error.to_string())?
            }
            Algorithm::ES256 => elliptic(jwk, 32)?,
            Algorithm::ES384 => elliptic(jwk, 48)?,
            Algorithm::EdDSA => DecodingKey::from_ed_der(&sized(&jwk.x, "x", 32)?),
            _ => {
                let (n, e) = (bytes(&jwk.n, "n")?, bytes(&jwk.e, "e")?);
                if !MODULUS_BYTES.contains(&n.len()) || n[0] == 0 {
                    return Err(format!("`n` has {} bits; 2048 to 8192 are supported", n.len() * 8));
                }
                DecodingKey::from_rsa_raw_components(&n, &e)
            }
        };
        let mut validation = Validation::new(algorithm);
        (validation.validate_exp, validation.validate_aud) = (false, false);
        validation.required_spec_claims = HashSet::new();
        Ok(Some(Self { key, algorithm, validation }))
    }

    /// The only `alg` that a token of this key may name.
    pub(super) fn name(&self) -> String {
        format!("{:?}", self.algorithm)
    }
}

/// The algorithm of a key: its `alg`, if its type has that algorithm; without `alg`, the first of its type.
fn algorithm_of(jwk: &Jwk) -> Option<Algorithm> {
    use Algorithm::*;
    let of_type: &[Algorithm] = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("oct", _) => &[HS256, HS384, HS512],
        ("RSA", _) => &[RS256, RS384, RS512, PS256, PS384, PS512],
        ("EC", Some("P-256")) => &[ES256],
        ("EC", Some("P-384")) => &[ES384],
        ("OKP", Some("Ed25519")) => &[EdDSA],
        _ => return None,
    };
    match jwk.alg.as_deref() {
        None => of_type.first().copied(),
        // The name of the same algorithm in RFC 9864.
        Some("Ed25519") => of_type.iter().copied().find(|algorithm| *algorithm == EdDSA),
        Some(name) => of_type.iter().copied().find(|algorithm| format!("{algorithm:?}") == name),
    }
}

/// RFC 7518: a secret is at least as long as the hash.
fn hash_bytes(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::HS384 => 48,
        Algorithm::HS512 => 64,
        _ => 32,
    }
}

fn bytes(field: &Option<String>, name: &str) -> Result<Vec<u8>, String> {
    match field.as_deref().map(|text| URL_SAFE_NO_PAD.decode(text)) {
        Some(Ok(bytes)) if !bytes.is_empty() => Ok(bytes),
        _ => Err(format!("`{name}` must be base64url without padding")),
    }
}

fn sized(field: &Option<String>, name: &str, length: usize) -> Result<Vec<u8>, String> {
    let bytes = bytes(field, name)?;
    if bytes.len() == length { Ok(bytes) } else { Err(format!("`{name}` must have {length} bytes")) }
}

/// An uncompressed point (SEC 1, section 2.3.3).
fn elliptic(jwk: &Jwk, length: usize) -> Result<DecodingKey, String> {
    let point = [vec![4], sized(&jwk.x, "x", length)?, sized(&jwk.y, "y", length)?].concat();
    Ok(DecodingKey::from_ec_der(&point))
}
