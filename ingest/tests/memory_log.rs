//! The door in front of a log that is one, and its description.

mod fixture;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use fixture::{NOW_MS, PARTITIONS, TOPIC, config, event, receipt_key};
use prometheus::Registry;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tally_ingest::{Accepted, Door, router};
use tally_model::{Event, REQUEST_HEADER, Receipt};
use tally_streams::log::memory::MemoryLog;
use tally_streams::log::{Cleanup, Log, Polled, TopicPartition, TopicSpec};
use tower::ServiceExt;
use utoipa_axum::router::OpenApiRouter;

fn open(log: &MemoryLog) -> OpenApiRouter {
    let topic = TopicSpec { name: TOPIC.to_owned(), partitions: PARTITIONS, cleanup: Cleanup::Delete, retention: None };
    log.ensure_topics(&[topic]).unwrap();
    let clock = Arc::new(|| NOW_MS);
    router(Door::new(config(), log.appender().unwrap(), receipt_key(), clock, &Registry::new()).unwrap())
}

#[tokio::test]
async fn what_the_receipt_names_can_be_read_back() {
    let log = MemoryLog::new(Arc::new(|| NOW_MS));
    let routes = open(&log).split_for_parts().0;
    let events: Vec<_> = (0..20).map(|i| event(&format!("e{i}")).replace("u1", &format!("u{}", i % 5))).collect();
    let request = Request::post("/v1/events").header("host", "door").header("content-type", "application/x-ndjson");
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
            assert_eq!(record.key, Some(taken.actor_id.as_bytes()));
            assert_eq!(record.headers.get(REQUEST_HEADER), Some(&receipt.request as &[u8]));
            offsets.push(record.offset);
        }
        assert_eq!(offsets.last(), Some(&last_offset));
        seen += offsets.len();
    }
    assert_eq!((seen, accepted.accepted), (20, 20));
}

#[test]
fn the_description_names_the_route_its_bodies_and_its_problems() {
    let description = open(&MemoryLog::new(Arc::new(|| NOW_MS))).split_for_parts().1;
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
