//! What rows have of the records that they come from.

use super::*;
use crate::fold::Fold;
use tally_model::{CounterWindow, Counters, Decimal, Reaction};

const ODD: &str = "a\"\\\u{7528}\n";

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

fn totals(totals: &[(&str, i64)], changed: &[&str], version: i64) -> String {
    json(&Counters {
        subject_id: ODD.into(),
        counters: totals.iter().map(|(metric, total)| ((*metric).to_owned(), (*total).into())).collect(),
        changed: changed.iter().map(|metric| (*metric).to_owned()).collect(),
        approximate: vec!["visitors".into()],
        as_of_ms: 1,
        version,
    })
}

fn folded(records: &[(String, bool)]) -> CounterRow {
    let (mut fold, mut names) = (Fold::<CounterRow>::default(), Names::default());
    for (record, whole) in records {
        fold.add(b"k", CountersRecord::read(record.as_bytes(), *whole).unwrap(), &mut names);
    }
    assert_eq!(fold.rows().len(), 1);
    fold.rows()[0].clone()
}

#[test]
fn rows_have_what_the_records_say() {
    let mut names = Names::default();
    let row = folded(&[(totals(&[(ODD, 2), ("views", -1)], &["views"], 7), false)]);
    assert_eq!(
        row,
        CounterRow {
            subject_id: ODD.into(),
            totals: vec![(ODD.into(), 2.into()), ("views".into(), (-1).into())],
            changed: vec!["views".into()],
            version: 7,
            whole: false
        }
    );
    let (subject_id, metric) = (ODD.to_owned(), ODD.to_owned());
    let window = CounterWindow {
        subject_id,
        metric,
        window: WindowSpec::Tumbling { size_ms: 1 },
        window_start_ms: 2,
        window_end_ms: 3,
        value: 3.into(),
        approximate: true,
        deleted: false,
        version: 4,
    };
    let row = WindowRow::first(WindowRecord::read(json(&window).as_bytes()).unwrap(), &mut names);
    assert_eq!((&*row.subject_id, &*row.metric, row.window, row.window_start_ms), (ODD, ODD, window.window, 2));
    assert_eq!((row.window_end_ms, row.value, row.deleted, row.version), (3, 3.into(), false, 4));
    let (actor_id, metric, subject_id) = (ODD.to_owned(), "likes".into(), "a:1".into());
    let reaction =
        Reaction { actor_id, metric, subject_id, active: true, occurred_at_ms: 1, appended_at_ms: 2, version: 3 };
    let row = ReactionRow::first(serde_json::from_str(&json(&reaction)).unwrap(), &mut names);
    assert_eq!((&*row.actor_id, &*row.metric, &*row.subject_id, row.active), (ODD, "likes", "a:1", true));
    assert_eq!((row.occurred_at_ms, row.created_at_ms, row.updated_at_ms, row.version), (1, 2, 2, 3));
}

#[test]
fn the_newest_totals_win_and_every_change_is_kept() {
    let records = [
        (totals(&[("b", 1), ("c", 1)], &["b", "c"], 5), false),
        (totals(&[("a", 1), ("b", 2), ("c", 1)], &["a", "b"], 6), false),
        (totals(&[("b", 9), ("d", 9)], &["d"], 4), true),
    ];
    let row = folded(&records);
    assert_eq!(row.totals, [("a".into(), 1.into()), ("b".into(), 2.into()), ("c".into(), 1.into())]);
    assert_eq!(row.changed.iter().map(|metric| &**metric).collect::<Vec<_>>(), ["b", "c", "a", "d"]);
    assert_eq!((row.version, row.whole), (6, true));
    // Fewer metrics than before, at an equal version.
    let row = folded(&[(totals(&[("a", 1), ("b", 2)], &["a"], 5), false), (totals(&[("b", 3)], &["b"], 5), false)]);
    assert_eq!(row.totals, [("b".into(), 3.into())]);
}

