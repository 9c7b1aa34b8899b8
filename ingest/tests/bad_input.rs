//! What strangers send: each case with the status and the words it is answered with. Nothing of it reaches the log.

mod fixture;
#[path = "bad_input/who.rs"]
mod who;

use axum::body::Body;
use axum::http::Request;
use fixture::{Bed, event, request};

/// The event that the field cases spoil.
const GOOD: &str =
    r#"{"event_id":"e1","type":"like","actor_id":"u1","subject_id":"article:7","occurred_at":1795247999000}"#;

struct Case {
    name: String,
    request: Request<Body>,
    status: u16,
    text: String,
}

fn case(name: &str, request: Request<Body>, status: u16, text: &str) -> Case {
    Case { name: name.to_owned(), request, status, text: text.to_owned() }
}

fn json(body: impl Into<Body>) -> Request<Body> {
    request("application/json", body)
}

fn bodies() -> Vec<Case> {
    let deep = format!("[{}", "[".repeat(100_000));
    let many = format!("[{}]", vec!["{}"; 1001].join(","));
    let large = format!("[{}]", vec!["\"x\""; 300_000].join(","));
    let gap = format!("[{},,{}]", event("a"), event("b"));
    let open = format!("[{},{}", event("a"), event("b"));
    let torn = format!("[{},{{\"event_id\":}},{}]", event("a"), event("b"));
    let behind = format!("[{}] {}", event("a"), event("b"));
    let comma = format!("[{},]", event("a"));
    vec![
        case("empty", json(""), 400, "The body is empty."),
        case("blank", json(" \n "), 400, "The body is empty."),
        case("an empty array", json("[]"), 400, "The body contains no events."),
        case("not JSON", json("hello"), 400, "The body is not JSON: expected value at line 1 column 1"),
        case("torn off", json("{\"event_id\":"), 400, "not JSON: EOF"),
        case("two objects", json(format!("{GOOD}{GOOD}")), 400, "not JSON: trailing characters"),
        case("two byte order marks", json(format!("\u{feff}\u{feff}{GOOD}")), 400, "not JSON: expected value"),
        case("nothing but a byte order mark", json("\u{feff}"), 400, "The body is empty."),
        case("comments", json(format!("{GOOD}// x")), 400, "not JSON: trailing characters"),
        case("a gap in an array", json(gap), 400, "not JSON: expected value"),
        case("an open array", json(open), 400, "not JSON: EOF"),
        case("an array with a torn element", json(torn), 400, "not JSON: expected value"),
        case("something behind the array", json(behind), 400, "not JSON: trailing characters"),
        case("a trailing comma", json(comma), 400, "not JSON: expected value"),
        case("deep nesting", json(deep), 400, "not JSON"),
        case("null", json("null"), 422, "invalid type: null, expected an event: a JSON object"),
        case("a number", json("7"), 422, "invalid type: integer `7`, expected an event: a JSON object"),
        case("a string", json("\"x\""), 422, "expected an event: a JSON object"),
        case("an array of nonsense", json("[1,null,[]]"), 422, "None of the 3 events is valid"),
        case("too many events", json(many), 413, "at most 1,000 events"),
        case("too many bytes", json(large), 413, "at most 1048576 bytes"),
        case("invalid UTF-8", json(b"{\"event_id\":\"\xff\"}".to_vec()), 422, "invalid unicode"),
        case("a lone surrogate", json(GOOD.replace("e1", "\\ud800")), 422, "unexpected end of hex escape"),
        case("lines of nothing", request("application/x-ndjson", "\n\n \r\n"), 400, "The body is empty."),
        case("bad lines only", request("application/x-ndjson", "{\n}\n"), 422, "None of the 2 events is valid"),
        case("an array as a line", request("application/x-ndjson", "[]"), 422, "expected an event: a JSON object"),
    ]
}

