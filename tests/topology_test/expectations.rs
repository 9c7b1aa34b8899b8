//! What expectations can and cannot be met by, on small topologies of their own.

use super::tally_test;
use std::fs;
use tally_testkit::Scratch;

/// It has neither of the topics for what is dropped.
const TOPOLOGY: &str = "
application: expectations
events:
  buy: { properties: { n: int?, color: text? } }
topics:
  user-actions:    { key: actor_id, value: event, partitions: 2 }
  counters:        { key: subject_id, value: counters }
  counter-windows: { key: [subject_id, metric, window, start], partition_by: subject_id, value: counter }
processors:
  valid: { type: decode, from: user-actions }
  fresh: { type: dedupe, from: valid }
  b:
    type: aggregate
    from: fresh
    events: [buy]
    values: { n: count, max: { max: properties.n }, avg: { avg: properties.n }, last: { last: properties.color } }
    windows: [1h]
  totals: { type: total, from: b, to: [counters, counter-windows] }
";

/// Runs a case of these steps: exit code, and what it printed without the lines that name cases and files.
fn run(steps: &str) -> (Option<i32>, Vec<String>) {
    run_on(TOPOLOGY, steps)
}

fn run_on(topology: &str, steps: &str) -> (Option<i32>, Vec<String>) {
    let dir = Scratch::new();
    fs::write(dir.path().join("topology.yaml"), topology).unwrap();
    let case = format!("cases:\n  - name: a\n    always: [crash 2]\n    steps:\n{steps}");
    fs::write(dir.path().join("a_test.yaml"), case).unwrap();
    let (code, stdout, stderr) = tally_test(dir.path(), &[]);
    let lines = stdout.lines().chain(stderr.lines());
    let told =
        lines.filter(|line| !["ok ", "FAIL ", "1 case", "0 cases", "      a_test"].iter().any(|w| line.starts_with(w)));
    (code, told.filter(|line| !line.is_empty()).map(|line| line.trim().to_owned()).collect())
}

fn passes(steps: &str) {
    assert_eq!(run(steps), (Some(0), vec![]), "{steps}");
}

fn fails(steps: &str, told: &[&str]) {
    let (code, lines) = run(steps);
    let lines: Vec<_> = lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!((code, lines), (Some(1), told.iter().map(|line| (*line).to_owned()).collect()), "{steps}");
}

fn is_mistaken(steps: &str, told: &[&str]) {
    let (code, lines) = run(steps);
    assert_eq!(code, Some(2), "{steps}{lines:?}");
    let found: Vec<_> = lines.iter().filter(|line| !line.contains(" | ")).map(String::as_str).collect();
    assert!(told.iter().all(|told| found.contains(told)), "{steps}{lines:#?}");
}

#[test]
fn null_and_zero_and_texts_differ_and_what_is_nothing_need_not_be_named() {
    let zero = "      - { buy: i:1, properties: { n: 0, color: '0' } }\n";
    fails(
        &format!("{zero}      - includes: {{ counters: {{ i:1: {{ b.max: null, b.last: 0, b.n: '1' }} }} }}\n"),
        &[
            "counters i:1 b.last expected 0 got \"0\"",
            "counters i:1 b.max expected null got 0",
            "counters i:1 b.n expected \"1\" got 1",
        ],
    );
    passes(&format!("{zero}      - includes: {{ counters: {{ i:1: {{ b.max: 0, b.avg: 0, b.last: '0' }} }} }}\n"));
    // A maximum and an average of 0 need no mention; the text `0` does.
    fails(
        &format!("{zero}      - expect: {{ counters: {{ i:1: {{ b.n: 1 }} }} }}\n"),
        &["counters i:1 b.last expected nothing got \"0\""],
    );
    fails(
        "      - { buy: i:1, properties: { color: '' } }\n      - expect: { counters: { i:1: { b.n: 1 } } }\n",
        &["counters i:1 b.last expected nothing got \"\""],
    );
    let none = "      - buy: i:1\n";
    passes(&format!(
        "{none}      - expect: {{ counters: {{ i:1: {{ b.n: 1, b.max: null, b.last: null }}, i:2: {{ b.n: 0 }} }} }}\n"
    ));
    passes(&format!(
        "{none}      - expect: {{ windows: {{ i:1: {{ b.n 1h: {{ +0s: 1, +1h: 0 }}, b.max 1h: {{ +0s: null }} }} }} }}\n"
    ));
    fails(
        &format!("{none}      - includes: {{ counters: {{ i:1: {{ b.max: 0 }}, i:2: {{ b.n: null, b.max: 0 }} }} }}\n"),
        &[
            "counters i:1 b.max expected 0 got null",
            "counters i:2 b.max expected 0 got null",
            "counters i:2 b.n expected null got 0",
        ],
    );
    fails(
        &format!("{none}      - includes: {{ windows: {{ i:1: {{ b.max 1h: {{ +0s: 0 }} }} }} }}\n"),
        &["windows i:1 b.max 1h +0s expected 0 got null"],
    );
}

