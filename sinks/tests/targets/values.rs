//! Values that are no integers, and windows of every kind.

use super::*;
use sqlx::migrate::Migrator;
use sqlx::{Connection, MySqlConnection, SqliteConnection};
use std::path::Path;
use std::time::Duration;
use tally_model::{CounterWindow, Decimal, MetricValue, TEXT_BYTES_MAX, ValueType, WindowSpec};
use tally_sinks::{Retention, WindowRetention};

const DAY_MS: i64 = 86_400_000;
const HALF_HOUR_MS: i64 = 1_800_000;

fn decimal(text: &str) -> MetricValue {
    Decimal::parse(text).unwrap().into()
}

/// One of every type, and the limits of each.
fn all_values() -> BTreeMap<String, MetricValue> {
    let longest = "\u{1f600}".repeat(TEXT_BYTES_MAX / 4);
    let values = [
        ("dwell.n", 7.into()),
        ("dwell.least", i64::MIN.into()),
        ("dwell.none", MetricValue::Null),
        ("dwell.mean", decimal("-3.50")),
        ("dwell.small", decimal("0.000000001")),
        ("dwell.wide", MetricValue::wide(i128::MAX)),
        ("dwell.wider", MetricValue::wide(i128::MIN)),
        ("dwell.limit", decimal("-170141183460469231731687303715.884105728")),
        ("dwell.first", MetricValue::text("")),
        ("dwell.last", MetricValue::text("'); DROP TABLE counters; -- \" \\ ` \u{0} \n \u{7528}")),
        ("dwell.long", MetricValue::text(&longest)),
        // A text that looks like a number is none.
        ("dwell.digits", MetricValue::text("7")),
    ];
    values.map(|(metric, value)| (metric.to_owned(), value)).into()
}

#[track_caller]
fn expect(place: &dyn Place, expected: &BTreeMap<String, MetricValue>) {
    let found = place.values("campaign:7");
    assert!(found.keys().eq(expected.keys()), "{found:?}");
    for (metric, expected) in expected {
        let scale = if let MetricValue::Decimal(decimal) = expected { decimal.scale() } else { 0 };
        let found = MetricValue::from_json(&found[metric]).unwrap().of_type(ValueType::Decimal { scale });
        assert_eq!(found, *expected, "{metric}");
    }
}

fn written(values: &BTreeMap<String, MetricValue>, version: i64) -> Batch {
    let mut record = counters("campaign:7", &[], &[], version);
    record.counters = values.clone();
    let mut batch = Batch::default();
    add_counters(&mut batch, &record, true);
    batch
}

pub fn values_of_every_type_arrive_as_they_are(place: &dyn Place) {
    let mut target = place.target();
    let values = all_values();
    let mut batch = written(&values, 1);
    batch.positions.push(step(None, 1, &[(0, 1)], 1));
    target.write(&batch).unwrap();
    expect(place, &values);
    // Each metric gets the value, and the type, of another one.
    let others = values.values().cloned().cycle().skip(1);
    let mixed: BTreeMap<_, _> = values.keys().cloned().zip(others).collect();
    let mut batch = written(&mixed, 2);
    batch.positions.push(step(Some((1, 1)), 2, &[(0, 2)], 2));
    target.write(&batch).unwrap();
    expect(place, &mixed);
}

fn window(window: WindowSpec, start_ms: i64, end_ms: i64, value: MetricValue, version: i64) -> CounterWindow {
    let (subject_id, metric, window_start_ms) = ("user:u1".into(), "sessions.n".into(), start_ms);
    let (approximate, deleted) = (false, false);
    let window_end_ms = end_ms;
    CounterWindow { subject_id, metric, window, window_start_ms, window_end_ms, value, approximate, deleted, version }
}

fn write(target: &mut dyn Target, windows: &[&CounterWindow]) {
    let mut batch = Batch::default();
    for window in windows {
        let (from, value) = (TopicPartition::new("windows", 0), serde_json::to_vec(window).unwrap());
        add(&mut batch, &from, OutputType::CounterWindow, &window.key(), &value, false);
    }
    target.write(&batch).unwrap();
}

const ROWS: &str = "SELECT window_ms, window_kind, window_start,
    COALESCE(variable_end, window_start + window_ms), value, text_value, deleted, version
    FROM counter_windows ORDER BY 1, 2, 3";

