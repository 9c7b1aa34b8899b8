//! Receipts: the ingest API returns one for each request, and the API looks up the outcome of the events by it.
//!
//! base64url of: version 1, log id (8 bytes), request (16 bytes), number of partitions, then partition and last offset
//! each (varints, LEB128), then the first 8 bytes of HMAC-SHA256 over all that.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const VERSION: u8 = 1;
const MAC_BYTES: usize = 8;
/// A receipt of a request over every partition of a large topic stays far below this.
const TEXT_BYTES_MAX: usize = 32 << 10;

/// The key that signs receipts.
#[derive(Clone)]
pub struct ReceiptKey {
    /// Which log the offsets belong to.
    pub log_id: [u8; 8],
    /// The secret behind the MAC.
    pub secret: [u8; 32],
}

/// The positions of a request's events in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The random bytes of the request, in each record's header.
    pub request: [u8; 16],
    /// Partition and last offset, ascending by partition.
    pub offsets: Vec<(u32, u64)>,
}

/// Why a text is no receipt of this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not issued by this service, or altered.
    #[error("this is not a receipt that this service issued")]
    Forged,
    /// Issued for another log, which was replaced.
    #[error("this receipt belongs to a log that was replaced")]
    UnknownLog,
}

impl Receipt {
    /// As text.
    pub fn encode(&self, key: &ReceiptKey) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&key.log_id);
        bytes.extend_from_slice(&self.request);
        write_varint(&mut bytes, self.offsets.len() as u64);
        for (partition, offset) in &self.offsets {
            write_varint(&mut bytes, u64::from(*partition));
            write_varint(&mut bytes, *offset);
        }
        let mac = mac(key, &bytes).finalize().into_bytes();
        bytes.extend_from_slice(&mac[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// From text.
    pub fn decode(text: &str, key: &ReceiptKey) -> Result<Self, ReceiptError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ReceiptError::Forged);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| ReceiptError::Forged)?;
        let body_len = bytes.len().checked_sub(MAC_BYTES).ok_or(ReceiptError::Forged)?;
        let (body, sent_mac) = bytes.split_at(body_len);
        let mut rest = match body.split_first() {
            Some((&VERSION, rest)) => rest,
            _ => return Err(ReceiptError::Forged),
        };
        // Another log has another secret, so only the id identifies its receipts.
        if take::<8>(&mut rest).ok_or(ReceiptError::Forged)? != key.log_id {
            return Err(ReceiptError::UnknownLog);
        }
        mac(key, body).verify_truncated_left(sent_mac).map_err(|_| ReceiptError::Forged)?;
        Self::decode_rest(rest).ok_or(ReceiptError::Forged)
    }

    fn decode_rest(mut rest: &[u8]) -> Option<Self> {
        let request = take::<16>(&mut rest)?;
        let count = read_varint(&mut rest)?;
        let offsets = (0..count).map(|_| {
            let partition = u32::try_from(read_varint(&mut rest)?).ok()?;
            Some((partition, read_varint(&mut rest)?))
        });
        let offsets = offsets.collect::<Option<Vec<_>>>()?;
        rest.is_empty().then_some(Self { request, offsets })
    }
}

impl ReceiptKey {
    /// Text that only the owner of this key can make from these bytes, valid for `purpose` alone. The first byte must
    /// differ from that of a receipt, which is 1.
    pub fn seal(&self, mut bytes: Vec<u8>, purpose: &str) -> String {
        let mac = self.purpose_mac(&bytes, purpose).finalize().into_bytes();
        bytes.extend_from_slice(&mac[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The bytes that were sealed for this purpose; None where they were not.
    pub fn open(&self, text: &str, purpose: &str) -> Option<Vec<u8>> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let sent_mac = bytes.split_off(bytes.len().checked_sub(MAC_BYTES)?);
        self.purpose_mac(&bytes, purpose).verify_truncated_left(&sent_mac).ok()?;
        Some(bytes)
    }

    fn purpose_mac(&self, bytes: &[u8], purpose: &str) -> Hmac<Sha256> {
        let mut mac = mac(self, bytes);
        // Lengths go in as well: no byte can move from one to the other.
        mac.update(&(bytes.len() as u64).to_be_bytes());
        mac.update(purpose.as_bytes());
        mac
    }
}

fn mac(key: &ReceiptKey, body: &[u8]) -> Hmac<Sha256> {
    hmac(&key.secret, body)
}

/// HMAC-SHA256 with a secret, begun over some bytes.
pub(crate) fn hmac(secret: &[u8; 32], body: &[u8]) -> Hmac<Sha256> {
    // HMAC pads a short key with zeros to the block of the hash.
    let mut block = [0; 64];
    block[..secret.len()].copy_from_slice(secret);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(body);
    mac
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take::<1>(rest)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> ReceiptKey {
        ReceiptKey { log_id: *b"logfixed", secret: [7; 32] }
    }

    #[test]
    fn reads_what_was_given_out_before() {
        let receipt = Receipt { request: *b"0123456789abcdef", offsets: vec![(0, 5), (15, 1 << 40)] };
        let text = "AWxvZ2ZpeGVkMDEyMzQ1Njc4OWFiY2RlZgIABQ-AgICAgCDxFLg-M_zogw";
        assert_eq!(receipt.encode(&key()), text);
        assert_eq!(Receipt::decode(text, &key()), Ok(receipt));
    }

    #[test]
    fn another_log_is_told_from_a_forgery() {
        let text = Receipt { request: [1; 16], offsets: vec![] }.encode(&key());
        let other = ReceiptKey { log_id: *b"otherlog", secret: [8; 32] };
        assert_eq!(Receipt::decode(&text, &other), Err(ReceiptError::UnknownLog));
        let forger = ReceiptKey { secret: [9; 32], ..key() };
        assert_eq!(Receipt::decode(&text, &forger), Err(ReceiptError::Forged));
        for wrong in ["", "x", "AA", "!!", &"A".repeat(40_000)] {
            assert!(Receipt::decode(wrong, &key()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn survives_the_round_trip_and_no_change(
            request: [u8; 16],
            offsets in prop::collection::vec((any::<u32>(), any::<u64>()), 0..20),
            at: prop::sample::Index,
            bit in 0..8u32,
        ) {
            let receipt = Receipt { request, offsets };
            let text = receipt.encode(&key());
            prop_assert_eq!(Receipt::decode(&text, &key()), Ok(receipt));
            let mut bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(Receipt::decode(&URL_SAFE_NO_PAD.encode(bytes), &key()).is_err());
        }
    }
}
