//! The order of events that the database owns: a number in header `seq`, and in header `mac` the proof that the
//! database assigned it.

use crate::receipt::hmac;
use hmac::Mac;

/// The record header with the event's number among those of its actor and subject: 8 bytes, big-endian, from 1.
pub const SEQ_HEADER: &str = "seq";
/// The record header with the proof of it: [`SequenceKey::mac`].
pub const MAC_HEADER: &str = "mac";
/// Its length in bytes.
const MAC_BYTES: usize = 16;
/// Distinguishes these bytes from others that the secret signs: receipts begin with 1, cursors with `c`.
const KIND: u8 = b's';

/// The key that signs sequence numbers. Its secret is the one that signs receipts.
#[derive(Clone)]
pub struct SequenceKey(pub [u8; 32]);

/// Why an event that needs a number has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// The header `seq` is missing, or is not a number from 1 in 8 bytes.
    #[error("header `seq` is missing or no number: the database orders these events, so only its relay may write them")]
    Number,
    /// The header `mac` is missing, or of another key or record.
    #[error(
        "header `mac` is missing or does not fit: the database orders these events, so only its relay may write them"
    )]
    Forged,
}

impl SequenceKey {
    /// The first 16 bytes of HMAC-SHA256 over `s`, the number (big-endian) and the record's value.
    pub fn mac(&self, seq: i64, value: &[u8]) -> [u8; MAC_BYTES] {
        let mac = self.over(seq, value).finalize().into_bytes();
        std::array::from_fn(|at| mac[at])
    }

    /// The number of a record by its headers, or why it has none.
    pub fn verify(&self, seq: Option<&[u8]>, mac: Option<&[u8]>, value: &[u8]) -> Result<i64, SequenceError> {
        let seq = seq.and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes);
        let seq = seq.filter(|seq| *seq > 0).ok_or(SequenceError::Number)?;
        let sent = mac.filter(|mac| mac.len() == MAC_BYTES).ok_or(SequenceError::Forged)?;
        self.over(seq, value).verify_truncated_left(sent).map_err(|_| SequenceError::Forged)?;
        Ok(seq)
    }

    fn over(&self, seq: i64, value: &[u8]) -> impl Mac + use<> {
        let mut mac = hmac(&self.0, &[KIND]);
        mac.update(&seq.to_be_bytes());
        mac.update(value);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    const EVENT: &[u8] =
        br#"{"event_id":"e1","type":"collect","actor_id":"u42","subject_id":"article:7","occurred_at":1795248000123}"#;

    #[test]
    fn what_was_signed_before_is_still_signed() {
        let mac = SequenceKey([7; 32]).mac(3, EVENT);
        assert_eq!(hex(&mac), "26c44dfd0c2b3d4470ac1a7f5f120363");
        assert_eq!(SequenceKey([7; 32]).verify(Some(&3i64.to_be_bytes()), Some(&mac), EVENT), Ok(3));
    }

    #[test]
    fn unsigned_numbers_are_rejected() {
        let key = SequenceKey([7; 32]);
        let (seq, mac) = (3i64.to_be_bytes(), key.mac(3, EVENT));
        let other = SequenceKey([8; 32]).mac(3, EVENT);
        let zero = key.mac(0, EVENT);
        for (seq, mac, value, expected) in [
            (None, Some(&mac[..]), EVENT, SequenceError::Number),
            (Some(&b"3"[..]), Some(&mac[..]), EVENT, SequenceError::Number),
            (Some(&[0; 8][..]), Some(&zero[..]), EVENT, SequenceError::Number),
            (Some(&seq[..]), None, EVENT, SequenceError::Forged),
            (Some(&seq[..]), Some(&mac[..15]), EVENT, SequenceError::Forged),
            (Some(&seq[..]), Some(&[][..]), EVENT, SequenceError::Forged),
            (Some(&seq[..]), Some(&other[..]), EVENT, SequenceError::Forged),
            (Some(&seq[..]), Some(&mac[..]), &EVENT[..50], SequenceError::Forged),
            (Some(&4i64.to_be_bytes()[..]), Some(&mac[..]), EVENT, SequenceError::Forged),
        ] {
            assert_eq!(key.verify(seq, mac, value), Err(expected), "{seq:?} {mac:?}");
        }
    }
}
