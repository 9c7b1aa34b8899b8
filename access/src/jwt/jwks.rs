//! The file of keys that tokens are verified with.

use super::verified::Verified;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::{ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;

/// RFC 7518: the secret is at least as long as the hash.
const SECRET_BYTES_MIN: usize = 32;
/// 2048 to 8192 bits; less can be broken, more is slow.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The keys of a JWKS file that sign with HS256, RS256 or EdDSA (Ed25519).
pub struct KeySet {
    keys: Vec<(Option<Box<str>>, JwtKey)>,
    pub(super) verified: Verified,
}

/// A key, with the only algorithm that it is used for.
pub(super) enum JwtKey {
    Hs256(hmac::Key),
    Rs256 { n: Vec<u8>, e: Vec<u8> },
    EdDsa([u8; 32]),
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Jwk>,
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
    crv: Option<String>,
    #[serde(default)]
    k: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
}

impl KeySet {
    /// Reads a JWKS. Keys for other algorithms, or for encryption, are passed over; one that is wrong is an error, and so
    /// is a file without any that can be used. Errors are `line:column: what` and repeat nothing but `kid`s.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document: Document = serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line().max(1), error.column().max(1));
            format!("{line}:{column}: is no JWKS: a JSON object with `keys`, each with `kty`")
        })?;
        let mut keys: Vec<(Option<Box<str>>, JwtKey)> = Vec::new();
        for (place, jwk) in (1..).zip(document.keys) {
            let name = jwk.kid.as_deref().map_or_else(|| format!("key {place}"), |kid| format!("key {kid:?}"));
            if let Some(kid) = &jwk.kid
                && keys.iter().any(|(known, _)| known.as_deref() == Some(kid))
            {
                return Err(format!("1:1: {name}: there is another of this `kid`"));
            }
            match JwtKey::of(&jwk).map_err(|why| format!("1:1: {name}: {why}"))? {
                Some(key) => keys.push((jwk.kid.map(Into::into), key)),
                None => tracing::warn!("JWKS: {name} is not for HS256, RS256 or EdDSA signatures and is passed over"),
            }
        }
        match keys.is_empty() {
            true => Err("1:1: has no key for HS256, RS256 or EdDSA".into()),
            false => Ok(Self { keys, verified: Verified::default() }),
        }
    }

    /// The key of that name; the only one there is where none is named.
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
        let algorithm = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("oct", _) => "HS256",
            ("RSA", _) => "RS256",
            ("OKP", Some("Ed25519")) => "EdDSA",
            _ => return Ok(None),
        };
        // `Ed25519` is RFC 9864's name for the same.
        let named = jwk.alg.as_deref().map(|alg| if alg == "Ed25519" { "EdDSA" } else { alg });
        if named.is_some_and(|alg| alg != algorithm)
            || jwk.used_for.as_deref().is_some_and(|used_for| used_for != "sig")
        {
            return Ok(None);
        }
        let bytes = |field: &Option<String>, name: &str| {
            let decoded = field.as_deref().map(|text| URL_SAFE_NO_PAD.decode(text));
            match decoded {
                Some(Ok(bytes)) if !bytes.is_empty() => Ok(bytes),
                _ => Err(format!("`{name}` must be base64url without padding")),
            }
        };
        match algorithm {
            "HS256" => {
                let secret = bytes(&jwk.k, "k")?;
                if secret.len() < SECRET_BYTES_MIN {
                    return Err(format!("`k` has {} bytes; HS256 needs {SECRET_BYTES_MIN}", secret.len()));
                }
                Ok(Some(Self::Hs256(hmac::Key::new(hmac::HMAC_SHA256, &secret))))
            }
            "RS256" => {
                let (n, e) = (bytes(&jwk.n, "n")?, bytes(&jwk.e, "e")?);
                match MODULUS_BYTES.contains(&n.len()) && n[0] != 0 {
                    true => Ok(Some(Self::Rs256 { n, e })),
                    false => Err(format!("`n` has {} bits; 2048 to 8192 are taken", n.len() * 8)),
                }
            }
            _ => {
                let x = bytes(&jwk.x, "x")?;
                let x = x.try_into().map_err(|_| "`x` must have 32 bytes".to_owned())?;
                Ok(Some(Self::EdDsa(x)))
            }
        }
    }

    /// The only `alg` that a token of this key may name.
    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::Hs256(_) => "HS256",
            Self::Rs256 { .. } => "RS256",
            Self::EdDsa(_) => "EdDSA",
        }
    }

    /// Whether this key has signed that. In constant time where the key is a secret.
    pub(super) fn verify(&self, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Hs256(key) => hmac::verify(key, signed, signature).is_ok(),
            Self::Rs256 { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok()
            }
            Self::EdDsa(x) => UnparsedPublicKey::new(&ED25519, x).verify(signed, signature).is_ok(),
        }
    }
}
