//! Aggregates, and their closed windows.

use crate::{AGGREGATES, CLOSED, changed, fingerprint, messages};
use tally_streams::topology::Difference;

#[test]
fn added_values_and_windows_must_be_accepted_and_removed_ones_are_refused() {
    let (now, before) = (fingerprint(AGGREGATES), |from: &str, to: &str| fingerprint(&changed(AGGREGATES, from, to)));
    let added = |differences: Vec<&str>| {
        let accept = |what: &str| format!("{what}: accept it with `--accept-added`; it starts empty");
        Difference::Added(differences.into_iter().map(accept).collect())
    };
    assert_eq!(
        now.compare(&before(", ms: { sum: duration_ms }", "")),
        added(vec![
            "value ms: sum of store `totals.agg` of subtopology `by-subject_id` is new",
            "value ms: sum of store `totals.agg.windows` of subtopology `by-subject_id` is new",
        ])
    );
    assert_eq!(
        now.compare(&before("windows: [10m], grace: 1m", "windows: [5m, 10m]")),
        Difference::Changed(vec![
            "the list of values and windows of store `totals.agg.windows` of subtopology `by-subject_id` was [5m, 10m, mean: avg, ms: sum, n: count] \
             and is now [10m, mean: avg, ms: sum, n: count]: revert it, or start over with an empty log, database and state"
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
            AGGREGATES,
            "events: [view]",
            &format!("events: [view], subject: \"'user:' + actor_id\", max_subjects: {max}"),
        ))
    };
    assert_eq!(limited(5).compare(&now), added(vec!["store `agg` of subtopology `events` is new"]));
    assert_eq!(limited(5).compare(&limited(6)), Difference::Same);
}

#[test]
fn closed_windows_may_be_counted_as_other_subjects_or_without_totals() {
    let apart = CLOSED.replace("  totals: { type: total, from: agg,", "  also:   { type: aggregate, from: valid, subject: \"'user:' + actor_id\", values: { n: count } }\n  totals: { type: total, from: [agg, also],");
    assert_eq!(messages(&apart), [""; 0]);
    let counted = CLOSED.replace(
        "  totals: { type: total, from: agg,",
        "  views:  { type: count, from: valid, event: view }\n  totals: { type: total, from: [agg, views],",
    );
    assert_eq!(messages(&counted.replace("[2h], grace: 1m", "[2h], grace: 1m, totals: false")), [""; 0]);
}
