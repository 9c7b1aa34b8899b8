//! Tumbling and hopping windows.

use super::case::Case;
use serde_json::json;

#[test]
fn events_count_in_the_window_of_their_time_in_any_order() {
    let mut case = Case::new("values: { n: count }, windows: [10s], grace: 20s");
    for (second, appended) in [(3.0, 3.0), (12.0, 12.0), (9.999, 13.0), (10.0, 14.0), (0.0, 15.0)] {
        case.view("a:1", second, appended);
    }
    assert_eq!(
        case.windows(),
        ["a:1 n 0..10 = 1", "a:1 n 10..20 = 1", "a:1 n 0..10 = 2", "a:1 n 10..20 = 2", "a:1 n 0..10 = 3"]
    );
    assert_eq!(case.totals()["a:1"], json!({"agg.n": 5}));
    assert_eq!(case.late(), []);
}

#[test]
fn without_grace_a_window_takes_events_until_its_end() {
    let mut case = Case::new("values: { n: count }, windows: [10s]");
    case.view("a:1", 0.0, 9.999);
    case.view("a:1", 0.0, 10.0);
    case.view("a:1", 10.0, 10.0);
    assert_eq!(case.windows(), ["a:1 n 0..10 = 1", "a:1 n 10..20 = 1"]);
    // What is late for the window counts in the total.
    assert_eq!(case.totals()["a:1"], json!({"agg.n": 3}));
    assert_eq!(case.late(), [("10000".to_owned(), 1)]);
}

#[test]
fn with_grace_a_window_takes_events_until_that_long_after_its_end() {
    let mut case = Case::new("values: { n: count }, windows: [10s], grace: 5s");
    case.view("a:1", 9.0, 14.999);
    case.view("a:1", 9.0, 15.0);
    assert_eq!(case.windows(), ["a:1 n 0..10 = 1"]);
    assert_eq!(case.late(), [("10000".to_owned(), 1)]);
}

#[test]
fn lateness_is_that_of_the_record_and_not_of_other_subjects() {
    // As in Kafka Streams the clock is that of the task, whatever the subject is.
    let mut case = Case::new("values: { n: count }, windows: [10s]");
    case.view("a:1", 25.0, 25.0);
    case.view("a:2", 24.0, 26.0);
    case.view("a:2", 19.0, 27.0);
    assert_eq!(case.windows(), ["a:1 n 20..30 = 1", "a:2 n 20..30 = 1"]);
    assert_eq!(case.late(), [("10000".to_owned(), 1)]);
}

#[test]
fn an_event_is_in_every_hopping_window_that_holds_it() {
    // TimeWindowsTest: size 12, advance 5, the record at 21 is in the windows that begin at 10, 15 and 20.
    let mut case = Case::new("values: { n: count }, windows: [{ hopping: 12s, every: 5s }]");
    case.view("a:1", 21.0, 21.0);
    assert_eq!(case.windows(), ["a:1 n 10..22 = 1", "a:1 n 15..27 = 1", "a:1 n 20..32 = 1"]);
    // The end does not belong to a window, the start does.
    case.view("a:1", 22.0, 22.0);
    assert_eq!(case.windows(), ["a:1 n 15..27 = 2", "a:1 n 20..32 = 2"]);
    case.view("a:1", 25.0, 25.0);
    assert_eq!(case.windows(), ["a:1 n 15..27 = 3", "a:1 n 20..32 = 3", "a:1 n 25..37 = 1"]);
}

#[test]
fn an_event_may_be_late_for_one_window_and_not_for_the_next() {
    let mut case = Case::new("values: { n: count }, windows: [{ hopping: 10s, every: 5s }, 20s], grace: 1s");
    case.view("a:1", 9.0, 10.999);
    assert_eq!(case.windows(), ["a:1 n 0..10 = 1", "a:1 n 5..15 = 1", "a:1 n 0..20 = 1"]);
    assert_eq!(case.late(), []);
    case.view("a:1", 9.0, 11.0);
    assert_eq!(case.windows(), ["a:1 n 5..15 = 2", "a:1 n 0..20 = 2"]);
    assert_eq!(case.late(), [("hopping:10000:5000".to_owned(), 1)]);
    case.view("a:1", 9.0, 21.0);
    assert_eq!(case.windows(), Vec::<String>::new());
    assert_eq!(case.late(), [("20000".to_owned(), 1), ("hopping:10000:5000".to_owned(), 2)]);
    assert_eq!(case.totals()["a:1"], json!({"agg.n": 3}));
}

#[test]
fn on_close_a_window_is_written_once_and_exactly_at_its_end_and_grace() {
    let mut case = Case::new("values: { n: count }, windows: [10s], grace: 5s, emit: on_close");
    case.view("a:1", 3.0, 3.0);
    case.view("a:1", 9.0, 14.0);
    case.clock(14.999);
    assert_eq!(case.windows(), Vec::<String>::new());
    case.clock(15.0);
    assert_eq!(case.windows(), ["a:1 n 0..10 = 2"]);
    case.view("a:1", 9.0, 15.0);
    case.clock(500.0);
    assert_eq!(case.windows(), Vec::<String>::new());
    assert_eq!(case.late(), [("10000".to_owned(), 1)]);
}

#[test]
fn the_record_that_closes_a_window_is_not_in_it() {
    // SuppressScenarioTest: a final result comes with the first record at or after the end.
    let mut case = Case::new("values: { n: count }, windows: [10s], emit: on_close");
    case.view("a:1", 0.0, 0.0);
    case.view("a:1", 9.5, 10.0);
    assert_eq!(case.windows(), ["a:1 n 0..10 = 1"]);
    assert_eq!(case.totals()["a:1"], json!({"agg.n": 2}));
}

