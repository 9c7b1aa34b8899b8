//! The forms in which an event may come: compressed, behind a byte order mark, as a CloudEvent in either mode.

mod fixture;

use axum::body::Body;
use axum::http::Request;
use fixture::{Bed, config, event, request, types};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use tally_ingest::IngestConfig;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn with(mut request: Request<Body>, headers: &[(&'static str, &str)]) -> Request<Body> {
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn compressed_bodies_are_taken_and_limits_count_what_comes_out() {
    type Compress = fn(&[u8]) -> Vec<u8>;
    let codings: [(&str, Compress); 2] = [("gzip", gzip), ("zstd", zstd)];
    for (coding, compress) in codings {
        let bed = Bed::new();
        let send = async |media: &str, body: String| {
            let request = request(media, compress(body.as_bytes()));
            bed.send(with(request, &[("content-encoding", coding)])).await
        };
        for (media, body, accepted) in [
            ("application/json", event("a"), 1),
            ("application/json", format!("[{},{}]", event("a"), event("b")), 2),
            ("application/x-ndjson", format!("{}\n{}\n", event("a"), event("b")), 2),
            ("application/x-ndjson", format!("\u{feff}{}\n", event("a")), 1),
        ] {
            let answer = send(media, body.clone()).await;
            assert_eq!((answer.status, &answer.body["accepted"]), (202, &json!(accepted)), "{coding} {body}");
            assert_eq!(bed.appended().len(), accepted);
        }
        // 16 MiB that fit in a small body; and 1 MiB and an event.
        for blanks in [16 << 20, 1 << 20] {
            let answer = send("application/json", format!("{}{}", " ".repeat(blanks), event("a"))).await;
            assert_eq!((answer.status, bed.appended().len()), (413, 0), "{coding}");
            assert!(answer.body["detail"].as_str().unwrap().contains("1048576 bytes, compressed or not"));
        }
        let torn = &compress(event("a").as_bytes())[..20];
        let torn = with(request("application/json", torn.to_vec()), &[("content-encoding", coding)]);
        assert_eq!(bed.send(torn).await.status, 400, "{coding}");
        let tokens =
            Request::post("/v1/read-tokens").header("host", "ingest").header("content-type", "application/json");
        let body = Body::from(compress(b"\xef\xbb\xbf{\"subject_id\":\"article:7\"}"));
        let tokens = bed.send(tokens.header("content-encoding", coding).body(body).unwrap()).await;
        assert_eq!(tokens.status, 200, "{coding}: {}", tokens.body);
    }
    let bed = Bed::new();
    for wrong in ["br", "gzip, gzip", "deflate"] {
        let answer = bed.send(with(request("application/json", event("a")), &[("content-encoding", wrong)])).await;
        assert_eq!((answer.status, &answer.headers["accept-encoding"]), (415, &"gzip, zstd".parse().unwrap()));
    }
}

#[tokio::test]
async fn a_byte_order_mark_is_not_part_of_the_text() {
    let bed = Bed::new();
    let cloud = r#"{"specversion":"1.0","id":"c","source":"/","type":"view","subject":"article:7"}"#;
    for (media, body) in [
        ("application/json", event("a")),
        ("application/json", format!("[{}]", event("a"))),
        ("application/x-ndjson", format!("{}\r\n{}\r\n", event("a"), event("b"))),
        ("application/cloudevents+json", cloud.into()),
        ("application/cloudevents-batch+json", format!("[{cloud}]")),
    ] {
        let answer = bed.send(request(media, format!("\u{feff}{body}"))).await;
        assert_eq!((answer.status, &answer.body["rejected"]), (202, &json!([])), "{media} {}", answer.body);
    }
    // Anywhere else it is a mistake.
    let answer = bed.send(request("application/x-ndjson", format!("{}\n\u{feff}{}", event("a"), event("b")))).await;
    assert_eq!((&answer.body["accepted"], &answer.body["rejected"][0]["index"]), (&json!(1), &json!(1)));
}

/// A CloudEvent in binary mode.
fn binary(media: Option<&str>, data: &str, headers: &[(&'static str, &str)]) -> Request<Body> {
    let mut request = request(media.unwrap_or("x/x"), data.to_owned());
    if media.is_none() {
        request.headers_mut().remove("content-type");
    }
    with(request, headers)
}

const LIKE: &[(&str, &str)] = &[
    ("ce-specversion", "1.0"),
    ("ce-id", "e1"),
    ("ce-source", "/app"),
    ("ce-type", "like"),
    ("ce-subject", "article:%E7%94%A8"),
    ("ce-time", "2026-11-21T08:00:00.5Z"),
    ("ce-traceparent", "%zz"),
];

#[tokio::test]
async fn cloud_events_in_binary_mode_are_taken_as_in_structured_mode() {
    let bed = Bed::new();
    let headers = LIKE;
    let data = r#"{"actor_id":"u1","properties":{"a":1}}"#;
    for media in ["application/json", "application/json; charset=utf-8", "application/vnd.example.like+json"] {
        let answer = bed.send(binary(Some(media), data, headers)).await;
        assert_eq!(answer.status, 202, "{media}: {}", answer.body);
        let expected = json!({"event_id": "e1", "type": "like", "actor_id": "u1", "subject_id": "article:用",
            "ip": "203.0.113.9", "occurred_at": 1_795_248_000_500_i64, "properties": {"a": 1}});
        assert_eq!(bed.values(), [expected], "{media}");
    }
    // Without data there is no media type.
    let view: Vec<_> =
        headers.iter().map(|&(name, value)| (name, if value == "like" { "view" } else { value })).collect();
    for media in [None, Some("application/json")] {
        let answer = bed.send(binary(media, "", &view)).await;
        assert_eq!((answer.status, bed.appended().len()), (202, 1), "{}", answer.body);
    }
    // The media types of structured mode decide; there the headers are copies at best.
    let structured = r#"{"specversion":"1.0","id":"e2","source":"/","type":"view","subject":"article:7"}"#;
    let answer = bed.send(binary(Some("application/cloudevents+json"), structured, headers)).await;
    assert_eq!((answer.status, &bed.values()[0]["event_id"]), (202, &json!("e2")), "{}", answer.body);
}

#[tokio::test]
async fn each_mistake_in_binary_mode_is_named() {
    let bed = Bed::new();
    let spoilt = |name: &str, value: Option<&'static str>| -> Vec<(&'static str, &'static str)> {
        let rest = LIKE.iter().filter(|(known, _)| *known != name).copied();
        let known = LIKE.iter().find(|(known, _)| *known == name).unwrap().0;
        rest.chain(value.map(|value| (known, value))).collect()
    };
    let data = r#"{"actor_id":"u1"}"#;
    for (name, value, status, text) in [
        ("ce-specversion", None, 422, "`specversion` must be \"1.0\""),
        ("ce-specversion", Some("0.3"), 422, "`specversion` must be \"1.0\""),
        ("ce-source", None, 422, "`source` is required"),
        ("ce-id", None, 422, "`id` is required"),
        ("ce-id", Some("e%201"), 422, "`id` may hold only"),
        ("ce-id", Some("%C0%A0"), 400, "ce-id is not percent-encoded UTF-8"),
        ("ce-id", Some("100%"), 400, "ce-id is not percent-encoded UTF-8"),
        ("ce-type", Some("liked"), 422, "did you mean `like`?"),
        ("ce-subject", Some("article"), 422, "`subject` must be `kind:id`"),
        ("ce-time", Some("soon"), 422, "`time` must be RFC 3339"),
    ] {
        let answer = bed.send(binary(Some("application/json"), data, &spoilt(name, value))).await;
        let said = answer.body["detail"].as_str().unwrap_or_default();
        assert_eq!(answer.status, status, "{name} {value:?}: {said}");
        assert!(said.contains(text), "{name} {value:?}: {said}");
    }
    let good = spoilt("ce-subject", Some("article:7"));
    let twice = [&good[..], &[("ce-id", "e1")]].concat();
    for (media, data, headers, status, text) in [
        ("application/json", data, &twice, 400, "ce-id appears more than once"),
        ("text/xml", "<a/>", &good, 415, "must be JSON, not `text/xml`"),
        ("application/x-ndjson", data, &good, 415, "must be JSON"),
        ("application/json", "{", &good, 400, "The data of the CloudEvent is not JSON"),
        ("application/json", r#"{"actor_id":"u1"},"id":"e9""#, &good, 400, "not JSON"),
        ("application/json", "[1]", &good, 422, "in `data`"),
        ("application/json", r#"{"event_id":"e1"}"#, &good, 422, "belongs in the attribute `id`"),
    ] {
        let answer = bed.send(binary(Some(media), data, headers)).await;
        let said = answer.body["detail"].as_str().unwrap_or_default();
        assert_eq!(answer.status, status, "{media} {data}: {said}");
        assert!(said.contains(text), "{media} {data}: {said}");
    }
    assert!(bed.appended().is_empty());
}

#[tokio::test]
async fn cloud_events_may_call_types_otherwise() {
    let names = [("com.example.article.liked", "like"), ("com.example.collected", "collect")];
    let names: BTreeMap<_, _> = names.map(|(name, meant)| (name.to_owned(), meant.to_owned())).into();
    let bed = Bed::with(IngestConfig { types: types().of_cloud_events(names), ..config() });
    let cloud = |kind: &str| {
        json!({"specversion": "1.0", "id": "e1", "source": "/", "type": kind, "subject": "article:7",
            "data": {"actor_id": "u1"}})
    };
    for kind in ["com.example.article.liked", "like"] {
        let answer = bed.send(request("application/cloudevents+json", cloud(kind).to_string())).await;
        assert_eq!((answer.status, &bed.values()[0]["type"]), (202, &json!("like")), "{kind}");
        let batch = Value::from(vec![cloud(kind); 2]).to_string();
        let answer = bed.send(request("application/cloudevents-batch+json", batch)).await;
        assert_eq!((answer.status, bed.values().len()), (202, 2), "{kind}");
        let headers: Vec<_> =
            LIKE.iter().map(|&(name, value)| (name, if name == "ce-type" { kind } else { value })).collect();
        let answer = bed.send(binary(Some("application/json"), r#"{"actor_id":"u1"}"#, &headers)).await;
        assert_eq!((answer.status, &bed.values()[0]["type"]), (202, &json!("like")), "{kind}: {}", answer.body);
    }
    // What the database owns stays its own under any name, and an event that is no CloudEvent has no other names.
    let answer = bed.send(request("application/cloudevents+json", cloud("com.example.collected").to_string())).await;
    assert_eq!(answer.status, 422);
    assert!(answer.body["detail"].as_str().unwrap().contains("use PUT /v1/subjects"), "{}", answer.body);
    let answer = bed.post(event("a").replace("like", "com.example.article.liked")).await;
    assert_eq!(answer.status, 422, "{}", answer.body);
}
