//! Values that are no integers, and windows of every kind.

mod fixture;

use axum::body::to_bytes;
use axum::http::StatusCode;
use fixture::*;
use serde_json::{Value, json};
use std::sync::Arc;
use tally_api::{ApiConfig, Metric};
use tally_model::{Decimal, Estimate, MetricValue, ValueType, WindowSpec};
use tally_testkit::server_databases;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const SESSION: WindowSpec = WindowSpec::Session { gap_ms: 30 * MINUTE_MS, max_ms: 12 * HOUR_MS };
const HOPPING: WindowSpec = WindowSpec::Hopping { size_ms: HOUR_MS, every_ms: 5 * MINUTE_MS };
const WIDE: &str = "170141183460469231731687303715884105727";

fn metric(name: &str, value_type: ValueType, estimate: Option<Estimate>) -> Metric {
    Metric { name: name.into(), value_type, of_nothing: MetricValue::Null, totals: true, estimate }
}

fn config() -> ApiConfig {
    let quantile = Some(Estimate { exact_max: None, error_ppm: 10_000 });
    let (names, decimal) =
        (|names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect(), ValueType::Decimal { scale: 2 });
    ApiConfig {
        metrics: vec![
            count("dwell.n"),
            count("dwell.ms"),
            metric("dwell.mean", decimal, None),
            metric("dwell.p95", decimal, quantile),
            metric("dwell.last", ValueType::Text, None),
        ],
        windows: [
            (WindowSpec::Tumbling { size_ms: HOUR_MS }, names(&["dwell.mean", "dwell.n"])),
            (HOPPING, names(&["dwell.n"])),
            (SESSION, names(&["dwell.last", "dwell.n", "dwell.p95"])),
            (WindowSpec::Session { gap_ms: HOUR_MS, max_ms: 12 * HOUR_MS }, names(&["dwell.n"])),
            (WindowSpec::Session { gap_ms: HOUR_MS, max_ms: 24 * HOUR_MS }, names(&["dwell.n"])),
            (WindowSpec::Sliding { size_ms: 10_000 }, names(&["dwell.n"])),
        ]
        .into(),
        ..fixture::config()
    }
}

/// The text of an answer: numbers as they are written.
async fn text(world: &World, uri: &str) -> String {
    let response = world.response(uri, &[]).await;
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!(status, StatusCode::OK, "{text}");
    text
}

/// One value in its column.
async fn row(world: &World, metric: &str, column: &str, value: &str) {
    let sql = format!("INSERT INTO counters (subject_id, metric, {column}, version) VALUES ('campaign:7', ?, ?, 1)");
    world.store.execute(&sql, &[metric, value]).await;
}

async fn fill(world: &World) {
    world.total("campaign:7", "dwell.n", 3).await;
    row(world, "dwell.ms", "decimal_value", WIDE).await;
    row(world, "dwell.mean", "decimal_value", "3.5").await;
    row(world, "dwell.p95", "decimal_value", "-0.10").await;
    row(world, "dwell.last", "text_value", "it's \"7\" \\ \u{7528}").await;
    for partition in [0, 1] {
        for topic in ["counters", "counter-windows"] {
            world.move_to(topic, partition, &[(0, 10, 2_000), (1, 10, 2_000)]).await;
        }
    }
}

/// A row of `counter_windows`; `end_ms` only where it does not follow from the length.
async fn window(
    world: &World,
    metric: &str,
    spec: WindowSpec,
    times_ms: (i64, Option<i64>),
    value: &str,
    column: &str,
) {
    let (size, kind) = spec.columns();
    let (size, start) = (size.to_string(), times_ms.0.to_string());
    let end = times_ms.1.map_or_else(|| "NULL".to_owned(), |end_ms| end_ms.to_string());
    let deleted = if column == "deleted" { ("value", 1) } else { (column, 0) };
    let sql = format!(
        "INSERT INTO counter_windows (subject_id, metric, window_ms, window_kind, window_start, variable_end, {}, deleted,
         version) VALUES ('campaign:7', ?, ?, ?, ?, {end}, ?, NULLIF({}, 0), 1)",
        deleted.0, deleted.1
    );
    world.store.execute(&sql, &[metric, &size, &kind, &start, value]).await;
}

const ALL: &str = r#""counters":{"dwell.last":"it's \"7\" \\ 用","dwell.mean":3.50,"dwell.ms":170141183460469231731687303715884105727,"dwell.n":3,"dwell.p95":-0.10},"approximate":["dwell.p95"],"relative_errors":{"dwell.p95":0.01}"#;

