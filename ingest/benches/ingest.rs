//! What an event costs in the ingest service, without the network and without the log: `cargo bench -p tally-ingest`.
//!
//! Each round is one request through the router, from the media type to the receipt, on one thread. Reported is CPU
//! time and not time, so that a busy machine disturbs less (it still does, by its caches).

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use bytes::Bytes;
use prometheus::Registry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tally_http::{Edge, TrustedProxies};
use tally_ingest::http::router;
use tally_ingest::{EventTypes, IngestConfig, IngestService};
use tally_model::ReceiptKey;
use tally_streams::log::{AppendBatch, Appender, Completion};
use tally_testkit::NOW_MS;
use tokio::runtime::Runtime;
use tower::ServiceExt;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS_MAX: usize = 20;
/// The kernel counts CPU time in ticks of some milliseconds: a round must be long against one.
const EVENTS_PER_ROUND: usize = 50_000;

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let rounds_max = if std::env::args().any(|argument| argument == "--bench") { ROUNDS_MAX } else { 1 };
    println!("{:<24}{:>8}{:>14}{:>14}", "CPU ns per event", "events", "best", "median");
    for count in [1, 10, 100, 500, 1000] {
        measure("array", rounds_max, count, "application/json", format!("[{}]", events(count, ",", false)));
    }
    for count in [100, 500] {
        measure("lines", rounds_max, count, "application/x-ndjson", events(count, "\n", false));
    }
    measure("anonymous", rounds_max, 100, "application/json", format!("[{}]", events(100, ",", true)));
    let invalid = events(100, ",", false).replacen("view", "veiw", 1);
    measure("one invalid", rounds_max, 100, "application/json", format!("[{invalid}]"));
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

fn door() -> (Runtime, Router) {
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
    (runtime, edge.wrap(router(service, TrustedProxies::default()).into_router(None)))
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

fn measure(name: &str, rounds_max: usize, count: usize, content_type: &str, body: String) {
    let (runtime, router) = door();
    let body = Bytes::from(body);
    let peer: SocketAddr = "203.0.113.9:4711".parse().expect("an address");
    let request = || {
        Request::post("/v1/events")
            .header("host", "door")
            .header("content-type", content_type)
            .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0")
            .extension(ConnectInfo(peer))
            .body(Body::from(body.clone()))
            .expect("a request")
    };
    let requests = if rounds_max == 1 { 1 } else { EVENTS_PER_ROUND.div_ceil(count) };
    let rounds = rounds_max;
    let mut costs: Vec<u64> = (0..rounds)
        .map(|_| {
            let inputs: Vec<_> = (0..requests).map(|_| request()).collect();
            let begun = cpu_ns();
            for request in inputs {
                let answer = runtime.block_on(router.clone().oneshot(request)).expect("a router never fails");
                assert_eq!(answer.status(), 202);
            }
            (cpu_ns() - begun) / (requests * count) as u64
        })
        .collect();
    costs.sort_unstable();
    println!("{name:<24}{count:>8}{:>14}{:>14}", costs[0], costs[rounds / 2]);
}
