//! Sessions, in the ways of KStreamSessionWindowAggregateProcessorTest.

use super::case::Case;
use serde_json::json;

const NONE: [&str; 0] = [];

fn case(rest: &str) -> Case {
    Case::new(&format!("values: {{ n: count }}, windows: [{{ session: 10s, max: 1h }}]{rest}"))
}

#[test]
fn events_within_the_gap_are_one_session() {
    let mut case = case("");
    case.view("a:1", 0.0, 0.0);
    // The gap belongs to it.
    case.view("a:1", 10.0, 10.0);
    case.view("a:1", 20.001, 20.001);
    assert_eq!(case.windows(), ["a:1 n 0..0.001 = 1", "a:1 n 0..10.001 = 2", "a:1 n 20.001..20.002 = 1"]);
}

#[test]
fn an_event_at_the_same_time_extends_nothing() {
    let mut case = case("");
    case.view("a:1", 5.0, 5.0);
    case.view("a:1", 5.0, 6.0);
    assert_eq!(case.windows(), ["a:1 n 5..5.001 = 1", "a:1 n 5..5.001 = 2"]);
}

#[test]
fn an_event_between_two_sessions_merges_them() {
    let mut case = case(", grace: 1m");
    case.view("a:1", 0.0, 0.0);
    case.view("a:1", 11.0, 11.0);
    assert_eq!(case.windows(), ["a:1 n 0..0.001 = 1", "a:1 n 11..11.001 = 1"]);
    case.view("a:1", 6.0, 12.0);
    // The first grows, and the other one is no more.
    assert_eq!(case.windows(), ["a:1 n 11..11.001 = deleted", "a:1 n 0..11.001 = 3"]);
}

#[test]
fn three_sessions_merge_by_two_events() {
    let mut case = case(", grace: 5m");
    for second in [0.0, 15.0, 30.0, 60.0] {
        case.view("a:1", second, second);
    }
    case.windows();
    case.driver.hold();
    case.view("a:1", 7.5, 61.0);
    case.view("a:1", 22.5, 62.0);
    case.driver.commit().unwrap();
    assert_eq!(case.windows(), ["a:1 n 15..15.001 = deleted", "a:1 n 30..30.001 = deleted", "a:1 n 0..30.001 = 5"]);
}

#[test]
fn an_earlier_event_moves_the_start_and_the_old_start_is_deleted() {
    let mut case = case(", grace: 1m");
    case.view("a:1", 10.0, 10.0);
    case.view("a:1", 5.0, 11.0);
    assert_eq!(case.windows(), ["a:1 n 10..10.001 = 1", "a:1 n 10..10.001 = deleted", "a:1 n 5..10.001 = 2"]);
}

#[test]
fn what_was_never_written_is_not_deleted() {
    let mut case = case(", grace: 1m");
    case.driver.hold();
    for second in [20.0, 10.0, 0.0] {
        case.view("a:1", second, 20.0);
    }
    case.driver.commit().unwrap();
    assert_eq!(case.windows(), ["a:1 n 0..20.001 = 3"]);
}

#[test]
fn sessions_of_several_subjects_are_apart() {
    // shouldHandleMultipleSessionsAndMerging
    let mut case = case(", grace: 1h, emit: on_close");
    let events = [
        ("a:a", 0.0),
        ("a:b", 0.0),
        ("a:c", 0.0),
        ("a:d", 0.0),
        ("a:d", 5.0),
        ("a:a", 11.0),
        ("a:b", 11.0),
        ("a:d", 11.0),
        ("a:a", 16.0),
        ("a:b", 16.0),
        ("a:c", 16.0),
    ];
    for (subject, second) in events {
        case.view(subject, second, 20.0);
    }
    assert_eq!(case.windows(), NONE);
    case.clock(100_000.0);
    let mut closed = case.windows();
    closed.sort();
    assert_eq!(
        closed,
        [
            "a:a n 0..0.001 = 1",
            "a:a n 11..16.001 = 2",
            "a:b n 0..0.001 = 1",
            "a:b n 11..16.001 = 2",
            "a:c n 0..0.001 = 1",
            "a:c n 16..16.001 = 1",
            "a:d n 0..11.001 = 3"
        ]
    );
}

