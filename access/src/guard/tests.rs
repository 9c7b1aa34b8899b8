//! Every way not to be let in: status, problem type and challenge, as a table.

use super::*;
use crate::jwt::tests::{NOW_S, RSA_TOKEN, jwks, token};
use crate::keys::Limits;
use crate::mint::mint;
use crate::routes::{Access, Routes};
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::http::Request as HttpRequest;
use axum::routing::{get, post, put};
use hyper::body::Frame;
use prometheus::Registry;
use serde_json::{Value, json};
use std::fs;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};
use tower::ServiceExt;

struct Bed {
    guard: Guard,
    router: Router,
    now_ms: Arc<AtomicI64>,
    keys: Arc<Reloading<KeyRing>>,
    directory: tempfile::TempDir,
    writer: String,
    reader: String,
    admin: String,
    scraper: String,
    expired: String,
    slow: String,
}

fn answer(principal: Option<axum::Extension<Arc<Principal>>>, uri: Uri) -> String {
    format!("{} {uri}", principal.map_or("nobody".into(), |principal| principal.name.to_string()))
}

impl Bed {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut entries = String::new();
        let mut key = |name: &str, scope, end_ms, limits: Limits| {
            let minted = mint(name, &[scope], end_ms, &limits).unwrap();
            entries.push_str(&minted.entry);
            minted.key
        };
        let none = Limits::default();
        let writer = key("writer", Scope::Write, None, none);
        let reader = key("reader", Scope::Read, Some(NOW_S * 1_000 + 1), none);
        let admin = key("admin", Scope::Admin, None, none);
        let scraper = key("scraper", Scope::Metrics, None, none);
        let expired = key("expired", Scope::Read, Some(NOW_S * 1_000), none);
        let slow = key("slow", Scope::Read, None, Limits { requests_per_minute: Some(2), ..none });
        let (keys, set) = (directory.path().join("keys.yaml"), directory.path().join("jwks.json"));
        fs::write(&keys, entries).unwrap();
        fs::write(&set, jwks()).unwrap();
        let handler = async |principal: Option<axum::Extension<Arc<Principal>>>, uri: Uri| answer(principal, uri);
        let writes = Router::new()
            .route("/v1/events", post(handler))
            .route("/v1/read-tokens", post(handler))
            .route("/v1/subjects/{subject_id}/collects/{actor_id}", put(handler).delete(handler));
        let reads = Router::new()
            .route("/v1/actors/{actor_id}/likes/subjects", get(handler))
            .route("/v1/counters", get(handler))
            .route("/v1/subjects/{subject_id}/collects/{actor_id}", get(handler));
        let routes = Routes::new(Access::Needs(Scope::Write), writes)
            .merge(Routes::new(Access::Needs(Scope::Read), reads))
            .merge(Routes::new(Access::Lasting(Scope::Read), Router::new().route("/v1/live", get(handler))))
            .merge(Routes::new(Access::Needs(Scope::Admin), Router::new().route("/v1/progress", get(handler))))
            .merge(Routes::new(Access::Needs(Scope::Metrics), Router::new().route("/metrics", get(handler))))
            .merge(Routes::new(Access::Open, Router::new().route("/livez", get(handler))));
        let keys = Arc::new(Reloading::open(&keys, KeyRing::parse).unwrap());
        let set = TokenKeys::file(&set).unwrap();
        let metrics = AccessMetrics::new(&Registry::new()).unwrap();
        let tokens = Some((Arc::new(set), JwtRules::default()));
        let now_ms = Arc::new(AtomicI64::new(NOW_S * 1_000));
        let time = now_ms.clone();
        let guard = Guard::new(
            Some(keys.clone()),
            tokens,
            metrics,
            Arc::new(move || Moment::both(time.load(Ordering::SeqCst))),
        );
        Self {
            router: routes.into_router(Some(&guard)),
            guard,
            now_ms,
            keys,
            directory,
            writer,
            reader,
            admin,
            scraper,
            expired,
            slow,
        }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, Value, String) {
        let mut request = HttpRequest::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let challenge = response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
        (status, body, challenge.unwrap_or_default())
    }
}