#[test]
fn keys_are_told_apart_however_many_there_are() {
    let (mut fold, mut names) = (Fold::<CounterRow>::default(), Names::default());
    for round in 0..3 {
        for n in 0..5_000 {
            let record = totals(&[("a", n)], &["a"], round);
            let record = CountersRecord::read(record.as_bytes(), false).unwrap();
            fold.add(n.to_string().as_bytes(), record, &mut names);
        }
    }
    let values: Vec<_> = fold.rows().iter().map(|row| (row.totals[0].1.clone(), row.version)).collect();
    assert_eq!(values, (0..5_000).map(|n| (n.into(), 2)).collect::<Vec<_>>());
    fold.clear();
    assert!(fold.rows().is_empty());
}

#[test]
fn totals_of_every_writer_are_sorted() {
    let record = r#"{"subject_id":"a:1","counters":{"b":1,"a":2,"b":3},"changed":[],"version":1}"#;
    assert_eq!(folded(&[(record.to_owned(), false)]).totals, [("a".into(), 2.into()), ("b".into(), 3.into())]);
}

#[test]
fn values_of_every_type_are_read_exactly() {
    let values = [
        ("cut", MetricValue::text("it's \"7\" \u{7528}\n")),
        ("large", MetricValue::wide(i128::MIN)),
        ("mean", Decimal::parse("0.100000000").unwrap().into()),
        ("none", MetricValue::Null),
        ("seen", 7.into()),
        ("sum", MetricValue::wide(u64::MAX.into())),
    ];
    let record = |leave_out: &[&str]| {
        let values = values.iter().filter(|(metric, _)| !leave_out.contains(metric));
        json(&Counters {
            subject_id: ODD.into(),
            counters: values.map(|(metric, value)| ((*metric).to_owned(), value.clone())).collect(),
            changed: Vec::new(),
            approximate: Vec::new(),
            as_of_ms: 1,
            version: 7,
        })
    };
    let row = folded(&[(record(&[]), true)]);
    assert_eq!(row.totals, values.each_ref().map(|(metric, value)| (Arc::from(*metric), value.clone())));
    // Without a decimal and without 128 bits, the first pass is enough.
    let without = record(&["large", "mean"]);
    assert!(serde_json::from_str::<CountersText<'_, Plain>>(&without).is_ok());
    assert_eq!(folded(&[(without, true)]).totals.len(), 4);
    for wrong in ["true", "[]", "1e400", "1.0000000001", "{}"] {
        let record = format!(r#"{{"subject_id":"a:1","counters":{{"a":{wrong}}},"changed":[],"version":1}}"#);
        assert!(CountersRecord::read(record.as_bytes(), false).is_err(), "{wrong}");
    }
}

#[test]
fn a_session_grows_and_a_deletion_is_a_newer_state_of_it() {
    let session = CounterWindow {
        subject_id: "user:u1".into(),
        metric: "sessions.mean".into(),
        window: WindowSpec::Session { gap_ms: 10, max_ms: 1_000 },
        window_start_ms: 5,
        window_end_ms: 20,
        value: Decimal::parse("1.5").unwrap().into(),
        approximate: false,
        deleted: false,
        version: 1,
    };
    let longer = CounterWindow { window_end_ms: 30, version: 2, ..session.clone() };
    let absorbed = CounterWindow { value: MetricValue::Null, deleted: true, version: 3, ..longer.clone() };
    let (mut fold, mut names) = (Fold::<WindowRow>::default(), Names::default());
    for window in [&longer, &absorbed, &session] {
        fold.add(&window.key(), WindowRecord::read(json(window).as_bytes()).unwrap(), &mut names);
    }
    let row = &fold.rows()[0];
    assert_eq!((row.window_end_ms, &row.value, row.deleted, row.version), (30, &MetricValue::Null, true, 3));
    assert_eq!(row.window, session.window);
}
