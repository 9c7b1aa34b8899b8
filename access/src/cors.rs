//! Which pages of other origins may call from a browser.

use axum::http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use std::time::Duration;
use tally_http::REQUEST_ID_HEADER;
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser may cache the answer to a preflight.
const REMEMBERED: Duration = Duration::from_secs(600);

/// A text that is no origin.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error(
    "`{0}` is not an origin: give scheme, host and optional port, like https://example.org, or `*` for all origins"
)]
pub struct CorsError(String);

/// Answers for these origins, preflights included; None without origins. Exact origins may send credentials, any origin
/// (`*`) may not.
pub fn cors(origins: &[String]) -> Result<Option<CorsLayer>, CorsError> {
    if origins.is_empty() {
        return Ok(None);
    }
    let exact =
        origins.iter().filter(|origin| *origin != "*").map(|origin| exact(origin)).collect::<Result<Vec<_>, _>>()?;
    let layer = match origins.len() > exact.len() {
        true => CorsLayer::new().allow_origin(tower_http::cors::Any),
        false => CorsLayer::new().allow_origin(AllowOrigin::list(exact)).allow_credentials(true),
    };
    let own = [REQUEST_ID_HEADER, HeaderName::from_static("x-api-key"), HeaderName::from_static("last-event-id")];
    let layer = layer
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(
            [AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, IF_NONE_MATCH].into_iter().chain(own).collect::<Vec<_>>(),
        )
        .expose_headers([ETAG, RETRY_AFTER, WWW_AUTHENTICATE, REQUEST_ID_HEADER])
        .max_age(REMEMBERED);
    Ok(Some(layer))
}

/// An origin as browsers write it: in lower case, with nothing behind host and port.
fn exact(origin: &str) -> Result<HeaderValue, CorsError> {
    let wrong = || CorsError(origin.to_owned());
    let uri: Uri = origin.parse().map_err(|_| wrong())?;
    let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme)).ok_or_else(wrong)?;
    let authority = uri.authority().ok_or_else(wrong)?;
    match origin == format!("{scheme}://{authority}") && !authority.as_str().contains(['@', '*']) {
        true => HeaderValue::from_str(&origin.to_ascii_lowercase()).map_err(|_| wrong()),
        false => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use axum::response::Response;
    use axum::routing::get;
    use tower::ServiceExt;

    async fn ask(origins: &[&str], method: &str, origin: &str) -> Response {
        let origins: Vec<_> = origins.iter().map(|origin| (*origin).to_owned()).collect();
        let router = Router::new().route("/", get(async || StatusCode::UNAUTHORIZED));
        let router = router.layer(cors(&origins).unwrap().unwrap());
        let request = Request::builder().method(method).uri("/").header("origin", origin);
        let request = request.header("access-control-request-method", "POST").body(Body::empty()).unwrap();
        router.oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn exact_origins_may_send_credentials_and_any_origin_may_not() {
        let exact = &["https://a.example", "http://localhost:5173"];
        for (origins, origin, allowed, credentials) in [
            (&exact[..], "https://a.example", Some("https://a.example"), true),
            (exact, "http://localhost:5173", Some("http://localhost:5173"), true),
            (exact, "https://b.example", None, true),
            (exact, "http://a.example", None, true),
            (exact, "https://a.example.evil", None, true),
            (&["*"], "https://b.example", Some("*"), false),
            (&["https://a.example", "*"], "https://a.example", Some("*"), false),
        ] {
            for (method, status) in [("OPTIONS", 200), ("GET", 401)] {
                let response = ask(origins, method, origin).await;
                let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
                assert_eq!(response.status(), status, "{method} {origin}");
                assert_eq!(header("access-control-allow-origin"), allowed, "{method} {origin}");
                assert_eq!(header("access-control-allow-credentials").is_some(), credentials, "{method} {origin}");
                assert_eq!(header("access-control-allow-headers").is_some(), method == "OPTIONS");
            }
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        assert!(cors(&[]).unwrap().is_none());
        for wrong in ["", "example.org", "https://a.example/", "https://a/b", "ftp://a", "https://*.a.example", "null"]
        {
            assert_eq!(cors(&[wrong.to_owned()]).err(), Some(CorsError(wrong.to_owned())));
        }
    }
}
