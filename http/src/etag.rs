//! Entity tags (RFC 9110).

use axum::http::HeaderValue;

/// Whether `If-None-Match` contains `tag`. Compared weakly, as RFC 9110 requires there.
pub fn names_tag(if_none_match: &HeaderValue, tag: &str) -> bool {
    let Ok(listed) = if_none_match.to_str() else { return false };
    let opaque = tag.trim_start_matches("W/");
    listed.split(',').map(str::trim).any(|known| known == "*" || known.trim_start_matches("W/") == opaque)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_weakly_one_by_one() {
        for (listed, expected) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("*", true),
            ("\"x\" ,W/\"a\"", true),
            ("\"x\"", false),
            ("a", false),
            ("", false),
        ] {
            let listed = HeaderValue::from_str(listed).unwrap();
            assert_eq!(names_tag(&listed, "\"a\""), expected, "{listed:?}");
            assert_eq!(names_tag(&listed, "W/\"a\""), expected, "{listed:?}");
        }
        assert!(!names_tag(&HeaderValue::from_bytes(b"\xff").unwrap(), "\"a\""));
    }
}
