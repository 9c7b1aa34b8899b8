//! What an event costs in the ingest service, without the network and without the log: `cargo bench -p tally-ingest`.
//!
//! Each round is one request through the router, from the media type to the receipt, on one thread. Reported is CPU
//! time and not time, so that a busy machine disturbs less (it still does, by its caches). Each measurement has a plain
//! loop beside it, which parses the same number of events; the ratios to it are compared with `benches/baseline.json`,
//! or written there with `-- --write-baseline`.

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use bytes::Bytes;
use prometheus::Registry;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tally_http::{Edge, TrustedProxies};
use tally_ingest::http::router;
use tally_ingest::{EventTypes, IngestConfig, IngestService, grpc};
use tally_model::{Event as LogEvent, ReceiptKey, format_ms};
use tally_proto::Message;
use tally_proto::tally::v1::property_value::Kind;
use tally_proto::tally::v1::{Event, PropertyValue, PublishRequest};
use tally_streams::log::{AppendBatch, Appender, Completion};
use tally_testkit::NOW_MS;
use tally_testkit::baseline::{Ratios, report};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS_MAX: usize = 20;
/// The kernel counts CPU time in ticks of some milliseconds: a round must be long against one.
const EVENTS_PER_ROUND: usize = 50_000;

fn main() -> ExitCode {
    // `cargo test --benches` only wants to know that it runs.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let rounds = if is_bench { ROUNDS_MAX } else { 1 };
    println!("{:<24}{:>8}{:>14}{:>14}{:>14}", "CPU ns per event", "events", "best", "median", "x plain loop");
    let mut ratios = Vec::new();
    let mut each = |name: &str, count: usize, content_type: &str, body: String| {
        let input = Input { path: "/v1/events", content_type, body: body.into(), status: 202 };
        ratios.push((format!("{name}, {count}"), measure(name, rounds, count, &input)));
    };
    for count in [1, 10, 100, 500, 1000] {
        each("array", count, "application/json", format!("[{}]", events(count, ",", false)));
    }
    for count in [100, 500] {
        each("lines", count, "application/x-ndjson", events(count, "\n", false));
    }
    each("anonymous", 100, "application/json", format!("[{}]", events(100, ",", true)));
    let invalid = events(100, ",", false).replacen("view", "veiw", 1);
    each("one invalid", 100, "application/json", format!("[{invalid}]"));
    for count in [1, 100, 500] {
        let (path, content_type) = ("/tally.v1.Events/Publish", "application/grpc");
        let input = Input { path, content_type, body: message(count).into(), status: 200 };
        ratios.push((format!("message, {count}"), measure("message", rounds, count, &input)));
    }
    match is_bench {
        true => report("ingest", Ratios::new(EVENTS_PER_ROUND as u64, ratios)),
        false => ExitCode::SUCCESS,
    }
}

/// The least that any such program does: parse every line and check it. CPU nanoseconds per event.
fn plain_loop(lines: &str, repeats: usize) -> u64 {
    let begun = cpu_ns();
    let mut parsed = 0;
    for _ in 0..repeats {
        for line in lines.lines() {
            let event = LogEvent::from_log(line.as_bytes(), NOW_MS).expect("a valid event");
            parsed += u64::from(!std::hint::black_box(event).actor_id().is_empty());
        }
    }
    (cpu_ns() - begun) / parsed.max(1)
}

/// Nanoseconds that this thread has spent on a processor.
fn cpu_ns() -> u64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with schedstat");
    schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("the first of three numbers")
}

/// A log that has everything at once and keeps nothing.
struct NoLog;

impl Appender for NoLog {
    fn append(&self, _: &str, records: AppendBatch, done: Completion) {
        drop(std::hint::black_box(records));
        done(Ok(vec![(0, 1)]));
    }
}