pub fn windows_of_every_kind_have_rows_of_their_own(place: &DatabasePlace) {
    let mut target = place.target();
    let start_ms = NOW_MS - NOW_MS % HALF_HOUR_MS;
    let end_ms = start_ms + HALF_HOUR_MS;
    let (size_ms, max_ms) = (HALF_HOUR_MS, DAY_MS);
    let kinds = [
        WindowSpec::Tumbling { size_ms },
        WindowSpec::Hopping { size_ms, every_ms: 60_000 },
        WindowSpec::Session { gap_ms: size_ms, max_ms },
        WindowSpec::Sliding { size_ms },
    ];
    let windows: Vec<_> =
        (1..).zip(kinds).map(|(value, kind)| window(kind, start_ms, end_ms, MetricValue::Integer(value), 1)).collect();
    write(&mut *target, &windows.iter().collect::<Vec<_>>());
    let row = |size_ms: i64, kind: &str, value: i64| format!("{size_ms}|{kind}|{start_ms}|{end_ms}|{value}|-|-|1");
    assert_eq!(
        place.rows(ROWS),
        [
            row(0, "session:1800000:86400000", 3),
            row(size_ms, "", 1),
            row(size_ms, "hopping:1800000:60000", 2),
            row(size_ms, "sliding:1800000", 4),
        ]
    );
    // A tumbling window with another type of value is still the same window, and the other way round.
    let as_text = window(kinds[0], start_ms, end_ms, MetricValue::text("a"), 2);
    write(&mut *target, &[&as_text]);
    let tumbling = "SELECT value, text_value, version FROM counter_windows WHERE window_kind = ''";
    assert_eq!(place.rows(tumbling), ["-|a|2"]);
    write(&mut *target, &[&window(kinds[0], start_ms, end_ms, 5.into(), 3)]);
    assert_eq!(place.rows(tumbling), ["5|-|3"]);
}

pub fn windows_with_a_time_of_their_own_leave_before_the_others(place: &DatabasePlace) {
    const HOUR_MS: i64 = 2 * HALF_HOUR_MS;
    let (hour, session) =
        (WindowSpec::Tumbling { size_ms: HOUR_MS }, WindowSpec::Session { gap_ms: HALF_HOUR_MS, max_ms: DAY_MS });
    let kept = |window, metrics: &[&str], days: u64| WindowRetention {
        metrics: metrics.iter().map(|metric| (*metric).to_owned()).collect(),
        window,
        kept: Duration::from_secs(days * 86_400),
    };
    let windows = vec![kept(hour, &["ips.n", "ips.m"], 7), kept(session, &["ips.n"], 2)];
    let mut target = place.keeping(Retention { windows, ..Retention::default() });
    let row = |metric: &str, kind, start_ms: i64, end_ms: i64| CounterWindow {
        metric: metric.into(),
        ..window(kind, start_ms, end_ms, start_ms.into(), 1)
    };
    let week_ago = NOW_MS - 7 * DAY_MS;
    let rows = [
        // A millisecond too old, and just young enough.
        row("ips.n", hour, week_ago - HOUR_MS - 1, week_ago - 1),
        row("ips.n", hour, week_ago - HOUR_MS, week_ago),
        row("ips.m", hour, week_ago - 80 * DAY_MS, week_ago - 80 * DAY_MS + HOUR_MS),
        // Other metrics, and other windows of this one.
        row("views", hour, week_ago - 2 * HOUR_MS, week_ago - HOUR_MS),
        row("ips.n", WindowSpec::Tumbling { size_ms: DAY_MS }, week_ago - 3 * DAY_MS, week_ago - 2 * DAY_MS),
        // A session that begins so long ago has ended, however long it was.
        row("ips.n", session, NOW_MS - 3 * DAY_MS - 1, NOW_MS - 3 * DAY_MS + 5),
        row("ips.n", session, NOW_MS - 3 * DAY_MS, NOW_MS - 3 * DAY_MS + 5),
        row("ips.m", session, NOW_MS - 3 * DAY_MS - 1, NOW_MS - 3 * DAY_MS + 5),
    ];
    write(&mut target, &rows.each_ref());
    let starts = |place: &DatabasePlace| {
        let mut starts = place.rows("SELECT metric, window_ms, window_start FROM counter_windows");
        starts.sort();
        starts
    };
    let left = |rows: &[&CounterWindow]| {
        let line = |row: &&CounterWindow| {
            format!("{}|{}|{}", row.metric, row.window.size_ms().unwrap_or(0), row.window_start_ms)
        };
        let mut lines: Vec<_> = rows.iter().map(line).collect();
        lines.sort();
        lines
    };
    let expire = |target: &mut Database, now_ms| {
        let mut deleted = 0;
        loop {
            let expired = target.expire(now_ms).unwrap();
            deleted += expired.rows[2].1;
            if !expired.more {
                return deleted;
            }
        }
    };
    assert_eq!(expire(&mut target, NOW_MS), 3);
    assert_eq!(starts(place), left(&[&rows[1], &rows[3], &rows[4], &rows[6], &rows[7]]));
    // Time goes on.
    assert_eq!(expire(&mut target, NOW_MS + 1), 2);
    assert_eq!(starts(place), left(&[&rows[3], &rows[4], &rows[7]]));
    // What is written too late leaves with the search of the next day.
    write(&mut target, &[&rows[0]]);
    assert_eq!(expire(&mut target, NOW_MS + 2), 0);
    assert_eq!(expire(&mut target, NOW_MS + DAY_MS), 1);
    assert_eq!(starts(place), left(&[&rows[3], &rows[4], &rows[7]]));
}

