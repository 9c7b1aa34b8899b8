//! What a running generation depends on.

use crate::dataflow::{GOOD, changed, changed_in, load};
use tally_streams::topology::{Difference, Fingerprint};

fn fingerprint(text: &str) -> Fingerprint {
    load(text).unwrap_or_else(|diagnostics| panic!("{diagnostics}")).fingerprint()
}

fn compare(now: &str) -> Difference {
    fingerprint(now).compare(&fingerprint(GOOD))
}

#[test]
fn what_applies_from_now_on_is_no_difference() {
    for (from, to) in [
        ("max: 60, per: 10s", "max: 6, per: 1h"),
        ("likes: 4", "likes: 5"),
        ("late_after: 2h", "commit_interval: 1s"),
        ("  cache:    { type: cache, from: counters }\n", ""),
        ("{ type: cache, from: counters }", "{ type: cache, from: counters, url: \"redis://:${PASSWORD}@h\" }"),
        ("windows: [1h, 1d]", "windows: [1d, 1h]"),
        ("event: like", "event: heart"),
        ("retention: 14d", "retention: 7d"),
    ] {
        assert_eq!(compare(&changed(from, to)), Difference::Same, "{from} -> {to}");
    }
}

#[test]
fn what_is_new_can_be_accepted() {
    let added = |text: &str| vec![format!("{text} is new: accept it with `--accept-added`; it starts empty")];
    let nodes = "  shares: { type: count, from: calm, event: share }\n\nsinks:";
    let expected = added("store `shares` of subtopology `actions`");
    assert_eq!(compare(&changed("\nsinks:", nodes)), Difference::Added(expected));
    let windows = added("window 5m of store `views` of subtopology `actions`");
    assert_eq!(compare(&changed("windows: [1h, 1d]", "windows: [1h, 5m, 1d]")), Difference::Added(windows));
    let nodes = "  best: { type: merge, from: hot }\n\nsinks:";
    assert_eq!(compare(&changed("\nsinks:", nodes)), Difference::Added(added("subtopology `by-board`")));
}

#[test]
fn what_the_state_does_not_fit_needs_a_new_generation() {
    let changed_to = |text: &str, differences: &[&str]| {
        let todo = "revert it, or start over with an empty log, database and state";
        let expected = differences.iter().map(|difference| format!("{difference}: {todo}")).collect();
        assert_eq!(compare(text), Difference::Changed(expected));
    };
    let gone = changed("  hot:    {", "  hot_:   {");
    assert_eq!(compare(&gone), Difference::Same, "a node without a store may be renamed");
    let gone = changed("  fresh:  { type: dedupe, from: valid }\n", "");
    changed_to(&changed_in(&gone, "from: fresh", "from: valid"), &["store `fresh` of subtopology `actions` is gone"]);
    let text = changed("windows: [1h, 1d]", "windows: [1h]");
    let expected = "the list of windows of store `views` of subtopology `actions` was [1d, 1h] and is now [1h]";
    changed_to(&text, &[expected]);
    let text = changed("event: like", "event: like, schema: 2");
    changed_to(&text, &["the schema version of store `likes` of subtopology `actions` was 1 and is now 2"]);
    let text = changed("partitions: 4", "partitions: 8");
    changed_to(
        &text,
        &[
            "the source of subtopology `actions` was 4 partitions and is now 8 partitions",
            "the source of subtopology `by-subject_id` was 4 partitions and is now 8 partitions",
        ],
    );
    let text = changed("key: actor_id,   value: event", "key: user_id, value: event");
    changed_to(&text, &["the key of subtopology `actions` was `actor_id` and is now `user_id`"]);
    // A change hides what is merely new: that starts with the new generation anyway.
    let text = changed(
        "  likes:  { type: count,  from: calm, event: like",
        "  hearts: { type: count,  from: calm, event: like",
    );
    let text = text.replace("[likes, views]", "[hearts, views]").replace("likes: 4", "hearts: 4");
    changed_to(&text, &["store `likes` of subtopology `actions` is gone"]);
    let text = GOOD.replace("application: test", "application: other");
    let hop = "test-actions-by-subject_id-repartition";
    let other = hop.replace("test", "other");
    let moved = format!("the source of subtopology `by-subject_id` was `{hop}` and is now `{other}`");
    changed_to(&text, &[&moved]);
}

#[test]
fn it_is_written_as_ordered_json_and_read_back() {
    let good = fingerprint(GOOD);
    let json = serde_json::to_string(&good).unwrap_or_default();
    let expected = concat!(
        r#"{"subtopologies":{"actions":{"source":"actions","key":"actor_id","partitions":4,"stores":{"#,
        r#""fresh":{"kind":"key-value","schema_version":1,"windows":[]},"#,
        r#""likes":{"kind":"key-value","schema_version":1,"windows":[]},"#,
        r#""views":{"kind":"key-value","schema_version":1,"windows":["1d","1h"]}}},"#,
        r#""by-subject_id":{"source":"test-actions-by-subject_id-repartition","key":"subject_id","partitions":4,"#,
        r#""stores":{"totals":{"kind":"key-value","schema_version":1,"windows":[]}}}}}"#,
    );
    assert_eq!(json, expected);
    assert_eq!(serde_json::from_str::<Fingerprint>(&json).ok(), Some(good));
}
