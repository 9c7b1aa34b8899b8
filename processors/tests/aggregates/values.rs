//! The values of aggregates, their arguments and their subjects.

use super::case::{Case, MIDNIGHT};
use serde_json::json;

const ALL: &str = "values: { n: count, sum: { sum: properties.v }, least: { min: properties.v }, most: { max: properties.v }, \
                   first: { first: properties.v }, last: { last: properties.v }, mean: { avg: properties.v }, \
                   who: { distinct: properties.v }, mid: { quantile: properties.v, q: 0.5 } }";

#[test]
fn every_function_of_several_events_and_of_none() {
    let mut case = Case::new(ALL);
    for (second, v) in [(3.0, 7), (1.0, -2), (2.0, 7), (5.0, 11)] {
        case.with("a:1", second, 10.0, json!({"v": v}));
    }
    case.with("a:2", 1.0, 10.0, json!({}));
    let totals = case.totals();
    assert_eq!(
        totals["a:1"],
        json!({"agg.n": 4, "agg.sum": 23, "agg.least": -2, "agg.most": 11, "agg.first": -2, "agg.last": 11, "agg.mean": 5.750,
               "agg.who": 3, "agg.mid": 7})
    );
    assert_eq!(
        totals["a:2"],
        json!({"agg.n": 1, "agg.sum": 0, "agg.least": null, "agg.most": null, "agg.first": null, "agg.last": null,
               "agg.mean": null, "agg.who": 0, "agg.mid": null})
    );
}

