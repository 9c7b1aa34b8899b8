//! The messages of `tally check` about invalid aggregates.

#[path = "aggregate_mistakes/closed.rs"]
mod closed;

use tally_processors::REGISTRY;
use tally_sinks::SINK_TYPES;
use tally_streams::topology::{Diagnostic, Difference, Topology};

const TOPOLOGY: &str = "application: test
late_after: 1h
topics:
  events:   { key: actor_id, value: event, partitions: 2 }
  counters: { key: subject_id, value: counters, partitions: 2 }
  windows:  { key: [subject_id, metric, window, start], partition_by: subject_id, value: counter, partitions: 2 }
  rankings: { key: board, value: ranking, partitions: 1 }
processors:
  valid:  { type: decode, from: events }
  likes:  { type: toggle, from: valid, on: like, off: unlike }
  agg:    { type: aggregate, from: valid, events: [view], values: { n: count, ms: { sum: duration_ms }, mean: { avg: duration_ms } }, windows: [10m], grace: 1m }
  ips:    { type: aggregate, from: valid, subject: \"['ip:' + id(actor_id), 'net:' + id(actor_id)]\", private: true, values: { n: count } }
  totals: { type: total, from: [agg, likes, ips], to: [counters, windows] }
  hot:    { type: board, from: [likes], score: { likes: 1 }, half_life: 1h, to: rankings }
";

fn changed(from: &str, to: &str) -> String {
    assert_eq!(TOPOLOGY.matches(from).count(), 1, "`{from}` is not there once");
    TOPOLOGY.replace(from, to)
}

/// Everything that is wrong, each as the word under the caret, the message and the help.
fn mistakes(text: &str) -> Vec<(String, String, String)> {
    let all = Topology::load("topology.yaml", text, REGISTRY, SINK_TYPES).err().map(|all| all.0).unwrap_or_default();
    let word = |at: &Diagnostic| {
        let line = text.lines().nth(at.line - 1).unwrap_or_default();
        line.chars().skip(at.column - 1).take(at.caret_length).collect()
    };
    all.iter().map(|one| (word(one), one.message.clone(), one.help.clone().unwrap_or_default())).collect()
}

#[test]
fn the_topology_itself_is_valid() {
    assert_eq!(mistakes(TOPOLOGY), []);
}

#[test]
fn every_mistake_is_named_where_it_stands() {
    let (windows, values) =
        ("windows: [10m], grace: 1m", "{ n: count, ms: { sum: duration_ms }, mean: { avg: duration_ms } }");
    let forms = "expected a duration, { hopping: 1h, every: 5m }, { session: 30m, max: 12h } or { sliding: 10s }";
    let long = "a".repeat(32);
    let cases: Vec<(&str, String, &str, String, &str)> = vec![
        (windows, "windows: [999ms]".into(), "999ms", "`windows[0]`: must be from 1s to 31d".into(), ""),
        (windows, "windows: [32d]".into(), "32d", "`windows[0]`: must be from 1s to 31d".into(), ""),
        (windows, "windows: [10m, 600s]".into(), "600s", "`windows[1]`: is named twice".into(), ""),
        (
            windows,
            "windows: [{ hopping: 5m, every: 6m }]".into(),
            "6m",
            "`windows[0].every`: must be at most the size of the windows".into(),
            "",
        ),
        (
            windows,
            "windows: [{ hopping: 5m, every: 5m }]".into(),
            "5m",
            "`windows[0].every`: is the size: name tumbling windows by their length alone".into(),
            "",
        ),
        (
            windows,
            "windows: [{ hopping: 50m, every: 1s }]".into(),
            "1s",
            "`windows[0].every`: puts an event into more than 1440 windows".into(),
            "",
        ),
        (windows, "windows: [{ session: 500ms, max: 1h }]".into(), "500ms", "`windows[0].session`: must be from 1s to 31d".into(), ""),
        (windows, "windows: [{ session: 30m, max: 30m }]".into(), "30m", "`windows[0].max`: must be longer than the gap".into(), ""),
        (windows, "windows: [{ session: 30m, max: 3661d }]".into(), "3661d", "`windows[0].max`: must be at most 3660d".into(), ""),
        (windows, "windows: [{ sliding: 10ms }]".into(), "10ms", "`windows[0].sliding`: must be from 1s to 31d".into(), ""),
        (windows, "windows: [{ session: 30m }]".into(), "{", format!("`windows[0]`: {forms}"), ""),
        (windows, "windows: [{ hopping: 30m, sliding: 1m }]".into(), "{", format!("`windows[0]`: {forms}"), ""),
        (
            windows,
            "windows: [10m, { tumbling: 5m, keep: 59m }]".into(),
            "59m",
            "`windows[1].keep`: must be at least 1h".into(),
            "",
        ),
        (
            windows,
            "windows: [{ session: 40m, max: 12h, keep: 1h }], grace: 15m".into(),
            "1h",
            "`windows[0].keep`: must be at least 1h 35m".into(),
            "the window may change for that long after its end",
        ),
        (windows, "windows: [{ tumbling: 999ms, keep: 1d }]".into(), "999ms", "`windows[0].tumbling`: must be from 1s to 31d".into(), ""),
        (windows, "windows: [10m, { tumbling: 10m, keep: 1d }]".into(), "{", "`windows[1]`: is named twice".into(), ""),
        (windows, "windows: [{ keep: 1d }]".into(), "{", format!("`windows[0]`: {forms}"), ""),
        (
            windows,
            "windows: [1h], grace: 1m".into(),
            "1h",
            "`windows[0]`: takes events for 1h 1m with its grace, and `late_after` is 1h".into(),
            "`late_after: 1h 1m` or more",
        ),
        (
            windows,
            "windows: [{ session: 59m, max: 12h }], grace: 2m".into(),
            "{",
            "`windows[0]`: takes events for 1h 1m with its grace, and `late_after` is 1h".into(),
            "`late_after: 1h 1m` or more",
        ),
        (windows, "grace: 1m".into(), "1m", "`grace`: says how long windows take events, and there are no `windows`".into(), ""),
        (windows, "emit: on_close".into(), "on_close", "`emit`: says when windows are sent, and there are no `windows`".into(), ""),
        (windows, "totals: false".into(), "false", "`totals`: leaves nothing to compute, and there are no `windows`".into(), ""),
        (windows, "windows: [10m], grace: 32d".into(), "32d", "`grace`: must be at most 31d".into(), ""),
        (values, "{}".into(), "{", "`values`: needs 1 to 32 values".into(), ""),
        (
            values,
            "{ ms: { sum: duration_ms, max: duration_ms } }".into(),
            "{",
            "`values.ms`: needs exactly one of sum, min, max, first, last, avg, distinct, quantile, ratio".into(),
            "",
        ),
        (
            values,
            "{ Ms: count }".into(),
            "count",
            "`values.Ms`: the name must be a lower-case letter, then up to 31 of `a-z0-9_`".into(),
            "",
        ),
        (
            values,
            "{ p: { quantile: duration_ms, q: 1.5 } }".into(),
            "1.5",
            "`values.p.q`: must be from 0 to 1, with at most six decimals".into(),
            "",
        ),
        (values, "{ p: { quantile: duration_ms } }".into(), "{", "`values.p`: a quantile needs `q`, such as `q: 0.95`".into(), ""),
        (values, "{ p: { sum: duration_ms, q: 0.5 } }".into(), "0.5", "`values.p.q`: only a quantile has one".into(), ""),
        (values, "{ p: { sum: properties.v, scale: 10 } }".into(), "10", "`values.p.scale`: must be at most 9".into(), ""),
        (
            values,
            "{ p: { distinct: properties.v, scale: 2 } }".into(),
            "2",
            "`values.p.scale`: distinct values are counted, and have no decimals".into(),
            "",
        ),
        (
            values,
            "{ n: count, p: { ratio: [n] } }".into(),
            "[",
            "`values.p.ratio`: takes two values: `ratio: [a, b]` is `a` divided by `b`".into(),
            "",
        ),
        (
            values,
            "{ opened: count, p: { ratio: [opned, opened] } }".into(),
            "opned",
            "`values.p.ratio[0]`: unknown value `opned`".into(),
            "did you mean `opened`?",
        ),
        (
            values,
            "{ n: count, p: { ratio: [n, n] }, q: { ratio: [n, p] } }".into(),
            "p",
            "`values.q.ratio[1]`: `p` is a ratio itself".into(),
            "name the values that it divides",
        ),
        (
            values,
            "{ n: count, t: { last: properties.t }, p: { ratio: [t, n] } }".into(),
            "t",
            "`values.p.ratio[0]`: `t` may be a text; a ratio divides numbers".into(),
            "",
        ),
        (values, "{ n: count, p: { ratio: [n, n], scale: 10 } }".into(), "10", "`values.p.scale`: must be at most 9".into(), ""),
        (values, "{ n: count, p: { ratio: [n, n], q: 0.5 } }".into(), "0.5", "`values.p.q`: only a quantile has one".into(), ""),
        (
            values,
            "{ p: { sum: \"duration_ms * 1.5\" } }".into(),
            "*",
            "`values.p.sum`: `*` takes no int and float".into(),
            "`double(…)` makes a float of a whole number",
        ),
        (
            values,
            "{ p: { sum: \"double(duration_ms)\" } }".into(),
            "\"double(duration_ms)\"",
            "`values.p.sum`: must not be computed as a floating-point number, which is not exact: name the property itself".into(),
            "",
        ),
        (
            "events: [view]",
            "events: []".into(),
            "[",
            "`events`: needs at least one event type, or is left out for all".into(),
            "",
        ),
        ("events: [view]", "events: [view, view]".into(), "view", "`events[1]`: is named twice".into(), ""),
        (
            "events: [view], values",
            "events: [view], subject: properties.c, values".into(),
            "properties.c",
            "`subject`: the kind of the subject must be a literal".into(),
            "begin with a literal: `'campaign:' + id(properties.campaign)`",
        ),
        (
            "events: [view], values",
            "events: [view], max_subjects: 5, values".into(),
            "5",
            "`max_subjects`: limits derived subjects, and `subject` takes that of the event, of any kind".into(),
            "`subject: \"'campaign:' + id(properties.campaign)\"`",
        ),
        (
            "events: [view], values",
            "events: [view], subject: [\"'user:' + actor_id\", subject_id], max_subjects: 5, values".into(),
            "5",
            "`max_subjects`: limits derived subjects, and `subject` takes that of the event, of any kind".into(),
            "`subject: \"'campaign:' + id(properties.campaign)\"`",
        ),
        (
            "events: [view], values",
            "events: [view], private: true, values".into(),
            "true",
            "`private`: is about the kinds that `subject` names, and `subject` takes that of the event, of any kind".into(),
            "`subject: \"'campaign:' + id(properties.campaign)\"`",
        ),
        (
            "from: [likes], score: { likes: 1 }",
            "from: [likes, ips], score: { likes: 1, ips.n: 1 }".into(),
            "1",
            "`score.ips.n`: `ips` is private: its subjects have no place on boards".into(),
            "",
        ),
        (
            "from: [likes], score",
            "from: [likes], kinds: [article, ip], score".into(),
            "ip",
            "`kinds[1]`: `ips` makes subjects of kind `ip` private: they have no place on boards".into(),
            "",
        ),
        (
            "events: [view], values",
            "events: [view], subject: \"'user:' + actor_id\", max_subjects: 0, values".into(),
            "0",
            "`max_subjects`: must be from 1 to 1000000".into(),
            "",
        ),
        (
            "from: valid, events: [view]",
            "from: likes, events: [like]".into(),
            "likes",
            "node `agg` takes `event`, but `likes` gives `change` or `reaction` or `verdict`".into(),
            "nodes that give `event`: valid",
        ),
        (
            "from: [likes], score: { likes: 1 }",
            "from: [likes, agg], score: { likes: 1, agg.mean: 1 }".into(),
            "1",
            "`score.agg.mean`: `agg.mean` is neither a count nor a sum of whole numbers; a board adds up changes".into(),
            "",
        ),
        (
            "  hot: ",
            "  more:   { type: total, from: [likes], to: counters }\n  hot: ".into(),
            "counters",
            "topic `counters` is written by `totals`, and a record of `counters` is whole".into(),
            "let `totals` read the inputs of this node as well",
        ),
        (
            "  totals: ",
            format!("  {long}{}: {{ type: aggregate, from: valid, events: [view], values: {{ {}: count }} }}\n  totals: ", "b".repeat(20), "c".repeat(12)),
            "count",
            format!("`values.{}`: the metric `{long}{}.{}` has more than 64 bytes", "c".repeat(12), "b".repeat(20), "c".repeat(12)),
            "a shorter name for the node or the value",
        ),
    ];
    let mut wrong = Vec::new();
    for (from, to, word, message, help) in cases {
        let found = mistakes(&changed(from, &to));
        let expected = (word.to_owned(), message, help.to_owned());
        if found != [expected.clone()] {
            wrong.push(format!("{to}\n  expected {expected:?}\n  found    {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn added_values_and_windows_must_be_accepted_and_removed_ones_are_refused() {
    let fingerprint = |text: &str| {
        Topology::load("topology.yaml", text, REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}")).fingerprint()
    };
    let (now, before) = (fingerprint(TOPOLOGY), |from: &str, to: &str| fingerprint(&changed(from, to)));
    let added = |differences: Vec<&str>| {
        let accept = |what: &str| format!("{what}: accept it with `--accept-added`; it starts empty");
        Difference::Added(differences.into_iter().map(accept).collect())
    };
    assert_eq!(
        now.compare(&before(", ms: { sum: duration_ms }", "")),
        added(vec![
            "window ms: sum of store `totals.agg` of subtopology `by-subject_id` is new",
            "window ms: sum of store `totals.agg.windows` of subtopology `by-subject_id` is new",
        ])
    );
    assert_eq!(
        now.compare(&before("windows: [10m], grace: 1m", "windows: [5m, 10m]")),
        Difference::Changed(vec![
            "the list of windows of store `totals.agg.windows` of subtopology `by-subject_id` was [300000, 600000, mean: avg, ms: sum, n: count] \
             and is now [600000, mean: avg, ms: sum, n: count]: revert it, or start over with an empty log, database and state"
                .to_owned()
        ])
    );
    assert_eq!(now.compare(&before("grace: 1m", "grace: 2m")), Difference::Same);
    assert_eq!(now.compare(&before("windows: [10m]", "windows: [{ tumbling: 10m, keep: 1d }]")), Difference::Same);
    assert_eq!(
        now.compare(&before("windows: [10m], grace: 1m", "windows: [10m], grace: 1m, emit: on_update")),
        Difference::Same
    );
    // A ratio is computed from other values, and the state keeps nothing for it.
    assert_eq!(
        now.compare(&before("mean: { avg: duration_ms }", "mean: { avg: duration_ms }, rate: { ratio: [ms, n] }")),
        Difference::Same
    );
    let on_close = before("grace: 1m", "grace: 1m, emit: on_close");
    assert_eq!(on_close.compare(&now), added(vec!["store `totals.closing` of subtopology `by-subject_id` is new"]));
    let limited = |max: u32| {
        fingerprint(&changed(
            "events: [view]",
            &format!("events: [view], subject: \"'user:' + actor_id\", max_subjects: {max}"),
        ))
    };
    assert_eq!(limited(5).compare(&now), added(vec!["store `agg` of subtopology `events` is new"]));
    assert_eq!(limited(5).compare(&limited(6)), Difference::Same);
}
