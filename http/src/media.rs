//! Media types of bodies.

use axum::http::{HeaderMap, header};

/// A media type without its parameters, in lower case, like `application/json`. Only UTF-8 is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType(String);

/// Why a body's type is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MediaTypeError {
    /// No `Content-Type`.
    #[error("The content-type header is missing")]
    Missing,
    /// An invalid `Content-Type`.
    #[error("The content-type header is not a media type")]
    Malformed,
    /// A charset other than UTF-8.
    #[error("The body's charset must be utf-8")]
    Charset,
}

impl MediaType {
    /// The type of a request's body.
    pub fn of(headers: &HeaderMap) -> Result<Self, MediaTypeError> {
        let value = headers.get(header::CONTENT_TYPE).ok_or(MediaTypeError::Missing)?;
        let value = value.to_str().map_err(|_| MediaTypeError::Malformed)?;
        let mut parts = value.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default();
        let named = essence.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
        if !named {
            return Err(MediaTypeError::Malformed);
        }
        for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
            let is_utf8 =
                matches!(value.trim_matches('"').to_ascii_lowercase().as_str(), "utf-8" | "utf8" | "us-ascii");
            if name.eq_ignore_ascii_case("charset") && !is_utf8 {
                return Err(MediaTypeError::Charset);
            }
        }
        Ok(Self(essence.to_ascii_lowercase()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Result<String, MediaTypeError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
        MediaType::of(&headers).map(|media| media.0)
    }

    #[test]
    fn parameters_are_allowed_and_the_charset_is_checked() {
        for good in ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\"; v=1"] {
            assert_eq!(of(good), Ok("application/json".into()), "{good}");
        }
        assert_eq!(of("application/json; charset=latin1"), Err(MediaTypeError::Charset));
        for wrong in ["json", "", "/", "a/", "a b/c", "*/*"] {
            assert_eq!(of(wrong), Err(MediaTypeError::Malformed), "{wrong}");
        }
        assert_eq!(MediaType::of(&HeaderMap::new()), Err(MediaTypeError::Missing));
    }
}
