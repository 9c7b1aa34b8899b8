//! The ingest API over gRPC: the same events are accepted and rejected as over HTTP, with the same problems. What clients
//! see of a problem is tested with a client, in the tests of the binary.

mod fixture;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use fixture::{Answer, Bed, Script, event, request, service};
use serde_json::{Value, json};
use tally_proto::Message;
use tally_proto::tally::v1::property_value::Kind;
use tally_proto::tally::v1::{
    Event, PropertyValue, PublishRequest, PublishResponse, PublishStreamRequest, PublishStreamResponse,
};
use tally_streams::log::LogError;
use tower::ServiceExt;

/// The message of an event in JSON.
fn message_of(json: &Value) -> Event {
    let text = |name: &str| json[name].as_str().map(str::to_owned);
    let properties = json["properties"].as_object().cloned().unwrap_or_default();
    let value = |value: Value| PropertyValue {
        kind: match value {
            Value::String(text) => Some(Kind::Text(text)),
            Value::Bool(boolean) => Some(Kind::Boolean(boolean)),
            Value::Number(number) if number.is_i64() => number.as_i64().map(Kind::Integer),
            Value::Number(number) => number.as_f64().map(Kind::Number),
            _ => None,
        },
    };
    Event {
        event_id: text("event_id").unwrap_or_default(),
        r#type: text("type").unwrap_or_default(),
        actor_id: text("actor_id"),
        subject_id: text("subject_id").unwrap_or_default(),
        occurred_at: text("occurred_at").map(|time| time.parse().unwrap()),
        ip: text("ip"),
        user_agent: text("user_agent"),
        duration_ms: json["duration_ms"].as_i64(),
        properties: properties.into_iter().map(|(name, of)| (name, value(of))).collect(),
    }
}

fn framed(message: &impl Message) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&(message.encoded_len() as u32).to_be_bytes());
    message.encode(&mut bytes).unwrap();
    bytes
}

fn call(method: &str, body: Vec<u8>) -> Request<Body> {
    let mut call = request("application/grpc", body);
    *call.uri_mut() = format!("/tally.v1.Events/{method}").parse().unwrap();
    call
}

fn publish(events: Vec<Event>) -> Request<Body> {
    call("Publish", framed(&PublishRequest { events }))
}

/// The messages of a response.
async fn messages<M: Message + Default>(bed: &Bed, call: Request<Body>) -> Vec<M> {
    let response = bed.router.clone().oneshot(call).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"application/grpc".parse().unwrap())
    );
    let mut bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let length = u32::from_be_bytes(*bytes[1..].first_chunk().unwrap()) as usize;
        messages.push(M::decode(&bytes[5..5 + length]).unwrap());
        bytes = bytes.slice(5 + length..);
    }
    messages
}

/// An event with some fields replaced; null takes one out.
fn spoilt(changes: Value) -> Value {
    let mut event: Value = serde_json::from_str(&event("e1")).unwrap();
    event["occurred_at"] = json!("2026-11-21T07:59:59Z");
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(event.as_object_mut().unwrap().remove(name)),
            value => event[name] = value.clone(),
        }
    }
    event
}

fn batches() -> Vec<Vec<Value>> {
    let one = |changes| vec![spoilt(changes)];
    let properties: serde_json::Map<_, _> = (0..17).map(|n| (format!("p{n}"), json!(n))).collect();
    vec![
        one(json!({"event_id": null})),
        one(json!({"event_id": "e/1"})),
        one(json!({"event_id": "x".repeat(65)})),
        one(json!({"type": null})),
        one(json!({"type": "liked"})),
        one(json!({"type": "collect"})),
        one(json!({"type": "read"})),
        one(json!({"actor_id": null})),
        one(json!({"actor_id": ""})),
        one(json!({"actor_id": "u 1"})),
        one(json!({"subject_id": null})),
        one(json!({"subject_id": "article"})),
        one(json!({"subject_id": "Article:7"})),
        one(json!({"occurred_at": "2026-11-21T09:00:00Z"})),
        one(json!({"occurred_at": "1969-12-31T23:59:59Z"})),
        one(json!({"ip": "localhost"})),
        one(json!({"ip": "203.0.113.8"})),
        one(json!({"user_agent": "another"})),
        one(json!({"user_agent": "x".repeat(1025)})),
        one(json!({"duration_ms": -1})),
        one(json!({"duration_ms": 86_400_001})),
        one(json!({"properties": {"a": []}})),
        one(json!({"properties": properties})),
        one(json!({"properties": {"a": "x".repeat(2048)}})),
        vec![spoilt(json!({"type": "liked"})), spoilt(json!({"event_id": "e2", "subject_id": "x"}))],
        vec![spoilt(json!({"type": "liked"})); 1_001],
        Vec::new(),
    ]
}

async fn over_http(bed: &Bed, batch: &[Value]) -> Answer {
    let lines: String = batch.iter().map(|event| format!("{event}\n")).collect();
    bed.send(request("application/x-ndjson", lines)).await
}

