//! Query parameters, taken strictly: what is not known is refused by name, so that a typing error is noticed.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use std::borrow::Cow;
use tally_http::ApiProblem;
use tally_model::check_actor_id;

/// The rule of everything in an address.
const NOT_ENCODED: &str = "is not percent-encoded UTF-8";
/// The longest wait that a read may request.
const WAIT_MS_MAX: u64 = 10_000;
/// The wait by default.
const WAIT_MS_DEFAULT: u64 = 1_000;

/// The parameters of a request, decoded.
pub struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Takes a query string apart; only parameters among `known` may occur.
    pub fn parse(query: Option<&'a str>, known: &[&str]) -> Result<Self, ApiProblem> {
        let mut pairs = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).ok_or_else(|| refused("a parameter's name", NOT_ENCODED))?;
            if !known.contains(&&*name) {
                let detail = format!("Unknown query parameter `{name}`; this route accepts: {}.", listed(known));
                return Err(ApiProblem::bad_request(detail));
            }
            let value = decode(value).ok_or_else(|| refused(&format!("`{name}`"), NOT_ENCODED))?;
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// All values of a parameter, in the order given.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| &**value).collect()
    }

    /// The value of a parameter that may be given once.
    pub fn one(&self, name: &str) -> Result<Option<&str>, ApiProblem> {
        match self.all(name)[..] {
            [] => Ok(None),
            [value] => Ok(Some(value)),
            _ => Err(refused(&format!("`{name}`"), "may be given only once")),
        }
    }

    /// How long a read may wait.
    pub fn wait_ms(&self) -> Result<u64, ApiProblem> {
        let Some(text) = self.one("wait_ms")? else { return Ok(WAIT_MS_DEFAULT) };
        let wait_ms = text.parse().ok().filter(|wait_ms| *wait_ms <= WAIT_MS_MAX);
        wait_ms
            .ok_or_else(|| refused("`wait_ms`", &format!("must be a number of milliseconds from 0 to {WAIT_MS_MAX}")))
    }
}

/// An actor's id by the rules, or which of them it breaks.
pub fn actor_id(text: &str) -> Result<(), ApiProblem> {
    check_actor_id(text).map_err(|rule| refused(&format!("`actor_id` {text:?}"), rule))
}

/// What a request's path names, if it is encoded.
pub type InPath<T> = Result<Path<T>, PathRejection>;

/// What a request's path names.
pub fn in_path<T>(path: InPath<T>, what: &str) -> Result<T, ApiProblem> {
    path.map(|Path(named)| named).map_err(|_| refused(what, NOT_ENCODED))
}

/// 400: what, and the rule it breaks.
pub fn refused(what: &str, rule: &str) -> ApiProblem {
    ApiProblem::bad_request(format!("{what} {rule}."))
}

/// Names as a problem lists them.
pub fn listed(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("`{}`", name.as_ref())).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Undoes percent-encoding and `+`; None where what comes out is no UTF-8 or a `%` stands alone.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(text.into());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
                (digit()? * 16 + digit()?) as u8
            }
            _ => byte,
        });
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding() {
        for (text, expected) in
            [("a%3A1", Some("a:1")), ("a+b", Some("a b")), ("%E7%94%A8", Some("用")), ("%", None), ("%4", None)]
        {
            assert_eq!(decode(text).as_deref(), expected, "{text}");
        }
        for text in ["%zz", "%ff", "%+1"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
