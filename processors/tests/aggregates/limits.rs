//! `max_subjects`: which subjects an `aggregate` node counts, and what stands for the others.

use super::case::{Case, MIDNIGHT, TOPOLOGY};
use super::deliveries::{events, raw_event, run, totals};
use super::world::PARTITIONS;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const CAMPAIGN: &str = r#"subject: "'campaign:' + id(properties.c)", max_subjects: 2, values: { n: count }"#;

fn view(case: &mut Case, campaign: &str, second: f64) {
    case.with("a:1", second, second, json!({"c": campaign}));
}

/// The last count of each subject that changed since the last call.
fn counts(case: &mut Case) -> Vec<(String, i64)> {
    let totals = case.totals().into_iter();
    totals.map(|(subject, counters)| (subject, counters["agg.n"].as_i64().unwrap())).collect()
}

fn named(counts: &[(&str, i64)]) -> Vec<(String, i64)> {
    counts.iter().map(|(subject, count)| ((*subject).to_owned(), *count)).collect()
}

#[test]
fn the_first_subjects_count_and_all_further_ones_count_as_one() {
    let mut case = Case::new(CAMPAIGN);
    for campaign in ["a", "b", "c", "a", "d", "c", "b"] {
        view(&mut case, campaign, 1.0);
    }
    assert_eq!(counts(&mut case), named(&[("campaign:_other", 3), ("campaign:a", 2), ("campaign:b", 2)]));
    assert_eq!(case.driver.over_limit(), BTreeMap::from([("agg".to_owned(), 3)]));
    assert_eq!(case.driver.stored("events", 0), [("agg".to_owned(), 3)]);
}

#[test]
fn a_client_that_names_the_rest_itself_takes_no_place() {
    let mut case = Case::new(CAMPAIGN);
    for campaign in ["_other", "a", "b", "_other"] {
        view(&mut case, campaign, 1.0);
    }
    assert_eq!(counts(&mut case), named(&[("campaign:_other", 2), ("campaign:a", 1), ("campaign:b", 1)]));
    assert!(case.driver.over_limit().is_empty());
}

#[test]
fn every_kind_has_its_own_rest_and_an_event_counts_once_for_it() {
    let mut case = Case::new(
        r#"subject: ["'user:' + actor_id", "['tag:' + id(properties.a), 'tag:' + id(properties.b)]"], max_subjects: 1, values: { n: count }"#,
    );
    case.with("a:1", 1.0, 1.0, json!({"a": "x", "b": "y"}));
    assert_eq!(counts(&mut case), named(&[("tag:_other", 1), ("user:u1", 1)]));
}

#[test]
fn a_rejected_event_takes_no_place() {
    let mut case = Case::new(&CAMPAIGN.replace("n: count", "n: count, v: { sum: properties.v }"));
    case.with("a:1", 1.0, 1.0, json!({"c": "bad", "v": "x"}));
    for campaign in ["a", "b"] {
        view(&mut case, campaign, 1.0);
    }
    assert_eq!(case.dead().len(), 1);
    assert_eq!(counts(&mut case), named(&[("campaign:a", 1), ("campaign:b", 1)]));
}

#[test]
fn places_are_taken_for_good_where_there_are_totals_and_for_a_day_where_there_are_none() {
    const DAY: f64 = 86_400.0;
    let mut case = Case::new(CAMPAIGN);
    for (campaign, second) in [("a", 1.0), ("b", 1.0), ("c", 100.0 * DAY)] {
        view(&mut case, campaign, second);
    }
    assert_eq!(counts(&mut case), named(&[("campaign:_other", 1), ("campaign:a", 1), ("campaign:b", 1)]));

    let mut case = Case::new(&format!("{CAMPAIGN}, windows: [1h], totals: false"));
    for (campaign, second) in [("a", 1.0), ("b", 1.0), ("c", DAY - 1.0), ("c", DAY), ("d", DAY), ("a", DAY)] {
        view(&mut case, campaign, second);
    }
    assert_eq!(
        case.windows(),
        [
            "campaign:a n 0..3600 = 1",
            "campaign:b n 0..3600 = 1",
            "campaign:_other n 82800..86400 = 1",
            "campaign:c n 86400..90000 = 1",
            "campaign:d n 86400..90000 = 1",
            "campaign:_other n 86400..90000 = 1"
        ]
    );
    // The places of the first day are gone.
    case.clock(DAY + 3_700.0);
    assert_eq!(case.driver.stored("events", 0), [("agg".to_owned(), 3)]);
}

