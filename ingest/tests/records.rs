//! What accepted events become in the log, byte by byte.

mod fixture;

use fixture::{Bed, NOW_MS, PARTITIONS, event, receipt_key, request, service};
use serde_json::json;
use std::sync::atomic::Ordering;
use tally_model::{REQUEST_HEADER, Receipt};
use tally_streams::log::{Headers, OwnedRecord, partition_of};

fn text(record: &OwnedRecord) -> &str {
    std::str::from_utf8(record.value.as_deref().unwrap()).unwrap()
}

fn request_of(record: &OwnedRecord) -> [u8; 16] {
    let headers = Headers::encoded(&record.headers);
    assert_eq!(headers.iter().count(), 1);
    headers.get(REQUEST_HEADER).unwrap().try_into().unwrap()
}

#[tokio::test]
async fn one_event_is_one_record_with_the_request_in_its_header_and_in_the_receipt() {
    let bed = Bed::new();
    let answer = bed.post(event("e1")).await;
    assert_eq!(answer.status, 202);
    assert_eq!((&answer.body["accepted"], &answer.body["rejected"]), (&json!(1), &json!([])));

    let records = bed.appended();
    let [record] = &*records else { panic!("{records:?}") };
    let expected = r#"{"event_id":"e1","type":"like","actor_id":"u1","subject_id":"article:7","ip":"203.0.113.9","occurred_at":1795247999000}"#;
    assert_eq!(text(record), expected);
    assert_eq!(record.key.as_deref(), Some(b"u1" as &[u8]));
    // A Java producer puts u1 there.
    assert_eq!(record.partition, 0);
    let receipt = Receipt::decode(answer.body["receipt"].as_str().unwrap(), &receipt_key()).unwrap();
    assert_eq!(receipt, Receipt { request: request_of(record), offsets: vec![(0, 0)] });

    bed.post(event("e1")).await;
    assert_ne!(request_of(&bed.appended()[0]), receipt.request, "each request has its own bytes");
}

#[tokio::test]
async fn a_batch_is_one_append_in_order_with_one_request() {
    let bed = Bed::new();
    let body = format!(
        "[{}]",
        (0..1000)
            .map(|i| event(&format!("e{i}")).replace("u1", &format!("u{}", i % 50)))
            .collect::<Vec<_>>()
            .join(",\n ")
    );
    let answer = bed.post(body).await;
    assert_eq!((answer.status, &answer.body["accepted"]), (202, &json!(1000)));
    assert_eq!(*bed.log.appends.lock().unwrap(), 1);
    let records = bed.appended();
    for (i, record) in records.iter().enumerate() {
        let actor = format!("u{}", i % 50);
        assert!(text(record).starts_with(&format!(r#"{{"event_id":"e{i}","type":"like","actor_id":"{actor}""#)));
        assert_eq!(record.key.as_deref(), Some(actor.as_bytes()));
        assert_eq!(record.partition, partition_of(actor.as_bytes(), PARTITIONS));
        assert_eq!(request_of(record), request_of(&records[0]));
    }
    let receipt = Receipt::decode(answer.body["receipt"].as_str().unwrap(), &receipt_key()).unwrap();
    assert!(receipt.offsets.is_sorted() && receipt.offsets.len() > 10, "{receipt:?}");
}

#[tokio::test]
async fn an_invalid_event_leaves_its_neighbours_in_peace() {
    let bed = Bed::new();
    let bad = event("bad").replace("like", "lke");
    let answer = bed.post(format!("[{},{bad},{}]", event("a"), event("b"))).await;
    assert_eq!(answer.status, 202);
    let error = "`type` `lke` is unknown (did you mean `like`?)";
    assert_eq!(answer.body["rejected"], json!([{"index": 1, "event_id": "bad", "error": error}]));
    let ids: Vec<_> = bed.values().iter().map(|value| value["event_id"].clone()).collect();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(bed.metric("tally_ingest_events_total{outcome=\"accepted\"}"), 2.0);
    assert_eq!(bed.metric("tally_ingest_events_total{outcome=\"rejected\"}"), 1.0);
}

#[tokio::test]
async fn lines_may_be_broken_or_empty_one_by_one() {
    let bed = Bed::new();
    let body = format!("{}\r\n\n{{\"event_id\":\"torn\n{}\n", event("a"), event("b"));
    let answer = bed.send(request("application/x-ndjson; charset=utf-8", body)).await;
    assert_eq!((answer.status, &answer.body["accepted"]), (202, &json!(2)));
    assert_eq!(answer.body["rejected"][0]["index"], 1);
    assert_eq!(bed.values().len(), 2);
}

#[tokio::test]
async fn cloud_events_become_the_same_records() {
    let bed = Bed::new();
    let cloud = r#"{"specversion":"1.0","id":"e1","source":"/app","type":"like","subject":"article:7",
        "time":"2026-11-21T07:59:59Z","data":{"actor_id":"u1"}}"#;
    bed.post(event("e1")).await;
    assert_eq!(bed.send(request("application/cloudevents+json", cloud)).await.status, 202);
    let batch = format!("[{cloud},{}]", cloud.replace("1.0", "2.0"));
    let answer = bed.send(request("application/cloudevents-batch+json", batch)).await;
    assert_eq!((answer.status, &answer.body["accepted"]), (202, &json!(1)));
    assert_eq!(answer.body["rejected"][0]["event_id"], "e1");
    let records = bed.appended();
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|record| text(record) == text(&records[0])));
}

