//! Visitors in windows, and when the values of windows are sent.

use super::*;

const DAY: i64 = 24 * HOUR;
const MIDNIGHT: i64 = NOW_MS.div_euclid(DAY) * DAY;

fn with(changes: &[(&str, &str)]) -> TopologyTestDriver<Actions> {
    let mut text = SHIPPED_TOPOLOGY.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    TopologyTestDriver::new(Topology::load("t", &text, REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}")))
}

/// Metric, start since midnight, value and whether it is an estimate, in the order they were written.
fn windows(driver: &mut TopologyTestDriver<Actions>, metric: &str, length: i64) -> Vec<(i64, i64, bool)> {
    let records = driver.read("counter-windows");
    let of = |w: &Value| w["metric"] == metric && w["window_ms"] == length;
    let window = |w: Value| {
        (w["window_start_ms"].as_i64().unwrap() - MIDNIGHT, w["value"].as_i64().unwrap(), w["approximate"] == true)
    };
    records.iter().map(Written::json).filter(of).map(window).collect()
}

#[test]
fn visitors_are_counted_anew_in_each_window() {
    let mut driver = driver();
    for (id, actor, at) in [("e1", "u1", -1), ("e2", "u1", 0), ("e3", "u2", 0), ("e4", "u1", HOUR)] {
        pipe(&mut driver, event(id, "view", actor, "article:7", MIDNIGHT + at), MIDNIGHT + HOUR);
    }
    assert_eq!(windows(&mut driver, "visitors", DAY), [(-DAY, 1, false), (0, 1, false), (0, 2, false)]);
    assert_eq!(counters(&mut driver, "article:7")["visitors"], 2);
}

#[test]
fn a_window_is_exact_up_to_256_and_says_when_it_is_not() {
    let mut driver = driver();
    driver.hold();
    for i in 0..2_000 {
        let time_ms = if i < 256 { MIDNIGHT } else { MIDNIGHT + DAY };
        pipe(&mut driver, event("e", "view", &format!("u{i}"), "article:7", time_ms), time_ms);
    }
    driver.commit().unwrap();
    let windows = windows(&mut driver, "visitors", DAY);
    let [(0, 256, false), (DAY, estimate, true)] = windows[..] else { panic!("{windows:?}") };
    assert!((estimate as f64 / 1_744.0 - 1.0).abs() < 0.04, "{estimate}");
}

#[test]
fn sketches_leave_with_their_windows_and_a_rolled_back_transaction_takes_nothing_with_it() {
    use tally_processors::Sketch;
    use tally_streams::store::{AccumulatorStore, SegmentHash, StateStore};
    let mut driver = driver();
    let partition = tally_streams::log::partition_of(b"article:7", 8);
    let kept = |driver: &mut TopologyTestDriver<Actions>| {
        let store =
            driver.store::<AccumulatorStore<SegmentHash, Sketch>>("by-subject_id", partition, "totals-window-sketches");
        store.len()
    };
    pipe(&mut driver, event("e1", "view", "u1", "article:7", MIDNIGHT), MIDNIGHT);
    pipe(&mut driver, event("e2", "view", "u1", "article:7", MIDNIGHT + DAY), MIDNIGHT + DAY);
    assert_eq!(kept(&mut driver), 2);
    // The first window is closed at its end and `late_after`; its segment ends an hour later.
    driver.advance_clock(MIDNIGHT + 2 * DAY + HOUR - 1).unwrap();
    assert_eq!(kept(&mut driver), 2);
    driver.hold();
    driver.advance_clock(MIDNIGHT + 2 * DAY + HOUR).unwrap();
    assert_eq!(kept(&mut driver), 1);
    driver.read("counter-windows");
    pipe(&mut driver, event("e3", "view", "u2", "article:7", MIDNIGHT + DAY + HOUR), MIDNIGHT + 2 * DAY + HOUR);
    driver.commit().unwrap();
    assert_eq!(windows(&mut driver, "visitors", DAY), [(DAY, 2, false)]);
}

#[test]
fn on_close_a_window_is_sent_once_when_nothing_can_change_it_any_more() {
    let on_close = ("event: view, windows: [1h, 1d] }", "event: view, windows: [1h, 1d], emit: on_close }");
    let visitors = ("by: actor_id, windows: [1d] }", "by: actor_id, windows: [1d], emit: on_close }");
    let mut driver = with(&[on_close, visitors]);
    for (id, actor, at) in [("e1", "u1", 0), ("e2", "u2", 1), ("e3", "u1", HOUR)] {
        pipe(&mut driver, event(id, "view", actor, "article:7", MIDNIGHT + at), MIDNIGHT + at);
    }
    // In the last moment at which it is not late.
    pipe(&mut driver, event("e4", "view", "u3", "article:7", MIDNIGHT + HOUR - 1), MIDNIGHT + HOUR - 1 + DAY);
    assert!(driver.read("counter-windows").is_empty());
    driver.advance_clock(MIDNIGHT + HOUR + DAY - 1).unwrap();
    assert!(driver.read("counter-windows").is_empty());
    driver.advance_clock(MIDNIGHT + HOUR + DAY).unwrap();
    assert_eq!(windows(&mut driver, "views", HOUR), [(0, 3, false)]);
    // A jump of the clock over several ends, and far beyond: nothing is forgotten before it is sent.
    driver.advance_clock(MIDNIGHT + 10 * DAY).unwrap();
    let records: Vec<_> = driver.read("counter-windows").iter().map(Written::json).collect();
    let sent: Vec<_> = records.iter().map(|w| (w["metric"].as_str().unwrap(), &w["window_ms"], &w["value"])).collect();
    assert_eq!(sent.len(), 3, "{sent:?}");
    for expected in
        [("views", &json!(HOUR), &json!(1)), ("views", &json!(DAY), &json!(4)), ("visitors", &json!(DAY), &json!(3))]
    {
        assert!(sent.contains(&expected), "{expected:?} is not among {sent:?}");
    }
    // Totals are not concerned.
    assert_eq!(counters(&mut driver, "article:7"), json!({"views": 4, "visitors": 3}));
    driver.advance_clock(MIDNIGHT + 20 * DAY).unwrap();
    assert!(driver.read("counter-windows").is_empty());
}

#[test]
fn what_a_rollback_takes_back_is_closed_again() {
    let mut driver = with(&[("event: api_call, windows: [1h] }", "event: api_call, windows: [1h], emit: on_close }")]);
    pipe(&mut driver, event("e1", "api_call", "u1", "api:a", MIDNIGHT), MIDNIGHT);
    driver.hold();
    driver.advance_clock(MIDNIGHT + HOUR + DAY - 1).unwrap();
    pipe(&mut driver, event("e2", "api_call", "u1", "api:b", MIDNIGHT + DAY), MIDNIGHT + HOUR + DAY - 1);
    driver.rollback();
    driver.advance_clock(MIDNIGHT + HOUR + DAY).unwrap();
    assert_eq!(windows(&mut driver, "calls", HOUR), [(0, 1, false)]);
    driver.advance_clock(MIDNIGHT + 3 * DAY).unwrap();
    assert!(driver.read("counter-windows").is_empty(), "of the second nothing was left");
}

#[test]
fn windows_and_emit_are_checked() {
    for (from, to, message) in [
        ("by: actor_id, windows: [1d]", "by: actor_id, windows: [90s]", "`windows[0]`: must be whole minutes"),
        ("by: actor_id, windows: [1d]", "by: actor_id, windows: [1d, 24h]", "`windows[1]`: is named twice"),
        (
            "by: actor_id, windows: [1d]",
            "by: actor_id, emit: on_close",
            "`emit`: says when windows are sent, and there are no `windows`",
        ),
        ("event: share }", "event: share, emit: on_update }", "`emit`: says when windows are sent"),
        ("event: view, windows: [1h, 1d]", "event: view, windows: [1h, 1d], emit: sometimes", "sometimes"),
    ] {
        assert!(SHIPPED_TOPOLOGY.contains(from), "{from}");
        let errors =
            Topology::load("t", &SHIPPED_TOPOLOGY.replace(from, to), REGISTRY, SINK_TYPES).err().map(|e| e.to_string());
        let errors = errors.unwrap_or_default();
        assert!(errors.contains(message), "{to}: {errors}");
    }
}

#[test]
fn windows_of_visitors_and_windows_sent_on_close_are_new_state() {
    use tally_streams::topology::{Difference, Fingerprint};
    let print = |windows: &str| -> Fingerprint {
        let text = SHIPPED_TOPOLOGY.replace("by: actor_id, windows: [1d] }", &format!("by: actor_id{windows} }}"));
        Topology::<Actions>::load("t", &text, REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}")).fingerprint()
    };
    let (none, day, both, closing) =
        (print(""), print(", windows: [1d]"), print(", windows: [1d, 1h]"), print(", windows: [1d], emit: on_close"));
    let accept = |what: &str| {
        let place = "of subtopology `by-subject_id`";
        Difference::Added(vec![format!("{} {place} is new: accept it with `--accept-added`; it starts empty", what)])
    };
    assert_eq!(day.compare(&none), accept("store `totals-window-sketches`"));
    assert_eq!(both.compare(&day), accept("window 1h (visitors) of store `totals-window-sketches`"));
    assert_eq!(closing.compare(&day), accept("store `totals-closing`"));
    assert!(matches!(none.compare(&day), Difference::Changed(_)));
    assert!(matches!(day.compare(&both), Difference::Changed(_)));
    assert!(matches!(day.compare(&closing), Difference::Changed(_)), "what waits for its end would never be sent");
}
