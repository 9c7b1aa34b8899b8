//! Cursors: where a page ended, signed so that clients cannot forge one.
//!
//! base64url of: `c`, what the list is sorted by (i64 BE), the id, then a MAC of all that and of what is paged.

use tally_model::ReceiptKey;

/// Distinguishes cursors from receipts, which the same key signs.
const KIND: u8 = b'c';

/// The last item of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// What the list is sorted by: milliseconds since 1970, or a score in thousandths.
    pub order: i64,
    /// Distinguishes items of the same order.
    pub id: String,
}

impl Cursor {
    /// As text. `of` names the list that is paged: the cursor is valid for no other.
    pub fn encode(&self, of: &str, key: &ReceiptKey) -> String {
        let mut bytes = vec![KIND];
        bytes.extend_from_slice(&self.order.to_be_bytes());
        bytes.extend_from_slice(self.id.as_bytes());
        key.seal(bytes, of)
    }

    /// From text; None where it was not given out for `of`.
    pub fn decode(text: &str, of: &str, key: &ReceiptKey) -> Option<Self> {
        let bytes = key.open(text, of)?;
        let (kind, rest) = bytes.split_first()?;
        let (order, id) = rest.split_first_chunk::<8>()?;
        let id = String::from_utf8(id.to_vec()).ok()?;
        (*kind == KIND).then_some(Self { order: i64::from_be_bytes(*order), id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_for_what_it_was_given_out_for() {
        let key = ReceiptKey { log_id: *b"logfixed", secret: [7; 32] };
        let cursor = Cursor { order: 1_795_248_000_123, id: "用户:1".into() };
        let text = cursor.encode("likes of article:1", &key);
        assert_eq!(Cursor::decode(&text, "likes of article:1", &key), Some(cursor));
        assert_eq!(Cursor::decode(&text, "likes of article:2", &key), None);
        let other = ReceiptKey { secret: [8; 32], ..key.clone() };
        assert_eq!(Cursor::decode(&text, "likes of article:1", &other), None);
        for text in ["", "x", "AAAA", "!", &"A".repeat(5_000)] {
            assert_eq!(Cursor::decode(text, "likes of article:1", &key), None, "{text}");
        }
    }
}
