//! The rules for ids: `Ok`, or why not; and the same rules as patterns of ECMA-262, for descriptions.

/// The longest event id, in bytes.
pub const EVENT_ID_BYTES_MAX: usize = 64;
/// The longest actor id, in bytes.
pub const ACTOR_ID_BYTES_MAX: usize = 120;
/// The longest subject id, in bytes.
pub const SUBJECT_ID_BYTES_MAX: usize = 128;
/// The longest kind of a subject, and the longest event type, in bytes.
const NAME_BYTES_MAX: usize = 32;

/// Everything but braces, white space and control characters.
macro_rules! opaque {
    () => {
        r"[^{}\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"
    };
}

/// The pattern of [`check_event_id`], without its length limit.
pub const EVENT_ID_PATTERN: &str = "^[A-Za-z0-9._:-]+$";
/// The pattern of [`check_actor_id`], without its length limit.
pub const ACTOR_ID_PATTERN: &str = concat!("^", opaque!(), "$");
/// The pattern of [`check_subject_id`], without its length limit.
pub const SUBJECT_ID_PATTERN: &str = concat!("^[a-z][a-z0-9_-]{0,31}:", opaque!(), "$");

/// 1-64 of `A-Za-z0-9._:-`.
pub fn check_event_id(id: &str) -> Result<(), &'static str> {
    if id.is_empty() || id.len() > EVENT_ID_BYTES_MAX {
        return Err("must have 1 to 64 characters");
    }
    match id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-')) {
        true => Ok(()),
        false => Err("may hold only letters, digits and `.` `_` `:` `-`"),
    }
}

/// 1-120 bytes without braces, white space and control characters.
pub fn check_actor_id(id: &str) -> Result<(), &'static str> {
    if id.is_empty() || id.len() > ACTOR_ID_BYTES_MAX {
        return Err("must have 1 to 120 bytes");
    }
    check_opaque(id)
}

/// `kind:id`, 128 bytes in all.
pub fn check_subject_id(id: &str) -> Result<(), &'static str> {
    if id.len() > SUBJECT_ID_BYTES_MAX {
        return Err("must have at most 128 bytes");
    }
    let Some((kind, rest)) = id.split_once(':') else {
        return Err("must be `kind:id`, like `article:7`");
    };
    if check_subject_kind(kind).is_err() {
        return Err("must begin with a kind: a lower-case letter, then up to 31 of `a-z0-9_-`, then `:`");
    }
    if rest.is_empty() {
        return Err("needs an id after the colon");
    }
    check_opaque(rest)
}

/// The kind of a valid subject id.
pub fn subject_kind(id: &str) -> &str {
    id.split_once(':').map_or(id, |(kind, _)| kind)
}

/// A lower-case letter, then up to 31 of `a-z0-9_-`: what subject ids begin with.
pub fn check_subject_kind(kind: &str) -> Result<(), &'static str> {
    check_name(kind, b'-').map_err(|()| "must be a lower-case letter, then up to 31 of `a-z0-9_-`")
}

/// A lower-case letter, then up to 31 of `a-z0-9_`.
pub fn check_event_type(name: &str) -> Result<(), &'static str> {
    check_name(name, b'_').map_err(|()| "must be a lower-case letter, then up to 31 of `a-z0-9_`")
}

fn check_name(name: &str, extra: u8) -> Result<(), ()> {
    let bytes = name.as_bytes();
    let valid = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_' || *b == extra;
    match bytes.first().is_some_and(u8::is_ascii_lowercase) && bytes.len() <= NAME_BYTES_MAX && bytes.iter().all(valid)
    {
        true => Ok(()),
        false => Err(()),
    }
}

/// Ids are opaque but for what would break keys: braces are hash tags in Redis, NUL joins keys.
fn check_opaque(id: &str) -> Result<(), &'static str> {
    let forbidden = |c: char| matches!(c, '{' | '}') || c.is_whitespace() || c.is_control();
    let plain = |b: u8| b.is_ascii_graphic() && b != b'{' && b != b'}';
    match id.bytes().all(plain) || !id.chars().any(forbidden) {
        true => Ok(()),
        false => Err("must not contain braces, whitespace or control characters"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex::Regex;

    proptest! {
        /// The pattern and the maximum length together are equivalent to the check.
        #[test]
        fn patterns_and_checks_are_the_same_rules(
            id in "([a-z]{1,34}:)?[a-zA-Z0-9._:{} \t\n\0\u{7f}\u{85}\u{a0}\u{200b}\u{2028}\u{3000}\u{feff}é用😀-]{0,6}",
            padding in 0usize..130,
        ) {
            let padded = format!("{id}{}", "x".repeat(padding));
            for id in [&id, &padded] {
                type Rule = (fn(&str) -> Result<(), &'static str>, &'static str, usize);
                let rules: [Rule; 3] = [
                    (check_event_id, EVENT_ID_PATTERN, EVENT_ID_BYTES_MAX),
                    (check_actor_id, ACTOR_ID_PATTERN, ACTOR_ID_BYTES_MAX),
                    (check_subject_id, SUBJECT_ID_PATTERN, SUBJECT_ID_BYTES_MAX),
                ];
                for (check, pattern, bytes_max) in rules {
                    let matches = Regex::new(pattern).unwrap().is_match(id) && id.len() <= bytes_max;
                    prop_assert_eq!(check(id).is_ok(), matches, "{:?} {}", id, pattern);
                }
            }
        }
    }

    #[test]
    fn event_ids() {
        for id in ["a", "01J9ZZ", "a.b_c:d-e", &"x".repeat(64)] {
            assert_eq!(check_event_id(id), Ok(()), "{id}");
        }
        for id in ["", "a b", "é", "a/b", &"x".repeat(65)] {
            assert!(check_event_id(id).is_err(), "{id}");
        }
    }

    #[test]
    fn actor_ids() {
        for id in ["u1", "anon:77", "用户", "a/b?c", &"x".repeat(120)] {
            assert_eq!(check_actor_id(id), Ok(()), "{id}");
        }
        for id in ["", "a b", "a{b", "a}b", "a\0b", "a\u{a0}b", "a\nb", &"x".repeat(121)] {
            assert!(check_actor_id(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn subject_ids() {
        for id in ["article:7", "a:é", "user:a:b", "live-room_2:x"] {
            assert_eq!(check_subject_id(id), Ok(()), "{id}");
        }
        for id in
            ["", "article", "article:", ":7", "Article:7", "7a:1", "a b:1", "a:b c", &format!("a:{}", "x".repeat(127))]
        {
            assert!(check_subject_id(id).is_err(), "{id:?}");
        }
        assert_eq!(subject_kind("article:7"), "article");
    }
}
