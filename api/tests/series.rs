//! What was counted in windows, as a series.

mod fixture;

use axum::http::StatusCode;
use fixture::{NOW_MS, World, receipt};
use serde_json::{Value, json};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// 08:00 on a day on which the subject was viewed in two hours, and once on the day before.
async fn world() -> World {
    let world = World::new().await;
    for partition in [0, 1] {
        world.move_to("counter-windows", partition, &[(0, 10, 2_000), (1, 10, 1_000)]).await;
    }
    for (metric, window_ms, start_ms, value) in [
        ("views", HOUR_MS, NOW_MS, 3),
        ("views", HOUR_MS, NOW_MS - 2 * HOUR_MS, 5),
        ("views", DAY_MS, NOW_MS - 8 * HOUR_MS, 8),
        ("views", DAY_MS, NOW_MS - 32 * HOUR_MS, 1),
        ("likes", DAY_MS, NOW_MS - 8 * HOUR_MS, 2),
        ("visitors", DAY_MS, NOW_MS - 8 * HOUR_MS, 300),
        ("visitors", DAY_MS, NOW_MS - 32 * HOUR_MS, 256),
        // A metric that the topology no longer has.
        ("gone", DAY_MS, NOW_MS - 8 * HOUR_MS, 7),
    ] {
        world.window("article:1", metric, window_ms, start_ms, value).await;
    }
    world.window("article:2", "views", HOUR_MS, NOW_MS, 9).await;
    world
}

fn values(answer: &Value, metric: &str) -> Vec<i64> {
    answer["series"].as_array().unwrap().iter().map(|item| item["counters"][metric].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn every_window_of_the_span_is_there_with_zeros_where_nothing_was_counted() {
    let world = world().await;
    let expected = json!({
        "subject_id": "article:1",
        "window": "1h",
        "series": [
            {"start": "2026-11-21T06:00:00.000Z", "end": "2026-11-21T07:00:00.000Z", "counters": {"views": 5}},
            {"start": "2026-11-21T07:00:00.000Z", "end": "2026-11-21T08:00:00.000Z", "counters": {"views": 0}},
            {"start": "2026-11-21T08:00:00.000Z", "end": "2026-11-21T09:00:00.000Z", "counters": {"views": 3}},
        ],
        "as_of": "2026-11-21T08:00:01.000Z",
    });
    let path = "/v1/subjects/article:1/counters?window=1h&from=2026-11-21T06:59:59Z&to=2026-11-21T08:00:00.001Z";
    world.expect(path, expected).await;
}

#[tokio::test]
async fn the_end_is_not_part_of_the_span() {
    let world = world().await;
    let hour =
        |from_ms: i64, to_ms: i64| format!("/v1/subjects/article:1/counters?window=1h&from={from_ms}&to={to_ms}");
    let answer = world.get(&hour(NOW_MS - 2 * HOUR_MS, NOW_MS)).await.body;
    assert_eq!(values(&answer, "views"), [5, 0]);
    let answer = world.get(&hour(NOW_MS, NOW_MS + 1)).await.body;
    assert_eq!(values(&answer, "views"), [3]);
}

#[tokio::test]
async fn by_default_thirty_windows_up_to_the_present_one() {
    let world = world().await;
    let answer = world.get("/v1/subjects/article:1/counters?window=24h").await.body;
    assert_eq!(answer["window"], "1d");
    let views = values(&answer, "views");
    assert_eq!((views.len(), &views[28..]), (30, &[1, 8][..]));
    assert_eq!(values(&answer, "likes")[28..], [0, 2]);
    assert_eq!(answer["series"][29]["start"], "2026-11-21T00:00:00.000Z");
    assert_eq!(values(&answer, "visitors")[28..], [256, 300]);
    assert_eq!(
        (&answer["series"][28]["approximate"], &answer["series"][29]["approximate"]),
        (&Value::Null, &json!(["visitors"]))
    );
    let untouched = world.get("/v1/subjects/article:3/counters?window=1d").await.body;
    assert_eq!(values(&untouched, "views"), [0; 30]);
}

#[tokio::test]
async fn windows_have_distinct_starts_up_to_the_end_of_9999() {
    let world = world().await;
    for (window, to, first, last) in [
        ("1h", "9999-12-31T23:59:59.999Z", "9999-12-30T18:00:00.000Z", "9999-12-31T23:00:00.000Z"),
        ("1h", "253402300800000", "9999-12-30T18:00:00.000Z", "9999-12-31T23:00:00.000Z"),
        ("1d", "9999-12-31T23:59:60.5Z", "9999-12-02T00:00:00.000Z", "9999-12-31T00:00:00.000Z"),
    ] {
        let answer = world.get(&format!("/v1/subjects/article:1/counters?window={window}&to={to}")).await.body;
        let starts = answer["series"].as_array().unwrap().iter().map(|item| item["start"].as_str().unwrap());
        let starts: Vec<_> = starts.collect();
        assert_eq!((starts[0], starts[29], starts.len()), (first, last, 30), "{to}");
        assert!(starts.is_sorted_by(|a, b| a < b), "{starts:?}");
    }
}

#[tokio::test]
async fn what_a_receipt_covers_is_waited_for() {
    let world = world().await;
    let ask = |offset| format!("/v1/subjects/article:1/counters?window=1h&after={}&wait_ms=1", receipt(&[(0, offset)]));
    assert_eq!(world.get(&ask(9)).await.body["after"], "applied");
    assert_eq!(world.get(&ask(10)).await.body["after"], "pending");
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_with_the_reason() {
    let world = world().await;
    for (query, reason) in [
        ("window=2h", "is not a window of the topology; windows: `1h`, `1d`"),
        ("window=soon", "expected a duration"),
        ("window=", "expected a duration"),
        ("window=1h&from=noon", "`from` must be a time in RFC 3339"),
        ("window=1h&to=-1", "`to` must be a time in RFC 3339"),
        ("window=1h&from=20261130T03Z", "`from` must be a time in RFC 3339"),
        ("window=1h&from=2026-11-21T08:00:00,5Z", "`from` must be a time in RFC 3339"),
        ("window=1h&from=2026-11-21T08:00:00%2B00", "`from` must be a time in RFC 3339"),
        ("window=1h&from=2026-11-21T08:00:00Z[Asia/Tokyo]", "`from` must be a time in RFC 3339"),
        ("window=1h&to=%2B002026-11-21T08:00:00Z", "`to` must be a time in RFC 3339"),
        ("window=1h&to=%2B1795248000000", "`to` must be a time in RFC 3339"),
        ("window=1h&to=10000-01-01T00:00:00Z", "`to` must be a time in RFC 3339"),
        ("window=1h&to=9999-12-31T23:59:59-00:01", "`to` must be a time in RFC 3339"),
        ("window=1h&to=1795248000", "`to` is in seconds; use milliseconds, 1795248000000, or RFC 3339"),
        ("window=1h&from=2000&to=2000", "`from` must be before `to`"),
        ("window=1h&from=0", "the maximum is 1000"),
        ("from=0", "require `window`"),
        ("window=1h&window=1d", "only once"),
    ] {
        let answer = world.get(&format!("/v1/subjects/article:1/counters?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.contains(reason), "{query}: {detail}");
    }
}
