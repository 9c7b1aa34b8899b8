//! What an event costs in the door, without the network and without the log: `cargo bench -p tally-ingest`.
//!
//! Each iteration is one request through the router, from the media type to the receipt. Read the items per second:
//! an item is an event, and one thread does it all, so the reciprocal is CPU time an event.

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use prometheus::Registry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tally_http::Edge;
use tally_ingest::{Door, DoorConfig, EventTypes, router};
use tally_model::ReceiptKey;
use tally_streams::log::{AppendBatch, Appender, Completion};
use tokio::runtime::Runtime;
use tower::ServiceExt;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW_MS: i64 = 1_795_248_000_000;

fn main() {
    divan::main();
}

/// A log that has everything at once and keeps nothing.
struct NoLog;

impl Appender for NoLog {
    fn append(&self, _: &str, records: AppendBatch, done: Completion) {
        drop(divan::black_box(records));
        done(Ok(vec![(0, 1)]));
    }
}

fn door() -> (Runtime, Router) {
    let types = EventTypes::default()
        .named(["like", "unlike", "follow", "unfollow", "share", "comment"])
        .anonymous(["view", "read", "api_call"])
        .owned_by_database("collects", "collect", "uncollect");
    let key = ReceiptKey { log_id: *b"nolog...", secret: [9; 32] };
    let config = DoorConfig::new("user-actions", 16, types, [7; 32]);
    let registry = Registry::new();
    let door = Door::new(config, Arc::new(NoLog), key, Arc::new(|| NOW_MS), &registry).expect("a new registry");
    let edge = Edge::new(&registry, Duration::from_secs(30)).expect("a new registry");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    (runtime, edge.wrap(router(door).split_for_parts().0))
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

fn run(bencher: Bencher, count: usize, content_type: &str, body: String) {
    let (runtime, router) = door();
    let body = Bytes::from(body);
    let peer: SocketAddr = "203.0.113.9:4711".parse().expect("an address");
    let request = || {
        Request::post("/v1/events")
            .header("content-type", content_type)
            .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0")
            .extension(ConnectInfo(peer))
            .body(Body::from(body.clone()))
            .expect("a request")
    };
    bencher.counter(ItemsCount::new(count)).with_inputs(request).bench_local_values(|request| {
        let answer = runtime.block_on(router.clone().oneshot(request)).expect("a router never fails");
        assert_eq!(answer.status(), 202);
        answer
    });
}

#[divan::bench(args = [1, 100, 500, 1000])]
fn array(bencher: Bencher, count: usize) {
    run(bencher, count, "application/json", format!("[{}]", events(count, ",", false)));
}

#[divan::bench(args = [100, 500])]
fn lines(bencher: Bencher, count: usize) {
    run(bencher, count, "application/x-ndjson", events(count, "\n", false));
}

#[divan::bench(args = [100])]
fn anonymous(bencher: Bencher, count: usize) {
    run(bencher, count, "application/json", format!("[{}]", events(count, ",", true)));
}

#[divan::bench(args = [100])]
fn one_invalid(bencher: Bencher, count: usize) {
    let body = events(count, ",", false).replacen("view", "veiw", 1);
    run(bencher, count, "application/json", format!("[{body}]"));
}
