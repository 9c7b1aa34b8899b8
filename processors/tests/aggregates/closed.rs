//! Closed windows as events: what they hold, when they count, and that results of results are the same in every delivery.

use super::case::{Case, MIDNIGHT, TOPOLOGY};
use super::deliveries::{DELIVERIES, events, raw_event, run, totals, windows};
use super::naive::{self, GRACE, HOPPING, SESSION, SLIDING, Windows};
use super::world::PARTITIONS;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tally_processors::{REGISTRY, event_types};
use tally_sinks::SINK_TYPES;
use tally_streams::topology::Topology;

/// Sessions that are counted for one subject, for all time and per minute.
fn sessions() -> Case {
    let nodes = r#"  sess: { type: aggregate, from: valid, events: [view], values: { events: count, sum: { sum: properties.v, scale: 1 }, least: { min: properties.v, scale: 1 } },
          windows: [{ session: 10s, max: 1h }], grace: 5s, emit: on_close, totals: false }
  per:  { type: aggregate, from: sess.closed, subject: "'p:all'", windows: [1m], grace: 25s, emit: on_close,
          values: { n: count, events: { sum: properties.events }, longest: { max: 'properties.window_end - properties.window_start' },
                    bounces: { sum: 'properties.events == 1 ? 1 : 0' }, rate: { ratio: [bounces, n] }, v: { sum: properties.sum, scale: 1 },
                    least: { min: properties.least, scale: 1 }, who: { distinct: actor_id }, last: { last: subject_id } } }
  more: { type: total, from: per, to: [counters, windows] }
"#;
    Case::of(nodes, "sess", MIDNIGHT)
}

