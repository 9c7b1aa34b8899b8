//! CPU-seconds of the whole embedded process per million events that come as HTTP batches, as calls of `Publish`, and over
//! streams of `PublishStream`: the same events in batches of 500, four batches at a time, each way in a process of its own.
//!
//! `cargo build --release && cargo bench --bench grpc -- [EVENTS]` (500,000 by default). Medians of 3, in turns.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tally_proto::tally::v1::property_value::Kind;
use tally_proto::tally::v1::{
    Event, PropertyValue, PublishRequest, PublishResponse, PublishStreamRequest, PublishStreamResponse,
};
use tally_testkit::{Client, Site, now_ms};
use tokio_stream::StreamExt;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

const RUNS: usize = 3;
const EVENTS: usize = 500_000;
const BATCH: usize = 500;
/// Batches at a time.
const LANES: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Way {
    Http,
    Publish,
    Stream,
}

const WAYS: [Way; 3] = [Way::Http, Way::Publish, Way::Stream];

fn main() {
    let events = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(EVENTS);
    let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/tally");
    assert!(binary.exists(), "build it first: cargo build --release");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut costs = [const { Vec::new() }; WAYS.len()];
    for run in 0..RUNS {
        // Each way is the first once.
        for at in (0..WAYS.len()).map(|n| (n + run) % WAYS.len()) {
            let cost = measure(&runtime, &binary, WAYS[at], events);
            eprintln!("  run {run}, {:?}: {cost:.2} CPU-s/M", WAYS[at]);
            costs[at].push(cost);
        }
    }
    println!("{events} events in batches of {BATCH}, CPU-seconds of the process per million, medians of {RUNS}:");
    let medians = costs.map(|mut costs| {
        costs.sort_by(f64::total_cmp);
        costs[costs.len() / 2]
    });
    for (way, cost) in WAYS.iter().zip(medians) {
        println!("  {:<10}{cost:>10.2}   {:.2} x HTTP", format!("{way:?}"), cost / medians[0]);
    }
}

/// CPU-seconds per million events.
fn measure(runtime: &tokio::runtime::Runtime, binary: &Path, way: Way, events: usize) -> f64 {
    let dir = tempfile::tempdir().expect("a directory");
    let site = Site::new(binary, dir.path());
    let service = site.start();
    let (pid, batches, next) = (service.id(), events / BATCH, Arc::new(AtomicUsize::new(0)));
    let (begun_ms, before) = (now_ms(), cpu_seconds(pid));
    let take = move || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|batch| *batch < batches);
    runtime.block_on(async {
        let lanes: Vec<_> = (0..LANES)
            .map(|_| {
                let (take, listen) = (take.clone(), site.listen.clone());
                match way {
                    Way::Http => tokio::task::spawn_blocking(move || over_http(&listen, begun_ms, take)),
                    Way::Publish => tokio::spawn(by_publish(listen, begun_ms, take)),
                    Way::Stream => tokio::spawn(by_stream(listen, begun_ms, take)),
                }
            })
            .collect();
        for lane in lanes {
            lane.await.expect("a lane");
        }
    });
    Client(site.listen.clone()).wait_until_applied();
    (cpu_seconds(pid) - before) / (batches * BATCH) as f64 * 1e6
}

fn over_http(listen: &str, begun_ms: i64, take: impl Fn() -> Option<usize>) {
    let mut stream = TcpStream::connect(listen).expect("a connection");
    let mut answer = Vec::new();
    while let Some(batch) = take() {
        let body: String = events_of(batch).map(|n| line(n, begun_ms)).collect();
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nhost: {listen}\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).expect("sent");
        answer.clear();
        while !is_whole(&answer) {
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).expect("an answer");
            assert!(read > 0, "the answer ended early");
            answer.extend_from_slice(&bytes[..read]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&answer));
    }
}

fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    body.len() == length.parse::<usize>().expect("a number")
}

async fn by_publish(listen: String, begun_ms: i64, take: impl Fn() -> Option<usize> + Send) {
    let mut client = connect(&listen).await;
    while let Some(batch) = take() {
        client.ready().await.expect("a connection");
        let request = PublishRequest { events: events_of(batch).map(|n| event(n, begun_ms)).collect() };
        let codec = ProstCodec::<PublishRequest, PublishResponse>::default();
        let path = "/tally.v1.Events/Publish".parse().expect("a path");
        let response = client.unary(Request::new(request), path, codec).await.expect("accepted").into_inner();
        assert_eq!(response.accepted as usize, BATCH);
    }
}

async fn by_stream(listen: String, begun_ms: i64, take: impl Fn() -> Option<usize> + Send + 'static) {
    let mut client = connect(&listen).await;
    client.ready().await.expect("a connection");
    let batches = tokio_stream::iter(std::iter::from_fn(take))
        .map(move |batch| PublishStreamRequest { events: events_of(batch).map(|n| event(n, begun_ms)).collect() });
    let codec = ProstCodec::<PublishStreamRequest, PublishStreamResponse>::default();
    let path = "/tally.v1.Events/PublishStream".parse().expect("a path");
    let mut responses = client.streaming(Request::new(batches), path, codec).await.expect("a stream").into_inner();
    while let Some(response) = responses.message().await.expect("accepted") {
        assert_eq!(response.accepted as usize, BATCH);
    }
}

async fn connect(listen: &str) -> Grpc<Channel> {
    let endpoint = Endpoint::new(format!("http://{listen}")).expect("an address");
    Grpc::new(endpoint.connect().await.expect("a connection"))
}

fn events_of(batch: usize) -> std::ops::Range<usize> {
    batch * BATCH..(batch + 1) * BATCH
}

const TYPES: [&str; 3] = ["view", "like", "share"];

/// An event that counts, about 170 bytes in JSON.
fn event(n: usize, begun_ms: i64) -> Event {
    let value = |kind| PropertyValue { kind: Some(kind) };
    let position = value(Kind::Integer((n % 20) as i64));
    Event {
        event_id: format!("01J9ZQ4N8G{n:08}"),
        r#type: TYPES[n % TYPES.len()].to_owned(),
        actor_id: Some(format!("user-{}", n * 7919 % 100_003)),
        subject_id: format!("article:{}", n % 1000),
        occurred_at: tally_model::format_ms(begun_ms).parse().ok(),
        properties: [("source".to_owned(), value(Kind::Text("feed".into()))), ("position".to_owned(), position)].into(),
        ..Event::default()
    }
}

fn line(n: usize, begun_ms: i64) -> String {
    format!(
        "{{\"event_id\":\"01J9ZQ4N8G{n:08}\",\"type\":\"{}\",\"actor_id\":\"user-{}\",\"subject_id\":\"article:{}\",\
         \"occurred_at\":{begun_ms},\"properties\":{{\"source\":\"feed\",\"position\":{}}}}}\n",
        TYPES[n % TYPES.len()],
        n * 7919 % 100_003,
        n % 1000,
        n % 20,
    )
}

/// User and system time of a process so far; `/proc` counts in ticks of 10 ms.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields.iter().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}
