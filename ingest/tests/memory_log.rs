//! The ingest API in front of a real log, and its description.

mod fixture;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use fixture::{NOW_MS, PARTITIONS, TOPIC, config, event, receipt_key};
use prometheus::Registry;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tally_access::Routes;
use tally_http::TrustedProxies;
use tally_ingest::http::router;
use tally_ingest::{Accepted, IngestClock, IngestService};
use tally_model::{Event, REQUEST_HEADER, Receipt};
use tally_streams::log::memory::MemoryLog;
use tally_streams::log::{Cleanup, Doubt, Log, Polled, TopicPartition, TopicSpec};
use tower::ServiceExt;
use utoipa::openapi::OpenApiBuilder;

fn open(log: &MemoryLog) -> Routes {
    open_at(log, Arc::new(|| Ok(NOW_MS)))
}

fn open_at(log: &MemoryLog, clock: IngestClock) -> Routes {
    let topic = TopicSpec {
        name: TOPIC.to_owned(),
        partitions: PARTITIONS,
        cleanup: Cleanup::Delete,
        retention: None,
        retention_bytes: None,
    };
    log.ensure_topics(&[topic]).unwrap();
    let appender = log.appender().unwrap();
    let service = IngestService::new(config(), appender, receipt_key(), clock, &Registry::new()).unwrap();
    router(service, TrustedProxies::default())
}

#[tokio::test]
async fn what_the_receipt_names_can_be_read_back() {
    let log = MemoryLog::new(Arc::new(|| NOW_MS));
    let routes = open(&log).into_router(None);
    let events: Vec<_> = (0..20).map(|i| event(&format!("e{i}")).replace("u1", &format!("u{}", i % 5))).collect();
    let request = Request::post("/v1/events").header("host", "ingest").header("content-type", "application/x-ndjson");
    let response = routes.oneshot(request.body(Body::from(events.join("\n"))).unwrap()).await.unwrap();
    assert_eq!(response.status(), 202);
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let accepted: Accepted = serde_json::from_slice(&body).unwrap();
    let receipt = Receipt::decode(&accepted.receipt, &receipt_key()).unwrap();

    let mut seen = 0;
    for &(partition, last_offset) in &receipt.offsets {
        let place = TopicPartition::new(TOPIC, partition);
        let mut consumer = log.consumer("test").unwrap();
        consumer.assign(&place, 0).unwrap();
        let Polled::Records { records, .. } = consumer.poll(Duration::from_secs(5)).unwrap() else {
            panic!("nothing in {place}")
        };
        let mut offsets = Vec::new();
        for record in records.map(Result::unwrap) {
            let taken = Event::from_log(record.value.unwrap(), record.append_time_ms).unwrap();
            assert_eq!(record.key, Some(taken.actor_id().as_bytes()));
            assert_eq!(record.headers.get(REQUEST_HEADER), Some(&receipt.request as &[u8]));
            offsets.push(record.offset);
        }
        assert_eq!(offsets.last(), Some(&last_offset));
        seen += offsets.len();
    }
    assert_eq!((seen, accepted.accepted), (20, 20));
}

/// It has to be sent again: an event that is taken at a wrong time is counted at it.
#[tokio::test]
async fn while_the_clock_is_in_doubt_nothing_is_taken() {
    let log = MemoryLog::new(Arc::new(|| NOW_MS));
    let routes = open_at(&log, Arc::new(|| Err(Doubt::Jumped(-93_600_000)))).into_router(None);
    let request = Request::post("/v1/events").header("content-type", "application/json");
    let response = routes.oneshot(request.body(Body::from(event("e1"))).unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "10"));
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("the wall clock has jumped back by 93600 s. No event was accepted"), "{detail}");
    let at_end = |number| log.bounds(&TopicPartition::new(TOPIC, number)).unwrap().1 == 0;
    assert!((0..PARTITIONS).all(at_end));
}

#[test]
fn the_description_names_the_route_its_bodies_and_its_problems() {
    let description = open(&MemoryLog::new(Arc::new(|| NOW_MS))).describe(OpenApiBuilder::new().build());
    let description = serde_json::to_value(description).unwrap();
    let post = &description["paths"]["/v1/events"]["post"];
    let bodies: Vec<_> = post["requestBody"]["content"].as_object().unwrap().keys().cloned().collect();
    let expected = [
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
        "application/json",
        "application/x-ndjson",
    ];
    assert!(expected.iter().all(|media| bodies.iter().any(|body| body == media)), "{bodies:?}");
    let problem = &post["responses"]["422"]["content"]["application/problem+json"]["schema"]["$ref"];
    assert_eq!(problem, &Value::from("#/components/schemas/EventsProblem"));
    for schema in ["Problem", "Accepted", "Rejected"] {
        assert!(description["components"]["schemas"][schema].is_object(), "{schema}");
    }
}
