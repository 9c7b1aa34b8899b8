//! gRPC of the real binary, as a client of another implementation sees it.

#[path = "grpc/client.rs"]
mod client;
#[path = "grpc/refused.rs"]
mod refused;
#[path = "grpc/resumed.rs"]
mod resumed;

use client::{Details, Grpc, event};
use std::path::Path;
use std::time::Duration;
use tally_proto::grpc::health::{HealthCheckRequest, HealthCheckResponse};
use tally_proto::grpc::reflection::server_reflection_request::MessageRequest;
use tally_proto::grpc::reflection::server_reflection_response::MessageResponse;
use tally_proto::grpc::reflection::{ServerReflectionRequest, ServerReflectionResponse};
use tally_proto::tally::v1::metric_value::Kind;
use tally_proto::tally::v1::{
    After, AfterState, CollectRequest, CollectResponse, GetCountersRequest, GetCountersResponse, GetReceiptRequest,
    GetReceiptResponse, PublishRequest, PublishResponse, PublishStreamRequest, PublishStreamResponse, ReceiptState,
    WatchCountersRequest, WatchCountersResponse,
};
use tally_testkit::{Client, PATIENCE, Scratch, Site, wait_until};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

const PUBLISH: &str = "/tally.v1.Events/Publish";

fn site(dir: &Path) -> Site {
    Site::new(env!("CARGO_BIN_EXE_tally"), dir)
}