#[test]
fn windows_close_in_the_order_of_their_ends() {
    let mut case = Case::new("values: { n: count }, windows: [{ hopping: 10s, every: 5s }, 10s], emit: on_close");
    for (subject, second) in [("a:1", 12.0), ("a:2", 13.0), ("a:1", 21.0)] {
        case.view(subject, second, second);
    }
    // A gap without traffic, and a jump over several ends: idle time closes windows.
    case.windows();
    case.clock(100.0);
    let closed = case.windows();
    let ends: Vec<f64> = closed.iter().map(|line| line.split([' ', '.']).nth(4).unwrap().parse().unwrap()).collect();
    assert!(ends.is_sorted(), "{closed:?}");
    assert_eq!(closed.len(), 3, "{closed:?}");
    case.clock(10_000.0);
    assert_eq!(case.windows(), Vec::<String>::new());
}

#[test]
fn windows_begin_before_1970_but_events_do_not() {
    let mut case = Case::at_1970("values: { n: count }, windows: [10s, { hopping: 10s, every: 5s }], emit: on_close");
    case.view("a:1", 0.0, 0.0);
    case.view("a:1", 2.0, 2.0);
    case.view("a:1", 5.0, 5.0);
    assert_eq!(case.windows(), ["a:1 n -5..5 = 2"]);
    case.clock(9.999);
    assert_eq!(case.windows(), Vec::<String>::new());
    case.clock(10.0);
    let mut closed = case.windows();
    closed.sort();
    assert_eq!(closed, ["a:1 n 0..10 = 3", "a:1 n 0..10 = 3"]);
    case.clock(15.0);
    assert_eq!(case.windows(), ["a:1 n 5..15 = 1"]);
}

#[test]
fn the_windows_of_two_nodes_and_two_kinds_do_not_meet() {
    let nodes = "
  short: { type: aggregate, from: valid, events: [view], values: { n: count }, windows: [10s], grace: 1s }
  long:  { type: aggregate, from: valid, events: [view], values: { n: count }, windows: [10s, { sliding: 10s }], grace: 5s, emit: on_close }
";
    let mut case = Case::of(nodes, "short, long", super::case::MIDNIGHT);
    case.view("a:1", 9.0, 10.0);
    case.view("a:1", 9.0, 12.0);
    assert_eq!(case.windows(), ["a:1 n 0..10 = 1"]);
    case.clock(15.0);
    assert_eq!(case.windows(), ["a:1 n -1..9.001 = 2", "a:1 n 0..10 = 2"]);
    assert_eq!(case.late(), [("10000".to_owned(), 1)]);
    assert_eq!(case.totals()["a:1"], json!({"long.n": 2, "short.n": 2}));
}

#[test]
fn a_commit_writes_a_window_once() {
    let mut case =
        Case::new("values: { n: count, least: { min: properties.v } }, windows: [{ hopping: 10s, every: 5s }]");
    case.driver.hold();
    for v in [3, 1, 2] {
        case.with("a:1", 7.0, 7.0, json!({"v": v}));
    }
    case.driver.commit().unwrap();
    let all = ["a:1 least 0..10 = 1", "a:1 n 0..10 = 3", "a:1 least 5..15 = 1", "a:1 n 5..15 = 3"];
    assert_eq!(case.windows(), all);
}

#[test]
fn what_was_rolled_back_is_done_again() {
    let mut case = Case::new("values: { n: count }, windows: [10s], emit: on_close");
    case.view("a:1", 1.0, 1.0);
    case.driver.hold();
    case.view("a:1", 2.0, 2.0);
    case.view("a:1", 2.0, 11.0);
    case.driver.rollback();
    assert_eq!(case.late(), []);
    case.view("a:1", 2.0, 2.0);
    case.clock(10.0);
    assert_eq!(case.windows(), ["a:1 n 0..10 = 2"]);
}

#[test]
fn a_commit_closes_ten_thousand_windows_and_the_next_goes_on() {
    let mut case = Case::new("values: { n: count }, windows: [10s], emit: on_close, totals: false");
    case.driver.hold();
    for subject in 0..20_005 {
        case.view(&format!("a:{subject}"), 1.0, 1.0);
    }
    case.driver.commit().unwrap();
    case.driver.read("windows");
    case.clock(1_000.0);
    let mut written = vec![case.windows().len()];
    // Nothing else happens: commits follow until all is closed.
    for _ in 0..4 {
        case.driver.commit().unwrap();
        written.push(case.windows().len());
    }
    assert_eq!(written, [10_000, 10_000, 5, 0, 0]);
    assert_eq!(case.totals().len(), 0);
}

#[test]
fn state_of_closed_windows_is_forgotten() {
    let mut case = Case::new("values: { n: count }, windows: [10s], grace: 30s");
    let windows = |case: &mut Case| {
        let stores = case.driver.stored("by-subject_id", 0);
        stores.iter().find(|(name, _)| name == "totals.agg.windows").map(|(_, entries)| *entries).unwrap()
    };
    case.view("a:1", 1.0, 1.0);
    case.view("a:1", 70.0, 70.0);
    assert_eq!(windows(&mut case), 2);
    case.clock(89.999);
    assert_eq!(windows(&mut case), 2);
    // The minute in which the first window ended is over by more than the grace.
    case.clock(90.0);
    assert_eq!(windows(&mut case), 1);
    case.clock(150.0);
    assert_eq!(windows(&mut case), 0);
}