#[test]
fn a_ratio_divides_two_values_and_is_null_where_the_divisor_is_0() {
    let mut case = Case::new(
        "values: { n: count, sum: { sum: properties.v, scale: 2 }, none: { min: properties.w }, rate: { ratio: [sum, n] }, \
         back: { ratio: [n, sum], scale: 0 }, nothing: { ratio: [none, n] }, who: { distinct: actor_id }, \
         each: { ratio: [n, who], scale: 1 } }",
    );
    case.with("a:1", 1.0, 1.0, json!({}));
    let totals = case.totals();
    let of = |metric: &str| totals["a:1"][metric].clone();
    assert_eq!(["agg.rate", "agg.back", "agg.nothing"].map(of), [json!(0.0), json!(null), json!(null)]);
    case.raw("a:1", 2.0, 2.0, r#"{"v":1.25}"#);
    case.raw("a:1", 3.0, 3.0, r#"{"v":0.55}"#);
    let text = case.driver.read("counters").pop().map(|written| String::from_utf8(written.value).unwrap()).unwrap();
    for part in [r#""agg.rate":0.600"#, r#""agg.back":2,"#, r#""agg.each":3.0"#, r#""approximate":["agg.each"]"#] {
        assert!(text.contains(part), "{part} in {text}");
    }
    // A ratio changes with each of the values that it divides.
    let changed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        changed["changed"],
        json!(["agg.back", "agg.each", "agg.n", "agg.nothing", "agg.rate", "agg.sum", "agg.who"])
    );
}

#[test]
fn an_event_without_the_argument_takes_no_part_in_that_value() {
    let mut case = Case::new("values: { n: count, sum: { sum: properties.v }, ms: { max: duration_ms } }");
    case.with("a:1", 1.0, 1.0, json!({"v": 5}));
    case.with("a:1", 2.0, 2.0, json!({"w": 5}));
    assert_eq!(case.totals()["a:1"], json!({"agg.n": 2, "agg.sum": 5, "agg.ms": null}));
    assert_eq!(case.dead(), Vec::<String>::new());
}

#[test]
fn decimals_are_read_from_their_digits() {
    let mut case = Case::new("values: { sum: { sum: properties.v, scale: 2 }, most: { max: properties.v, scale: 2 } }");
    for v in ["0.1", "0.2", "1e1", "-0.300", "12345678901234567890.12"] {
        case.raw("a:1", 1.0, 1.0, &format!("{{\"v\":{v}}}"));
    }
    let text = case.driver.read("counters").last().map(|written| String::from_utf8(written.value.clone()).unwrap());
    let text = text.unwrap();
    assert!(text.contains(r#""agg.sum":12345678901234567900.12"#), "{text}");
    assert!(text.contains(r#""agg.most":12345678901234567890.12"#), "{text}");
    assert_eq!(case.dead(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_added_exactly_is_a_dead_letter_and_nothing_is_sent() {
    let mut case =
        Case::new("values: { n: count, sum: { sum: properties.v, scale: 2 }, whole: { max: properties.w } }");
    for properties in
        [r#"{"v":0.001}"#, r#"{"v":"5"}"#, r#"{"v":true}"#, r#"{"v":1e22}"#, r#"{"v":1e99}"#, r#"{"w":1.5}"#]
    {
        case.raw("a:1", 1.0, 1.0, properties);
    }
    assert_eq!(
        case.dead(),
        [
            "`values.sum` has more decimals than `scale` allows: 0.001",
            "`values.sum` must be a number: `5`",
            "`values.sum` must be a number: `true`",
            "`values.sum` has too many digits: 1e22",
            "`values.sum` has too many digits: 1e99",
            "`values.whole` must be a whole number: `scale` allows decimals: 1.5",
        ]
    );
    assert!(case.totals().is_empty());
    let verdicts = case.driver.read("verdicts");
    assert!(verdicts.len() == 6 && verdicts.iter().all(|verdict| verdict.json()["verdict"] == "dead"));
}

#[test]
fn only_events_that_meet_the_condition_are_aggregated() {
    let mut case = Case::new("where: 'has(properties.v) && properties.v > 1', values: { n: count }");
    for v in [1, 2, 3] {
        case.with("a:1", 1.0, 1.0, json!({"v": v}));
    }
    case.with("a:1", 1.0, 1.0, json!({"v": "x"}));
    assert_eq!(case.totals()["a:1"], json!({"agg.n": 2}));
    assert_eq!(case.dead().len(), 1);
}

#[test]
fn subjects_are_derived_and_each_counts_once() {
    let mut case = Case::new(
        r#"subject: ["subject_id", "'user:' + actor_id", "has(properties.c) ? 'campaign:' + id(properties.c) : null", "'user:' + actor_id"],
           values: { n: count }, windows: [10s]"#,
    );
    case.with("a:1", 1.0, 1.0, json!({"c": "x y"}));
    case.view("a:1", 2.0, 2.0);
    let totals = case.totals();
    let campaign = totals.keys().find(|subject| subject.starts_with("campaign:")).unwrap().clone();
    assert_eq!(totals.len(), 3, "{totals:?}");
    assert_eq!((&totals["a:1"], &totals["user:u1"]), (&json!({"agg.n": 2}), &json!({"agg.n": 2})));
    assert_eq!(totals[&campaign], json!({"agg.n": 1}));
    assert_eq!(case.windows().len(), 5);
}

#[test]
fn an_expression_may_give_a_list_of_subjects() {
    let mut case = Case::new(
        r#"subject: "['page:' + id(properties.p), subject_id, has(properties.c) ? 'campaign:' + id(properties.c) : null]", values: { n: count }"#,
    );
    case.with("a:1", 1.0, 1.0, json!({"p": "x"}));
    case.with("a:1", 1.0, 1.0, json!({"p": "x", "c": "y"}));
    let totals = case.totals();
    let counts: Vec<_> = totals.iter().map(|(subject, counters)| (subject.as_str(), &counters["agg.n"])).collect();
    assert_eq!(counts, [("a:1", &json!(2)), ("campaign:y", &json!(1)), ("page:x", &json!(2))]);
}

#[test]
fn an_invalid_subject_is_a_dead_letter_and_no_subject_counts() {
    let mut case = Case::new(r#"subject: ["subject_id", "'campaign:' + properties.c"], values: { n: count }"#);
    case.with("a:1", 1.0, 1.0, json!({"c": "x y"}));
    case.with("a:1", 1.0, 1.0, json!({}));
    assert_eq!(case.totals().len(), 0);
    let dead = case.dead();
    assert!(
        dead[0].starts_with("the subject must not contain braces") && dead[1].starts_with("`subject` "),
        "{dead:?}"
    );
}

#[test]
fn first_and_last_go_by_time_and_then_by_place() {
    let mut case =
        Case::new("values: { first: { first: properties.v }, last: { last: properties.v } }, windows: [10s]");
    case.driver.hold();
    for (second, v) in [(2.0, "b"), (1.0, "a1"), (1.0, "a2"), (2.0, "c")] {
        case.with("a:1", second, 5.0, json!({"v": v}));
    }
    case.driver.commit().unwrap();
    assert_eq!(case.windows(), [r#"a:1 first 0..10 = "a1""#, r#"a:1 last 0..10 = "c""#]);
}

#[test]
fn equal_numbers_are_one_distinct_value_and_a_text_is_another() {
    for (values, distinct) in [
        (&["1", "1.0", "1e0", "1.000", "10e-1"][..], 1),
        (&["100", "1e2", "100.00"], 1),
        (&["0", "0.0", "-0.0", "-0"], 1),
        (&["10000000000000000", "1e16", "1.0e16"], 1),
        // Beyond the digits of a decimal.
        (&["1e300", "10e299"], 1),
        (&["1", "\"1\""], 2),
        (&["true", "\"true\"", "false"], 3),
        (&["1.5", "1.50", "15e-1", "1.51"], 2),
    ] {
        let mut case = Case::new("values: { who: { distinct: properties.v } }");
        for value in values {
            case.raw("a:1", 1.0, 1.0, &format!("{{\"v\":{value}}}"));
        }
        assert_eq!(case.totals()["a:1"], json!({ "agg.who": distinct }), "{values:?}");
    }
}

#[test]
fn distinct_values_are_an_estimate_beyond_256() {
    let mut case = Case::new("values: { who: { distinct: properties.v }, n: count }, windows: [10s]");
    case.driver.hold();
    for v in 0..2_000 {
        case.with("a:1", 1.0, 1.0, json!({"v": v % 1_000}));
        if v == 255 || v == 1_500 {
            case.driver.commit().unwrap();
        }
    }
    case.driver.commit().unwrap();
    let records: Vec<_> = case.driver.read("counters").iter().map(|written| written.json()).collect();
    assert_eq!((&records[0]["counters"]["agg.who"], &records[0]["approximate"]), (&json!(256), &json!(null)));
    let last = records.last().unwrap();
    let estimate = last["counters"]["agg.who"].as_f64().unwrap();
    assert!((estimate / 1_000.0 - 1.0).abs() < 0.04, "{estimate}");
    assert_eq!((&last["counters"]["agg.n"], &last["approximate"]), (&json!(2_000), &json!(["agg.who"])));
}

#[test]
fn boards_rank_by_counts_and_sums() {
    let nodes = "
  agg:  { type: aggregate, from: valid, events: [view], values: { n: count, sum: { sum: properties.v } } }
  most: { type: board, from: agg, score: { agg.n: 1, agg.sum: 10 }, window: 1h, to: rankings }
";
    let mut case = Case::of(nodes, "agg", MIDNIGHT);
    for (subject, v) in [("a:1", 1), ("a:2", 3), ("a:1", -5), ("a:3", 1)] {
        case.with(subject, 1.0, 1.0, json!({"v": v}));
    }
    case.with("a:3", 1.0, 1.0, json!({"v": 1_i64 << 40}));
    case.clock(100.0);
    let ranking = case.driver.read("rankings").last().unwrap().json();
    let item =
        |item: &serde_json::Value| (item["subject_id"].as_str().unwrap().to_owned(), item["score"].as_i64().unwrap());
    let items: Vec<_> = ranking["items"].as_array().unwrap().iter().map(item).collect();
    assert_eq!(items, [("a:2".to_owned(), 31_000), ("a:3".to_owned(), 11_000)]);
    assert_eq!(case.dead(), ["`values.sum` must have at most 31 bits, since a board ranks by it: 1099511627776"]);
    assert_eq!(case.totals()["a:1"], json!({"agg.n": 2, "agg.sum": -4}));
}

#[test]
fn totals_of_aggregates_stand_beside_those_of_other_nodes() {
    let nodes = "
  views: { type: count, from: valid, event: view }
  agg:   { type: aggregate, from: valid, events: [view], values: { sum: { sum: properties.v } } }
";
    let mut case = Case::of(nodes, "views, agg", MIDNIGHT);
    case.with("a:1", 1.0, 1.0, json!({"v": 5}));
    assert_eq!(case.totals()["a:1"], json!({"agg.sum": 5, "views": 1}));
}

#[test]
fn of_a_held_event_the_time_of_its_release_decides_about_lateness() {
    let nodes = "
  checked: { type: rate_check, from: valid, rules: [{ name: r, by: [actor_id, subject_id], events: [like, unlike], max: 1, per: 10s, excess: hold }] }
  likes: { type: toggle, from: checked, on: like, off: unlike }
  agg:   { type: aggregate, from: checked, values: { n: count }, windows: [5s], emit: on_close }
";
    let mut case = Case::of(nodes, "likes, agg", MIDNIGHT);
    for (id, second) in [("e1", 11.0), ("e2", 12.0), ("e3", 13.0)] {
        let event = json!({"event_id": id, "type": "like", "actor_id": "u1", "subject_id": "a:1", "occurred_at": case.time(second)});
        case.driver.pipe("u1", event.to_string().as_bytes(), case.time(second)).unwrap();
    }
    // The last one is held until second 20, when its window is closed.
    case.clock(100.0);
    assert_eq!(case.windows(), ["a:1 n 10..15 = 1"]);
    assert_eq!(case.late(), [("5000".to_owned(), 1)]);
    assert_eq!(case.totals()["a:1"]["agg.n"], 2);
}