#[tokio::test]
async fn what_is_missing_is_filled_in_and_what_was_sent_stays() {
    let bed = Bed::new();
    let bare = r#"{"event_id":"e","type":"like","actor_id":"u","subject_id":"a:1"}"#;
    let full = r#"{"event_id":"e","type":"like","actor_id":"u","subject_id":"a:1","ip":"::1","user_agent":"mine"}"#;
    let mut request = request("application/json", format!("[{bare},{full}]"));
    request.extensions_mut().insert(service());
    request.headers_mut().insert("user-agent", "theirs \"quoted\"".parse().unwrap());
    request.headers_mut().insert("x-forwarded-for", "1.1.1.1".parse().unwrap());
    assert_eq!(bed.send(request).await.status, 202);
    let values = bed.values();
    let (sent, filled) = (&values[1], &values[0]);
    assert_eq!((&sent["ip"], &sent["user_agent"]), (&json!("::1"), &json!("mine")));
    // The peer is no trusted proxy, whatever headers it sends.
    assert_eq!((&filled["ip"], &filled["user_agent"]), (&json!("203.0.113.9"), &json!("theirs \"quoted\"")));
    assert!(values.iter().all(|value| value["occurred_at"] == NOW_MS));
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let bed = Bed::new();
    let mut request = request("application/json", event("e1"));
    let proxy: std::net::SocketAddr = "10.1.2.3:80".parse().unwrap();
    request.extensions_mut().insert(axum::extract::ConnectInfo(proxy));
    request.headers_mut().insert("x-forwarded-for", "6.6.6.6, 198.51.100.7, 10.9.9.9".parse().unwrap());
    assert_eq!(bed.send(request).await.status, 202);
    assert_eq!(bed.values()[0]["ip"], "198.51.100.7");
}

#[tokio::test]
async fn anonymous_actors_keep_their_name_for_a_day() {
    let bed = Bed::new();
    let view = |ip: &str| format!(r#"{{"event_id":"e","type":"view","subject_id":"a:1","ip":"{ip}"}}"#);
    let day_ms = 86_400_000;
    let mut names = Vec::new();
    for (ip, at_ms) in [("1.1.1.1", 0), ("1.1.1.1", 3_600_000), ("1.1.1.1", day_ms), ("2.2.2.2", 0)] {
        bed.now_ms.store(NOW_MS + at_ms, Ordering::Relaxed);
        assert_eq!(bed.post_as_service(view(ip)).await.status, 202);
        let record = bed.appended().remove(0);
        let value: serde_json::Value = serde_json::from_str(text(&record)).unwrap();
        assert_eq!(record.key.as_deref(), value["actor_id"].as_str().map(str::as_bytes));
        names.push(value["actor_id"].as_str().unwrap().to_owned());
    }
    assert!(names.iter().all(|name| name.starts_with("anon:") && name.len() >= 16), "{names:?}");
    assert_eq!(names[0], names[1]);
    assert_ne!(names[0], names[2]);
    assert_ne!(names[0], names[3]);
    // An event that carries its time keeps its actor, whenever it is sent again.
    let dated = view("1.1.1.1").replace('}', &format!(",\"occurred_at\":{NOW_MS}}}"));
    bed.now_ms.store(NOW_MS + day_ms, Ordering::Relaxed);
    bed.post_as_service(dated).await;
    assert_eq!(bed.values()[0]["actor_id"], names[0]);
}
