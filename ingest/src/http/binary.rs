//! CloudEvents 1.0 in binary mode: attributes in headers that begin with `ce-`, data in the body
//! (HTTP protocol binding, section 3.1).

use crate::cloud_event;
use crate::elements::check_json;
use axum::http::{HeaderMap, HeaderValue, header};
use serde_json::Value;
use std::borrow::Cow;
use tally_http::ApiProblem;

/// The attributes that mean something here; the body's type is in `content-type`. Others are extensions.
const ATTRIBUTES: &[&str] = &["ce-specversion", "ce-id", "ce-type", "ce-source", "ce-subject", "ce-time"];
const PREFIX: &str = "ce-";

/// Whether the headers are those of a CloudEvent: one of them is enough to know that it is meant to be one.
pub(super) fn is_binary(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| ATTRIBUTES.contains(&name.as_str()))
}

/// Whether they are those of a CloudEvent without data: it has no media type.
pub(super) fn has_no_data(headers: &HeaderMap) -> bool {
    !headers.contains_key(header::CONTENT_TYPE) && is_binary(headers)
}

/// Whether data of this media type is JSON.
pub(super) fn is_json(media: &str) -> bool {
    cloud_event::is_json(media)
}

/// The same event in structured mode.
pub(super) fn to_structured(headers: &HeaderMap, data: &[u8]) -> Result<Vec<u8>, ApiProblem> {
    let mut event = String::from("{");
    for name in ATTRIBUTES {
        let mut values = headers.get_all(*name).iter();
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return Err(ApiProblem::bad_request(format!("The header {name} appears more than once.")));
        }
        let text = decode(value).ok_or_else(|| {
            let detail =
                format!("The header {name} is not percent-encoded UTF-8, as the CloudEvents HTTP binding requires.");
            ApiProblem::bad_request(detail)
        })?;
        if event.len() > 1 {
            event.push(',');
        }
        event.push_str(&format!("\"{}\":{}", name.trim_start_matches(PREFIX), Value::from(text)));
    }
    let mut event = event.into_bytes();
    if !data.trim_ascii().is_empty() {
        // It stands inside of an object from here on: it must not end it.
        check_json(data).map_err(|error| {
            ApiProblem::bad_request(format!("The data of the CloudEvent is not JSON: {error}. No event was accepted."))
        })?;
        event.extend_from_slice(if event.len() > 1 { b",\"data\":" } else { b"\"data\":" });
        event.extend_from_slice(data);
    }
    event.push(b'}');
    Ok(event)
}

/// The text of an attribute: first out of its quotes, where it has any, then out of one round of percent-encoding.
fn decode(value: &HeaderValue) -> Option<String> {
    let text = std::str::from_utf8(value.as_bytes()).ok()?.trim();
    let text = match text.strip_prefix('"') {
        Some(rest) => Cow::Owned(unquote(rest.strip_suffix('"')?)?),
        None => Cow::Borrowed(text),
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        bytes.push(if byte == b'%' { (digit()? * 16 + digit()?) as u8 } else { byte });
    }
    String::from_utf8(bytes).ok()
}

/// The content of a quoted string (RFC 9110, section 5.6.4).
fn unquote(inside: &str) -> Option<String> {
    let mut text = String::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return None,
            '\\' => text.push(chars.next()?),
            other => text.push(other),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_unquoted_and_decoded_once() {
        for (value, expected) in [
            ("plain", Some("plain")),
            ("Euro%20%E2%82%AC%20%F0%9F%98%80", Some("Euro € 😀")),
            ("%e2%82%ac", Some("€")),
            ("%61", Some("a")),
            ("%2541", Some("%41")),
            ("\"a b\"", Some("a b")),
            (r#""a \"b\" \\ %20c""#, Some("a \"b\" \\  c")),
            ("", Some("")),
            ("€", Some("€")),
            // An overlong space, a surrogate, half a character, and invalid escapes.
            ("%C0%A0", None),
            ("%ED%A0%80", None),
            ("%E2%82", None),
            ("%zz", None),
            ("%4", None),
            ("\"open", None),
            (r#""a\""#, None),
            (r#""a"b""#, None),
        ] {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            assert_eq!(decode(&value).as_deref(), expected, "{value:?}");
        }
        assert_eq!(decode(&HeaderValue::from_bytes(b"\xff").unwrap()), None);
    }

    fn structured(lines: &[(&'static str, &str)], data: &str) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let event = to_structured(&headers, data.as_bytes());
        event.map(|event| String::from_utf8(event).unwrap()).map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn headers_become_attributes_and_the_body_its_data() {
        let lines =
            [("ce-id", "e%221"), ("ce-type", "like"), ("ce-traceparent", "x"), ("ce-datacontenttype", "text/xml")];
        assert_eq!(structured(&lines, r#"{"a":1}"#).unwrap(), r#"{"id":"e\"1","type":"like","data":{"a":1}}"#);
        assert_eq!(structured(&lines, " \n").unwrap(), r#"{"id":"e\"1","type":"like"}"#);
        assert_eq!(structured(&[], "1").unwrap(), r#"{"data":1}"#);
    }

    #[test]
    fn nothing_gets_out_of_the_data() {
        for data in [r#"{},"id":"other""#, r#"1,"type":"like"}{"#, "{", "\u{feff}{}"] {
            assert!(structured(&[("ce-id", "e1")], data).unwrap_err().contains("not JSON"), "{data}");
        }
        let twice = structured(&[("ce-id", "e1"), ("ce-id", "e1")], "{}").unwrap_err();
        assert!(twice.contains("ce-id appears more than once"), "{twice}");
    }
}
