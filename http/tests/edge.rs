//! What every route gets: errors as problems, request ids, metrics.

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use prometheus::Registry;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::future::pending;
use std::time::Duration;
use tally_http::{ApiProblem, Edge, MediaType, PageFiles, RequestId, metrics_page, openapi_page, read_body};
use tower::ServiceExt;

fn surface(registry: &Registry) -> Router {
    let routes = Router::new()
        .route("/things/{id}", get(async || "a thing").put(async || "put"))
        .route("/numbers", get(async |Query(_): Query<HashMap<String, u8>>| "numbers"))
        .route("/panic", get(async || -> &'static str { panic!("as the test wants") }))
        .route("/status/{code}", get(async |Path(code): Path<u16>| StatusCode::from_u16(code).unwrap()))
        .route("/silence", get(async || pending::<&'static str>().await))
        .route("/id", get(async |id: axum::Extension<RequestId>| id.as_str().to_owned()))
        .route("/teapot", get(async || (StatusCode::IM_A_TEAPOT, [("x-pot", "brown")], "short and stout")))
        .route(
            "/body",
            post(async |headers: HeaderMap, body: Body| {
                read_body(&headers, body, 10, |_| Ok(())).await.map(|b| b.len().to_string())
            }),
        )
        .route("/typed", post(typed))
        .route("/json", post(async |_: Json<Value>| "json"))
        .merge(metrics_page(registry.clone()))
        .merge(openapi_page(&utoipa::openapi::OpenApi::default(), Map::new()).unwrap());
    Edge::new(registry, Duration::from_millis(50)).unwrap().wrap(routes)
}

async fn typed(headers: HeaderMap) -> Result<String, ApiProblem> {
    let accepted = ["application/json"];
    let media = MediaType::of(&headers).map_err(|e| ApiProblem::unsupported_media_type(e, &accepted))?;
    Ok(media.as_str().to_owned())
}

async fn call(router: &Router, request: Request<Body>) -> (Response, Vec<u8>) {
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    (Response::from_parts(parts, Body::empty()), to_bytes(body, usize::MAX).await.unwrap().to_vec())
}

fn request(method: &str, path: &str, body: &'static str) -> Request<Body> {
    Request::builder().method(method).uri(path).header("host", "a").body(Body::from(body)).unwrap()
}

#[tokio::test]
async fn every_error_is_a_problem_with_a_request_id() {
    let router = surface(&Registry::new());
    let cases = [
        (request("GET", "/nowhere", ""), 404, "not-found", "No route matches /nowhere."),
        (request("POST", "/things/1", ""), 405, "method-not-allowed", "does not support POST"),
        (request("GET", "/numbers?a=300", ""), 400, "bad-request", "number too large"),
        (request("GET", "/panic", ""), 500, "internal", "The service log has the cause"),
        (request("GET", "/silence", ""), 503, "request-timeout", "not answered within 50ms"),
        (request("GET", "/teapot", ""), 418, "refused", "short and stout"),
        (request("POST", "/body", "0123456789a"), 413, "payload-too-large", "at most 10 bytes"),
        (request("POST", "/typed", "x"), 415, "unsupported-media-type", "missing; accepted: application/json."),
        (request("POST", "/json", "x"), 415, "unsupported-media-type", "Content-Type"),
    ];
    for (request, status, slug, detail) in cases {
        let name = format!("{} {}", request.method(), request.uri());
        let (response, body) = call(&router, request).await;
        assert_eq!(response.status().as_u16(), status, "{name}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{name}");
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["type"], format!("urn:tally:problem:{slug}"), "{name}");
        assert_eq!(problem["status"], status, "{name}");
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{name}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{name}: {problem}");
        assert_eq!(problem["request_id"], response.headers()["x-request-id"].to_str().unwrap(), "{name}");
        assert_ne!(problem["request_id"], "", "{name}");
        assert_eq!(response.headers().contains_key("retry-after"), status == 503, "{name}");
    }
}

#[tokio::test]
async fn other_headers_of_an_error_stay() {
    let router = surface(&Registry::new());
    let (response, _) = call(&router, request("GET", "/teapot", "")).await;
    assert_eq!(response.headers()["x-pot"], "brown");
    let (response, body) = call(&router, request("POST", "/things/1", "")).await;
    let allow = response.headers()["allow"].to_str().unwrap();
    assert!(allow.contains("GET") && allow.contains("PUT"), "{allow}");
    assert!(body.len() > 2);
}

#[tokio::test]
async fn a_sane_request_id_is_taken_over() {
    let router = surface(&Registry::new());
    let with_id = |id: &str| {
        Request::builder().uri("/id").header("host", "a").header("x-request-id", id).body(Body::empty()).unwrap()
    };
    let (response, body) = call(&router, with_id("order-66.b")).await;
    assert_eq!(response.headers()["x-request-id"], "order-66.b");
    assert_eq!(body, b"order-66.b");
    let (response, body) = call(&router, with_id("<script>")).await;
    assert_eq!(response.headers()["x-request-id"].as_bytes(), body);
    assert_eq!(body.len(), 16);
}

#[tokio::test]
async fn requests_are_counted_by_route_and_not_by_path() {
    let router = surface(&Registry::new());
    for path in ["/things/1", "/things/2", "/nowhere/3", "/panic"] {
        call(&router, request("GET", path, "")).await;
    }
    call(&router, request("BREW", "/things/1", "")).await;
    // A client that leaves before the answer.
    let left = router.clone().oneshot(request("GET", "/silence", ""));
    assert!(tokio::time::timeout(Duration::from_millis(5), left).await.is_err());

    let (response, text) = call(&router, request("GET", "/metrics", "")).await;
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let text = String::from_utf8(text).unwrap();
    for line in [
        "tally_http_requests_total{method=\"GET\",route=\"/things/{id}\",status=\"200\"} 2",
        "tally_http_requests_total{method=\"other\",route=\"/things/{id}\",status=\"405\"} 1",
        "tally_http_requests_total{method=\"GET\",route=\"unmatched\",status=\"404\"} 1",
        "tally_http_requests_total{method=\"GET\",route=\"/panic\",status=\"500\"} 1",
        "tally_http_requests_total{method=\"GET\",route=\"/silence\",status=\"499\"} 1",
        "tally_http_request_seconds_count{method=\"GET\",route=\"/things/{id}\"} 2",
        "tally_http_requests_in_flight 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("things/1"), "{text}");
}

#[tokio::test]
async fn every_status_and_method_of_a_route_is_counted() {
    let router = surface(&Registry::new());
    for status in [200, 204, 200, 404, 201, 204, 404, 200] {
        call(&router, request("GET", &format!("/status/{status}"), "")).await;
    }
    call(&router, request("HEAD", "/status/204", "")).await;
    call(&router, request("GET", "/id", "")).await;
    let text = String::from_utf8(call(&router, request("GET", "/metrics", "")).await.1).unwrap();
    for (method, status, count) in
        [("GET", 200, 3), ("GET", 201, 1), ("GET", 204, 2), ("GET", 404, 2), ("HEAD", 204, 1)]
    {
        let labels = format!("method=\"{method}\",route=\"/status/{{code}}\",status=\"{status}\"");
        let line = format!("tally_http_requests_total{{{labels}}} {count}");
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    for line in [
        "tally_http_request_seconds_count{method=\"GET\",route=\"/status/{code}\"} 8",
        "tally_http_request_seconds_count{method=\"HEAD\",route=\"/status/{code}\"} 1",
        "tally_http_requests_total{method=\"GET\",route=\"/id\",status=\"200\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn the_description_is_served() {
    let (response, body) = call(&surface(&Registry::new()), request("GET", "/openapi.json", "")).await;
    assert_eq!(response.status(), 200);
    let description: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(description["paths"], json!({}));
}

/// A directory as the build leaves one, with what must never be served beside it.
fn built_page() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let web = dir.path().join("web");
    for (path, text) in [
        ("index.html", "<p>article"),
        ("console/index.html", "<p>console"),
        ("assets/index-abc123.js", "let a"),
        ("assets/index-abc123.css", "a{}"),
        ("favicon.svg", "<svg/>"),
        (".hidden", "secret"),
        ("../secret.txt", "secret"),
    ] {
        let path = web.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    std::os::unix::fs::symlink(dir.path().join("secret.txt"), web.join("assets/link.txt")).unwrap();
    dir
}

#[tokio::test]
async fn a_built_page_is_served_and_nothing_beside_it() {
    let dir = built_page();
    let files = PageFiles::read(&dir.path().join("web")).unwrap();
    let routes = files.router(&[("/subjects/{subject_id}", |id| id.contains(':'))]);
    let router = Edge::new(&Registry::new(), Duration::from_secs(5)).unwrap().wrap(routes);
    let header = |response: &Response, name: &str| {
        response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    let (html, kept, asked) = ("text/html; charset=utf-8", "public, max-age=31536000, immutable", "no-cache");
    for (path, content_type, cache_control, text) in [
        ("/", html, asked, "<p>article"),
        ("/subjects/article:7", html, asked, "<p>article"),
        ("/console/", html, asked, "<p>console"),
        ("/assets/index-abc123.js", "text/javascript; charset=utf-8", kept, "let a"),
        ("/assets/index-abc123.css", "text/css; charset=utf-8", kept, "a{}"),
        ("/favicon.svg", "image/svg+xml", asked, "<svg/>"),
    ] {
        let (response, body) = call(&router, request("GET", path, "")).await;
        assert_eq!((response.status().as_u16(), &*body), (200, text.as_bytes()), "{path}");
        assert_eq!(
            (&*header(&response, "content-type"), &*header(&response, "cache-control")),
            (content_type, cache_control)
        );
        assert!(header(&response, "content-security-policy").starts_with("default-src 'none'; script-src 'self'"));
        assert_eq!(header(&response, "x-content-type-options"), "nosniff");
        let mut again = request("GET", path, "");
        again.headers_mut().insert("if-none-match", response.headers()["etag"].clone());
        let (response, body) = call(&router, again).await;
        assert_eq!((response.status().as_u16(), body.len()), (304, 0), "{path}");
    }
    // People see a page in either case; programs see that there is no such thing.
    let (response, body) = call(&router, request("GET", "/subjects/nonsense", "")).await;
    assert_eq!((response.status().as_u16(), &*body), (404, "<p>article".as_bytes()));
    assert_eq!(
        ["content-type", "cache-control", "etag"].map(|name| header(&response, name)),
        [html, "no-store", ""].map(str::to_owned)
    );
    let (response, _) = call(&router, request("GET", "/console", "")).await;
    assert_eq!((response.status().as_u16(), &*header(&response, "location")), (308, "/console/"));
    for path in [
        "/secret.txt",
        "/../secret.txt",
        "/assets/../../secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/assets/%2e%2e/%2e%2e/secret.txt",
        "/assets/..%5c..%5csecret.txt",
        "/assets/link.txt",
        "/assets/",
        "/assets/index.html",
        "/assets/%00",
        "/.hidden",
        "/index.html",
        "/console/index.html",
        "/articles/7",
        "/subjects/a/b",
        "/v1/nothing",
    ] {
        let (response, body) = call(&router, request("GET", path, "")).await;
        assert_eq!(response.status().as_u16(), 404, "{path}");
        assert_eq!(header(&response, "content-type"), "application/problem+json", "{path}");
        assert!(!String::from_utf8_lossy(&body).contains("secret\n"), "{path}");
    }
}

#[test]
fn a_directory_without_a_page_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let refused = PageFiles::read(dir.path()).unwrap_err().to_string();
    assert!(refused.contains("has no index.html: build the page"), "{refused}");
    let gone = PageFiles::read(&dir.path().join("gone")).unwrap_err().to_string();
    assert!(gone.contains("/gone: No such file"), "{gone}");
}
