//! Why a processor rejects a value.

/// A mistake in two parts: the text that all mistakes of a kind share, and the detail that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// For people: what is wrong and what to do. Without ids, positions and values, so that reasons can be grouped.
    pub reason: String,
    /// Ids, positions and values.
    pub detail: Option<String>,
}

impl Mistake {
    /// With details.
    pub fn new(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { reason: reason.into(), detail: Some(detail.into()) }
    }

    /// The same of a parameter or field, which the reason then begins with.
    pub fn of(self, name: &str) -> Self {
        Self { reason: format!("`{name}` {}", self.reason), ..self }
    }

    /// The same in a place that the reason names first.
    pub fn at(self, place: &str) -> Self {
        Self { reason: format!("{place}: {}", self.reason), ..self }
    }

    /// The mistake in the message of a JSON parser, whose texts repeat values and end with a position.
    pub fn of_json(said: &str) -> Self {
        let (text, position) = match said.rfind(" at line ") {
            Some(at) => (&said[..at], Some(said[at + " at ".len()..].to_owned())),
            None => (said, None),
        };
        let Some((before, found, expected)) = unexpected(text) else {
            return Self { reason: text.to_owned(), detail: position };
        };
        let position = position.map_or(String::new(), |position| format!(", {position}"));
        Self { reason: format!("{before}expected {expected}"), detail: Some(format!("{found}{position}")) }
    }
}

/// The text before `invalid type: FOUND, expected EXPECTED`, and these two parts.
fn unexpected(text: &str) -> Option<(&str, &str, &str)> {
    // The value may contain any text, even these words; the parts around it come from the parser.
    let begins = ["invalid type: ", "invalid value: ", "invalid length "].into_iter();
    let (begin, length) = begins.filter_map(|begin| Some((text.find(begin)?, begin.len()))).min()?;
    let (found, expected) = text[begin + length..].rsplit_once(", expected ")?;
    Some((&text[..begin], found, expected))
}

impl<T: Into<String>> From<T> for Mistake {
    fn from(reason: T) -> Self {
        Self { reason: reason.into(), detail: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_positions_of_a_parser_are_details() {
        for (said, reason, detail) in [
            ("expected value at line 1 column 2", "expected value", Some("line 1 column 2")),
            ("EOF while parsing a value at line 1 column 0", "EOF while parsing a value", Some("line 1 column 0")),
            (
                "`actor_id`: invalid type: integer `7`, expected a string at line 1 column 9",
                "`actor_id`: expected a string",
                Some("integer `7`, line 1 column 9"),
            ),
            (
                r#"`occurred_at`: invalid value: string "a at line 3, expected b", expected RFC 3339 at line 1 column 9"#,
                "`occurred_at`: expected RFC 3339",
                Some(r#"string "a at line 3, expected b", line 1 column 9"#),
            ),
            (
                r#"`duration_ms`: invalid type: string "invalid value: 7, expected it", expected i64 at line 1 column 9"#,
                "`duration_ms`: expected i64",
                Some(r#"string "invalid value: 7, expected it", line 1 column 9"#),
            ),
            ("`type` must be a name", "`type` must be a name", None),
        ] {
            assert_eq!(Mistake::of_json(said), Mistake { reason: reason.into(), detail: detail.map(str::to_owned) });
        }
    }
}