fn headers() -> Vec<Case> {
    let untyped = || Request::post("/v1/events").header("host", "ingest").body(Body::from(GOOD)).unwrap();
    let all = "accepted: application/json, application/x-ndjson, application/cloudevents+json, \
               application/cloudevents-batch+json.";
    let mut zipped = json(GOOD);
    zipped.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    let mut brotli = json(GOOD);
    brotli.headers_mut().insert("content-encoding", "br".parse().unwrap());
    let mut get = json("");
    *get.method_mut() = axum::http::Method::GET;
    let mut elsewhere = json(GOOD);
    *elsewhere.uri_mut() = "/v1/event".parse().unwrap();
    vec![
        case("no media type", untyped(), 415, &format!("The content-type header is missing; {all}")),
        case("text", request("text/plain", GOOD), 415, &format!("`text/plain` is not supported; {all}")),
        case("a form", request("application/x-www-form-urlencoded", GOOD), 415, "is not supported"),
        case("no type at all", request("json", GOOD), 415, "is not a media type"),
        case("another charset", request("application/json; charset=latin1", GOOD), 415, "charset must be utf-8"),
        case("what is not compressed as it says", zipped, 400, "The body is not valid gzip"),
        case("another compression", brotli, 415, "content-encoding is not supported; accepted: gzip, zstd"),
        case("another method", get, 405, "does not support GET"),
        case("another path", elsewhere, 404, "No route matches /v1/event."),
    ]
}

fn fields() -> Vec<Case> {
    let spoilt = [
        ("\"event_id\":\"e1\",", "", "`event_id` is required"),
        ("\"e1\"", "\"\"", "`event_id` must have 1 to 64 characters"),
        ("\"e1\"", "\"e/1\"", "`event_id` may hold only letters"),
        ("\"e1\"", "17", "`event_id`: invalid type: integer `17`, expected a string"),
        ("\"e1\"", "null", "`event_id`: invalid type: null"),
        ("\"type\":\"like\",", "", "`type` is required"),
        ("\"like\"", "\"liked\"", "`type` `liked` is unknown (did you mean `like`?)"),
        ("\"like\"", "\"LIKE\"", "did you mean `like`?"),
        ("\"like\"", "\"purchase\"", "known types: api_call, follow, like, read, share, unfollow, unlike, view"),
        ("\"like\"", "\"collect\"", "use PUT /v1/subjects/{subject_id}/collects/{actor_id}"),
        ("\"like\"", "\"uncollect\"", "use DELETE /v1/subjects/{subject_id}/collects/{actor_id}"),
        ("\"like\"", "\"read\"", "`duration_ms` is required for `read`"),
        ("\"actor_id\":\"u1\",", "", "`actor_id` is required"),
        ("\"u1\"", "\"u 1\"", "`actor_id` must not contain braces, whitespace"),
        ("\"u1\"", "\"u{1}\"", "`actor_id` must not contain braces"),
        ("\"subject_id\":\"article:7\",", "", "`subject_id` is required"),
        ("article:7", "article", "`subject_id` must be `kind:id`"),
        ("article:7", "Article:7", "`subject_id` must begin with a kind"),
        ("article:7", "article:a\\u0000b", "`subject_id` must not contain"),
        ("1795247999000", "1795248300001", "`occurred_at` lies more than 5 minutes ahead"),
        ("1795247999000", "\"2026-11-21T09:00:00Z\"", "`occurred_at` lies more than 5 minutes ahead"),
        ("1795247999000", "\"yesterday\"", "`occurred_at`: invalid value: string \"yesterday\""),
        ("1795247999000", "-1", "`occurred_at` must not lie before 1970"),
        ("1795247999000", "1.5", "`occurred_at`: invalid type: floating point"),
        ("1795247999000", "18446744073709551615", "`occurred_at`: 9223372036854775807 is in micro- or nanoseconds"),
        ("1795247999000", "1795247999000000", "`occurred_at`: 1795247999000000 is in micro- or nanoseconds"),
        (
            "1795247999000",
            "1795247999",
            "`occurred_at`: 1795247999 is in seconds; send milliseconds, 1795247999000, or",
        ),
        ("1795247999000", "\"1795247999\"", "`occurred_at`: invalid value"),
        ("1795247999000", "\"20261121T03Z\"", "`occurred_at`: invalid value"),
        ("1795247999000", "\"2026-11-21T07:00:00,5Z\"", "`occurred_at`: invalid value"),
        ("1795247999000", "\"2026-11-21T07:00:00+00\"", "`occurred_at`: invalid value"),
        ("1795247999000", "\"2026-11-21T07:00:00Z[Asia/Tokyo]\"", "`occurred_at`: invalid value"),
        ("1795247999000", "\"+002026-11-21T07:00:00Z\"", "`occurred_at`: invalid value"),
        ("}", ",\"ip\":\"localhost\"}", "`ip` must be an IPv4 or IPv6 address"),
        ("}", ",\"ip\":\"203.0.113.8\"}", "`ip` is set by the server: leave it out; only a service with an API key"),
        ("}", ",\"user_agent\":7}", "`user_agent`: invalid type"),
        ("}", ",\"duration_ms\":-1}", "`duration_ms` must be 0 to 86,400,000"),
        ("}", ",\"duration_ms\":\"5\"}", "`duration_ms`: invalid type: string"),
        ("}", ",\"duration_ms\":86400001}", "`duration_ms` must be 0 to"),
        ("}", ",\"properties\":[]}", "`properties` must be an object"),
        ("}", ",\"properties\":{\"a\":null}}", "`properties` must be an object of strings"),
        ("}", ",\"actorId\":\"u1\"}", "unknown field `actorId` (did you mean `actor_id`?)"),
        ("}", ",\"userId\":\"u1\"}", "unknown field `userId` (did you mean `actor_id`?)"),
        ("}", ",\"metadata\":{}}", "unknown field `metadata`; known fields: event_id, type, actor_id"),
        ("}", ",\"type\":\"like\"}", "duplicate field `type`"),
        ("}", ",\"\\u0074ype\":\"like\"}", "duplicate field `type`"),
        ("}", ",\"properties\":{\"a\":1,\"\\u0061\":1}}", "`properties` must not repeat a name"),
    ];
    let mut cases: Vec<_> = spoilt
        .map(|(from, to, text)| case(&format!("{from} -> {to}"), json(GOOD.replacen(from, to, 1)), 422, text))
        .into();
    let agent = GOOD.replace('}', &format!(",\"user_agent\":\"{}\"}}", "x".repeat(1025)));
    cases.push(case("a long user agent", json(agent), 422, "`user_agent` must have at most"));
    let shout = GOOD.replace("\"e1\"", &format!("\"e1\",\"{}\":1", "x".repeat(100_000)));
    cases.push(case("a long field name", json(shout), 422, "x…`; known fields:"));
    cases
}