#[tokio::test]
async fn requests_without_the_scope_are_refused() {
    let bed = Bed::new();
    let Bed { writer, reader, admin, scraper, expired, .. } = &bed;
    let jwt = token(json!({}), json!({}));
    let no_scope = token(json!({}), json!({"scope": null}));
    let old = token(json!({}), json!({"exp": NOW_S - 60}));
    let early = token(json!({}), json!({"nbf": NOW_S + 100}));
    let none = token(json!({"alg": "none"}), json!({}));
    let confused = token(json!({"kid": "r"}), json!({}));
    let unknown = token(json!({"kid": "x"}), json!({}));
    let unsigned = format!("{}.", jwt.rsplit_once('.').unwrap().0);
    let (collect, other) = ("/v1/subjects/a:1/collects/u42", "/v1/subjects/a:1/collects/u7");
    let escaped = "/v1/subjects/a:1/collects/%7542";
    let bearer = |credential: &str| ("authorization", format!("Bearer {credential}"));
    let key = |credential: &str| ("x-api-key", credential.to_owned());
    let (missing, invalid, late) = ("unauthenticated", "invalid-credentials", "expired-credentials");
    let (scope, actor, good) = ("insufficient-scope", "other-actor", "");
    type Row<'a> = (&'a str, &'a str, Option<(&'static str, String)>, u16, &'a str);
    let table: Vec<Row<'_>> = vec![
        // Open to all clients, whatever credential they send.
        ("GET", "/livez", None, 200, good),
        ("GET", "/livez", Some(key("nonsense")), 200, good),
        ("GET", "/nowhere", None, 404, good),
        // No credential, and an unknown one.
        ("POST", "/v1/events", None, 401, missing),
        ("GET", "/v1/counters", None, 401, missing),
        ("GET", "/metrics", None, 401, missing),
        ("PUT", collect, None, 401, missing),
        ("GET", "/v1/counters?access_token=x.y.z", None, 401, missing),
        ("GET", "/v1/counters", Some(key("")), 401, invalid),
        ("GET", "/v1/counters", Some(key("tally_nonsense")), 401, invalid),
        ("GET", "/v1/counters", Some(bearer("tally_nonsense")), 401, invalid),
        ("GET", "/v1/counters", Some(key(&reader[..reader.len() - 1])), 401, invalid),
        ("GET", "/v1/counters", Some(key(&jwt)), 401, invalid),
        ("GET", "/v1/counters", Some(("authorization", "Basic dTpw".into())), 401, invalid),
        ("GET", "/v1/counters", Some(("authorization", "Bearer".into())), 401, invalid),
        ("GET", "/v1/counters", Some(("authorization", reader.clone())), 401, invalid),
        ("GET", "/v1/counters", Some(key(expired)), 401, late),
        ("GET", "/v1/counters", Some(bearer(expired)), 401, late),
        // Scopes of keys.
        ("POST", "/v1/events", Some(bearer(writer)), 200, good),
        ("POST", "/v1/events", Some(key(writer)), 200, good),
        ("POST", "/v1/events", Some(("authorization", format!("bearer  {writer}"))), 200, good),
        ("POST", "/v1/events", Some(key(reader)), 403, scope),
        ("POST", "/v1/events", Some(key(admin)), 403, scope),
        ("POST", "/v1/read-tokens", Some(key(reader)), 403, scope),
        ("PUT", collect, Some(key(reader)), 403, scope),
        ("PUT", other, Some(key(writer)), 200, good),
        // One path, and a scope for each of its methods.
        ("GET", other, Some(key(reader)), 200, good),
        ("HEAD", other, Some(key(reader)), 200, good),
        ("GET", other, Some(key(writer)), 403, scope),
        ("GET", "/v1/counters", Some(key(reader)), 200, good),
        ("GET", "/v1/counters", Some(key(admin)), 200, good),
        ("GET", "/v1/counters", Some(key(writer)), 403, scope),
        ("GET", "/v1/progress", Some(key(reader)), 403, scope),
        ("GET", "/v1/progress", Some(key(admin)), 200, good),
        ("GET", "/metrics", Some(key(reader)), 403, scope),
        ("GET", "/metrics", Some(key(admin)), 200, good),
        ("GET", "/metrics", Some(key(scraper)), 200, good),
        ("GET", "/metrics", Some(bearer(scraper)), 200, good),
        ("GET", "/v1/counters", Some(key(scraper)), 403, scope),
        ("GET", "/v1/progress", Some(key(scraper)), 403, scope),
        ("POST", "/v1/events", Some(key(scraper)), 403, scope),
        ("GET", "/metrics", Some(key(writer)), 403, scope),
        // Tokens.
        ("POST", "/v1/events", Some(bearer(&jwt)), 200, good),
        ("GET", "/v1/counters", Some(bearer(&jwt)), 200, good),
        ("POST", "/v1/events", Some(bearer(RSA_TOKEN)), 200, good),
        ("GET", "/v1/counters", Some(bearer(RSA_TOKEN)), 403, scope),
        ("GET", "/v1/progress", Some(bearer(&jwt)), 403, scope),
        ("GET", "/v1/counters", Some(bearer(&no_scope)), 403, scope),
        ("GET", "/v1/counters", Some(bearer(&old)), 401, late),
        ("GET", "/v1/counters", Some(bearer(&early)), 401, invalid),
        ("GET", "/v1/counters", Some(bearer(&none)), 401, invalid),
        ("GET", "/v1/counters", Some(bearer(&unsigned)), 401, invalid),
        ("GET", "/v1/counters", Some(bearer(&confused)), 401, invalid),
        ("GET", "/v1/counters", Some(bearer(&unknown)), 401, invalid),
        ("GET", "/v1/counters", Some(bearer("a.b.c")), 401, invalid),
        // A user acts only for the own actor, and may read about all.
        ("PUT", collect, Some(bearer(&jwt)), 200, good),
        ("PUT", escaped, Some(bearer(&jwt)), 200, good),
        ("PUT", other, Some(bearer(&jwt)), 403, actor),
        ("DELETE", other, Some(bearer(&jwt)), 403, actor),
        ("GET", "/v1/actors/u7/likes/subjects", Some(bearer(&jwt)), 200, good),
    ];
    for (method, path, header, status, problem) in table {
        let headers: Vec<_> = header.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (told, body, challenge) = bed.ask(method, path, &headers).await;
        let row = format!("{method} {path} {header:?}: {body}");
        assert_eq!(told, status, "{row}");
        if !problem.is_empty() {
            assert_eq!(body["type"], format!("urn:tally:problem:{problem}"), "{row}");
            let said = body.to_string();
            assert!(headers.iter().all(|(_, value)| value.len() < 9 || !said.contains(value)), "{row}");
        }
        let expected = match problem {
            "unauthenticated" => "Bearer realm=\"tally\"",
            "invalid-credentials" => "Bearer realm=\"tally\", error=\"invalid_token\"",
            "expired-credentials" => "Bearer realm=\"tally\", error=\"invalid_token\", error_description=\"expired\"",
            "insufficient-scope" => "Bearer realm=\"tally\", error=\"insufficient_scope\", scope=",
            _ => "",
        };
        assert!(challenge.starts_with(expected) && challenge.is_empty() == expected.is_empty(), "{row}\n{challenge}");
    }
}

