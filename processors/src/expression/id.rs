//! Texts as the id of a subject.

use std::fmt::Write;
use tally_model::{SUBJECT_ID_BYTES_MAX, hex};
use xxhash_rust::xxh3::xxh3_128;

/// The longest kind with its colon, in bytes: with any kind an id of [`ID_BYTES_MAX`] fits.
const KIND_BYTES_MAX: usize = 33;
/// The longest id that [`id_of`] gives, in bytes.
pub const ID_BYTES_MAX: usize = SUBJECT_ID_BYTES_MAX - KIND_BYTES_MAX;
/// The hash in hexadecimal digits, and the `~` before it.
const HASH_BYTES: usize = 33;
/// Stands for the empty text: no escape gives it.
const EMPTY: &str = "%";

/// A text as the part of a subject id behind the kind. Braces, white space, control characters and `%` become `%XX`, one
/// for each byte of UTF-8, so different texts stay different. Beyond [`ID_BYTES_MAX`], a hash of the whole text replaces
/// the end.
pub fn id_of(text: &str) -> String {
    let mut id = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '{' | '}' | '%') || c.is_whitespace() || c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                // Writing to a String cannot fail.
                let _ = write!(id, "%{byte:02X}");
            }
        } else {
            id.push(c);
        }
    }
    if id.is_empty() {
        return EMPTY.to_owned();
    }
    if id.len() > ID_BYTES_MAX {
        id.truncate(id.floor_char_boundary(ID_BYTES_MAX - HASH_BYTES));
        id.push('~');
        id.push_str(&hex(&xxh3_128(text.as_bytes()).to_be_bytes()));
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tally_model::check_subject_id;

    #[test]
    fn ids_are_stable() {
        for (text, id) in [
            ("spring", "spring"),
            ("a b{c}%", "a%20b%7Bc%7D%25"),
            ("é用\u{a0}\n", "é用%C2%A0%0A"),
            ("", "%"),
            ("%", "%25"),
        ] {
            assert_eq!(id_of(text), id);
        }
        let long = "x".repeat(96);
        assert_eq!(id_of(&long[1..]), long[1..]);
        let shortened = id_of(&long);
        assert_eq!((shortened.len(), &shortened[..63]), (ID_BYTES_MAX, format!("{}~", "x".repeat(62)).as_str()));
        assert_eq!(&shortened[63..], "7721511296b6d830e6bc08ccf205f48a");
    }

    proptest! {
        #[test]
        fn any_text_is_an_id(text in any::<String>(), repeat in 1usize..40) {
            let kind = "k".repeat(32);
            for text in [text.repeat(repeat), text] {
                prop_assert_eq!(check_subject_id(&format!("{kind}:{}", id_of(&text))), Ok(()));
            }
        }

        #[test]
        fn different_texts_are_different_ids(a in "[a%{ 20é]{0,6}", b in "[a%{ 20é]{0,6}") {
            prop_assert_eq!(id_of(&a) == id_of(&b), a == b);
        }
    }
}
