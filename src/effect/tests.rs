//! Figures that can be counted by hand, for each kind of decision and of result.

use super::decisions::Decisions;
use super::results::Results;
use super::*;
use std::sync::Arc;
use tally_model::{CounterWindow, MetricValue, Verdict, VerdictKind, WindowSpec};
use tally_processors::{Actions, REGISTRY};
use tally_sinks::SINK_TYPES;
use tally_streams::log::{LoggedRecord, partition_of};
use tally_streams::simulation::Written;
use tally_streams::topology::Topology;

/// 2026-11-30T08:00:00Z.
const START_MS: i64 = 1_796_025_600_000;
const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;

const BEFORE: &str = "\
application: counted
late_after: 1h
topics:
  user-actions:    { key: actor_id, value: event, partitions: 4 }
  counters:        { key: subject_id, value: counters, cleanup: compact }
  counter-windows: { key: subject_id, value: counter, cleanup: compact }
  reactions:       { key: actor_id, value: reaction, cleanup: compact }
  rankings:        { key: board, value: ranking, partitions: 1, cleanup: compact }
processors:
  valid:  { type: decode, from: user-actions }
  fresh:  { type: dedupe, from: valid }
  views:  { type: count, from: fresh, event: view, windows: [1m] }
  likes:  { type: toggle, from: fresh, on: like, off: unlike, to: reactions }
  totals: { type: total, from: [views, likes], to: [counters, counter-windows] }
  hot:    { type: board, from: [views, likes], score: { views: 1, likes: 10 }, window: 24h, to: rankings }
";

fn topology(text: &str) -> Arc<Topology<Actions>> {
    Topology::load_with_drops("t", text, REGISTRY, SINK_TYPES).unwrap_or_else(|error| panic!("{error}")).into()
}

/// An event that the log took so long after the start, and that had occurred so long before.
fn event(id: &str, event_type: &str, actor: &str, subject: &str, after_ms: i64, age_ms: i64) -> LoggedRecord {
    let (append_time_ms, partition) = (START_MS + after_ms, partition_of(actor.as_bytes(), 4));
    let occurred_at_ms = append_time_ms - age_ms;
    let value = format!(
        r#"{{"event_id":"{id}","type":"{event_type}","actor_id":"{actor}","subject_id":"{subject}","occurred_at":{occurred_at_ms}}}"#
    );
    let (key, value) = (Some(actor.as_bytes().to_vec()), Some(value.into_bytes()));
    LoggedRecord { partition, offset: 1_000 + after_ms as u64, append_time_ms, key, value, headers: Vec::new() }
}

/// Twelve views of four actors, a second apart: three of each. The last view of `u0` and `u1` is 90 minutes old.
fn views() -> Vec<LoggedRecord> {
    let age_ms = |n| if (8..10).contains(&n) { 90 * MINUTE_MS } else { 0 };
    let view = |n: i64| {
        let (actor, subject) = (format!("u{}", n % 4), if n % 2 == 0 { "article:1" } else { "article:2" });
        event(&format!("v{n}"), "view", &actor, subject, n * SECOND_MS, age_ms(n))
    };
    (0..12).map(view).collect()
}

/// The effect of a change of [`BEFORE`] without its first line.
fn effect(records: &[LoggedRecord], change: impl Fn(&str) -> String) -> String {
    let after = change(BEFORE);
    assert_ne!(after, BEFORE);
    let [running, changed] = [BEFORE, &after]
        .map(|text| replay(&topology(text), records, [3; 32]).unwrap_or_else(|error| panic!("{error}")));
    let text = compare(records, &running, &changed).to_string();
    text.split_once('\n').unwrap().1.to_owned()
}

#[test]
fn a_longer_late_after_counts_exactly_the_events_that_were_late() {
    let effect = effect(&views(), |text| text.replace("late_after: 1h", "late_after: 2h"));
    let expected = "  2 would be decided differently\n    late → counted: 2, such as v8 of u0, v9 of u1\n  results: ";
    assert!(effect.starts_with(expected), "{effect}");
    let totals = "\n    views: 2 of 2, such as article:1: 5 → 6, article:2: 5 → 6";
    assert!(effect.contains(totals), "{effect}");
    // Both late views fall into a window of their own subject that had none.
    assert!(effect.contains("\n    views 1m: 2 of 4, such as article:1 2026-11-30T06:30:00"), "{effect}");
}

#[test]
fn a_filter_and_a_lower_limit_drop_exactly_their_events() {
    let filtered = effect(&views(), |text| {
        text.replace("from: fresh, event: view", "from: fresh, where: \"actor_id != 'u3'\", event: view")
    });
    assert!(
        filtered.starts_with("  0 would be decided differently\n  results: "),
        "a filter has no verdict: {filtered}"
    );
    assert!(filtered.contains("\n    views: 1 of 2, such as article:2: 5 → 2"), "{filtered}");

    let limited = effect(&views(), |text| {
        let rule = "{ name: burst, by: [actor_id], events: [view], max: 1, per: 1h, grace: 1h }";
        text.replace("  views: ", &format!("  calm:   {{ type: rate_check, from: fresh, rules: [{rule}] }}\n  views: "))
            .replace("from: fresh, event: view", "from: calm, event: view")
    });
    // Three views of each actor, of which one counts; two were late already.
    let expected =
        "  6 would be decided differently\n    counted → limited burst: 6, such as v4 of u0, v5 of u1, v6 of u2\n";
    assert!(limited.starts_with(expected), "{limited}");
}