fn batch(ids: &[&str]) -> PublishRequest {
    PublishRequest { events: ids.iter().map(|id| event(id, "like", "u1")).collect() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_counted_once() {
    let dir = Scratch::new();
    let site = site(dir.path());
    let service = site.start();
    let mut grpc = Grpc::connect(&site.listen).await;
    let published: PublishResponse = grpc.unary(PUBLISH, batch(&["e1", "e2"])).await.unwrap();
    assert_eq!((published.accepted, published.rejected.len()), (2, 0));
    // Again, and over HTTP: each event counts once.
    let again: PublishResponse = grpc.unary(PUBLISH, batch(&["e1", "e2"])).await.unwrap();
    let client = Client(site.listen.clone());
    let line = r#"{"event_id":"e1","type":"like","actor_id":"u1","subject_id":"a:1"}"#;
    assert_eq!(client.post("/v1/events", "application/json", line.as_bytes()).unwrap().status, 202);
    let path = format!("/v1/subjects/a:1/counters?wait_ms=10000&after={}", again.receipt);
    let read = client.get(&path).unwrap().json();
    assert_eq!((&read["after"], &read["counters"]["likes"]), (&"applied".into(), &1.into()), "{read}");

    // The same over gRPC, and the receipt.
    let request = GetCountersRequest {
        subject_id: "a:1".into(),
        after: Some(After { receipt: again.receipt.clone(), wait_ms: Some(10_000) }),
    };
    let read: GetCountersResponse = grpc.unary("/tally.v1.Counters/GetCounters", request).await.unwrap();
    assert_eq!((read.after_state(), &read.counters["likes"].kind), (AfterState::Applied, &Some(Kind::Integer(1))));
    let outcome = async {
        loop {
            let request = GetReceiptRequest { receipt: again.receipt.clone() };
            let outcome: GetReceiptResponse = grpc.unary("/tally.v1.Receipts/GetReceipt", request).await.unwrap();
            if outcome.state() == ReceiptState::Applied {
                break outcome;
            }
        }
    };
    let outcome = timeout(PATIENCE, outcome).await.unwrap();
    let verdicts: Vec<_> = outcome.not_counted.unwrap().events.into_iter().map(|event| event.verdict).collect();
    assert_eq!(verdicts, ["duplicate", "duplicate"]);
    let request = CollectRequest { subject_id: "a:1".into(), actor_id: "u1".into() };
    let collected: CollectResponse = grpc.unary("/tally.v1.Collects/Collect", request).await.unwrap();
    assert_eq!((collected.active, collected.count), (true, 1));
    // A watcher sees the change that the stream below makes.
    let watch = tokio_stream::once(WatchCountersRequest { subject_ids: vec!["a:1".into()] });
    let path = "/tally.v1.Counters/WatchCounters";
    let mut watched = grpc.stream::<_, WatchCountersResponse>(path, watch).await.unwrap();

    // A stream answers each batch before the next is sent.
    let (sender, batches) = mpsc::channel(1);
    let mut responses = grpc
        .stream::<_, PublishStreamResponse>("/tally.v1.Events/PublishStream", ReceiverStream::new(batches))
        .await
        .unwrap();
    for (id, actor, accepted, rejected) in [("s1", "u2", 1, 0), ("s2", "u 3", 0, 1), ("s3", "u3", 1, 0)] {
        sender.send(PublishStreamRequest { events: vec![event(id, "like", actor)] }).await.unwrap();
        let response = timeout(PATIENCE, responses.message()).await.unwrap().unwrap().unwrap();
        assert_eq!((response.accepted, response.rejected.len()), (accepted, rejected), "{id}");
    }
    loop {
        let seen = timeout(PATIENCE, watched.message()).await.unwrap().unwrap().unwrap();
        if seen.counters["likes"].kind == Some(Kind::Integer(3)) {
            break;
        }
    }
    // A stream that waits for batches ends when the process does, with a status.
    let stopping = tokio::task::spawn_blocking(move || service.terminate());
    let status = timeout(PATIENCE, responses.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(stopping.await.unwrap().0.code(), Some(0));
    drop(sender);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_at_its_deadline() {
    let dir = Scratch::new();
    let site = site(dir.path());
    let service = site.start();
    let grpc = Grpc::connect(&site.listen).await;
    for wrong in ["1", "-1S", "123456789S"] {
        let status = grpc.with(&[("grpc-timeout", wrong)]).unary::<_, PublishResponse>(PUBLISH, batch(&["e1"])).await;
        assert_eq!(status.unwrap_err().code(), Code::InvalidArgument, "{wrong}");
    }
    // A stream without batches. The client itself ends only calls without a response head.
    let (sender, batches) = mpsc::channel::<PublishStreamRequest>(1);
    let mut waiting = grpc.with(&[("grpc-timeout", "2S")]);
    let stream =
        waiting.stream::<_, PublishStreamResponse>("/tally.v1.Events/PublishStream", ReceiverStream::new(batches));
    let mut responses = timeout(PATIENCE, stream).await.unwrap().unwrap();
    let status = timeout(PATIENCE, responses.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(Details::of(&status).info.reason, "REQUEST_TIMEOUT");
    drop((sender, service));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_need_no_proto_files_and_no_key() {
    let dir = Scratch::new();
    let site = site(dir.path());
    let service = site.start();
    let client = Client(site.listen.clone());
    wait_until("the process to be ready", || (client.get("/readyz").ok()?.status == 200).then_some(()));
    let mut grpc = Grpc::connect(&site.listen).await;
    for (service, expected) in [("", Ok(1)), ("tally.v1.Events", Ok(1)), ("tally.v1.None", Err(Code::NotFound))] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let checked = grpc.unary::<_, HealthCheckResponse>("/grpc.health.v1.Health/Check", request).await;
        assert_eq!(checked.map(|checked| checked.status).map_err(|status| status.code()), expected, "{service}");
    }
    let questions = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("tally.v1.Events".into()),
        MessageRequest::FileByFilename("nothing.proto".into()),
    ];
    let questions =
        questions.map(|question| ServerReflectionRequest { host: String::new(), message_request: Some(question) });
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let mut answers = grpc.stream::<_, ServerReflectionResponse>(path, tokio_stream::iter(questions)).await.unwrap();
    let mut next = async || timeout(PATIENCE, answers.message()).await.unwrap().unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(listed)) = next().await else { panic!("not a list") };
    assert!(listed.service.iter().any(|service| service.name == "tally.v1.Events"), "{listed:?}");
    let Some(MessageResponse::FileDescriptorResponse(files)) = next().await else { panic!("no files") };
    // With the file of google.protobuf.Timestamp.
    assert!(files.file_descriptor_proto.len() > 1);
    let Some(MessageResponse::ErrorResponse(error)) = next().await else { panic!("not an error") };
    assert_eq!(error.error_code, 5);
    // Watch: the present status, then that of the shutdown.
    let watched = grpc.stream::<_, HealthCheckResponse>(
        "/grpc.health.v1.Health/Watch",
        tokio_stream::once(HealthCheckRequest::default()),
    );
    let mut watched = watched.await.unwrap();
    assert_eq!(timeout(PATIENCE, watched.message()).await.unwrap().unwrap().unwrap().status, 1);
    let stopping = tokio::task::spawn_blocking(move || service.terminate());
    assert_eq!(timeout(PATIENCE, watched.message()).await.unwrap().unwrap().unwrap().status, 2);
    assert_eq!(timeout(PATIENCE, watched.message()).await.unwrap().unwrap_err().code(), Code::Unavailable);
    assert_eq!(stopping.await.unwrap().0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_port_speaks_both_versions_of_http() {
    let dir = Scratch::new();
    let site = site(dir.path());
    let service = site.start();
    let mut grpc = Grpc::connect(&site.listen).await;
    let client = Client(site.listen.clone());
    for round in 0..3 {
        let id = format!("e{round}");
        assert_eq!(grpc.unary::<_, PublishResponse>(PUBLISH, batch(&[&id])).await.unwrap().accepted, 1);
        assert_eq!(client.get("/livez").unwrap().status, 200);
    }
    // A connection that has sent a part of the preface, or nothing, keeps none from stopping.
    let mut silent = Vec::new();
    for begin in [&b""[..], b"PRI * HT", b"P"] {
        let mut stream = tokio::net::TcpStream::connect(&site.listen).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, begin).await.unwrap();
        silent.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    let stopped = tokio::task::spawn_blocking(move || service.terminate()).await.unwrap();
    assert_eq!(stopped.0.code(), Some(0));
}