#[test]
fn a_record_is_late_by_its_own_age_whatever_session_is_open() {
    let mut case = case(", grace: 2s");
    // Time, gap and grace: 12 s.
    case.view("a:1", 0.0, 12.0);
    case.view("a:1", 0.0, 12.001);
    assert_eq!(case.windows(), ["a:1 n 0..0.001 = 1"]);
    assert_eq!(case.late(), [("session:10000:3600000".to_owned(), 1)]);
    // Kafka Streams adds a late record to an open session that happens to be near.
    case.view("a:1", 8.0, 13.0);
    case.view("a:1", 1.0, 13.001);
    assert_eq!(case.windows(), ["a:1 n 0..8.001 = 2"]);
    assert_eq!(case.totals()["a:1"], json!({"agg.n": 4}));
}

#[test]
fn a_session_closes_when_nothing_can_join_it_any_more() {
    let mut case = case(", grace: 3s, emit: on_close");
    case.view("a:1", 5.0, 5.0);
    // Last event, two gaps and the grace: a record up to a gap behind it is not late until then.
    case.clock(28.0);
    assert_eq!(case.windows(), NONE);
    case.view("a:1", 15.0, 28.0);
    case.clock(38.0);
    assert_eq!(case.windows(), NONE);
    case.clock(38.001);
    assert_eq!(case.windows(), ["a:1 n 5..15.001 = 2"]);
    case.clock(1_000.0);
    assert_eq!(case.windows(), NONE);
}

#[test]
fn on_update_a_closed_session_stays_as_it_was() {
    let mut case = case("");
    case.view("a:1", 0.0, 0.0);
    assert_eq!(case.windows(), ["a:1 n 0..0.001 = 1"]);
    case.clock(20.001);
    assert_eq!(case.windows(), NONE);
    // It is forgotten, and the next one begins anew.
    case.view("a:1", 30.0, 30.0);
    assert_eq!(case.windows(), ["a:1 n 30..30.001 = 1"]);
}

#[test]
fn a_session_that_closes_in_the_commit_of_its_last_event_is_written() {
    let mut case = case("");
    case.view("a:1", 0.0, 0.0);
    case.windows();
    case.driver.hold();
    case.view("a:1", 5.0, 5.0);
    case.view("a:2", 100.0, 100.0);
    case.driver.commit().unwrap();
    assert_eq!(case.windows(), ["a:1 n 0..5.001 = 2", "a:2 n 100..100.001 = 1"]);
}

#[test]
fn a_session_that_absorbs_another_and_closes_in_one_commit_deletes_it() {
    let mut case = case("");
    case.view("a:1", 10.0, 10.0);
    case.windows();
    case.driver.hold();
    case.view("a:1", 5.0, 11.0);
    case.view("a:2", 100.0, 100.0);
    case.driver.commit().unwrap();
    let mut written = case.windows();
    written.sort();
    assert_eq!(written, ["a:1 n 10..10.001 = deleted", "a:1 n 5..10.001 = 2", "a:2 n 100..100.001 = 1"]);
}

#[test]
fn sessions_are_cut_at_multiples_of_their_greatest_length() {
    let mut case = Case::new("values: { n: count }, windows: [{ session: 10s, max: 30s }], grace: 1m, emit: on_close");
    for second in [20.0, 29.999, 30.0, 38.0, 60.0, 25.0] {
        case.view("a:1", second, 60.0);
    }
    case.clock(1_000.0);
    assert_eq!(case.windows(), ["a:1 n 20..30 = 3", "a:1 n 30..38.001 = 2", "a:1 n 60..60.001 = 1"]);
}

#[test]
fn sessions_begin_at_1970() {
    let mut case = Case::at_1970("values: { n: count }, windows: [{ session: 10s, max: 1h }], emit: on_close");
    case.view("a:1", 0.0, 0.0);
    case.view("a:1", 10.0, 10.0);
    case.clock(30.0);
    assert_eq!(case.windows(), NONE);
    case.clock(30.001);
    assert_eq!(case.windows(), ["a:1 n 0..10.001 = 2"]);
}

#[test]
fn values_merge_with_their_sessions() {
    let values = "values: { first: { first: properties.v }, last: { last: properties.v }, mean: { avg: properties.v }, \
                  most: { max: properties.v }, who: { distinct: properties.v } }";
    let mut case = Case::new(&format!("{values}, windows: [{{ session: 10s, max: 1h }}], grace: 1m, emit: on_close"));
    for (second, v) in [(0.0, 5), (15.0, 7), (7.0, 5)] {
        case.with("a:1", second, 20.0, json!({"v": v}));
    }
    case.clock(1_000.0);
    assert_eq!(
        case.windows(),
        [
            "a:1 first 0..15.001 = 5",
            "a:1 last 0..15.001 = 7",
            "a:1 mean 0..15.001 = 5.667",
            "a:1 most 0..15.001 = 7",
            "a:1 who 0..15.001 = 2"
        ]
    );
}
