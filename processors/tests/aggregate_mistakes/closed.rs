//! Those with closed windows, which other nodes read.

use super::mistakes;

/// A file with closed windows.
const CLOSED: &str = "application: test
late_after: 1h
topics:
  events:   { key: actor_id, value: event, partitions: 2 }
  counters: { key: subject_id, value: counters, partitions: 2 }
  windows:  { key: [subject_id, metric, window, start], partition_by: subject_id, value: counter, partitions: 2 }
processors:
  valid:  { type: decode, from: events }
  agg:    { type: aggregate, from: valid, events: [view], subject: \"'user:' + actor_id\", values: { n: count, top: { max: properties.v } }, windows: [10m], grace: 1m, emit: on_close, totals: false }
  totals: { type: total, from: agg, to: [counters, windows] }
  per:    { type: aggregate, from: agg.closed, subject: \"'visitor:' + id(subject_id)\", values: { n: count }, windows: [2h], grace: 1m }
  more:   { type: total, from: per, to: [counters, windows] }
";

#[test]
fn every_mistake_with_closed_windows_is_named_where_it_stands() {
    assert_eq!(mistakes(CLOSED), []);
    let cases: &[(&str, &str, &str, &str, &str)] = &[
        (
            ", emit: on_close",
            "",
            "agg",
            "`emit`: `agg.closed` gives what a window has when it closes: this node needs `emit: on_close`",
            "",
        ),
        (
            ", windows: [10m], grace: 1m, emit: on_close, totals: false",
            "",
            "agg",
            "node `agg`: `agg.closed` gives closed windows, and there are no `windows`",
            "",
        ),
        (
            "windows: [10m]",
            "windows: [10m, 20m]",
            "[",
            "`windows`: `agg.closed` gives windows of one kind, and there are several",
            "a node of its own for each kind",
        ),
        (
            "top: { max",
            "window_end: { max",
            "{",
            "`values.window_end`: is the name of a property that `agg.closed` has anyway: rename it",
            "",
        ),
        (
            "[2h], grace: 1m",
            "[2h], grace: 59s",
            "59s",
            "`grace`: `agg.closed` gives windows up to 1m after their time, too late for a shorter grace",
            "`grace: 1m` or more",
        ),
        (
            "[2h], grace: 1m",
            "[2h]",
            "per",
            "`grace`: `agg.closed` gives windows up to 1m after their time, too late for a shorter grace",
            "`grace: 1m` or more",
        ),
        (
            "from: agg,",
            "from: [agg, per],",
            "agg.closed",
            "nodes read each other in a circle: `totals` reads `per` reads `totals`",
            "`agg.closed` comes from `totals`, which cannot read what follows from it",
        ),
        (
            "  totals: { type: total, from: agg, to: [counters, windows] }\n",
            "",
            "agg.closed",
            "`agg.closed` comes from the `total` that reads `agg`",
            "let exactly one node of type `total` read `agg`",
        ),
        (
            "from: per,",
            "from: [per, agg],",
            "agg.closed",
            "`agg.closed` comes from the `total` that reads `agg`",
            "let exactly one node of type `total` read `agg`",
        ),
        (
            "  more:   { type: total, from: per,",
            "  views:  { type: count, from: valid, event: view }\n  more:   { type: total, from: [per, views],",
            "views",
            "node `more` reads `per` in subtopology `by-subject_id` and `views` in `events`",
            "all inputs of a node must come from one subtopology",
        ),
        (
            "from: agg.closed,",
            "from: agg.closed, events: [view],",
            "view",
            "`events[0]`: events of the type `view` do not reach this node",
            "its inputs pass on: agg.closed",
        ),
        (
            "from: agg.closed,",
            "from: agg.closed, where: properties.m > 1,",
            "m",
            "`where`: unknown property `m` of `agg.closed`",
            "known properties: n, top, window_end, window_start",
        ),
        (
            "from: agg.closed,",
            "from: agg.closed, where: properties.top > 1,",
            "top",
            "`where`: an event may lack the property `top`",
            "test for it: `has(properties.top) && …`, or `has(properties.top) ? … : …`",
        ),
        (
            "from: agg.closed,",
            "from: agg.closed, max_subjects: 10,",
            "10",
            "`max_subjects`: takes subjects in the order of the log, and `agg.closed` has none",
            "`max_subjects` at `agg`",
        ),
        (
            "  more: ",
            "  seen:   { type: dedupe, from: agg.closed }\n  more: ",
            "seen",
            "node `seen`: takes events that were sent, and `agg.closed` gives closed windows",
            "filter, derive, route and aggregate take closed windows",
        ),
        (
            "  totals: { type: total, from: agg,",
            "  views:  { type: count, from: valid, event: view }\n  totals: { type: total, from: [agg, views],",
            "per",
            "node `per`: `views` and `per` may both count a subject of the kind `visitor`, whose totals two nodes of type `total` would write",
            "`totals: false` at one of them, or another kind of subjects",
        ),
        (
            "  totals: { type: total, from: agg,",
            "  also:   { type: aggregate, from: valid, subject: \"['user:' + actor_id, 'visitor:x']\", values: { n: count } }\n  totals: { type: total, from: [agg, also],",
            "per",
            "node `per`: `also` and `per` may both count a subject of the kind `visitor`, whose totals two nodes of type `total` would write",
            "`totals: false` at one of them, or another kind of subjects",
        ),
    ];
    let mut wrong = Vec::new();
    for (from, to, word, message, help) in cases {
        assert_eq!(CLOSED.matches(from).count(), 1, "`{from}` is not there once");
        let found = mistakes(&CLOSED.replace(from, to));
        let expected = ((*word).to_owned(), (*message).to_owned(), (*help).to_owned());
        if found != [expected.clone()] {
            wrong.push(format!("{to}\n  expected {expected:?}\n  found    {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Other kinds of subjects, or no totals, are no mistake.
    let apart = CLOSED.replace("  totals: { type: total, from: agg,", "  also:   { type: aggregate, from: valid, subject: \"'user:' + actor_id\", values: { n: count } }\n  totals: { type: total, from: [agg, also],");
    assert_eq!(mistakes(&apart), []);
    let counted = CLOSED.replace(
        "  totals: { type: total, from: agg,",
        "  views:  { type: count, from: valid, event: view }\n  totals: { type: total, from: [agg, views],",
    );
    assert_eq!(mistakes(&counted.replace("[2h], grace: 1m", "[2h], grace: 1m, totals: false")), []);
}