#[tokio::test]
async fn bad_events_are_rejected_like_those_over_http() {
    let bed = Bed::new();
    for batch in batches() {
        let http = over_http(&bed, &batch).await;
        let grpc = bed.send(publish(batch.iter().map(message_of).collect())).await;
        let of = |answer: &Answer| {
            let member = |name: &str| answer.body[name].clone();
            (answer.status, member("type"), member("title"), member("detail"), member("rejected"))
        };
        assert!(http.status >= 400, "{batch:?}");
        assert_eq!(of(&http), of(&grpc), "{batch:?}");
    }
    assert_eq!(*bed.log.appends.lock().unwrap(), 0);
}

#[tokio::test]
async fn good_events_become_the_same_records() {
    let bed = Bed::new();
    let batch = [
        spoilt(json!({})),
        spoilt(json!({"type": "liked"})),
        spoilt(json!({"type": "view", "actor_id": null, "event_id": "e2", "occurred_at": "2026-11-21T07:59:59.987Z"})),
        spoilt(json!({"type": "read", "duration_ms": 7, "properties": {"a": "x", "b": 1, "c": 1.5, "d": true}})),
    ];
    let http = over_http(&bed, &batch).await;
    let records: Vec<_> =
        bed.appended().into_iter().map(|record| (record.partition, record.key, record.value)).collect();
    let [grpc] = &*messages::<PublishResponse>(&bed, publish(batch.iter().map(message_of).collect())).await else {
        panic!("not one response");
    };
    assert_eq!((http.status, records.len(), grpc.accepted), (202, 3, 3));
    let same: Vec<_> = bed.appended().into_iter().map(|record| (record.partition, record.key, record.value)).collect();
    assert_eq!(records, same);
    let [rejected] = &*grpc.rejected else { panic!("{grpc:?}") };
    let of_http = &http.body["rejected"][0];
    assert_eq!((json!(rejected.index), json!(rejected.error)), (of_http["index"].clone(), of_http["error"].clone()));
    assert_eq!((rejected.event_id.as_deref(), grpc.receipt.is_empty()), (Some("e1"), false));
}

#[tokio::test]
async fn a_log_that_fails_is_the_same_problem() {
    let bed = Bed::new();
    for error in [
        LogError::Busy,
        LogError::Unavailable("away".into()),
        LogError::Full("no space".into()),
        LogError::Fatal("broken".into()),
    ] {
        bed.script(Script::Fail(error));
        let http = over_http(&bed, &[spoilt(json!({}))]).await;
        let grpc = bed.send(publish(vec![message_of(&spoilt(json!({})))])).await;
        assert_eq!((http.status, &http.body["type"]), (grpc.status, &grpc.body["type"]));
        assert_eq!(http.headers["retry-after"], grpc.headers["retry-after"]);
    }
}

#[tokio::test]
async fn a_message_has_the_limits_of_a_body() {
    let bed = Bed::new();
    let agent = "x".repeat(1 << 20);
    let large = bed.send(publish(vec![message_of(&spoilt(json!({"user_agent": agent})))])).await;
    assert_eq!((large.status, &large.body["type"]), (413, &json!("urn:tally:problem:payload-too-large")));
    for body in [Vec::new(), vec![0, 0, 0, 0, 9, 1], vec![0, 0, 0, 0, 1, 0xff], vec![7, 0, 0, 0, 0]] {
        let broken = bed.send(call("Publish", body.clone())).await;
        assert_eq!((broken.status, &broken.body["type"]), (400, &json!("urn:tally:problem:bad-request")), "{body:?}");
    }
    assert_eq!(bed.metric("tally_ingest_requests_in_flight"), 0.0);
}

#[tokio::test]
async fn a_stream_acknowledges_each_batch_in_order() {
    let bed = Bed::new();
    let batch = |events: &[Value]| framed(&PublishStreamRequest { events: events.iter().map(message_of).collect() });
    let bad = spoilt(json!({"type": "liked"}));
    let body = [
        batch(&[spoilt(json!({})), bad.clone()]),
        batch(&[bad]),
        batch(&[spoilt(json!({"event_id": "e2"})), spoilt(json!({"event_id": "e3"}))]),
    ];
    let responses = messages::<PublishStreamResponse>(&bed, call("PublishStream", body.concat())).await;
    let seen: Vec<_> = responses
        .iter()
        .map(|response| (response.accepted, response.rejected.len(), response.receipt.is_empty()))
        .collect();
    assert_eq!(seen, [(1, 1, false), (0, 1, true), (2, 0, false)]);
    let ids: Vec<_> = bed.values().iter().map(|event| event["event_id"].clone()).collect();
    assert_eq!(ids, ["e1", "e2", "e3"]);
}

#[tokio::test]
async fn the_address_of_an_event_is_that_of_the_caller_unless_it_is_a_service() {
    let bed = Bed::new();
    let forwarded = || publish(vec![message_of(&spoilt(json!({"ip": "198.51.100.1", "user_agent": "app"})))]);
    assert_eq!(bed.send(forwarded()).await.status, 422);
    let mut of_service = forwarded();
    of_service.extensions_mut().insert(service());
    assert_eq!(messages::<PublishResponse>(&bed, of_service).await[0].accepted, 1);
    assert_eq!(messages::<PublishResponse>(&bed, publish(vec![message_of(&spoilt(json!({})))])).await[0].accepted, 1);
    let addresses: Vec<_> = bed.values().iter().map(|event| event["ip"].clone()).collect();
    assert_eq!(addresses, ["198.51.100.1", "203.0.113.9"]);
}