#[test]
fn what_is_dropped_is_seen_without_topics_for_it() {
    let steps = "      - { buy: i:1, event_id: x }\n      - { buy: i:1, event_id: x }\n      - { buy: i:1, occurred_at: -30d, event_id: old }\n      - record: not json\n";
    fails(
        &format!("{steps}      - expect: {{ counters: {{ i:1: {{ b.n: 1 }} }} }}\n"),
        &[
            "verdicts old expected nothing got late came 2592000 s after its time",
            "verdicts x expected nothing got duplicate counted before",
            "dead_letters not json expected nothing got not JSON: expected ident (line 1 column 2)",
        ],
    );
    // The beginning of a reason ends anywhere.
    passes(&format!(
        "{steps}      - expect: {{ verdicts: {{ old: late, x: duplicate }}, dead_letters: {{ not json: 'not JSON: expec' }} }}\n"
    ));
    fails(
        &format!(
            "{steps}      - expect: {{ verdicts: {{ old: late, x: duplicate }}, dead_letters: {{ not json: 'JSON' }} }}\n"
        ),
        &["dead_letters not json expected JSON got not JSON: expected ident (line 1 column 2)"],
    );
}

/// Topics that the file does not have take no name from what it has.
#[test]
fn a_node_may_have_the_name_of_a_topic_for_what_is_dropped() {
    let topology = TOPOLOGY.replace("fresh", "verdicts").replace("topics:\n", "topic_prefix: p-\ntopics:\n");
    let steps = "      - { buy: i:1, event_id: x, times: 2 }\n      - expect: { counters: { i:1: { b.n: 1 } }, verdicts: { x: duplicate } }\n";
    assert_eq!(run_on(&topology, steps), (Some(0), vec![]));
}

#[test]
fn a_failed_includes_names_what_was_dropped() {
    fails(
        "      - { buy: i:1, properties: { n: many } }\n      - includes: { counters: { i:1: { b.n: 1 } } }\n",
        &[
            "counters i:1 b.n expected 1 got nothing",
            "dropped since the last expectation:",
            "verdicts e1 dead `properties` has a wrong type: `n` of `buy` is int",
            "dead_letters e1 `properties` has a wrong type: `n` of `buy` is int (the text `many`)",
        ],
    );
}

#[test]
fn a_case_ends_with_an_expectation() {
    let help = "help: end the case with `expect: …` or `includes: …`";
    is_mistaken("      []\n", &["a_test.yaml:5:7: this case expects nothing", help]);
    is_mistaken("      - buy: i:1\n", &["a_test.yaml:5:9: no expectation follows this step", help]);
    let steps = "      - buy: i:1\n      - includes: { counters: { i:1: { b.n: 1 } } }\n";
    passes(steps);
    is_mistaken(
        &format!("{steps}      - {{ buy: i:1, event_id: e1 }}\n"),
        &["a_test.yaml:7:9: no expectation follows this step", help],
    );
    is_mistaken(&format!("{steps}      - wait: 1h\n"), &["a_test.yaml:7:9: no expectation follows this step", help]);
}

#[test]
fn a_key_beside_an_expectation_is_sent_to_its_place() {
    for (steps, told) in [
        (
            "      - { expect: {}, verdicts: { e1: duplicate } }\n",
            ["unknown key `verdicts` of `expect`", "help: it belongs into `expect`: `expect: { verdicts: … }`"],
        ),
        (
            "      - { includes: {}, counter: {} }\n",
            ["unknown key `counter` of `includes`", "help: did you mean `counters`?"],
        ),
        (
            "      - { expect: {}, wait: 1h }\n",
            ["unknown key `wait` of `expect`", "help: a step does one thing: begin the next one with `- `"],
        ),
        (
            "      - { buy: i:1, expect: {} }\n",
            ["unknown key `expect` of an event", "help: a step does one thing: begin the next one with `- `"],
        ),
    ] {
        let (code, lines) = run(steps);
        assert_eq!(code, Some(2), "{steps}");
        assert!(told.iter().all(|told| lines.iter().any(|line| line.ends_with(told))), "{steps}{lines:#?}");
    }
}
