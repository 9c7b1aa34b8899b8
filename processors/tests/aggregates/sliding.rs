//! Sliding windows, in the ways of KStreamSlidingWindowAggregateTest.

use super::case::Case;
use std::collections::BTreeMap;

/// The last value of each window, by its start in milliseconds.
fn last(windows: Vec<String>) -> BTreeMap<String, String> {
    let parts = |line: String| {
        let (window, value) = line.split_once(" = ").unwrap();
        (window.to_owned(), value.to_owned())
    };
    windows.into_iter().map(parts).collect()
}

const SMALL_INPUT: [(f64, i64); 5] = [(10.0, 1), (15.0, 2), (20.0, 4), (22.0, 8), (30.0, 16)];
/// testAggregateSmallInput: each event is a power of two, so that a sum shows which ones a window holds.
const SMALL_RESULT: [(&str, &str); 9] = [
    ("a:1 s 0..10.001", "1"),
    ("a:1 s 10..20.001", "7"),
    ("a:1 s 10.001..20.002", "6"),
    ("a:1 s 12..22.001", "14"),
    ("a:1 s 15.001..25.002", "12"),
    ("a:1 s 20..30.001", "28"),
    ("a:1 s 20.001..30.002", "24"),
    ("a:1 s 22.001..32.002", "16"),
    ("a:1 s 5..15.001", "3"),
];

fn expected(result: &[(&str, &str)]) -> BTreeMap<String, String> {
    result.iter().map(|(window, value)| ((*window).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_window_ends_with_each_event_and_one_begins_behind_it() {
    let mut case = Case::new("values: { s: { sum: properties.v } }, windows: [{ sliding: 10s }], grace: 50s");
    for (second, v) in SMALL_INPUT {
        case.with("a:1", second, second, serde_json::json!({"v": v}));
    }
    assert_eq!(last(case.windows()), expected(&SMALL_RESULT));
}

#[test]
fn the_order_of_events_decides_nothing() {
    for order in [[4, 3, 2, 1, 0], [2, 0, 4, 1, 3], [1, 4, 0, 3, 2]] {
        for emit in ["on_update", "on_close"] {
            let parameters = "values: { s: { sum: properties.v } }, windows: [{ sliding: 10s }], grace: 50s";
            let mut case = Case::new(&format!("{parameters}, emit: {emit}"));
            for at in order {
                let (second, v) = SMALL_INPUT[at];
                case.with("a:1", second, 30.0, serde_json::json!({"v": v}));
            }
            if emit == "on_close" {
                assert_eq!(case.windows(), Vec::<String>::new());
                case.clock(1_000.0);
                let closed = case.windows();
                assert_eq!(closed.len(), SMALL_RESULT.len(), "each once: {closed:?}");
                assert_eq!(last(closed), expected(&SMALL_RESULT));
            } else {
                assert_eq!(last(case.windows()), expected(&SMALL_RESULT), "{order:?}");
            }
        }
    }
}

#[test]
fn both_ends_belong_to_a_window() {
    let mut case = Case::new("values: { n: count }, windows: [{ sliding: 10s }], grace: 1m");
    case.view("a:1", 0.0, 0.0);
    case.view("a:1", 10.0, 10.0);
    assert_eq!(case.windows(), ["a:1 n -10..0.001 = 1", "a:1 n 0..10.001 = 2", "a:1 n 0.001..10.002 = 1"]);
    case.view("a:1", 20.001, 20.001);
    assert_eq!(case.windows(), ["a:1 n 10.001..20.002 = 1"], "one window is behind an event and ends with another");
}

#[test]
fn equal_times_are_in_the_same_windows() {
    let mut case = Case::new("values: { n: count }, windows: [{ sliding: 10s }]");
    case.view("a:1", 5.0, 5.0);
    case.view("a:1", 5.0, 5.0);
    assert_eq!(case.windows(), ["a:1 n -5..5.001 = 1", "a:1 n -5..5.001 = 2"]);
}

#[test]
fn a_window_closes_behind_its_last_moment_and_grace() {
    let mut case = Case::new("values: { n: count }, windows: [{ sliding: 10s }], grace: 5s, emit: on_close");
    case.view("a:1", 5.0, 5.0);
    case.clock(10.0);
    assert_eq!(case.windows(), Vec::<String>::new());
    case.clock(10.001);
    assert_eq!(case.windows(), ["a:1 n -5..5.001 = 1"]);
    // Too late for the window that ends with it, and not for the one behind the first event.
    case.view("a:1", 8.0, 13.001);
    assert_eq!(case.late(), []);
    case.clock(100.0);
    assert_eq!(case.windows(), ["a:1 n 5.001..15.002 = 1"]);
    // Too late for every window.
    case.view("a:1", 90.0, 105.001);
    assert_eq!(case.late(), [("sliding:10000".to_owned(), 1)]);
    case.clock(1_000.0);
    assert_eq!(case.windows(), Vec::<String>::new());
}

#[test]
fn windows_near_1970_are_as_all_others() {
    // Kafka Streams has one window from 0 for all events up to the size.
    let mut case = Case::at_1970("values: { n: count }, windows: [{ sliding: 10s }]");
    case.view("a:1", 0.0, 0.0);
    case.view("a:1", 3.0, 3.0);
    assert_eq!(case.windows(), ["a:1 n -10..0.001 = 1", "a:1 n -7..3.001 = 2", "a:1 n 0.001..10.002 = 1"]);
}

#[test]
fn what_changes_and_closes_in_one_commit_is_written() {
    let mut case = Case::new("values: { n: count }, windows: [{ sliding: 10s }]");
    case.driver.hold();
    case.view("a:1", 5.0, 5.0);
    case.view("a:2", 500.0, 500.0);
    case.driver.commit().unwrap();
    assert_eq!(case.windows(), ["a:1 n -5..5.001 = 1", "a:2 n 490..500.001 = 1"]);
}
