//! Requirements on every request: it names its host, and its address can be decoded.

use crate::problem::ApiProblem;
use axum::http::{HeaderMap, Uri, Version, header};
use std::net::Ipv6Addr;

/// 400 for a request that RFC 9112 wants refused, or whose address does not mean anything.
pub(crate) fn check(version: Version, headers: &HeaderMap, uri: &Uri) -> Result<(), ApiProblem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        // HTTP/1.0 knows no hosts.
        (None, _) if version <= Version::HTTP_10 => {}
        // In HTTP/2 the authority is a part of the address, which hyper has parsed.
        (None, _) if version == Version::HTTP_2 && uri.authority().is_some() => {}
        (None, _) => return Err(ApiProblem::bad_request("The host header is missing.")),
        (Some(_), Some(_)) => return Err(ApiProblem::bad_request("The host header appears more than once.")),
        (Some(host), None) if !is_host(host.as_bytes()) => {
            return Err(ApiProblem::bad_request("The host header must be a host with an optional port."));
        }
        _ => {}
    }
    for (what, text) in [("path", uri.path()), ("query", uri.query().unwrap_or_default())] {
        if !is_encoded(text) {
            let detail = format!(
                "The {what} has a `%` that is not followed by two hexadecimal digits; encode a literal percent sign as %25."
            );
            return Err(ApiProblem::bad_request(detail));
        }
    }
    Ok(())
}

/// `uri-host [ ":" port ]` (RFC 9110, section 7.2). It may be empty.
fn is_host(value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else { return false };
    let (is_name, port) = match value.strip_prefix('[') {
        Some(literal) => {
            let Some((address, port)) = literal.split_once(']') else { return false };
            (address.parse::<Ipv6Addr>().is_ok(), port)
        }
        None => {
            let (name, port) = value.split_at(value.find(':').unwrap_or(value.len()));
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
            (name.bytes().all(allowed) && is_encoded(name), port)
        }
    };
    let port = port.strip_prefix(':').or(Some("").filter(|_| port.is_empty()));
    is_name && port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether two hexadecimal digits stand behind every percent sign.
fn is_encoded(text: &str) -> bool {
    let encoded = |behind: &str| {
        let digits = behind.as_bytes().first_chunk::<2>();
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    text.split('%').skip(1).all(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_host_once() {
        let check = |version, hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            check(version, &headers, &Uri::from_static("/")).is_ok()
        };
        for good in ["a.example", "a.example:8080", "127.0.0.1:80", "[::1]:80", "[::1]", "", "a:", "a_b", "a%20b"] {
            assert!(check(Version::HTTP_11, &[good]), "{good}");
        }
        for wrong in ["a b", "a/b", "u@a", "a:b", "a:8:8", "::1", "[::1", "[x]", "[::1]80", "a%zz", "http://a", "é"] {
            assert!(!check(Version::HTTP_11, &[wrong]), "{wrong}");
        }
        assert!(!check(Version::HTTP_11, &[]));
        assert!(!check(Version::HTTP_11, &["a", "a"]));
        assert!(check(Version::HTTP_10, &[]));
        // HTTP/2 has the host in the address.
        assert!(!check(Version::HTTP_2, &[]));
        let uri = Uri::from_static("http://a.example/");
        assert!(super::check(Version::HTTP_2, &HeaderMap::new(), &uri).is_ok());
        assert!(!check(Version::HTTP_10, &["a", "b"]));
    }

    #[test]
    fn an_address_can_be_decoded() {
        let check = |uri: &str| check(Version::HTTP_10, &HeaderMap::new(), &uri.parse().unwrap()).is_ok();
        for good in ["/", "/a%20b", "/%E7%94%A8?x=%2f&y", "/?", "/a?b%25"] {
            assert!(check(good), "{good}");
        }
        for wrong in ["/%zz", "/a%", "/a%4", "/a?%", "/a?b=%zz", "/%%20", "/a%2?b", "/a%+1"] {
            assert!(!check(wrong), "{wrong}");
        }
    }
}
