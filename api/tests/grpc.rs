//! Reads over gRPC: what a method answers is what its route answers, and what it refuses its route refuses, with the same
//! problem. What clients see of a problem is tested with a client, in the tests of the binary.

mod fixture;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use fixture::*;
use http_body_util::BodyExt;
use prost_types::FileDescriptorSet;
use serde_json::Value;
use std::collections::BTreeSet;
use tally_api::grpc::reads;
use tally_api::{Collects, collects_router, router};
use tally_model::{Receipt, ReceiptKey};
use tally_proto::tally::v1::metric_value::Kind;
use tally_proto::tally::v1::*;
use tally_proto::{DESCRIPTORS, Message};
use tower::ServiceExt;
use utoipa::openapi::OpenApiBuilder;

fn framed(message: &impl Message) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&(message.encoded_len() as u32).to_be_bytes());
    message.encode(&mut bytes).unwrap();
    bytes
}

fn unframed<M: Message + Default>(bytes: &[u8]) -> M {
    let length = u32::from_be_bytes(*bytes[1..].first_chunk().unwrap()) as usize;
    assert_eq!((bytes[0], bytes.len()), (0, 5 + length));
    M::decode(&bytes[5..]).unwrap()
}

async fn call(world: &World, method: &str, message: &impl Message) -> axum::response::Response {
    let request = Request::post(format!("/tally.v1.{method}")).header("content-type", "application/grpc");
    let router = reads(&world.api).into_router(None);
    router.oneshot(request.body(Body::from(framed(message))).unwrap()).await.unwrap()
}

async fn ok<M: Message + Default>(world: &World, method: &str, message: &impl Message) -> M {
    let response = call(world, method, message).await;
    assert_eq!(response.status(), 200, "{method}");
    unframed(&to_bytes(response.into_body(), usize::MAX).await.unwrap())
}

/// The answers of routes, and the messages that are read out of them.
const ANSWERS: &[(&str, &[&str])] = &[
    ("SubjectAnswer", &["GetCountersResponse", "WatchCountersResponse"]),
    ("SubjectsAnswer", &["BatchGetCountersResponse"]),
    ("SubjectCounters", &["SubjectCounters"]),
    ("SeriesAnswer", &["GetSeriesResponse"]),
    ("WindowItem", &["WindowCounters"]),
    ("BoardsAnswer", &["ListBoardsResponse"]),
    ("BoardItem", &["Board"]),
    ("RankingAnswer", &["GetRankingResponse", "WatchRankingResponse"]),
    ("RankedItem", &["RankedSubject"]),
    ("ActorsAnswer", &["ListActorsResponse"]),
    ("ActorItem", &["ReactingActor"]),
    ("SubjectsOfActorAnswer", &["ListSubjectsResponse"]),
    ("SubjectItem", &["SubjectOfActor"]),
    ("ReceiptAnswer", &["GetReceiptResponse"]),
    ("NotCounted", &["NotCounted"]),
    ("CollectAnswer", &["CollectResponse", "UncollectResponse"]),
];

/// The names of the members of a schema, with those of the schemas that it consists of.
fn members(schemas: &Value, schema: &Value) -> BTreeSet<String> {
    if let Some(name) = schema["$ref"].as_str().and_then(|address| address.rsplit('/').next()) {
        return members(schemas, &schemas[name]);
    }
    let own = schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone());
    let parts = schema["allOf"].as_array().into_iter().flatten().flat_map(|part| members(schemas, part));
    own.chain(parts).collect()
}

#[tokio::test]
async fn a_message_has_every_member_of_its_answer() {
    let world = World::new().await;
    let collects = Collects::start(fixture::collects::collects_parts(&world), &prometheus::Registry::new()).unwrap();
    let routes = router(world.api.clone()).merge(collects_router(collects));
    let document = serde_json::to_value(routes.describe(OpenApiBuilder::new().build())).unwrap();
    let schemas = &document["components"]["schemas"];
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    for (answer, messages) in ANSWERS {
        let members = members(schemas, &schemas[answer]);
        assert!(members.len() > 1, "{answer}: {members:?}");
        for name in *messages {
            let mut messages = files.iter().flat_map(|file| &file.message_type);
            let message = messages.find(|message| message.name() == *name).unwrap();
            let has = |member: &str| message.field.iter().any(|field| field.name() == member);
            for member in &members {
                // A watcher names no receipt.
                let is_there = match member.as_str() {
                    "after" => name.starts_with("Watch") || has("after_state"),
                    // A request for one subject names no viewer.
                    "viewer" if *answer == "SubjectAnswer" => true,
                    member => has(member),
                };
                assert!(is_there, "{name} lacks `{member}` of {answer}");
            }
        }
    }
}

