//! What `aggregate` computes, from the event to the API, the tables and the cache.

use super::{applied, binary, post};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use std::fs;
use std::path::Path;
use tally_exactness::stop;
use tally_testkit::{Client, Scratch, Site, now_ms, service, with_prefix};

const TOPOLOGY: &str = r#"
application: tally
topics:
  user-actions:    { key: actor_id,   value: event,    partitions: 2 }
  counters:        { key: subject_id, value: counters, partitions: 2, cleanup: compact }
  counter-windows: { key: [subject_id, metric, window, start], partition_by: subject_id, value: counter, partitions: 2, cleanup: compact_and_delete, retention: 90d }
  rankings:        { key: board,      value: ranking,  partitions: 1, cleanup: compact }
  verdicts:        { key: actor_id,   value: verdict,  partitions: 2, retention: 1d }
  dead-letters:    { key: raw,        value: raw,      partitions: 1, retention: 14d }
processors:
  valid:    { type: decode, from: user-actions }
  fresh:    { type: dedupe, from: valid }
  likes:    { type: toggle, from: fresh, on: like, off: unlike }
  views:    { type: count, from: fresh, event: view, windows: [1h] }
  dwell:    { type: aggregate, from: fresh, events: [read], subject: "'campaign:' + id(properties.campaign)",
              values: { n: count, ms: { sum: duration_ms }, longest: { max: duration_ms }, paid: { sum: properties.price, scale: 2 },
                        mean: { avg: duration_ms }, p95: { quantile: duration_ms, q: 0.95 }, who: { distinct: actor_id },
                        from: { last: properties.source } },
              windows: [1h, { hopping: 1h, every: 5m }], grace: 12h }
  sessions: { type: aggregate, from: fresh, events: [read, view], subject: "'user:' + actor_id",
              values: { events: count, last: { last: subject_id } }, windows: [{ session: 30m, max: 12h }], grace: 12h }
  totals:   { type: total, from: [likes, views, dwell, sessions], by: subject_id, to: [counters, counter-windows] }
  hot:      { type: board, from: [dwell], kinds: [campaign], score: { dwell.n: 1 }, half_life: 6h, top: 10, to: rankings }
sinks:
  database: { type: database, from: [counters, counter-windows, rankings, verdicts, dead-letters] }
  cache:    { type: cache,    from: [counters, rankings] }
"#;

/// A text that ends a string in SQL, in JSON and in a shell.
const HOSTILE: &str = "'); DROP TABLE counters; -- \" \\ ${x} \u{7528}";

/// Two requests: the second joins the two sessions of `u1` that are there after the first.
fn reads(start_ms: i64) -> [Value; 2] {
    let read = |id: &str, actor: &str, minute: u32, duration_ms: u32, price: &str, source: &str| {
        let price: Value = serde_json::from_str(price).unwrap();
        json!({"event_id": id, "type": "read", "actor_id": actor, "subject_id": "article:7", "duration_ms": duration_ms,
               "occurred_at": start_ms + i64::from(minute) * 60_000,
               "properties": {"campaign": "spring", "price": price, "source": source}})
    };
    [
        json!([
            read("e1", "u1", 0, 1_000, "0.10", "mail"),
            read("e2", "u1", 50, 3_000, "0.20", "mail"),
            read("e4", "u2", 55, 500, "-0.35", HOSTILE),
        ]),
        json!([read("e3", "u1", 25, 2_000, "1000000000000.05", "feed")]),
    ]
}

/// The start of an hour, two to three hours ago.
fn start_ms() -> i64 {
    (now_ms() / 3_600_000 - 2) * 3_600_000
}

#[test]
fn aggregates_are_metrics_of_subjects_everywhere() {
    let dir = Scratch::new();
    let mut site = Site::new(binary(), dir.path());
    site.topology = dir.path().join("aggregates.yaml");
    fs::write(&site.topology, TOPOLOGY).unwrap();
    run(&site);
    if let Some(redis) = service("TALLY_TEST_REDIS") {
        let dir = Scratch::new();
        let topology = site.topology.clone();
        let mut site = Site::new(binary(), dir.path());
        site.topology = topology;
        site.flags = vec!["--cache".into(), with_prefix(&redis)];
        run(&site);
    }
}

