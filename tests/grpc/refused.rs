//! What is refused over HTTP is refused over gRPC, with the same problem.

use super::client::{Details, Grpc, event};
use super::{PUBLISH, batch, site};
use prost_types::FileDescriptorSet;
use std::fs;
use tally_proto::grpc::health::HealthCheckRequest;
use tally_proto::tally::v1::{
    After, BatchGetCountersRequest, CollectRequest, CollectResponse, GetCountersRequest, GetRankingRequest,
    GetReceiptRequest, GetSeriesRequest, ListActorsRequest, ListSubjectsRequest, Page, PublishRequest, PublishResponse,
    PublishStreamRequest, PublishStreamResponse, UncollectRequest, WatchCountersRequest, WatchRankingRequest,
};
use tally_proto::{DESCRIPTORS, Message};
use tally_testkit::{Client, Scratch};
use tonic::Code;

/// Actor u42 with scope write, for a long time.
const TOKEN: &str = include_str!("../../access/fixtures/rsa.jwt");
const JWKS: &str = include_str!("../../access/fixtures/rsa.jwks.json");

/// The paths of all methods of `tally.v1`, each with its scope.
fn described_methods() -> Vec<(&'static str, &'static str)> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let services = files.iter().filter(|file| file.package() == "tally.v1").flat_map(|file| &file.service);
    let methods: Vec<_> = services
        .flat_map(|service| service.method.iter().map(move |method| (service.name(), method.name())))
        .map(|(service, method)| {
            let scope = if ["Events", "Collects"].contains(&service) { "write" } else { "read" };
            (&*format!("/tally.v1.{service}/{method}").leak(), scope)
        })
        .collect();
    assert!(methods.len() > 12, "{methods:?}");
    methods
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_those_of_http() {
    let dir = Scratch::new();
    let key = |name: &str, scope: &str| {
        let mut tally = std::process::Command::new(env!("CARGO_BIN_EXE_tally"));
        tally.args(["key", "--name", name, "--scope", scope, "--append", "keys.yaml"]).current_dir(dir.path());
        String::from_utf8(tally.output().unwrap().stdout).unwrap().trim().to_owned()
    };
    let [writer, reader, prometheus] = ["write", "read", "metrics"].map(|scope| key(scope, scope));
    fs::write(dir.path().join("jwks.json"), JWKS).unwrap();
    let mut site = site(dir.path());
    let file = |name: &str| dir.path().join(name).display().to_string();
    site.flags = ["--keys".into(), file("keys.yaml"), "--jwks".into(), file("jwks.json")].into();
    site.environment = vec![("RUST_LOG".into(), "trace".into())];
    let service = site.start();
    let client = Client(site.listen.clone());
    let mut grpc = Grpc::connect(&site.listen).await;

    let bearer = |token: &str| Some(("authorization", format!("Bearer {token}")));
    let cases = [
        (None, "e1", "u1", Code::Unauthenticated),
        (bearer("tally_wrong"), "e1", "u1", Code::Unauthenticated),
        (bearer(&reader), "e1", "u1", Code::PermissionDenied),
        (Some(("x-api-key", reader.clone())), "e1", "u1", Code::PermissionDenied),
        (bearer(TOKEN), "e1", "u1", Code::InvalidArgument),
        (bearer(&writer), "e/1", "u1", Code::InvalidArgument),
        (bearer(&writer), "e1", "u 1", Code::InvalidArgument),
    ];
    for (credential, id, actor, code) in cases {
        let headers: Vec<_> = credential.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut with_media = vec![("content-type", "application/json")];
        with_media.extend_from_slice(&headers);
        let body = format!(r#"{{"event_id":"{id}","type":"like","actor_id":"{actor}","subject_id":"a:1"}}"#);
        let http = client.exchange("POST", "/v1/events", &with_media, body.as_bytes()).unwrap().json();
        let request = PublishRequest { events: vec![event(id, "like", actor)] };
        let status = grpc.with(&headers).unary::<_, PublishResponse>(PUBLISH, request).await.unwrap_err();
        let details = Details::of(&status);
        assert_eq!((status.code(), status.message()), (code, http["detail"].as_str().unwrap()));
        assert_eq!(details.info.metadata["type"], http["type"].as_str().unwrap());
        assert_eq!(details.info.metadata["status"], http["status"].to_string());
        assert!(!details.request_id.is_empty());
        let rejected = http["rejected"].as_array().map_or(&[][..], Vec::as_slice);
        assert_eq!(details.violations.len(), rejected.len(), "{http}");
        for (violation, rejected) in details.violations.iter().zip(rejected) {
            let error = rejected["error"].as_str().unwrap();
            assert_eq!(violation.description, error);
            let field = error.split('`').nth(1).unwrap();
            assert_eq!(violation.field, format!("events[{}].{field}", rejected["index"]));
        }
    }
    // A user can collect only as itself.
    let request = CollectRequest { subject_id: "a:1".into(), actor_id: "u1".into() };
    let mut as_user = grpc.with(&[("authorization", &format!("Bearer {TOKEN}"))]);
    let status = as_user.unary::<_, CollectResponse>("/tally.v1.Collects/Collect", request).await.unwrap_err();
    assert_eq!(Details::of(&status).info.metadata["type"], "urn:tally:problem:other-actor");
    let request = CollectRequest { subject_id: "a:1".into(), actor_id: "u42".into() };
    as_user.unary::<_, CollectResponse>("/tally.v1.Collects/Collect", request).await.unwrap();
    // Every method that is described is served, to its scope alone.
    for (path, scope) in described_methods() {
        for (credential, has) in [(None, ""), (Some(&writer), "write"), (Some(&reader), "read")] {
            let headers: Vec<_> = credential.iter().map(|key| ("x-api-key", key.as_str())).collect();
            let empty = grpc.with(&headers).unary::<_, HealthCheckRequest>(path, HealthCheckRequest::default()).await;
            let code = empty.map_or_else(|status| status.code(), |_| Code::Ok);
            match credential {
                None => assert_eq!(code, Code::Unauthenticated, "{path}"),
                Some(_) if scope != has => assert_eq!(code, Code::PermissionDenied, "{path} {has}"),
                // It is served, and then the message is not what the method needs.
                Some(_) => assert!(
                    matches!(code, Code::InvalidArgument | Code::NotFound | Code::Ok | Code::Internal),
                    "{path}: {code:?}"
                ),
            }
        }
    }
    let mut as_writer = grpc.with(&[("x-api-key", &writer)]);
    assert_eq!(as_writer.unary::<_, PublishResponse>(PUBLISH, batch(&["e1"])).await.unwrap().accepted, 1);
    // The stream is guarded as well.
    let none = grpc
        .stream::<PublishStreamRequest, PublishStreamResponse>("/tally.v1.Events/PublishStream", tokio_stream::empty());
    assert_eq!(none.await.unwrap_err().code(), Code::Unauthenticated);
    let unknown = as_writer.unary::<_, PublishResponse>("/tally.v1.Events/Publishh", batch(&["e1"])).await;
    assert_eq!(unknown.unwrap_err().code(), Code::Unimplemented);
    let metrics = client.exchange("GET", "/metrics", &[("x-api-key", &prometheus)], b"").unwrap().body;
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.contains("route=\"/tally.v1.Events/Publish\",status=\"401\"} 3\n"), "{metrics}");
    // Not even the library of HTTP/2 logs a credential.
    assert_eq!(service.terminate().0.code(), Some(0));
    let messages = site.messages();
    assert!(messages.contains("/tally.v1.Events/Publish"));
    for secret in [TOKEN.trim(), &writer, &reader, &prometheus] {
        assert!(!messages.contains(secret), "{secret} is in the log");
    }
}