/// The case of a refusal: the route, the method, its message, and the status.
struct Case(String, &'static str, Vec<u8>, u16);

fn case(uri: impl Into<String>, method: &'static str, message: impl Message, status: u16) -> Case {
    Case(uri.into(), method, framed(&message), status)
}

fn after(receipt: &str, wait_ms: Option<u32>) -> Option<After> {
    Some(After { receipt: receipt.to_owned(), wait_ms })
}

fn cases() -> Vec<Case> {
    let counters = |subject_id: &str, after| GetCountersRequest { subject_id: subject_id.into(), after };
    let many = |subject_ids: Vec<String>, actor_id: Option<&str>| BatchGetCountersRequest {
        subject_ids,
        actor_id: actor_id.map(str::to_owned),
        after: None,
    };
    let series = |window: &str, metrics: &[&str], from: &str, to: &str| GetSeriesRequest {
        subject_id: "a:1".into(),
        window: window.into(),
        metrics: metrics.iter().map(|metric| (*metric).to_owned()).collect(),
        from: from.parse().ok(),
        to: to.parse().ok(),
        after: None,
    };
    let ranking = |board: &str, limit, cursor: Option<&str>| GetRankingRequest {
        board: board.into(),
        page: Some(Page { limit, cursor: cursor.map(str::to_owned) }),
        ..GetRankingRequest::default()
    };
    let actors = |subject_id: &str, metric: &str| ListActorsRequest {
        subject_id: subject_id.into(),
        metric: metric.into(),
        ..ListActorsRequest::default()
    };
    let subjects = |actor_id: &str, metric: &str| ListSubjectsRequest {
        actor_id: actor_id.into(),
        metric: metric.into(),
        ..ListSubjectsRequest::default()
    };
    let watch = |subject_ids: Vec<String>| WatchCountersRequest { subject_ids };
    let other_log = Receipt { request: [1; 16], offsets: vec![] }.encode(&ReceiptKey { log_id: [1; 8], ..key() });
    let strange = receipt(&[(2, 5)]);
    let one = "/v1/subjects/a:1/counters";
    let get = "Counters/GetCounters";
    let times = ("2026-11-21T08:00:00Z", "2026-11-20T08:00:00Z");
    vec![
        case("/v1/subjects/article/counters", get, counters("article", None), 400),
        case("/v1/subjects/a:%7Bx%7D%20%26y%3D1/counters", get, counters("a:{x} &y=1", None), 400),
        case(format!("{one}?after="), get, counters("a:1", after("", None)), 400),
        case(format!("{one}?after={strange}"), get, counters("a:1", after(&strange, None)), 400),
        case(format!("{one}?after={other_log}"), get, counters("a:1", after(&other_log, None)), 410),
        case(format!("{one}?after={strange}&wait_ms=10001"), get, counters("a:1", after(&strange, Some(10_001))), 400),
        case("/v1/counters", "Counters/BatchGetCounters", many(Vec::new(), None), 400),
        case(
            format!("/v1/counters?{}", "subject_id=a:1&".repeat(101)),
            "Counters/BatchGetCounters",
            many(vec!["a:1".into(); 101], None),
            400,
        ),
        case(
            "/v1/counters?subject_id=a:1&actor_id=u%201",
            "Counters/BatchGetCounters",
            many(vec!["a:1".into()], Some("u 1")),
            400,
        ),
        case(format!("{one}?window=7x"), "Counters/GetSeries", series("7x", &[], "", ""), 400),
        case(format!("{one}?window=1d&metric=none"), "Counters/GetSeries", series("1d", &["none"], "", ""), 400),
        case(
            format!("{one}?window=1d&from={}&to={}", times.0, times.1),
            "Counters/GetSeries",
            series("1d", &[], times.0, times.1),
            400,
        ),
        case("/v1/rankings/none", "Rankings/GetRanking", ranking("none", None, None), 404),
        case("/v1/rankings/hot?limit=0", "Rankings/GetRanking", ranking("hot", Some(0), None), 400),
        case("/v1/rankings/hot?cursor=AAAA", "Rankings/GetRanking", ranking("hot", None, Some("AAAA")), 400),
        case("/v1/subjects/a/likes/actors", "Reactions/ListActors", actors("a", "likes"), 400),
        case("/v1/subjects/a:1/none/actors", "Reactions/ListActors", actors("a:1", "none"), 404),
        case("/v1/actors/u%201/likes/subjects", "Reactions/ListSubjects", subjects("u 1", "likes"), 400),
        case("/v1/actors/u1/views/subjects", "Reactions/ListSubjects", subjects("u1", "views"), 404),
        case("/v1/receipts/x", "Receipts/GetReceipt", GetReceiptRequest { receipt: "x".into() }, 400),
        case(
            format!("/v1/receipts/{other_log}"),
            "Receipts/GetReceipt",
            GetReceiptRequest { receipt: other_log.clone() },
            410,
        ),
        case("/v1/live", "Counters/WatchCounters", watch(Vec::new()), 400),
        case("/v1/live?subject_id=a", "Counters/WatchCounters", watch(vec!["a".into()]), 400),
        case("/v1/live?board=none", "Rankings/WatchRanking", WatchRankingRequest { board: "none".into() }, 404),
    ]
}

#[tokio::test]
async fn a_method_refuses_what_its_route_refuses() {
    let world = World::new().await;
    for Case(uri, method, body, status) in cases() {
        let http = world.get(&uri).await;
        let request = Request::post(format!("/tally.v1.{method}")).header("content-type", "application/grpc");
        let request = request.body(Body::from(body)).unwrap();
        let response = reads(&world.api).into_router(None).oneshot(request).await.unwrap();
        let over_grpc = response.status().as_u16();
        let problem: Value =
            serde_json::from_slice(&to_bytes(response.into_body(), usize::MAX).await.unwrap()).unwrap_or_default();
        assert_eq!((http.status.as_u16(), over_grpc), (status, status), "{uri}: {} and {problem}", http.body);
        for member in ["type", "title", "detail"] {
            assert_eq!(http.body[member], problem[member], "{uri}");
        }
    }
}

async fn filled() -> World {
    let world = World::new().await;
    for partition in [0, 1] {
        world.move_to("counters", partition, &[(0, 10, 5_000), (1, 10, 5_000)]).await;
        world.move_to("reactions", partition, &[(partition, 10, 5_000)]).await;
        world.move_to("counter-windows", partition, &[(0, 10, 5_000), (1, 10, 5_000)]).await;
    }
    world.move_to("rankings", 0, &[(0, 10, 3_000), (1, 10, 2_000)]).await;
    world.board(&ranking("hot", &[("article:2", 12_345), ("article:1", 4_000)], 1_500)).await;
    world.total("article:2", "likes", 12).await;
    world.total("article:2", "visitors", 300).await;
    world.reaction("u1", "likes", "article:2", true, 1_000).await;
    world.reaction("u2", "likes", "article:2", true, 2_000).await;
    world
}

#[tokio::test]
async fn counters_have_their_values_and_their_freshness() {
    let world = filled().await;
    let receipt = receipt(&[(0, 3)]);
    let request = GetCountersRequest { subject_id: "article:2".into(), after: after(&receipt, Some(0)) };
    let read: GetCountersResponse = ok(&world, "Counters/GetCounters", &request).await;
    assert_eq!((read.subject_id.as_str(), read.after_state()), ("article:2", AfterState::Applied));
    assert_eq!(read.counters["likes"].kind, Some(Kind::Integer(12)));
    assert_eq!((read.approximate, read.relative_errors["visitors"]), (vec!["visitors".to_owned()], 0.008_125));
    assert_eq!(read.as_of.unwrap().to_string(), "2026-11-21T08:00:05Z");
    let pending = after(&fixture::receipt(&[(0, 30)]), Some(0));
    let request = GetCountersRequest { subject_id: "article:2".into(), after: pending };
    let read: GetCountersResponse = ok(&world, "Counters/GetCounters", &request).await;
    assert_eq!(read.after_state(), AfterState::Pending);

    let subject_ids = vec!["article:9".to_owned(), "article:2".to_owned()];
    let request = BatchGetCountersRequest { subject_ids, actor_id: Some("u1".into()), after: None };
    let read: BatchGetCountersResponse = ok(&world, "Counters/BatchGetCounters", &request).await;
    let likes: Vec<_> = read.items.iter().map(|item| (item.subject_id.as_str(), item.viewer["likes"])).collect();
    assert_eq!(likes, [("article:9", false), ("article:2", true)]);
    assert_eq!(
        (read.items[0].counters["likes"].kind.clone(), read.after_state()),
        (Some(Kind::Integer(0)), AfterState::Unspecified)
    );
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let world = filled().await;
    let page = |cursor: Option<String>| Some(Page { limit: Some(1), cursor });
    let request = |cursor| GetRankingRequest { board: "hot".into(), page: page(cursor), ..Default::default() };
    let first: GetRankingResponse = ok(&world, "Rankings/GetRanking", &request(None)).await;
    let second: GetRankingResponse = ok(&world, "Rankings/GetRanking", &request(first.next.clone())).await;
    let shown = |read: &GetRankingResponse| {
        let item = &read.items[0];
        (read.items.len(), item.rank, item.subject_id.clone(), item.score.clone())
    };
    assert_eq!(shown(&first), (1, 1, "article:2".into(), "12.345".into()));
    assert_eq!((shown(&second), &second.next), ((1, 2, "article:1".into(), "4".into()), &None));
    let boards: ListBoardsResponse = ok(&world, "Rankings/ListBoards", &ListBoardsRequest { after: None }).await;
    let hot = boards.boards.iter().find(|board| board.board == "hot").unwrap();
    assert_eq!((hot.items, hot.as_of.unwrap().to_string()), (2, "2026-11-21T08:00:01.500Z".to_owned()));

    let request = |cursor| ListActorsRequest {
        subject_id: "article:2".into(),
        metric: "likes".into(),
        page: page(cursor),
        after: None,
    };
    let first: ListActorsResponse = ok(&world, "Reactions/ListActors", &request(None)).await;
    let second: ListActorsResponse = ok(&world, "Reactions/ListActors", &request(first.next.clone())).await;
    assert_eq!((first.items[0].actor_id.as_str(), second.items[0].actor_id.as_str()), ("u2", "u1"));
    assert_eq!(second.items[0].occurred_at.unwrap().to_string(), "2026-11-21T08:00:01Z");
    let request = ListSubjectsRequest { actor_id: "u1".into(), metric: "likes".into(), page: None, after: None };
    let subjects: ListSubjectsResponse = ok(&world, "Reactions/ListSubjects", &request).await;
    assert_eq!(subjects.items[0].subject_id, "article:2");
}

#[tokio::test]
async fn series_and_receipts_are_those_of_their_routes() {
    let world = filled().await;
    let http = world.get("/v1/subjects/article:2/counters?window=1d").await.body;
    let request = GetSeriesRequest { subject_id: "article:2".into(), window: "1d".into(), ..Default::default() };
    let read: GetSeriesResponse = ok(&world, "Counters/GetSeries", &request).await;
    let starts: Vec<_> =
        read.series.iter().map(|window| window.start.unwrap().to_string().replace('Z', ".000Z")).collect();
    let expected: Vec<_> =
        http["series"].as_array().unwrap().iter().map(|window| window["start"].as_str().unwrap()).collect();
    assert_eq!((starts, read.window.as_str()), (expected.iter().map(|start| (*start).to_owned()).collect(), "1d"));
    assert!(!read.series.is_empty() && read.series.iter().all(|window| !window.counters.is_empty()));

    let text = receipt(&[(0, 0)]);
    let request = GetReceiptRequest { receipt: text.clone() };
    let before = world.get(&format!("/v1/receipts/{text}")).await.body;
    let read: GetReceiptResponse = ok(&world, "Receipts/GetReceipt", &request).await;
    let state = if before["state"] == "applied" { ReceiptState::Applied } else { ReceiptState::Pending };
    assert_eq!((read.state(), read.not_counted.is_none()), (state, before["not_counted"].is_null()));
}

#[tokio::test]
async fn a_watcher_gets_the_present_state_first_and_a_status_in_the_end() {
    let world = filled().await;
    let request = WatchCountersRequest { subject_ids: vec!["article:2".into()] };
    let mut counters = call(&world, "Counters/WatchCounters", &request).await.into_body();
    let mut ranking =
        call(&world, "Rankings/WatchRanking", &WatchRankingRequest { board: "hot".into() }).await.into_body();
    let first = counters.frame().await.unwrap().unwrap().into_data().unwrap();
    let first: WatchCountersResponse = unframed(&first);
    assert_eq!(
        (first.subject_id.as_str(), first.counters["likes"].kind.clone()),
        ("article:2", Some(Kind::Integer(12)))
    );
    let board: WatchRankingResponse = unframed(&ranking.frame().await.unwrap().unwrap().into_data().unwrap());
    assert_eq!((board.board.as_str(), board.items.len()), ("hot", 2));
    world.stopping.cancel();
    for stream in [&mut counters, &mut ranking] {
        let trailers = loop {
            let frame = stream.frame().await.unwrap().unwrap();
            if let Ok(trailers) = frame.into_trailers() {
                break trailers;
            }
        };
        assert_eq!(trailers["grpc-status"], "14");
        assert!(stream.frame().await.is_none());
    }
}
