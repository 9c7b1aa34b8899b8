//! Read tokens: what the ingest API signs when a page opens, so that a read can prove how long it took.
//!
//! base64url of: version 2, the time of signing (milliseconds since 1970, 8 bytes, big endian), the length of the subject
//! (1 byte), the subject, the actor (to the end; none where it is empty), then the first 8 bytes of HMAC-SHA256, as
//! [`ReceiptKey::seal`] makes it for the purpose `read-token`.

use crate::receipt::ReceiptKey;
use crate::{check_actor_id, check_subject_id};

/// Receipts begin with 1.
const VERSION: u8 = 2;
const PURPOSE: &str = "read-token";

/// Proof that the page of a subject was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadToken {
    /// When the ingest API signed it, in milliseconds since 1970.
    pub signed_at_ms: i64,
    /// The subject of the page.
    pub subject_id: String,
    /// The reader; None for an anonymous one.
    pub actor_id: Option<String>,
}

impl ReadToken {
    /// Lifetime: as long as an event may be late by default.
    pub const LIFETIME_MS: i64 = 86_400_000;

    /// When it expires.
    pub fn expires_at_ms(&self) -> i64 {
        self.signed_at_ms.saturating_add(Self::LIFETIME_MS)
    }

    /// As text. The ids must be valid: their lengths fit then.
    pub fn encode(&self, key: &ReceiptKey) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.signed_at_ms.to_be_bytes());
        bytes.push(u8::try_from(self.subject_id.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(self.subject_id.as_bytes());
        bytes.extend_from_slice(self.actor_id.as_deref().unwrap_or_default().as_bytes());
        key.seal(bytes, PURPOSE)
    }

    /// From text; None where this key has not signed it. In constant time as far as the signature goes.
    pub fn decode(text: &str, key: &ReceiptKey) -> Option<Self> {
        let bytes = key.open(text, PURPOSE)?;
        let (version, rest) = bytes.split_first()?;
        let (signed_at, rest) = rest.split_first_chunk::<8>()?;
        let (subject_bytes, rest) = rest.split_first()?;
        let (subject, actor) = rest.split_at_checked(usize::from(*subject_bytes))?;
        let (subject_id, actor) = (std::str::from_utf8(subject).ok()?, std::str::from_utf8(actor).ok()?);
        let actor_id = (!actor.is_empty()).then(|| actor.to_owned());
        let valid = *version == VERSION
            && check_subject_id(subject_id).is_ok()
            && actor_id.as_deref().is_none_or(|actor| check_actor_id(actor).is_ok());
        let signed_at_ms = i64::from_be_bytes(*signed_at);
        valid.then(|| Self { signed_at_ms, subject_id: subject_id.to_owned(), actor_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Receipt;
    use proptest::prelude::*;

    fn key() -> ReceiptKey {
        ReceiptKey { log_id: *b"logfixed", secret: [7; 32] }
    }

    fn token() -> ReadToken {
        ReadToken { signed_at_ms: 1_795_248_000_000, subject_id: "article:7".into(), actor_id: Some("u42".into()) }
    }

    #[test]
    fn reads_what_was_given_out_before() {
        let text = "AgAAAaH9HowACWFydGljbGU6N3U0MiGTaRagXCBR";
        assert_eq!(token().encode(&key()), text);
        assert_eq!(ReadToken::decode(text, &key()), Some(token()));
    }

    #[test]
    fn nothing_else_that_is_signed_is_a_read_token() {
        let receipt = Receipt { request: [1; 16], offsets: vec![(0, 1)] }.encode(&key());
        let cursor = key().seal(vec![VERSION; 20], "cursor");
        let other = token().encode(&ReceiptKey { secret: [8; 32], ..key() });
        for text in [receipt.as_str(), &cursor, &other, "", "x", "!!", &"A".repeat(40_000)] {
            assert_eq!(ReadToken::decode(text, &key()), None, "{text}");
        }
        let anonymous = ReadToken { actor_id: None, ..token() };
        assert_eq!(ReadToken::decode(&anonymous.encode(&key()), &key()), Some(anonymous));
    }

    proptest! {
        #[test]
        fn no_change_is_unnoticed(at: prop::sample::Index, byte: u8) {
            let text = token().encode(&key());
            let mut bytes = text.clone().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let changed = String::from_utf8_lossy(&bytes);
            prop_assert!(changed == text || ReadToken::decode(&changed, &key()).is_none());
        }
    }
}