#[test]
fn a_session_is_counted_when_it_closes_with_its_values() {
    let mut case = sessions();
    case.raw("a:1", 0.0, 0.0, r#"{"v":1.5}"#);
    case.raw("a:2", 3.0, 3.0, "{}");
    case.raw("a:1", 8.0, 8.0, r#"{"v":-0.5}"#);
    case.clock(28.0);
    assert!(case.totals().is_empty());
    case.clock(28.001);
    let one = json!({"per.n": 1, "per.events": 1, "per.longest": 1, "per.bounces": 1, "per.rate": 1.0, "per.v": 0.0, "per.least": null,
                     "per.who": 1, "per.last": "a:2"});
    assert_eq!(case.totals(), BTreeMap::from([("p:all".to_owned(), one)]));
    case.clock(33.0);
    assert!(case.totals().is_empty());
    case.clock(33.001);
    let both = json!({"per.n": 2, "per.events": 3, "per.longest": 8_001, "per.bounces": 1, "per.rate": 0.5, "per.v": 1.0, "per.least": -0.5,
                      "per.who": 2, "per.last": "a:1"});
    assert_eq!(case.totals(), BTreeMap::from([("p:all".to_owned(), both)]));
    let written = case.windows();
    assert!(written.contains(&"a:1 events 0..8.001 = 2".to_owned()), "{written:?}");
    assert!(!written.iter().any(|line| line.starts_with("p:all")), "{written:?}");
    case.clock(85.0);
    assert!(case.windows().contains(&"p:all n 0..60 = 2".to_owned()));
    assert_eq!((case.late(), case.dead()), (Vec::new(), Vec::new()));
}

#[test]
fn a_window_that_ends_with_the_one_it_counts_in_is_in_time() {
    let mut case = sessions();
    case.view("a:1", 59.999, 59.999);
    case.view("a:2", 60.0, 60.0);
    // Both levels close in one move of the clock.
    case.clock(200.0);
    let written = case.windows();
    assert!(written.contains(&"p:all n 0..60 = 1".to_owned()), "{written:?}");
    assert!(written.contains(&"p:all n 60..120 = 1".to_owned()), "{written:?}");
    assert!(case.late().is_empty());
}

#[test]
fn closed_windows_are_filtered_derived_and_routed() {
    let nodes = r#"  agg:   { type: aggregate, from: valid, events: [view], values: { n: count, top: { max: properties.v } }, windows: [10s], emit: on_close, totals: false }
  many:  { type: filter, from: agg.closed, where: 'properties.n > 1' }
  named: { type: derive, from: many, set: { subject_id: "'day:' + string(properties.window_start / 86400000)", half: 'properties.n / 2' } }
  split: { type: route, from: named, routes: { high: 'has(properties.top) && properties.top > 5', rest: true } }
  high:  { type: aggregate, from: split.high, values: { n: count, halves: { sum: properties.half } } }
  low:   { type: aggregate, from: split.rest, values: { n: count, halves: { sum: properties.half } } }
  more:  { type: total, from: [high, low], to: counters }
"#;
    let mut case = Case::of(nodes, "agg", MIDNIGHT);
    for (subject, v) in [("a:1", 9), ("a:1", 2), ("a:2", 9), ("a:3", 1), ("a:3", 1), ("a:3", 1), ("a:3", 1)] {
        case.with(subject, 1.0, 1.0, json!({"v": v}));
    }
    case.clock(10.0);
    let day = format!("day:{}", MIDNIGHT / 86_400_000);
    let expected = json!({"high.n": 1, "high.halves": 1, "low.n": 1, "low.halves": 2});
    assert_eq!(case.totals(), BTreeMap::from([(day, expected)]));
}

#[test]
fn a_closed_window_that_a_node_rejects_is_a_dead_letter_without_a_verdict() {
    let nodes = r#"  agg:  { type: aggregate, from: valid, events: [view], values: { n: count }, windows: [10s], emit: on_close, totals: false }
  per:  { type: aggregate, from: agg.closed, subject: "'p:all'", where: '6 / (properties.n - 1) > 0', values: { n: count } }
  more: { type: total, from: per, to: counters }
"#;
    let mut case = Case::of(nodes, "agg", MIDNIGHT);
    for subject in ["a:1", "a:2", "a:2"] {
        case.view(subject, 1.0, 1.0);
    }
    case.clock(10.0);
    assert_eq!(case.totals()["p:all"], json!({"per.n": 1}));
    let letters = case.driver.read("dead-letters");
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    let row = letter.json();
    assert_eq!(letter.key, b"a:1");
    assert_eq!(
        (&row["type"], &row["actor_id"], &row["subject_id"]),
        (&json!("agg.closed"), &json!("a:1"), &json!("a:1"))
    );
    assert_eq!(row["occurred_at"], json!(MIDNIGHT + 9_999));
    assert_eq!(row["properties"], json!({"n": 1, "window_start": MIDNIGHT, "window_end": MIDNIGHT + 10_000}));
    assert!(case.driver.read("verdicts").is_empty());
}

/// More windows close at once than a commit takes, and the one that counts them closes at the same time.
#[test]
fn a_window_waits_for_closed_windows_that_the_commit_before_it_still_owed() {
    let nodes = r#"  agg:  { type: aggregate, from: valid, events: [view], values: { n: count }, windows: [10s], emit: on_close, totals: false }
  per:  { type: aggregate, from: agg.closed, subject: "'p:all'", values: { n: count }, windows: [10s], emit: on_close }
  more: { type: total, from: per, to: [counters, windows] }
"#;
    let mut case = Case::of(nodes, "agg", MIDNIGHT);
    case.driver.hold();
    for n in 0..10_500 {
        case.view(&format!("a:{n}"), 1.0, 1.0);
    }
    case.driver.commit().unwrap();
    let counted = |case: &mut Case| {
        let lines = case.windows().into_iter();
        lines.filter(|line| line.starts_with("p:all")).collect::<Vec<_>>()
    };
    // The second-level task has a clock.
    case.clock(5.0);
    case.clock(10.0);
    assert_eq!(case.totals()["p:all"], json!({"per.n": 10_000}));
    assert_eq!(counted(&mut case), Vec::<String>::new());
    case.driver.commit().unwrap();
    assert_eq!(case.totals()["p:all"], json!({"per.n": 10_500}));
    case.clock(10.001);
    assert_eq!(counted(&mut case), ["p:all n 0..10 = 10500"]);
    assert!(case.late().is_empty());
}

const TUMBLING: i64 = 7_000;
const SESSION_OF: (i64, i64) = (8_000, 40_000);
const HOPPING_OF: (i64, i64) = (9_000, 4_000);

fn topology() -> String {
    let text = TOPOLOGY.replace("PARTITIONS", &PARTITIONS.to_string()).replace("RANKINGS", "");
    let first = |name: &str, window: String| {
        format!(
            "  {name}: {{ type: aggregate, from: valid, events: [view], windows: [{window}], grace: {GRACE}ms, emit: on_close, totals: false, \
             values: {{ n: count, sum: {{ sum: properties.v, scale: 2 }}, least: {{ min: properties.v, scale: 2 }} }} }}\n"
        )
    };
    let second = |name: &str, of: &str, window: String, grace: i64| {
        format!(
            "  {name}: {{ type: aggregate, from: {of}.closed, subject: \"subject_id == 'a:0' ? 'p:x' : 'p:y'\", windows: [{window}], grace: {grace}ms, \
             emit: on_close, values: {{ n: count, events: {{ sum: properties.n }}, sum: {{ sum: properties.sum, scale: 2 }}, \
             start: {{ min: properties.window_start }}, long: {{ max: 'properties.window_end - properties.window_start' }}, \
             least: {{ min: properties.least, scale: 2 }}, who: {{ distinct: subject_id }}, first: {{ first: subject_id }}, \
             last: {{ last: subject_id }} }} }}\n"
        )
    };
    let nodes = [
        first("hop", format!("{{ hopping: {}ms, every: {}ms }}", HOPPING.0, HOPPING.1)),
        first("ses", format!("{{ session: {}ms, max: {}ms }}", SESSION.0, SESSION.1)),
        first("sli", format!("{{ sliding: {SLIDING}ms }}")),
        second("by_hop", "hop", format!("{TUMBLING}ms"), GRACE),
        second(
            "by_ses",
            "ses",
            format!("{{ session: {}ms, max: {}ms }}", SESSION_OF.0, SESSION_OF.1),
            2 * SESSION.0 + GRACE,
        ),
        second("by_sli", "sli", format!("{{ hopping: {}ms, every: {}ms }}", HOPPING_OF.0, HOPPING_OF.1), GRACE),
        "  totals: { type: total, from: [hop, ses, sli], to: windows }\n".to_owned(),
        "  more: { type: total, from: [by_hop, by_ses, by_sli], to: [counters, windows] }\n".to_owned(),
    ];
    text + &nodes.concat()
}

/// A closed window.
#[derive(Clone, Debug)]
struct Row {
    subject: String,
    start: i64,
    end: i64,
    n: i64,
    sum: i64,
    least: Option<i64>,
}

impl Row {
    fn time(&self) -> i64 {
        self.end - 1
    }
}

/// The closed windows of one kind, by the subject that they count for.
fn rows(first: &Windows, window: &str) -> BTreeMap<String, Vec<Row>> {
    let cents = |value: &Value| value.as_f64().map(|value| (value * 100.0).round() as i64);
    let mut rows: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for ((subject, name, metric, start), (end, n)) in first {
        if name == window && metric == "n" {
            let of = |metric: &str| cents(&first[&(subject.clone(), name.clone(), metric.to_owned(), *start)].1);
            let (n, sum, least) = (n.as_i64().unwrap(), of("sum").unwrap(), of("least"));
            let row = Row { subject: subject.clone(), start: *start, end: *end, n, sum, least };
            rows.entry(if subject == "a:0" { "p:x" } else { "p:y" }.to_owned()).or_default().push(row);
        }
    }
    rows
}

fn values(rows: &[Row]) -> BTreeMap<&'static str, Value> {
    let cents = |sum: i64| json!(sum as f64 / 100.0);
    let who: BTreeSet<&String> = rows.iter().map(|row| &row.subject).collect();
    BTreeMap::from([
        ("n", json!(rows.len())),
        ("events", json!(rows.iter().map(|row| row.n).sum::<i64>())),
        ("sum", cents(rows.iter().map(|row| row.sum).sum())),
        ("start", json!(rows.iter().map(|row| row.start).min())),
        ("long", json!(rows.iter().map(|row| row.end - row.start).max())),
        ("least", rows.iter().filter_map(|row| row.least).min().map_or(Value::Null, cents)),
        ("who", json!(who.len())),
    ])
}

/// What the second level must have computed: windows and totals of a node.
fn second(first: &Windows, node: &str) -> (Windows, BTreeMap<String, Value>) {
    let (mut windows, mut totals) = (Windows::new(), BTreeMap::new());
    let of = match node {
        "by_hop" => format!("hopping:{}:{}", HOPPING.0, HOPPING.1),
        "by_ses" => format!("session:{}:{}", SESSION.0, SESSION.1),
        _ => format!("sliding:{SLIDING}"),
    };
    for (subject, mut rows) in rows(first, &of) {
        totals.insert(subject.clone(), json!(values(&rows)));
        rows.sort_by_key(Row::time);
        let mut put = |window: &str, (start, end): (i64, i64), of: &[Row]| {
            for (metric, value) in values(of) {
                windows.insert((subject.clone(), window.to_owned(), metric.to_owned(), start), (end, value));
            }
        };
        let mut fixed = |name: &str, (size, every): (i64, i64)| {
            let starts = rows.iter().flat_map(|row| {
                let last = row.time().div_euclid(every) * every;
                (0..size).map(move |n| last - n * every).take_while(move |start| row.time() < start + size)
            });
            for start in starts.collect::<BTreeSet<_>>() {
                let of = rows.iter().filter(|row| (start..start + size).contains(&row.time()));
                put(name, (start, start + size), &of.cloned().collect::<Vec<_>>());
            }
        };
        match node {
            "by_hop" => fixed(&TUMBLING.to_string(), (TUMBLING, TUMBLING)),
            "by_sli" => fixed(&format!("hopping:{}:{}", HOPPING_OF.0, HOPPING_OF.1), HOPPING_OF),
            _ => {
                let (gap, max) = SESSION_OF;
                let apart = |a: &Row, b: &Row| {
                    b.time() - a.time() <= gap && a.time().div_euclid(max) == b.time().div_euclid(max)
                };
                for session in rows.chunk_by(apart) {
                    let times = (session[0].time(), session[session.len() - 1].time() + 1);
                    put(&format!("session:{gap}:{max}"), times, session);
                }
            }
        }
    }
    (windows, totals)
}

/// Of rows of one time the order is not that of the model.
fn without_picked(windows: Windows) -> (Windows, Windows) {
    windows.into_iter().partition(|((_, _, metric, _), _)| !["first", "last"].contains(&metric.as_str()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(16) })]
    #[test]
    fn results_of_results_are_those_of_the_naive_model_in_every_delivery(
        raw in prop::collection::vec(raw_event(), 1..40), seed in any::<u64>(), at_1970 in any::<bool>(),
    ) {
        let events = events(if at_1970 { 0 } else { MIDNIGHT }, raw);
        let (first, _, _) = naive::run(&events);
        let end = events.last().unwrap().append + 400_000;
        let text = topology();
        let mut picked = BTreeMap::new();
        for delivery in 0..DELIVERIES {
            let mut world = run(&text, &events, seed.wrapping_mul(31).wrapping_add(delivery * 0x9E37_79B9), end);
            prop_assert_eq!(world.levels(), 3);
            for node in ["by_hop", "by_ses", "by_sli"] {
                let (expected, sums) = second(&first, node);
                let (found, times) = windows(&world, node);
                let (found, others) = without_picked(found);
                prop_assert_eq!(&found, &expected, "{}, delivery {}", node, delivery);
                prop_assert!(times.values().all(|times| *times == 1), "a window was closed twice: {:?}", times);
                prop_assert_eq!(picked.entry(node).or_insert_with(|| others.clone()), &others, "{}, delivery {}", node, delivery);
                let mut found = totals(&world, node);
                found.retain(|_, of| of.as_object_mut().is_some_and(|of| {
                    of.retain(|metric, _| metric != "first" && metric != "last");
                    !of.is_empty()
                }));
                prop_assert_eq!(&found, &sums, "{}, delivery {}", node, delivery);
            }
            let late = world.late().into_keys().filter(|(node, _)| node.starts_with("by_")).collect::<Vec<_>>();
            prop_assert_eq!(late, Vec::new());
        }
    }
}

#[test]
fn the_graph_shows_which_node_sends_closed_windows() {
    let topology = Topology::load("test.yaml", &topology(), REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}"));
    let names: Vec<&str> = topology.subtopologies.iter().map(|subtopology| &*subtopology.name).collect();
    assert_eq!(names, ["events", "by-subject_id", "by-subject_id-by-subject_id"]);
    let nodes = |at: usize| topology.subtopologies[at].nodes.iter().map(|node| &*node.name).collect::<Vec<_>>();
    assert_eq!(nodes(1), ["totals", "by_hop", "by_ses", "by_sli"]);
    assert_eq!(nodes(2), ["more"]);
    let (chart, text) = (topology.describe_mermaid(), topology.describe_text());
    assert!(chart.contains("s1n0 -->|hop.closed| s1n1"), "{chart}");
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.iter().any(|row| row.starts_with(&["by_hop", "aggregate", "event", "hop.closed"])), "{text}");
    // Clients cannot send them.
    assert_eq!(event_types(&topology), BTreeSet::from(["view".to_owned()]));
}