fn cloud_events() -> Vec<Case> {
    let cloud = "application/cloudevents+json";
    let good =
        r#"{"specversion":"1.0","id":"e1","source":"/a","type":"like","subject":"article:7","data":{"actor_id":"u1"}}"#;
    let with = |from: &str, to: &str| request(cloud, good.replacen(from, to, 1));
    vec![
        case("an event as CloudEvent", request(cloud, GOOD), 422, "`specversion` must be \"1.0\""),
        case("no id", with("\"id\":\"e1\",", ""), 422, "`id` is required"),
        case("a bad subject", with("article:7", "x"), 422, "`subject` must be `kind:id`"),
        case("no actor", with("\"actor_id\":\"u1\"", ""), 422, "`data.actor_id` is required"),
        case("a bad time", with("\"id\"", "\"time\":\"x\",\"id\""), 422, "`time` must be RFC 3339"),
        case("a short time", with("\"id\"", "\"time\":\"20261121T03Z\",\"id\""), 422, "`time` must be RFC 3339"),
        case("a time as a number", with("\"id\"", "\"time\":1795247999000,\"id\""), 422, "`time` must be a string"),
        case(
            "another's address",
            with("{\"actor_id\"", "{\"ip\":\"::1\",\"actor_id\""),
            422,
            "`data.ip` is set by the server",
        ),
        case("too early", with("\"id\"", "\"time\":\"2027-01-01T00:00:00Z\",\"id\""), 422, "`time` lies more than 5"),
        case("another field in data", with("actor_id", "actr_id"), 422, "in `data`: unknown field `actr_id` (did you"),
        case("one as a batch", request("application/cloudevents-batch+json", good), 400, "must be a JSON array"),
        case("a batch as one", request(cloud, format!("[{good}]")), 422, "invalid type: sequence, expected an object"),
    ]
}