#[test]
fn what_stands_for_many_subjects_has_no_place_on_a_board() {
    let nodes = format!(
        "  agg: {{ type: aggregate, from: valid, events: [view], {CAMPAIGN} }}\n  \
           most: {{ type: board, from: agg, score: {{ agg.n: 1 }}, window: 1h, to: rankings }}\n"
    );
    let mut case = Case::of(&nodes, "agg", MIDNIGHT);
    for campaign in ["a", "b", "c", "c", "c", "_other"] {
        view(&mut case, campaign, 1.0);
    }
    case.clock(100.0);
    let ranking = case.driver.read("rankings").last().unwrap().json();
    let subjects: Vec<_> = ranking["items"].as_array().unwrap().iter().map(|item| item["subject_id"].clone()).collect();
    assert_eq!(subjects, [json!("campaign:a"), json!("campaign:b")]);
}

#[test]
fn subjects_of_private_kinds_have_no_place_on_boards_whatever_counts_for_them() {
    let nodes = r#"
  ips:   { type: aggregate, from: valid, events: [view], subject: "'ip:' + id(properties.c)", private: true, values: { n: count } }
  views: { type: count, from: valid, event: view }
  most:  { type: board, from: views, score: { views: 1 }, window: 1h, to: rankings }
"#;
    let mut case = Case::of(nodes, "ips, views", MIDNIGHT);
    for subject in ["a:1", "ip:1", "ip:1", "ips:1"] {
        case.with(subject, 1.0, 1.0, json!({"c": "1"}));
    }
    case.clock(100.0);
    let ranking = case.driver.read("rankings").last().unwrap().json();
    let subjects: Vec<_> = ranking["items"].as_array().unwrap().iter().map(|item| item["subject_id"].clone()).collect();
    assert_eq!(subjects, [json!("a:1"), json!("ips:1")]);
    // It is counted all the same.
    assert_eq!(case.totals()["ip:1"], json!({"ips.n": 4, "views": 2}));
}

/// The counts by the definition: the first two subjects of each partition.
fn naive(events: &[super::naive::Event]) -> (BTreeMap<String, Value>, u64) {
    let mut places = vec![BTreeSet::new(); PARTITIONS];
    let (mut counts, mut excess) = (BTreeMap::<String, i64>::new(), 0);
    for event in events {
        let places = &mut places[event.partition];
        if places.len() < 2 {
            places.insert(&event.subject);
        }
        let has_place = places.contains(&event.subject);
        excess += u64::from(!has_place);
        let counted = if has_place { format!("s:{}", event.subject) } else { "s:_other".to_owned() };
        *counts.entry(counted).or_default() += 1;
    }
    (counts.into_iter().map(|(subject, n)| (subject, json!({"n": n}))).collect(), excess)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]
    #[test]
    fn the_log_decides_in_every_delivery(raw in prop::collection::vec(raw_event(), 1..40), seed in any::<u64>()) {
        let events = events(MIDNIGHT, raw);
        let (expected, excess) = naive(&events);
        let text = TOPOLOGY.replace("PARTITIONS", &PARTITIONS.to_string()).replace("RANKINGS", "");
        let text = format!(
            "{text}  agg: {{ type: aggregate, from: valid, events: [view], subject: \"'s:' + id(subject_id)\", max_subjects: 2, values: {{ n: count }} }}\n  \
             totals: {{ type: total, from: agg, to: counters }}\n"
        ).replace("  windows:      { key: [subject_id, metric, window, start], partition_by: subject_id, value: counter, partitions: 2 }\n", "");
        let end = events.last().unwrap().append + 1_000;
        for delivery in 0..10 {
            let mut world = run(&text, &events, seed.wrapping_mul(31).wrapping_add(delivery * 0x9E37_79B9), end);
            prop_assert_eq!(&totals(&world, "agg"), &expected, "delivery {}", delivery);
            prop_assert_eq!(world.over_limit(), excess, "delivery {}", delivery);
        }
    }
}