pub fn a_deleted_window_stays_deleted_until_it_expires(place: &DatabasePlace) {
    let mut target = place.target();
    let kind = WindowSpec::Session { gap_ms: HALF_HOUR_MS, max_ms: DAY_MS };
    let start_ms = NOW_MS - 90 * DAY_MS - 10;
    let session = |version: i64| window(kind, start_ms, start_ms + version, version.into(), version);
    let absorbed = |version| CounterWindow { value: MetricValue::Null, deleted: true, ..session(version) };
    let rows = || place.rows("SELECT variable_end, value, deleted, version FROM counter_windows");
    let end_ms = |version: i64| start_ms + version;
    write(&mut *target, &[&session(5)]);
    write(&mut *target, &[&absorbed(7)]);
    assert_eq!(rows(), [format!("{}|-|1|7", end_ms(7))]);
    // What comes late, from a writer that repeats or lags, is older.
    write(&mut *target, &[&session(6)]);
    assert_eq!(rows(), [format!("{}|-|1|7", end_ms(7))]);
    // A session that begins at the same moment again, and grows.
    write(&mut *target, &[&session(8), &session(9)]);
    assert_eq!(rows(), [format!("{}|9|-|9", end_ms(9))]);
    // One that was never seen before it was absorbed.
    let other = CounterWindow { subject_id: "user:u2".into(), ..absorbed(9) };
    write(&mut *target, &[&other]);
    assert_eq!(rows().len(), 2);
    assert_eq!(target.expire(NOW_MS - 1).unwrap().rows[2], ("counter_windows", 0));
    assert_eq!(target.expire(NOW_MS).unwrap().rows[2], ("counter_windows", 2));
    assert_eq!(rows(), [""; 0]);
}

/// Runs the first migrations, as an older release did.
async fn make_older(url: &str, migrations_max: i64) {
    let kind = if url.starts_with("sqlite:") { "sqlite" } else { "mysql" };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/database/migrations").join(kind);
    let mut migrator = Migrator::new(folder).await.unwrap();
    migrator.migrations.to_mut().retain(|migration| migration.version <= migrations_max);
    if kind == "sqlite" {
        let mut connection = SqliteConnection::connect(&format!("{url}?mode=rwc")).await.unwrap();
        migrator.run(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    } else {
        let mut connection = MySqlConnection::connect(url).await.unwrap();
        migrator.run(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

pub fn rows_of_older_releases_stay(place: &DatabasePlace) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(make_older(&place.url(), 5));
    place.rows("INSERT INTO counters VALUES ('article:7', 'likes', 3, 5), ('article:7', 'views', 9, 6)");
    let start_ms = NOW_MS - NOW_MS % 3_600_000;
    place.rows(&format!("INSERT INTO counter_windows VALUES ('article:7', 'views', 3600000, {start_ms}, 9, 6)"));
    let mut target = place.target();
    let end_ms = start_ms + 3_600_000;
    assert_eq!(place.rows(ROWS), [format!("3600000||{start_ms}|{end_ms}|9|-|-|6")]);
    assert_eq!(place.totals("article:7"), totals(&[("likes", 3), ("views", 9)]));
    let of_subject = place.rows("SELECT * FROM subject_totals");
    assert_eq!(of_subject[0].replace(": ", ":").replace(", ", ","), r#"article:7|{"likes":3,"views":9}|6"#);
    write(&mut *target, &[&super::window(start_ms, 8, 5), &super::window(start_ms + 3_600_000, 1, 7)]);
    assert_eq!(place.rows("SELECT value, version FROM counter_windows ORDER BY 1"), ["1|7", "9|6"]);
}