#[tokio::test]
async fn bad_input_is_answered_with_what_is_wrong_and_reaches_no_log() {
    let bed = Bed::new();
    let cases: Vec<_> = [bodies(), headers(), fields(), cloud_events()].into_iter().flatten().collect();
    assert!(cases.len() >= 70);
    let mut wrong = Vec::new();
    for Case { name, request, status, text } in cases {
        let answer = bed.send(request).await;
        let detail = answer.body["detail"].as_str().unwrap_or_default();
        if answer.status != status || !detail.contains(&text) {
            wrong.push(format!("{name}\n  said: {} {detail}\n  not:  {status} {text}", answer.status));
        }
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{name}");
        assert_eq!(answer.body["status"], answer.status, "{name}");
        assert!(answer.body["request_id"].as_str().is_some_and(|id| id.len() == 16), "{name}");
        assert!(answer.body.to_string().len() < 4096, "{name}: the answer is too long");
        // Single events and batches have their errors in the same field.
        assert_eq!(answer.body["rejected"].is_array(), answer.status == 422, "{name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(*bed.log.appends.lock().unwrap(), 0);
    assert_eq!(bed.metric("tally_ingest_events_total{outcome=\"accepted\"}"), 0.0);
}

/// What is an object elsewhere, as an array of its fields in the order in which the service happens to declare them.
#[tokio::test]
async fn an_array_is_no_object_wherever_one_is_read() {
    let bed = Bed::new();
    let cloud = r#"["1.0","e1","like","/a","article:7",null,"application/json",{"actor_id":"u1"},null]"#;
    let time = cloud.replace("null,\"app", "\"2026-11-21T07:59:59Z\",\"app");
    let data =
        r#"{"specversion":"1.0","id":"e1","source":"/a","type":"like","subject":"article:7","data":["u1",null]}"#;
    let event = r#"["e1","like","u1","article:7",1795247999000]"#;
    let properties = GOOD.replace('}', ",\"properties\":[\"a\",1]}");
    let batch = "application/cloudevents-batch+json";
    for (media, body) in [
        ("application/cloudevents+json", cloud.to_owned()),
        ("application/cloudevents+json", time.clone()),
        ("application/cloudevents+json", data.to_owned()),
        (batch, format!("[{cloud},{time},{data}]")),
        ("application/json", format!("[{event}]")),
        ("application/json", properties),
        ("application/x-ndjson", format!("{event}\n{cloud}\n")),
    ] {
        let answer = bed.send(request(media, body.clone())).await;
        assert_eq!(answer.status, 422, "{media} {body}: {}", answer.body);
        // A missing id is not replaced by another value of the event.
        let rejected = answer.body["rejected"].as_array().unwrap();
        let ids = rejected.iter().map(|entry| entry["event_id"].as_str()).collect::<Vec<_>>();
        let is_object = |at: usize| body.starts_with('{') || media == batch && at == 2;
        assert!(ids.iter().enumerate().all(|(at, id)| id.is_some() == is_object(at)), "{media} {body}: {ids:?}");
    }
    for opened in [r#"["article:7"]"#, r#"["article:7","u42"]"#, r#"[["article:7"]]"#] {
        let request = Request::post("/v1/read-tokens").header("content-type", "application/json");
        let answer = bed.send(request.body(Body::from(opened)).unwrap()).await;
        assert_eq!(answer.status, 400, "{opened}: {}", answer.body);
    }
    assert_eq!(*bed.log.appends.lock().unwrap(), 0);
}

#[tokio::test]
async fn rejected_events_are_named_by_index_and_id() {
    let bed = Bed::new();
    let long = "x".repeat(100);
    let body = format!(r#"[{{"event_id":"a"}}, 7, {{"event_id":7}}, {{"event_id":"{long}","nope":1}}]"#);
    let answer = bed.post(body).await;
    assert_eq!(answer.status, 422);
    let rejected = answer.body["rejected"].as_array().unwrap();
    let ids: Vec<_> = rejected.iter().map(|entry| entry["event_id"].as_str()).collect();
    let cut = format!("{}…", "x".repeat(64));
    assert_eq!(ids, [Some("a"), None, None, Some(&*cut)]);
    assert!(rejected.iter().enumerate().all(|(at, entry)| entry["index"] == at));
    assert_eq!(bed.metric("tally_ingest_events_total{outcome=\"rejected\"}"), 4.0);
}