/// A request of HTTP, and the call that wants the same.
struct Case(&'static str, String, &'static str, Vec<u8>);

fn cases() -> Vec<Case> {
    let get = |uri: &str, path, message: Vec<u8>| Case("GET", uri.to_owned(), path, message);
    let counters = |subject_id: &str, receipt: Option<&str>| {
        let after = receipt.map(|receipt| After { receipt: receipt.into(), wait_ms: None });
        GetCountersRequest { subject_id: subject_id.into(), after }.encode_to_vec()
    };
    let series = |window: &str, metric: &str| {
        let (subject_id, window, metrics) = ("a:1".into(), window.into(), vec![metric.into()]);
        GetSeriesRequest { subject_id, window, metrics, ..GetSeriesRequest::default() }.encode_to_vec()
    };
    let many = |subject_ids: &[&str], actor_id: Option<&str>| {
        let subject_ids = subject_ids.iter().map(|id| (*id).to_owned()).collect();
        let actor_id = actor_id.map(str::to_owned);
        BatchGetCountersRequest { subject_ids, actor_id, after: None }.encode_to_vec()
    };
    let ranking = |board: &str, limit, cursor: Option<&str>| {
        let page = Some(Page { limit, cursor: cursor.map(str::to_owned) });
        GetRankingRequest { board: board.into(), page, ..GetRankingRequest::default() }.encode_to_vec()
    };
    let one = "/v1/subjects/a:1/counters";
    let (get_counters, get_ranking) = ("/tally.v1.Counters/GetCounters", "/tally.v1.Rankings/GetRanking");
    let collect = CollectRequest { subject_id: "a".into(), actor_id: "u1".into() }.encode_to_vec();
    let uncollect = UncollectRequest { subject_id: "a:1".into(), actor_id: "u 1".into() }.encode_to_vec();
    let (subject_id, actor_id, metric) = ("a:1".to_owned(), "u 1".to_owned(), "none".to_owned());
    let actors = ListActorsRequest { subject_id, metric: metric.clone(), ..Default::default() }.encode_to_vec();
    let subjects = ListSubjectsRequest { actor_id, metric, ..Default::default() }.encode_to_vec();
    let receipt = GetReceiptRequest { receipt: "x".into() }.encode_to_vec();
    let watch = WatchCountersRequest { subject_ids: vec!["a".into()] }.encode_to_vec();
    let watch_board = WatchRankingRequest { board: "none".into() }.encode_to_vec();
    vec![
        get("/v1/subjects/a/counters", get_counters, counters("a", None)),
        get("/v1/subjects/A:1/counters", get_counters, counters("A:1", None)),
        get(&format!("{one}?after=x"), get_counters, counters("a:1", Some("x"))),
        get(&format!("{one}?window=7x&metric=views"), "/tally.v1.Counters/GetSeries", series("7x", "views")),
        get(&format!("{one}?window=1d&metric=none"), "/tally.v1.Counters/GetSeries", series("1d", "none")),
        get("/v1/counters", "/tally.v1.Counters/BatchGetCounters", many(&[], None)),
        get(
            "/v1/counters?subject_id=a:1&subject_id=b",
            "/tally.v1.Counters/BatchGetCounters",
            many(&["a:1", "b"], None),
        ),
        get(
            "/v1/counters?subject_id=a:1&actor_id=u%201",
            "/tally.v1.Counters/BatchGetCounters",
            many(&["a:1"], Some("u 1")),
        ),
        get("/v1/rankings/none", get_ranking, ranking("none", None, None)),
        get("/v1/rankings/hot?limit=101", get_ranking, ranking("hot", Some(101), None)),
        get("/v1/rankings/hot?cursor=x", get_ranking, ranking("hot", None, Some("x"))),
        get("/v1/subjects/a:1/none/actors", "/tally.v1.Reactions/ListActors", actors),
        get("/v1/actors/u%201/none/subjects", "/tally.v1.Reactions/ListSubjects", subjects),
        get("/v1/receipts/x", "/tally.v1.Receipts/GetReceipt", receipt),
        get("/v1/live?subject_id=a", "/tally.v1.Counters/WatchCounters", watch),
        get("/v1/live?board=none", "/tally.v1.Rankings/WatchRanking", watch_board),
        Case("PUT", "/v1/subjects/a/collects/u1".into(), "/tally.v1.Collects/Collect", collect),
        Case("DELETE", "/v1/subjects/a:1/collects/u%201".into(), "/tally.v1.Collects/Uncollect", uncollect),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_reads_and_collects_are_refused_with_the_same_type_and_field() {
    let dir = Scratch::new();
    let site = site(dir.path());
    let service = site.start();
    let client = Client(site.listen.clone());
    let mut grpc = Grpc::connect(&site.listen).await;
    for Case(method, uri, path, message) in cases() {
        let http = client.exchange(method, &uri, &[], b"").unwrap().json();
        let refused = grpc.encoded(path, message).await;
        let status = refused.expect_err(path);
        let (details, text) = (Details::of(&status), http["detail"].as_str().unwrap());
        assert_eq!(status.message(), text, "{path}");
        for (member, expected) in [("type", &http["type"]), ("title", &http["title"])] {
            assert_eq!(details.info.metadata[member], expected.as_str().unwrap(), "{path}");
        }
        assert_eq!(details.info.metadata["status"], http["status"].to_string(), "{path}");
        // The problem names its parameter first.
        let field = text.split('`').nth(1).filter(|_| text.starts_with('`') && http["status"] == 400);
        let fields: Vec<_> = details.violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, Vec::from_iter(field), "{path}: {text}");
        let code = if http["status"] == 404 { Code::NotFound } else { Code::InvalidArgument };
        assert_eq!(status.code(), code, "{path}");
    }
    drop(service);
}
