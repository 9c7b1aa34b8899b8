//! A body split into the elements of a batch without parsing them: each is parsed alone, so an invalid one does not
//! affect the others.

use bytes::Bytes;
use serde::de::IgnoredAny;

/// The error of invalid JSON in a body.
pub(crate) type Broken = serde_json::Error;

/// The elements of a JSON array, borrowed.
///
/// They are split at the commas and brackets of the outermost level. If every element proves to be valid JSON, the
/// array is too; if one does not, [`check_json`] decides whether the array itself is broken.
pub(crate) struct ArrayElements<'a> {
    rest: &'a [u8],
    state: State,
}

#[derive(PartialEq)]
enum State {
    /// Before the first element: the array may be empty.
    First,
    /// After a comma: another element must follow.
    More,
    /// After the closing bracket, or after a syntax error.
    End { whole: bool },
}

impl<'a> ArrayElements<'a> {
    /// None where the body does not begin like an array.
    pub(crate) fn of(body: &'a [u8]) -> Option<Self> {
        let rest = body.trim_ascii_start().strip_prefix(b"[")?;
        Some(Self { rest, state: State::First })
    }

    /// Whether the array ended with the body. To be called after the last element.
    pub(crate) fn is_whole(&self) -> bool {
        self.state == State::End { whole: true }
    }
}

impl<'a> Iterator for ArrayElements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if matches!(self.state, State::End { .. }) {
            return None;
        }
        let Some(end) = element_end(self.rest) else {
            self.state = State::End { whole: false };
            return None;
        };
        let element = self.rest[..end].trim_ascii();
        let closes = self.rest[end] == b']';
        self.rest = &self.rest[end + 1..];
        let empty_array = self.state == State::First && closes && element.is_empty();
        self.state = match closes {
            true => State::End { whole: self.rest.trim_ascii_start().is_empty() },
            false => State::More,
        };
        (!empty_array).then_some(element)
    }
}

/// The place of the comma or bracket that ends the first element.
fn element_end(rest: &[u8]) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = 0;
    loop {
        match rest.get(at)? {
            b'"' => at = string_end(rest, at + 1)?,
            b'{' | b'[' => depth += 1,
            b',' if depth == 0 => return Some(at),
            b'}' | b']' => match depth.checked_sub(1) {
                Some(outer) => depth = outer,
                None => return Some(at).filter(|_| rest[at] == b']'),
            },
            _ => {}
        }
        at += 1;
    }
}

/// The place of the quote that ends the string whose inside begins at `at`.
fn string_end(rest: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match rest.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The byte order mark that some editors and spreadsheets write before a text; not part of the text.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// A body without the mark that may stand before it (RFC 8259, section 8.1, lets a parser pass over it).
pub(crate) fn without_bom(body: Bytes) -> Bytes {
    if body.starts_with(BOM) { body.slice(BOM.len()..) } else { body }
}

/// The lines of NDJSON that hold something.
pub(crate) fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
}

/// Whether the bytes are JSON at all.
pub(crate) fn check_json(body: &[u8]) -> Result<(), Broken> {
    serde_json::from_slice::<IgnoredAny>(body).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(body: &str) -> (Vec<&str>, bool) {
        let mut elements = ArrayElements::of(body.as_bytes()).unwrap();
        let all = elements.by_ref().map(|element| std::str::from_utf8(element).unwrap()).collect();
        (all, elements.is_whole())
    }

    #[test]
    fn arrays_are_cut_at_the_outermost_level() {
        assert_eq!(cut("[]"), (vec![], true));
        assert_eq!(cut(" [ ] \n"), (vec![], true));
        assert_eq!(
            cut(r#"[{"a":"],}\""}, [1,[2]] ,"x,\\",3]"#),
            (vec![r#"{"a":"],}\""}"#, "[1,[2]]", r#""x,\\""#, "3"], true)
        );
        assert_eq!(cut("[1,]"), (vec!["1", ""], true));
        assert_eq!(cut("[,]"), (vec!["", ""], true));
        assert_eq!(cut("[1,2"), (vec!["1"], false));
        assert_eq!(cut("[1}"), (vec![], false));
        assert_eq!(cut("[1] x"), (vec!["1"], false));
        assert_eq!(cut(r#"["\"#), (vec![], false));
        assert_eq!(cut("["), (vec![], false));
        assert!(ArrayElements::of(b"{}").is_none());
        assert!(ArrayElements::of(b"").is_none());
    }

    #[test]
    fn empty_lines_are_nothing() {
        let all: Vec<_> = lines(b"\n{}\r\n \n\n[1]\n").collect();
        assert_eq!(all, [b"{}" as &[u8], b"[1]"]);
    }

    proptest! {
        /// All elements valid and the array whole is the same as the body being a JSON array.
        #[test]
        fn agrees_with_the_parser(body in r#"\[[\[\]{},:" 1a\\]{0,12}\]?"#) {
            let mut elements = ArrayElements::of(body.as_bytes()).unwrap();
            let all_valid = elements.by_ref().all(|element| check_json(element).is_ok());
            prop_assert_eq!(all_valid && elements.is_whole(), check_json(body.as_bytes()).is_ok());
        }

        #[test]
        fn finds_what_was_put_in(values in prop::collection::vec(r#"[ -~é]{0,8}"#, 0..6)) {
            let body = serde_json::to_string(&values).unwrap();
            let (elements, whole) = cut(&body);
            let again: Vec<String> = elements.iter().map(|e| serde_json::from_str(e).unwrap()).collect();
            prop_assert!(whole);
            prop_assert_eq!(again, values);
        }
    }
}