#[tokio::test]
async fn one_credential_is_enough_and_two_are_too_many() {
    let bed = Bed::new();
    let bearer = format!("Bearer {}", bed.reader);
    let (a, b) = (("authorization", bearer.as_str()), ("x-api-key", bed.reader.as_str()));
    for headers in [&[a, b][..], &[a, a], &[b, b]] {
        assert_eq!(bed.ask("GET", "/v1/counters", headers).await.0, 400);
    }
    let path = format!("/v1/live?access_token={}", bed.reader);
    assert_eq!(bed.ask("GET", &path, &[b]).await.0, 400);
}

#[tokio::test]
async fn only_live_accepts_a_token_in_the_query_and_handlers_never_see_it() {
    let bed = Bed::new();
    let jwt = token(json!({}), json!({}));
    for (credential, name) in [(&bed.reader, "reader"), (&jwt, "u42")] {
        for (path, left) in [
            (format!("/v1/live?access_token={credential}"), "/v1/live"),
            (format!("/v1/live?subject_id=a:1&access_token={credential}"), "/v1/live?subject_id=a:1"),
            (format!("/v1/live?access_token={credential}&board=hot&x"), "/v1/live?board=hot&x"),
        ] {
            assert_eq!(bed.ask("GET", &path, &[]).await.1, json!(format!("{name} {left}")), "{path}");
        }
    }
    let (status, body, _) = bed.ask("GET", "/v1/live?access_token=", &[]).await;
    assert_eq!((status, &body["type"]), (401, &json!("urn:tally:problem:invalid-credentials")));
}

/// A response without end.
struct Endless;

impl HttpBody for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"more")))))
    }
}