fn ingest_api() -> (Runtime, Router) {
    let types = EventTypes::default()
        .named(["like", "unlike", "follow", "unfollow", "share", "comment"])
        .anonymous(["view", "read", "api_call"])
        .owned_by_database("collects", "collect", "uncollect");
    let key = ReceiptKey { log_id: *b"nolog...", secret: [9; 32] };
    let config = IngestConfig::new("user-actions", 16, types, [7; 32]);
    let registry = Registry::new();
    let service =
        IngestService::new(config, Arc::new(NoLog), key, Arc::new(|| Ok(NOW_MS)), &registry).expect("a new registry");
    let edge = Edge::new(&registry, Duration::from_secs(30)).expect("a new registry");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let http = router(service.clone(), TrustedProxies::default());
    let methods = grpc::router(service, TrustedProxies::default(), CancellationToken::new());
    (runtime, edge.wrap(http.merge(methods).into_router(None)))
}

/// A request.
struct Input<'a> {
    path: &'a str,
    content_type: &'a str,
    body: Bytes,
    /// That of its answer.
    status: u16,
}

/// The same events as those of [`events`], as a message of gRPC.
fn message(count: usize) -> Vec<u8> {
    let event = |i: usize| {
        let value = |kind| PropertyValue { kind: Some(kind) };
        let position = value(Kind::Integer((i % 20) as i64));
        Event {
            event_id: format!("01J9ZQ4N8G{i:08}"),
            r#type: "view".into(),
            actor_id: Some(format!("user-{}", i * 7919 % 100_003)),
            subject_id: format!("article:{}", i % 1000),
            occurred_at: format_ms(NOW_MS - i as i64).parse().ok(),
            duration_ms: Some(6_200),
            properties: [("source".into(), value(Kind::Text("feed".into()))), ("position".into(), position)].into(),
            ..Event::default()
        }
    };
    let message = PublishRequest { events: (0..count).map(event).collect() }.encode_to_vec();
    [&[0], &(message.len() as u32).to_be_bytes()[..], &message].concat()
}

/// Events like those of the contract's example, about 190 bytes each.
fn events(count: usize, separator: &str, anonymous: bool) -> String {
    let event = |i: usize| {
        let actor = if anonymous { String::new() } else { format!(r#""actor_id":"user-{}","#, i * 7919 % 100_003) };
        format!(
            r#"{{"event_id":"01J9ZQ4N8G{i:08}","type":"view",{actor}"subject_id":"article:{}","occurred_at":{},"duration_ms":6200,"properties":{{"source":"feed","position":{}}}}}"#,
            i % 1000,
            NOW_MS - i as i64,
            i % 20,
        )
    };
    (0..count).map(event).collect::<Vec<_>>().join(separator)
}

/// Prints what a request costs, and returns its ratio to the plain loop.
fn measure(name: &str, rounds: usize, count: usize, input: &Input<'_>) -> f64 {
    let (runtime, router) = ingest_api();
    let peer: SocketAddr = "203.0.113.9:4711".parse().expect("an address");
    let request = || {
        Request::post(input.path)
            .header("host", "ingest")
            .header("content-type", input.content_type)
            .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0")
            .extension(ConnectInfo(peer))
            .body(Body::from(input.body.clone()))
            .expect("a request")
    };
    let requests = if rounds == 1 { 1 } else { EVENTS_PER_ROUND.div_ceil(count) };
    let lines = events(100, "\n", false);
    let mut ratios = Vec::new();
    let mut costs: Vec<u64> = (0..rounds)
        .map(|_| {
            let plain = plain_loop(&lines, (requests * count).div_ceil(100));
            let inputs: Vec<_> = (0..requests).map(|_| request()).collect();
            let begun = cpu_ns();
            for request in inputs {
                let answer = runtime.block_on(router.clone().oneshot(request)).expect("a router never fails");
                assert_eq!(answer.status(), input.status);
            }
            let cost = (cpu_ns() - begun) / (requests * count) as u64;
            ratios.push(cost as f64 / plain.max(1) as f64);
            cost
        })
        .collect();
    costs.sort_unstable();
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios[rounds / 2];
    println!("{name:<24}{count:>8}{:>14}{:>14}{ratio:>14.2}", costs[0], costs[rounds / 2]);
    ratio
}