#[test]
fn reactions_boards_and_windows_are_compared_by_their_last_state() {
    let mut records = views();
    for (n, (id, event_type, actor)) in
        [("a", "like", "u0"), ("b", "like", "u1"), ("c", "unlike", "u0")].into_iter().enumerate()
    {
        records.push(event(id, event_type, actor, "article:2", (20 + n as i64) * SECOND_MS, 0));
    }
    // Without the unlike, the like of `u0` stays; article:2 was first on the board before and is after.
    let effect = effect(&records, |text| text.replace("off: unlike", "off: dislike"));
    let expected = "  1 would be decided differently\n    \
                    counted → dead letter of `valid`: `type` is counted by no processor of the topology: 1, such as c of u0\n  \
                    results: 2 differ, 0 new, 0 no longer computed\n    likes: 1 of 1, such as article:2: 1 → 2\n    likes on: 1 of 2, such as u0 article:2: nothing → on";
    assert_eq!(effect, expected);
}

#[test]
fn a_duplicate_and_an_invalid_record_are_decided_alike_by_the_same_nodes() {
    let mut records = views();
    let mut repeated = records[0].clone();
    repeated.append_time_ms = START_MS + 30 * SECOND_MS;
    let mut invalid = repeated.clone();
    invalid.value = Some(b"not an event".to_vec());
    records.extend([repeated, invalid]);
    let same = effect(&records, |text| text.replace("late_after: 1h", "late_after: 61m"));
    assert_eq!(same, "  0 would be decided differently\n  results: 0 differ, 0 new, 0 no longer computed");
    // Without dedupe, the repeat counts, and so do late events; the invalid record stays a dead letter.
    let without = effect(&records, |text| {
        text.replace("  fresh:  { type: dedupe, from: valid }\n", "").replace("fresh", "valid")
    });
    assert!(without.starts_with("  3 would be decided differently\n"), "{without}");
    assert!(without.contains("\n    late → counted: 2, such as v8 of u0, v9 of u1\n"), "{without}");
    assert!(without.contains("\n    duplicate → counted: 1, such as v0 of u0\n"), "{without}");
}

fn verdict(kind: VerdictKind, offset: u64, reason: &str) -> Verdict {
    Verdict {
        partition: 1,
        offset,
        request: None,
        event_id: None,
        actor_id: None,
        verdict: kind,
        reason: reason.to_owned(),
        node: "calm".to_owned(),
        appended_at_ms: START_MS,
        version: 1,
    }
}

#[test]
fn the_last_verdict_of_an_event_holds_and_what_was_released_is_counted() {
    let mut decisions = Decisions::default();
    for (kind, offset) in [
        (VerdictKind::Held, 1),
        (VerdictKind::Released, 1),
        (VerdictKind::Held, 2),
        (VerdictKind::Limited, 2),
        (VerdictKind::Held, 3),
        (VerdictKind::Dead, 4),
    ] {
        decisions.add_verdict(&verdict(kind, offset, "toggle"));
    }
    let decided = [0, 1, 2, 3, 4].map(|offset| decisions.of((1, offset)).to_string());
    assert_eq!(decided, ["counted", "counted", "limited toggle", "held toggle", "counted"]);
    assert_eq!(decisions.of((0, 2)), decisions.of((1, 0)), "another partition");
}

#[test]
fn a_deleted_window_is_no_result() {
    let window = |deleted| {
        let value = if deleted { MetricValue::Null } else { MetricValue::Integer(3) };
        let window = CounterWindow {
            subject_id: "user:1".into(),
            metric: "n".into(),
            window: WindowSpec::Session { gap_ms: 1_800_000, max_ms: 43_200_000 },
            window_start_ms: START_MS,
            window_end_ms: START_MS + MINUTE_MS,
            value,
            approximate: false,
            deleted,
            version: 1,
        };
        let value = serde_json::to_vec(&window).unwrap();
        Written { partition: 0, key: Vec::new(), value, headers: Vec::new() }
    };
    let mut results = Results::default();
    results.add_window(&window(false));
    assert_eq!(results.0.values().map(|values| values.len()).collect::<Vec<_>>(), [1]);
    results.add_window(&window(true));
    assert_eq!(results.0.values().map(|values| values.len()).collect::<Vec<_>>(), [0]);
}

#[test]
fn places_are_in_their_order_and_rare_kinds_of_decisions_share_a_line() {
    // A subject has as many views as its number; without those of the last, all places move up by one.
    let mut records = Vec::new();
    for subject in 1..=12 {
        for n in 0..subject {
            let (id, after_ms) = (format!("{subject}-{n}"), records.len() as i64);
            records.push(event(&id, "view", "u1", &format!("article:{subject}"), after_ms, 0));
        }
    }
    let moved = effect(&records, |text| {
        text.replace("from: fresh, event: view", "from: fresh, where: \"subject_id != 'article:12'\", event: view")
    });
    let places =
        "board hot: 12 of 12, such as place 1: article:12 → article:11, place 2: article:11 → article:10, place 3";
    assert!(moved.contains(places), "{moved}");

    let decision = |n: u64, reason: &str| {
        let mut decisions = Decisions::default();
        (0..n).for_each(|offset| {
            decisions.add_verdict(&verdict(VerdictKind::Limited, offset, &format!("{reason}{offset}")))
        });
        decisions
    };
    let places: Vec<_> = (0..records.len() as u64).map(|offset| (1, offset)).collect();
    let replayed = |decisions| Replay { decisions, results: Results::default(), places: places.clone() };
    let text = compare(&records, &replayed(decision(0, "")), &replayed(decision(23, "rule"))).to_string();
    assert_eq!(text.matches("    counted → limited rule").count(), 20, "{text}");
    assert!(text.contains("\n    in other ways: 3\n  results: 0 differ"), "{text}");
}