#[tokio::test]
async fn an_answer_that_lasts_ends_with_what_let_it_in() {
    let bed = Bed::new();
    let live = Router::new().route("/v1/live", get(async || Body::new(Endless)));
    let router = Routes::new(Access::Lasting(Scope::Read), live).into_router(Some(&bed.guard));
    let mut answers = Vec::new();
    let jwt = token(json!({}), json!({"exp": NOW_S + 100}));
    for credential in [&bed.reader, &bed.slow, &jwt] {
        let uri = format!("/v1/live?access_token={credential}");
        let request = HttpRequest::builder().uri(uri).body(Body::empty()).unwrap();
        answers.push(router.clone().oneshot(request).await.unwrap().into_body());
    }
    let mut go_on = async || {
        let mut go_on = Vec::new();
        for answer in &mut answers {
            go_on.push(poll_fn(|context| Pin::new(&mut *answer).poll_frame(context)).await.is_some());
        }
        go_on
    };
    assert_eq!(go_on().await, [true, true, true]);
    let at = |seconds: i64| bed.now_ms.store((NOW_S + seconds) * 1_000, Ordering::SeqCst);
    // The first key has expired by now, but it is not checked for every item.
    at(4);
    assert_eq!(go_on().await, [true, true, true]);
    at(5);
    assert_eq!(go_on().await, [false, true, true]);
    let others = mint("other", &[Scope::Read], None, &Limits::default()).unwrap().entry;
    fs::write(bed.directory.path().join("keys.yaml"), others).unwrap();
    bed.keys.reload(true).unwrap();
    at(10);
    assert_eq!(go_on().await, [false, false, true]);
    at(1_000);
    assert_eq!(go_on().await, [false, false, false]);
}

#[tokio::test]
async fn an_answer_that_needs_more_than_its_route_ends_with_that() {
    let bed = Bed::new();
    let minted = mint("one", &[Scope::Admin], None, &Limits::default()).unwrap();
    let write = |entry: &str| {
        fs::write(bed.directory.path().join("keys.yaml"), entry).unwrap();
        bed.keys.reload(true).unwrap();
    };
    write(&minted.entry);
    let routes = |also: Option<Scope>| {
        let live = get(async move || {
            let mut response = Response::new(Body::new(Endless));
            if let Some(scope) = also {
                response.extensions_mut().insert(AlsoNeeds(scope));
            }
            response
        });
        Routes::new(Access::Lasting(Scope::Read), Router::new().route("/v1/live", live)).into_router(Some(&bed.guard))
    };
    let mut answers = Vec::new();
    for also in [Some(Scope::Admin), None] {
        let uri = format!("/v1/live?access_token={}", minted.key);
        let request = HttpRequest::builder().uri(uri).body(Body::empty()).unwrap();
        answers.push(routes(also).oneshot(request).await.unwrap().into_body());
    }
    // The key may only read from now on.
    write(&minted.entry.replace("admin", "read"));
    bed.now_ms.store((NOW_S + 5) * 1_000, Ordering::SeqCst);
    let mut go_on = Vec::new();
    for answer in &mut answers {
        go_on.push(poll_fn(|context| Pin::new(&mut *answer).poll_frame(context)).await.is_some());
    }
    assert_eq!(go_on, [false, true]);
}

#[tokio::test]
async fn a_key_has_its_own_limit_of_requests() {
    let bed = Bed::new();
    let header = [("x-api-key", bed.slow.as_str())];
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(bed.ask("GET", "/v1/counters", &header).await.0);
    }
    assert_eq!(answers, [200, 200, 429, 429]);
    assert_eq!(bed.ask("GET", "/v1/counters", &[("x-api-key", &bed.reader)]).await.0, 200);
}

#[tokio::test]
async fn keys_come_and_go_while_it_runs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.yaml");
    let [old, new] = ["old", "new"].map(|name| mint(name, &[Scope::Read], None, &Limits::default()).unwrap());
    fs::write(&path, &old.entry).unwrap();
    let keys = Arc::new(Reloading::open(&path, KeyRing::parse).unwrap());
    let metrics = AccessMetrics::new(&Registry::new()).unwrap();
    let guard = Guard::new(Some(keys.clone()), None, metrics, Arc::new(|| Moment::both(0)));
    let counters = Router::new().route("/v1/counters", get(async || ""));
    let router = Routes::new(Access::Needs(Scope::Read), counters).into_router(Some(&guard));
    let bed = Bed { router, directory, ..Bed::new() };
    let statuses = async || {
        let mut statuses = Vec::new();
        for minted in [&old, &new] {
            statuses.push(bed.ask("GET", "/v1/counters", &[("x-api-key", &minted.key)]).await.0);
        }
        statuses
    };
    assert_eq!(statuses().await, [200, 401]);
    fs::write(bed.directory.path().join("keys.yaml"), &new.entry).unwrap();
    assert_eq!(keys.reload(true), Ok(true));
    assert_eq!(statuses().await, [401, 200]);
    let (_, body, _) = bed.ask("GET", "/v1/counters", &[("authorization", "Bearer a.b.c")]).await;
    assert!(body["detail"].as_str().unwrap().contains("this service accepts API keys only"), "{body}");
}
