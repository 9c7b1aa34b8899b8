//! Subjects of private kinds: only callers with scope `admin` read them, on every route that names or lists a subject.

mod fixture;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use axum::{Extension, Router};
use fixture::*;
use prost_types::{DescriptorProto, FileDescriptorSet};
use serde_json::{Value, json};
use std::sync::Arc;
use tally_access::{AlsoNeeds, Limits, Principal, Routes, Scope};
use tally_api::{Collects, CollectsParts, collects_router, grpc, router};
use tally_proto::tally::v1::{ListSubjectsRequest, ListSubjectsResponse};
use tally_proto::{DESCRIPTORS, Message};
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
    all_routes(world, collects).into_router(None).layer(Extension(principal))
}

/// The routes of HTTP and the methods of gRPC.
fn all_routes(world: &World, collects: &Arc<Collects>) -> Routes {
    let http = router(world.api.clone()).merge(collects_router(collects.clone()));
    http.merge(grpc::reads(&world.api)).merge(grpc::collects(collects.clone()))
}

/// Method and address of each route that takes a subject, as described: a route that is added later is among them.
fn addresses(world: &World, collects: &Arc<Collects>, subject_id: &str) -> Vec<(String, String)> {
    let routes = all_routes(world, collects);
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
    let open = all_routes(&world, &collects).into_router(None);
    for (method, uri) in &all {
        assert_eq!(ask(&open, method, uri).await.0, StatusCode::OK, "{method} {uri}");
    }
}

/// A message with `subject_ids` in each of its fields for subjects, and something valid in its other texts.
fn message_about(message: &DescriptorProto, subject_ids: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in &message.field {
        let values = match field.name() {
            "subject_id" | "subject_ids" => subject_ids,
            "actor_id" => &["u1"],
            "metric" => &["likes"],
            "window" => &["1d"],
            _ => &[],
        };
        for value in values {
            bytes.extend([u8::try_from(field.number() << 3 | 2).unwrap(), u8::try_from(value.len()).unwrap()]);
            bytes.extend_from_slice(value.as_bytes());
        }
    }
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[0], &length[..], &bytes].concat()
}

/// Path and message of each method that takes a subject, as described: a method that is added later is among them.
fn calls(subject_id: &str) -> Vec<(String, Vec<u8>)> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let messages: Vec<_> = files.iter().flat_map(|file| &file.message_type).collect();
    let mut calls = Vec::new();
    for service in files.iter().filter(|file| file.package() == "tally.v1").flat_map(|file| &file.service) {
        for method in &service.method {
            let message =
                messages.iter().find(|message| method.input_type().ends_with(&format!(".{}", message.name())));
            let message = message.unwrap();
            let subject = message.field.iter().find(|field| field.name().starts_with("subject_id"));
            let path = format!("/tally.v1.{}/{}", service.name(), method.name());
            let about: &[&[&str]] = match subject.map(|field| field.name()) {
                None => continue,
                Some("subject_id") => &[&[subject_id]],
                Some(_) => &[&[subject_id], &["article:1", subject_id], &[subject_id, "article:1"]],
            };
            calls.extend(about.iter().map(|ids| (path.clone(), message_about(message, ids))));
        }
    }
    calls
}

/// The answer to a call. Its body, unless it is a problem, is not read.
async fn call(router: &Router, path: &str, body: &[u8]) -> (axum::response::Response, Value) {
    use tower::ServiceExt;
    let request = axum::http::Request::post(path).header("content-type", "application/grpc");
    let response = router.clone().oneshot(request.body(Body::from(body.to_vec())).unwrap()).await.unwrap();
    if response.status().is_success() {
        return (response, Value::Null);
    }
    let (head, body) = response.into_parts();
    let problem = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    (axum::response::Response::from_parts(head, Body::empty()), serde_json::from_slice(&problem).unwrap())
}

#[tokio::test]
async fn every_method_that_takes_a_subject_demands_admin_for_private_kinds() {
    let world = World::new().await;
    let collects = collects(&world);
    let [writer, admin] = [&[Scope::Read, Scope::Write][..], &[Scope::Admin, Scope::Write]]
        .map(|scopes| routes(&world, &collects, scopes));
    let open = all_routes(&world, &collects).into_router(None);
    let methods = calls(PRIVATE);
    assert!(methods.len() > 8, "{methods:?}");
    for (path, body) in &methods {
        let (refused, problem) = call(&writer, path, body).await;
        assert_eq!((refused.status(), problem["detail"].as_str()), (StatusCode::FORBIDDEN, Some(DETAIL)), "{path}");
        for router in [&admin, &open] {
            let (answer, problem) = call(router, path, body).await;
            assert_eq!((answer.status(), problem), (StatusCode::OK, Value::Null), "{path}");
            // A stream ends once its reader no longer has the scope.
            let also = answer.extensions().get::<AlsoNeeds>().copied();
            assert_eq!(also, path.ends_with("/WatchCounters").then_some(AlsoNeeds(Scope::Admin)), "{path}");
        }
    }
    for (path, body) in calls(PUBLIC) {
        assert_eq!(call(&writer, &path, &body).await.0.status(), StatusCode::OK, "{path}");
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
    let over_grpc = async |router| {
        let request = ListSubjectsRequest { actor_id: "u1".into(), metric: "likes".into(), ..Default::default() };
        let bytes = [&[0], &(request.encoded_len() as u32).to_be_bytes()[..], &request.encode_to_vec()].concat();
        let (answer, _) = call(router, "/tally.v1.Reactions/ListSubjects", &bytes).await;
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let items = ListSubjectsResponse::decode(&bytes[5..]).unwrap().items;
        items.into_iter().map(|item| item.subject_id).collect::<Vec<_>>()
    };
    assert_eq!(over_grpc(&reader).await, ["article:2", "article:1"]);
    assert_eq!(over_grpc(&admin).await, ["article:2", PRIVATE, "article:1"]);
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
