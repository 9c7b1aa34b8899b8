//! Subjects of private kinds: only callers with scope `admin` read them, on every route that names or lists a subject.

mod fixture;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use axum::{Extension, Router};
use fixture::*;
use serde_json::{Value, json};
use std::sync::Arc;
use tally_access::{Limits, Principal, Scope};
use tally_api::{Collects, CollectsParts, collects_router, router};
use utoipa::openapi::OpenApiBuilder;

const PRIVATE: &str = "ip:192.0.2.1";
const DETAIL: &str = "Subjects of kind `ip` require the scope `admin`, which the key or token does not have.";

/// A subject of a kind whose name only begins like a private one.
const PUBLIC: &str = "ips:192.0.2.1";

fn collects(world: &World) -> Arc<Collects> {
    let parts = CollectsParts { private_kinds: config().private_kinds, ..collects::collects_parts(world) };
    Collects::start(parts, &prometheus::Registry::new()).unwrap()
}

/// All routes, for a caller with these scopes.
fn routes(world: &World, collects: &Arc<Collects>, scopes: &[Scope]) -> Router {
    let principal = Arc::new(Principal {
        name: "caller".into(),
        scopes: scopes.iter().copied().collect(),
        actor: None,
        limits: Limits::default(),
    });
    let routes = router(world.api.clone()).merge(collects_router(collects.clone()));
    routes.into_router(None).layer(Extension(principal))
}

/// Method and address of each route that takes a subject, as described: a route that is added later is among them.
fn addresses(world: &World, collects: &Arc<Collects>, subject_id: &str) -> Vec<(String, String)> {
    let routes = router(world.api.clone()).merge(collects_router(collects.clone()));
    let document = serde_json::to_value(routes.describe(OpenApiBuilder::new().build())).unwrap();
    let mut addresses = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let parameters: Vec<&Value> = operation["parameters"].as_array().into_iter().flatten().collect();
            let Some(subject) = parameters.iter().find(|parameter| parameter["name"] == "subject_id") else { continue };
            let refused = operation["responses"]["403"]["description"].as_str().unwrap();
            assert!(
                refused.contains("the scope `admin` for a subject of a private kind"),
                "{method} {path}: {refused}"
            );
            let path = path.replace("{metric}", "likes").replace("{actor_id}", "u1");
            // Among others that are public, and first and last.
            let uris = match subject["in"].as_str() {
                Some("path") => vec![path.replace("{subject_id}", subject_id)],
                _ => vec![
                    format!("{path}?subject_id={subject_id}"),
                    format!("{path}?subject_id=article:1&subject_id={subject_id}"),
                    format!("{path}?subject_id={subject_id}&subject_id=article:1"),
                ],
            };
            addresses.extend(uris.into_iter().map(|uri| (method.to_uppercase(), uri)));
        }
    }
    // Forms of routes that differ in parameters.
    let one = format!("/v1/subjects/{subject_id}/counters");
    addresses.push(("GET".into(), format!("{one}?window=1d")));
    addresses.push(("GET".into(), format!("/v1/counters?subject_id={subject_id}&actor_id=u1")));
    addresses.push(("GET".into(), format!("/v1/subjects/{subject_id}/collects/actors")));
    addresses
}

/// The answer's status and, of a problem, its JSON. A stream is not read.
async fn ask(router: &Router, method: &str, uri: &str) -> (StatusCode, Value) {
    use tower::ServiceExt;
    let request = axum::http::Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    if status.is_success() {
        assert!(!response.body().is_end_stream(), "{uri}");
        return (status, Value::Null);
    }
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{uri}");
    let challenge = response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(challenge.is_some(), status == StatusCode::FORBIDDEN, "{uri}");
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn every_route_that_takes_a_subject_demands_admin_for_private_kinds() {
    let world = World::new().await;
    let collects = collects(&world);
    let [reader, writer, admin] = [&[Scope::Read][..], &[Scope::Read, Scope::Write], &[Scope::Admin, Scope::Write]]
        .map(|scopes| routes(&world, &collects, scopes));
    let all = addresses(&world, &collects, PRIVATE);
    assert!(all.len() > 12, "{all:?}");
    for (method, uri) in &all {
        for router in [&reader, &writer] {
            let (status, body) = ask(router, method, uri).await;
            assert_eq!((status, body["detail"].as_str()), (StatusCode::FORBIDDEN, Some(DETAIL)), "{method} {uri}");
            assert!(body["type"].as_str().unwrap().ends_with("insufficient-scope"), "{body}");
        }
        assert_eq!(ask(&admin, method, uri).await.0, StatusCode::OK, "{method} {uri}");
    }
    // An encoded id is the same id.
    let encoded = "/v1/subjects/%69p%3A192.0.2.1/counters";
    assert_eq!(ask(&reader, "GET", encoded).await.0, StatusCode::FORBIDDEN);
    for (method, uri) in addresses(&world, &collects, PUBLIC) {
        assert_eq!(ask(&writer, &method, &uri).await.0, StatusCode::OK, "{method} {uri}");
    }
    // Without authentication every caller has every permission.
    let open = router(world.api.clone()).merge(collects_router(collects.clone())).into_router(None);
    for (method, uri) in &all {
        assert_eq!(ask(&open, method, uri).await.0, StatusCode::OK, "{method} {uri}");
    }
}

async fn json_of(router: &Router, uri: &str) -> Value {
    World::ask(router.clone(), "GET", uri).await.body
}

fn subjects(body: &Value) -> Vec<&str> {
    body["items"].as_array().unwrap().iter().map(|item| item["subject_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn lists_leave_private_subjects_out() {
    let world = World::new().await;
    let collects = collects(&world);
    for (subject_id, after_ms) in [("article:1", 1), (PRIVATE, 2), ("article:2", 3)] {
        world.reaction("u1", "likes", subject_id, true, after_ms).await;
    }
    world.board(&ranking("hot", &[("article:1", 3_000), (PRIVATE, 2_000), ("article:2", 1_000)], 1)).await;
    let [reader, admin] = [Scope::Read, Scope::Admin].map(|scope| routes(&world, &collects, &[scope]));
    let liked = "/v1/actors/u1/likes/subjects";
    assert_eq!(subjects(&json_of(&reader, liked).await), ["article:2", "article:1"]);
    assert_eq!(subjects(&json_of(&admin, liked).await), ["article:2", PRIVATE, "article:1"]);
    // Pages may be shorter, and none is missing.
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = json_of(&reader, &format!("{liked}?limit=1{cursor}")).await;
        found.extend(subjects(&page).into_iter().map(str::to_owned));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(found, ["article:2", "article:1"]);
    // A board has one answer for all callers.
    for router in [&reader, &admin] {
        let board = json_of(router, "/v1/rankings/hot").await;
        assert_eq!(subjects(&board), ["article:1", "article:2"]);
        assert_eq!(board["items"][1]["rank"], json!(2));
    }
}
