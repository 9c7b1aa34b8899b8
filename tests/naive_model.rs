//! The naive model itself, on histories short enough to be checked by hand; and that a comparison finds what is wrong.

use std::collections::{BTreeMap, HashMap};
use tally_exactness::naive::{
    Differences, LogRecord, Model, Stored, StoredAggregates, TopicAggregates, collect_counts, compare_counters,
    compare_stored,
};

const NOON_MS: i64 = 1_795_262_400_000;

/// Takes (append time, event) in order, in partition 0. Times are relative to noon.
fn model(records: &[(i64, &str)]) -> Model {
    let mut model = Model::default();
    for (offset, (append_ms, text)) in (0..).zip(records) {
        let event: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        let key = event["actor_id"].as_str().unwrap_or_default().to_owned();
        let seq = event["seq"].as_i64();
        let mut value = event;
        if let Some(time_ms) = value["occurred_at"].as_i64() {
            value["occurred_at"] = (NOON_MS + time_ms).into();
        }
        let value = if value.is_null() { (*text).to_owned() } else { value.to_string() };
        model.take(&LogRecord {
            partition: 0,
            partitions: 1,
            offset,
            append_time_ms: NOON_MS + append_ms,
            key: key.as_bytes(),
            value: value.as_bytes(),
            seq,
        });
    }
    model
}

fn event(id: &str, kind: &str, actor: &str, time_ms: i64) -> String {
    format!(
        r#"{{"event_id":"{id}","type":"{kind}","actor_id":"{actor}","subject_id":"a:1","occurred_at":{time_ms},"duration_ms":5000}}"#
    )
}

fn count(model: &Model, metric: &'static str) -> i64 {
    model.counters.get(&("a:1".to_owned(), metric)).copied().unwrap_or(0)
}

fn kinds(model: &Model) -> BTreeMap<u64, &str> {
    model.verdicts.iter().map(|((_, offset), verdict)| (*offset, verdict.kind.as_str())).collect()
}

#[test]
fn late_duplicate_and_dead_events_do_not_count() {
    let day_ms = 86_400_000;
    let records = [
        (0, event("a", "view", "u1", -day_ms)),
        (1, event("b", "view", "u1", -day_ms)),
        (2, event("a", "view", "u1", -5)),
        (3, event("a", "view", "u2", 0)),
        (4, "no event".to_owned()),
        (5, event("c", "clap", "u1", 0)),
        (6, event("d", "view", "u1", 300_007)),
    ];
    let model = model(&records.each_ref().map(|(append_ms, text)| (*append_ms, text.as_str())));
    assert_eq!(kinds(&model), [(1, "late"), (2, "duplicate"), (5, "dead"), (6, "dead")].into());
    assert_eq!(model.dead_letters, [(0, 4), (0, 5), (0, 6)]);
    assert_eq!((count(&model, "views"), model.visitors["a:1"].len()), (2, 2));
    assert_eq!(model.ids.len(), 3);
    let (hour_ms, noon_ms) = (3_600_000, NOON_MS);
    let window = |length_ms, start_ms| model.windows.get(&("a:1".to_owned(), "views", length_ms, start_ms)).copied();
    assert_eq!(window(hour_ms, noon_ms), Some(1));
    assert_eq!(window(hour_ms, noon_ms - day_ms), Some(1));
    assert_eq!(window(day_ms, noon_ms - day_ms / 2), Some(1));
    assert_eq!(model.windows.len(), 4);
}

#[test]
fn a_burst_is_cut_after_sixty_in_ten_seconds_of_the_log() {
    let events: Vec<_> = (0..130).map(|n| (n * 100, event(&n.to_string(), "read", "u1", -7_000_000))).collect();
    let model = model(&events.iter().map(|(append_ms, text)| (*append_ms, text.as_str())).collect::<Vec<_>>());
    // 100 in the first ten seconds, 30 in the next.
    assert_eq!(count(&model, "reads"), 90);
    assert_eq!(kinds(&model), (60..100).map(|offset| (offset, "limited")).collect());
}

#[test]
fn the_latest_time_wins_and_only_changes_count() {
    let steps =
        [("like", 10, 1), ("like", 11, 1), ("unlike", 5, 1), ("unlike", 11, 0), ("unlike", 12, 0), ("like", 12, 1)];
    let mut records = Vec::new();
    for (n, (kind, time_ms, expected)) in (0..).zip(steps) {
        // A window of rule `toggle` each.
        records.push((100 + 5_000 * n, event(&n.to_string(), kind, "u1", time_ms)));
        let model = model(&records.iter().map(|(append_ms, text)| (*append_ms, text.as_str())).collect::<Vec<_>>());
        assert_eq!(count(&model, "likes"), expected, "after {kind} at {time_ms}");
    }
    let model = model(&records.iter().map(|(append_ms, text)| (*append_ms, text.as_str())).collect::<Vec<_>>());
    let reaction = &model.reactions[&("u1".to_owned(), "likes", "a:1".to_owned())];
    assert_eq!((reaction.active, reaction.occurred_at_ms - NOON_MS), (true, 12));
    assert_eq!((reaction.created_at_ms - NOON_MS, reaction.updated_at_ms - NOON_MS), (100, 25_100));
}