async fn check_totals(world: &World) {
    fill(world).await;
    let answer = text(world, "/v1/subjects/campaign:7/counters").await;
    assert!(answer.starts_with(&format!(r#"{{"subject_id":"campaign:7",{ALL},"as_of""#)), "{answer}");
    let answer = text(world, "/v1/counters?subject_id=campaign:8&subject_id=campaign:7").await;
    let nothing = r#""counters":{"dwell.last":null,"dwell.mean":null,"dwell.ms":0,"dwell.n":0,"dwell.p95":null}"#;
    let items =
        format!(r#"{{"items":[{{"subject_id":"campaign:8",{nothing}}},{{"subject_id":"campaign:7",{ALL}}}],"as_of""#);
    assert!(answer.starts_with(&items), "{answer}");
}

#[tokio::test]
async fn totals_have_the_type_and_the_digits_of_their_metric() {
    check_totals(&World::with(config(), None).await).await;
}

#[test]
fn servers_answer_the_same() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for database in server_databases() {
        runtime.block_on(async {
            let world = World::on_server_with(&database.url, config()).await;
            check_totals(&world).await;
            check_sessions(&world).await;
        });
    }
}

#[tokio::test]
async fn the_cache_answers_as_the_database_does() {
    let world = World::with(config(), None).await;
    let decimal = |text| MetricValue::from(Decimal::parse(text).unwrap());
    let values = [
        ("dwell.last", MetricValue::text("it's \"7\" \\ \u{7528}")),
        ("dwell.mean", decimal("3.50")),
        ("dwell.ms", decimal(WIDE)),
        ("dwell.n", 3.into()),
        ("dwell.p95", decimal("-0.10")),
    ];
    world.cache.put_values("campaign:7", values.map(|(metric, value)| (Arc::from(metric), value)).into());
    [0, 1].into_iter().for_each(|partition| world.cache.move_to(partition, &[(0, 10, 2_000), (1, 10, 2_000)]));
    world.cache.ready();
    let answer = text(&world, "/v1/subjects/campaign:7/counters").await;
    assert!(answer.starts_with(&format!(r#"{{"subject_id":"campaign:7",{ALL},"as_of""#)), "{answer}");
}

#[tokio::test]
async fn hopping_windows_overlap_and_do_not_meet_tumbling_ones() {
    let world = World::with(config(), None).await;
    fill(&world).await;
    let tumbling = WindowSpec::Tumbling { size_ms: HOUR_MS };
    window(&world, "dwell.n", tumbling, (NOW_MS, None), "9", "value").await;
    window(&world, "dwell.mean", tumbling, (NOW_MS, None), "0.5", "decimal_value").await;
    window(&world, "dwell.n", HOPPING, (NOW_MS - 5 * MINUTE_MS, None), "4", "value").await;
    window(&world, "dwell.n", HOPPING, (NOW_MS, None), "2", "value").await;
    let span = format!("from={}&to={}", NOW_MS - 9 * MINUTE_MS, NOW_MS + 1);
    let answer = world.get(&format!("/v1/subjects/campaign:7/counters?window=hopping:60m:5m&{span}")).await.body;
    assert_eq!(
        (&answer["window"], &answer["series"]),
        (
            &json!("hopping:1h:5m"),
            &json!([
                {"start": "2026-11-21T07:50:00.000Z", "end": "2026-11-21T08:50:00.000Z", "counters": {"dwell.n": 0}},
                {"start": "2026-11-21T07:55:00.000Z", "end": "2026-11-21T08:55:00.000Z", "counters": {"dwell.n": 4}},
                {"start": "2026-11-21T08:00:00.000Z", "end": "2026-11-21T09:00:00.000Z", "counters": {"dwell.n": 2}},
            ])
        )
    );
    let answer = text(&world, &format!("/v1/subjects/campaign:7/counters?window=1h&{span}")).await;
    assert!(answer.contains(r#""counters":{"dwell.mean":null,"dwell.n":0}"#), "{answer}");
    assert!(answer.contains(r#""counters":{"dwell.mean":0.50,"dwell.n":9}"#), "{answer}");
}

async fn check_sessions(world: &World) {
    let at = |minutes: i64| NOW_MS + minutes * MINUTE_MS;
    for (metric, start, end, value, column) in [
        ("dwell.n", -100, -90, "1", "value"),
        ("dwell.n", -50, -5, "2", "value"),
        ("dwell.p95", -50, -5, "7.25", "decimal_value"),
        ("dwell.last", -50, -5, "b'", "text_value"),
        ("dwell.n", -80, -70, "0", "deleted"),
    ] {
        window(world, metric, SESSION, (at(start), Some(at(end))), value, column).await;
    }
    let all = |query: &str| format!("/v1/subjects/campaign:7/counters?window=session:30m{query}");
    let answer = text(world, &all("")).await;
    let first = r#"{"start":"2026-11-21T06:20:00.000Z","end":"2026-11-21T06:30:00.000Z","counters":{"dwell.n":1}}"#;
    let second = r#"{"start":"2026-11-21T07:10:00.000Z","end":"2026-11-21T07:55:00.000Z","counters":{"dwell.last":"b'","dwell.n":2,"dwell.p95":7.25},"approximate":["dwell.p95"],"relative_errors":{"dwell.p95":0.01}}"#;
    let series = |items: &[&str]| {
        format!(r#"{{"subject_id":"campaign:7","window":"session:30m:12h","series":[{}],"as_of""#, items.join(","))
    };
    assert!(answer.starts_with(&series(&[first, second])), "{answer}");
    // A session that has begun before `from` belongs to the time if it lasts until after it.
    let answer = text(world, &all(&format!(":12h&from={}", at(-40)))).await;
    assert!(answer.starts_with(&series(&[second])), "{answer}");
    for (from, to) in [(at(-5), at(0)), (at(-90), at(-50))] {
        let answer = text(world, &all(&format!("&from={from}&to={to}"))).await;
        assert!(answer.starts_with(&series(&[])), "{answer}");
    }
    let answer = text(world, &all("&metric=dwell.n&metric=dwell.last")).await;
    assert!(answer.contains(r#""counters":{"dwell.last":"b'","dwell.n":2}}"#), "{answer}");
}

#[tokio::test]
async fn sessions_have_their_own_start_and_end_and_deleted_ones_are_gone() {
    let world = World::with(config(), None).await;
    fill(&world).await;
    check_sessions(&world).await;
    let other = world.get("/v1/subjects/campaign:7/counters?window=session:1h:12h").await.body;
    assert_eq!(other["series"], json!([]));
}

#[tokio::test]
async fn the_newest_of_many_sessions_are_served_and_more_than_fit_are_refused() {
    let world = World::with(config(), None).await;
    fill(&world).await;
    let sliding = WindowSpec::Sliding { size_ms: 10_000 };
    for i in 0..1_001 {
        window(&world, "dwell.n", sliding, (NOW_MS - 10_000 - i, None), &i.to_string(), "value").await;
    }
    let answer = world.get("/v1/subjects/campaign:7/counters?window=sliding:10s").await.body;
    let counts: Vec<_> =
        answer["series"].as_array().unwrap().iter().map(|w| w["counters"]["dwell.n"].clone()).collect();
    assert_eq!(counts, (0..30).rev().map(Value::from).collect::<Vec<_>>());
    let from = |from_ms: i64| format!("/v1/subjects/campaign:7/counters?window=sliding:10s&from={from_ms}");
    let answer = world.get(&from(NOW_MS - 20_000)).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.body["detail"].as_str().unwrap().contains("covers more than 1000 windows"), "{}", answer.body);
    let answer = world.get(&from(NOW_MS - 1_000)).await.body;
    assert_eq!(answer["series"].as_array().unwrap().len(), 1_000);
}

#[tokio::test]
async fn the_topology_lists_its_metrics_with_their_windows() {
    let answer = World::with(config(), None).await.get("/v1/topology").await.body;
    let sessions = ["session:30m:12h", "session:1h:12h", "session:1h:1d"];
    let of_n = [&["1h", "hopping:1h:5m"], &sessions[..], &["sliding:10s"]].concat();
    assert_eq!(
        answer["metrics"],
        json!([
            {"name": "dwell.n", "type": "integer", "windows": of_n},
            {"name": "dwell.ms", "type": "integer", "windows": []},
            {"name": "dwell.mean", "type": "decimal", "scale": 2, "windows": ["1h"]},
            {"name": "dwell.p95", "type": "decimal", "scale": 2, "windows": ["session:30m:12h"]},
            {"name": "dwell.last", "type": "text", "windows": ["session:30m:12h"]},
        ])
    );
}

#[tokio::test]
async fn what_the_topology_does_not_have_is_refused_with_what_it_has() {
    let world = World::with(config(), None).await;
    const WINDOWS: &str = "is not a window of the topology; windows: `1h`, `hopping:1h:5m`, `session:30m:12h`, \
                           `session:1h:12h`, `session:1h:1d`, `sliding:10s`";
    for (query, reason) in [
        ("window=30m", WINDOWS),
        ("window=sliding:1h", WINDOWS),
        ("window=hopping:1h", WINDOWS),
        ("window=session:1h", WINDOWS),
        ("window=daily:1h", WINDOWS),
        ("window=session:1h:12h:1h", WINDOWS),
        ("window=session:soon", "expected a duration"),
        (
            "window=1h&metric=dwell.p95",
            "`metric` \"dwell.p95\" has no windows `1h`; metrics that have them: `dwell.mean`, `dwell.n`",
        ),
        ("metric=dwell.n", "`metric` requires `window`"),
    ] {
        let answer = world.get(&format!("/v1/subjects/campaign:7/counters?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.contains(reason), "{query}: {detail}");
    }
}