fn run(site: &Site) {
    let client = Client(site.listen.clone());
    let service = site.start();
    let start_ms = start_ms();
    let [first, second] = reads(start_ms);
    let sessions_of = |receipt: &Value| {
        let (to_ms, receipt) = (start_ms + 3_600_000, receipt["receipt"].as_str().unwrap());
        let path = "/v1/subjects/user:u1/counters?window=session:30m";
        let answer = applied(&client, &format!("{path}&from={start_ms}&to={to_ms}&wait_ms=1000&after={receipt}"));
        answer["series"].as_array().unwrap().iter().map(|session| session["counters"].clone()).collect::<Vec<_>>()
    };
    let one = json!({"sessions.events": 1, "sessions.last": "article:7"});
    assert_eq!(sessions_of(&post(&client, &first)), [one.clone(), one]);
    let receipt = post(&client, &second);
    assert_eq!(sessions_of(&receipt), [json!({"sessions.events": 3, "sessions.last": "article:7"})]);
    let receipt = receipt["receipt"].as_str().unwrap();
    let text = |path: &str| {
        let sign = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{sign}wait_ms=1000&after={receipt}");
        applied(&client, &path);
        String::from_utf8(client.get(&path).unwrap().body).unwrap()
    };
    let values = r#""dwell.from":"#.to_owned() + &serde_json::to_string(HOSTILE).unwrap();
    let totals = text("/v1/subjects/campaign:spring/counters");
    for value in [
        &values,
        r#""dwell.longest":3000"#,
        r#""dwell.mean":1625"#,
        r#""dwell.ms":6500"#,
        r#""dwell.n":4"#,
        r#""dwell.paid":1000000000000.00"#,
        r#""dwell.who":2"#,
        r#""sessions.last":null"#,
        r#""approximate":["dwell.p95"]"#,
    ] {
        assert!(totals.contains(value), "{value}: {totals}");
    }
    let span = format!("from={start_ms}&to={}", start_ms + 3_600_000);
    let hour =
        text(&format!("/v1/subjects/campaign:spring/counters?window=1h&metric=dwell.n&metric=dwell.paid&{span}"));
    assert!(hour.contains(r#""counters":{"dwell.n":4,"dwell.paid":1000000000000.00}"#), "{hour}");
    let hopping = applied(
        &client,
        &format!(
            "/v1/subjects/campaign:spring/counters?window=hopping:1h:5m&metric=dwell.n&{span}&wait_ms=1000&after={receipt}"
        ),
    );
    // From 0:00 all four; from 0:05 all but the first; from 0:30 two; from 0:55 the last.
    let counts: Vec<_> =
        hopping["series"].as_array().unwrap().iter().map(|w| w["counters"]["dwell.n"].clone()).collect();
    assert_eq!(counts, [4, 3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 1].map(Value::from));
    let ranking = applied(&client, &format!("/v1/rankings/hot?wait_ms=1000&after={receipt}"));
    assert_eq!(ranking["items"][0]["subject_id"], "campaign:spring");
    assert_eq!(ranking["items"][0]["counters"]["dwell.n"], 4);
    client.wait_until_applied();
    stop(service);
    // What SQL sees.
    let file = site.database_file();
    let values =
        "SELECT metric, value, decimal_value, text_value FROM counters WHERE subject_id = 'campaign:spring' AND
                  metric IN ('dwell.from', 'dwell.n', 'dwell.paid') ORDER BY 1";
    let expected =
        [format!("dwell.from|-|-|{HOSTILE}"), "dwell.n|4|-|-".into(), "dwell.paid|-|1000000000000.00|-".into()];
    assert_eq!(rows(&file, values), expected);
    let sessions = format!(
        "SELECT (window_start - {start_ms}) / 60000, value, deleted FROM counter_windows WHERE subject_id = 'user:u1' AND
         window_kind = 'session:1800000:43200000' AND metric = 'sessions.events' ORDER BY 1"
    );
    assert_eq!(rows(&file, &sessions), ["0|3|-", "50|-|1"]);
}

/// Rows as text, columns joined by `|`.
fn rows(file: &Path, sql: &str) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap();
        let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.unwrap();
        let text = |row: &SqliteRow, column: usize| {
            let bytes = row.try_get_unchecked::<Option<Vec<u8>>, _>(column).unwrap();
            bytes.map_or_else(|| "-".to_owned(), |bytes| String::from_utf8(bytes).unwrap())
        };
        let line = |row: &SqliteRow| (0..row.len()).map(|column| text(row, column)).collect::<Vec<_>>().join("|");
        rows.iter().map(line).collect()
    })
}