#[test]
fn of_several_clicks_within_five_seconds_the_first_counts_at_once_and_the_last_when_they_are_over() {
    let clicks = |clicks: &[(i64, &'static str, i64)]| -> Vec<(i64, String)> {
        let click = |(n, (append_ms, kind, time_ms)): (usize, &(i64, &str, i64))| {
            (*append_ms, event(&n.to_string(), kind, "u1", *time_ms))
        };
        clicks.iter().enumerate().map(click).collect()
    };
    let model = |records: &[(i64, String)], is_over: bool| {
        let mut model = model(&records.iter().map(|(append_ms, text)| (*append_ms, text.as_str())).collect::<Vec<_>>());
        if is_over {
            model.finish();
        }
        model
    };
    let mut records = clicks(&[(0, "like", 0), (1, "unlike", 1), (2, "like", 2), (3, "unlike", 2), (4, "like", 1)]);
    let before = model(&records, false);
    assert_eq!((count(&before, "likes"), kinds(&before)), (1, [(1, "limited"), (2, "limited"), (4, "limited")].into()));
    assert_eq!(count(&model(&records, true), "likes"), 0, "of two at the same time the later one");
    // What comes when the window is over finds it over, whatever it is.
    records.push((4_999, "no event".to_owned()));
    assert_eq!(count(&model(&records, false), "likes"), 1);
    records.push((5_000, "no event".to_owned()));
    let after = model(&records, false);
    let reaction = &after.reactions[&("u1".to_owned(), "likes", "a:1".to_owned())];
    assert_eq!((count(&after, "likes"), reaction.active, reaction.updated_at_ms - NOON_MS), (0, false, 3));
}

/// What a database that is right holds.
fn stored(model: &Model) -> Stored {
    let mut counters: HashMap<_, _> =
        model.counters.iter().map(|((s, m), v)| ((s.clone(), (*m).to_owned()), *v)).collect();
    let visitors = model.visitors.iter();
    counters.extend(visitors.map(|(s, actors)| ((s.clone(), "visitors".to_owned()), actors.len() as i64)));
    let windows = model.windows.iter().map(|((s, m, l, b), v)| ((s.clone(), (*m).to_owned(), *l, *b), *v));
    let daily = model.daily_visitors.iter();
    let daily = daily.map(|((s, b), actors)| ((s.clone(), "visitors".to_owned(), 86_400_000, *b), actors.len() as i64));
    Stored {
        counters,
        windows: windows.chain(daily).collect(),
        reactions: model
            .reactions
            .iter()
            .map(|((a, m, s), r)| ((a.clone(), (*m).to_owned(), s.clone()), r.clone()))
            .collect(),
        verdicts: model.verdicts.clone(),
        dead_letters: model.dead_letters.clone(),
        collects: model.collects.clone(),
        collect_counts: collect_counts(&model.collects),
        aggregates: StoredAggregates::default(),
    }
}

fn differences(model: &Model, change: impl FnOnce(&mut Stored)) -> String {
    let (mut stored, mut differences) = (stored(model), Differences::default());
    change(&mut stored);
    compare_stored(model, &stored, &mut differences);
    if differences.is_empty() { String::new() } else { differences.to_string() }
}

#[test]
fn every_kind_of_difference_is_found() {
    let records = [
        (0, event("a", "view", "u1", 0)),
        (1, event("b", "like", "u1", 0)),
        (2, event("b", "like", "u1", 0)),
        (3, event("c", "clap", "u1", 0)),
        (4, event("d", "collect", "u1", 0).replace('{', r#"{"seq":7,"#)),
    ];
    let model = model(&records.each_ref().map(|(append_ms, text)| (*append_ms, text.as_str())));
    assert_eq!(differences(&model, |_| {}), "");
    let key = |metric: &str| ("a:1".to_owned(), metric.to_owned());
    type Change<'a> = Box<dyn Fn(&mut Stored) + 'a>;
    let views = || ("a:1".to_owned(), "views".to_owned(), 3_600_000, NOON_MS);
    let day = || ("a:1".to_owned(), "visitors".to_owned(), 86_400_000, NOON_MS - 43_200_000);
    let changes: [(&str, Change<'_>); 17] = [
        ("counters", Box::new(|s| *s.counters.get_mut(&key("views")).unwrap() += 1)),
        ("counters", Box::new(|s| s.counters.retain(|(_, metric), _| metric != "likes"))),
        ("counters", Box::new(|s| s.counters.extend([(key("shares"), 1)]))),
        ("visitors of \"a:1\"", Box::new(|s| *s.counters.get_mut(&key("visitors")).unwrap() += 1)),
        ("windows", Box::new(|s| *s.windows.get_mut(&views()).unwrap() -= 1)),
        ("visitors by day of (\"a:1\"", Box::new(|s| *s.windows.get_mut(&day()).unwrap() += 1)),
        ("visitors by day of (\"a:1\"", Box::new(|s| assert!(s.windows.remove(&day()).is_some()))),
        ("windows", Box::new(|s| s.windows.clear())),
        ("reactions", Box::new(|s| s.reactions.values_mut().next().unwrap().active = false)),
        ("reactions", Box::new(|s| s.reactions.values_mut().next().unwrap().occurred_at_ms += 1)),
        ("reactions", Box::new(|s| s.reactions.clear())),
        ("collects", Box::new(|s| s.collects.clear())),
        ("collects", Box::new(|s| s.collects.values_mut().next().unwrap().0 += 1)),
        ("collect counts", Box::new(|s| *s.collect_counts.values_mut().next().unwrap() += 1)),
        ("verdicts", Box::new(|s| s.verdicts.get_mut(&(0, 2)).unwrap().kind = "late".to_owned())),
        ("verdicts", Box::new(|s| s.verdicts.retain(|_, verdict| verdict.kind != "dead"))),
        ("dead letters", Box::new(|s| s.dead_letters.push((0, 3)))),
    ];
    for (what, change) in changes {
        let found = differences(&model, |stored| change(stored));
        assert!(found.starts_with(what), "{what}: {found}");
    }
    let mut served =
        HashMap::from([("a:1".to_owned(), BTreeMap::from([("views".to_owned(), 1), ("likes".to_owned(), 1)]))]);
    let compare = |served: &HashMap<String, BTreeMap<String, i64>>| {
        let mut differences = Differences::default();
        compare_counters(&model, served, &mut differences);
        differences.is_empty()
    };
    assert!(!compare(&served), "visitors are missing");
    let counters = served.get_mut("a:1").unwrap();
    counters.insert("visitors".to_owned(), 1);
    counters.insert("collects".to_owned(), 1);
    counters.insert("shares".to_owned(), 0);
    assert!(compare(&served));
    served.get_mut("a:1").unwrap().insert("likes".to_owned(), 2);
    assert!(!compare(&served));
}

#[test]
fn collects_go_by_their_number() {
    let numbered = |kind: &str, seq: i64| event("e", kind, "u1", -seq).replace('}', &format!(r#","seq":{seq}}}"#));
    let events: Vec<_> = [("collect", 1), ("collect", 1), ("uncollect", 4), ("collect", 3), ("collect", 5)]
        .map(|(k, n)| numbered(k, n))
        .into();
    let mut records: Vec<_> = events.iter().map(|text| (0, text.as_str())).collect();
    assert_eq!(count(&model(&records), "collects"), 1);
    let unnumbered = event("e", "uncollect", "u1", 0);
    records.push((0, &unnumbered));
    let model = model(&records);
    assert_eq!((count(&model, "collects"), model.dead_letters.len(), model.verdicts.len()), (1, 1, 1));
}

#[test]
fn estimates_may_be_off_by_little() {
    let events: Vec<_> = (0..1_000).map(|n| (n * 20, event("e", "view", &format!("u{n}"), 0))).collect();
    let model = model(&events.iter().map(|(append_ms, text)| (*append_ms, text.as_str())).collect::<Vec<_>>());
    let visitors = ("a:1".to_owned(), "visitors".to_owned());
    let with = |value: i64| differences(&model, |stored| stored.counters.extend([(visitors.clone(), value)]));
    assert_eq!(with(1_009), "");
    assert!(with(1_011).contains("RMSE is 1.10 %"));
    assert!(with(1_041).contains("too far off"));
}

/// The records of `counters` and `counter-windows` for two likes, of one actor each, as they must be.
fn records_of_likes(closed_ms: i64) -> Vec<(&'static str, String)> {
    let mut records = Vec::new();
    for subject in ["type:like", "type:any"] {
        let counters = r#"{"kinds.n":2,"kinds.who":2,"likes":2}"#;
        records.push(("counters", format!(r#"{{"subject_id":"{subject}","counters":{counters}}}"#)));
        for (metric, value) in [("kinds.n", 1), ("kinds.who", 1)] {
            records.push((
                "counter-windows",
                format!(
                    r#"{{"subject_id":"{subject}","metric":"{metric}","window_ms":4000,"window_start_ms":{closed_ms},"value":{value},"version":1}}"#
                ),
            ));
        }
    }
    records
}

/// Compares two likes, of which one comes too late for its window, with records of the topics, and those with the tables.
fn differences_of_aggregates(change: impl Fn(&mut Vec<(&'static str, String)>, &mut StoredAggregates)) -> String {
    let append = |offset, append_ms: i64, actor: &str, time_ms: i64| {
        let json = event(actor, "like", actor, NOON_MS + time_ms);
        (offset, NOON_MS + append_ms, actor.to_owned(), json)
    };
    // The window from 0 to 4 s takes events until 10 s.
    let events = [append(0, 9_999, "u1", 3_999), append(1, 10_000, "u2", 3_999)];
    let mut model = Model::with_aggregates();
    for (offset, append_time_ms, actor, json) in &events {
        let (key, value) = (actor.as_bytes(), json.as_bytes());
        let (offset, append_time_ms) = (*offset, *append_time_ms);
        model.take(&LogRecord { partition: 0, partitions: 1, offset, append_time_ms, key, value, seq: None });
    }
    model.finish();
    let aggregates = model.aggregates.as_ref().unwrap();
    assert_eq!(aggregates.late(), [(("kinds".to_owned(), "4000".to_owned()), 1)].into());
    let (mut differences, mut topics) = (Differences::default(), TopicAggregates::default());
    let take = |topics: &mut TopicAggregates, differences: &mut Differences, records: &[(&str, String)]| {
        for (offset, (topic, json)) in (0..).zip(records) {
            let (key, value) = (b"key".as_slice(), json.as_bytes());
            let record =
                LogRecord { partition: 0, partitions: 1, offset, append_time_ms: NOON_MS, key, value, seq: None };
            match *topic {
                "counters" => topics.take_totals(&record),
                _ => topics.take_window(&record, differences),
            }
        }
    };
    let mut records = records_of_likes(NOON_MS);
    let mut right = TopicAggregates::default();
    take(&mut right, &mut Differences::default(), &records);
    let windows = right.windows.iter().map(|(key, found)| (key.clone(), (found.end, found.value.clone())));
    let mut stored = StoredAggregates { totals: right.totals.clone(), windows: windows.collect() };
    change(&mut records, &mut stored);
    take(&mut topics, &mut differences, &records);
    aggregates.compare(&topics, &mut differences);
    topics.compare(&stored, &mut differences);
    if differences.is_empty() { String::new() } else { differences.to_string() }
}

#[test]
fn every_kind_of_difference_between_aggregates_is_found() {
    assert_eq!(differences_of_aggregates(|_, _| {}), "");
    type Change = fn(&mut Vec<(&'static str, String)>, &mut StoredAggregates);
    let changes: [(&str, Change); 9] = [
        ("total (\"type:like\", \"kinds.n\")", |records, _| {
            records[0].1 = records[0].1.replace(r#".n":2"#, r#".n":1"#)
        }),
        ("total (\"type:like\", \"kinds.who\")", |records, _| {
            records[0].1 = records[0].1.replace(r#".who":2"#, r#".who":3"#)
        }),
        ("window (\"type:like\", \"kinds.n\"", |records, _| {
            records[1].1 = records[1].1.replace(r#"value":1"#, r#"value":2"#)
        }),
        ("window (\"type:like\", \"kinds.n\"", |records, _| {
            records.remove(1);
        }),
        ("window (\"type:like\", \"kinds.n\", \"4000\", 1795262400000) was closed more than once", |records, _| {
            let again = records[1].1.replace(r#"version":1"#, r#"version":2"#);
            records.push(("counter-windows", again));
        }),
        ("window (\"type:like\", \"kinds.n\", \"4000\", 1795262400000) has version 1 behind", |records, _| {
            let again = records[1].clone();
            records.push(again);
        }),
        ("window (\"type:like\", \"kinds.n\", \"4000\", 1795262404000): Found", |records, _| {
            let next = records[1].1.replace("1795262400000", "1795262404000");
            records.push(("counter-windows", next));
        }),
        ("stored totals of aggregates (", |_, stored| *stored.totals.values_mut().next().unwrap() = None),
        ("stored windows of aggregates (", |_, stored| stored.windows.values_mut().next().unwrap().0 += 1),
    ];
    for (what, change) in changes {
        let found = differences_of_aggregates(change);
        assert!(found.starts_with(what), "{what}: {found}");
    }
}
