//! `tally plan`: the effect of a changed topology on the events of a log, with figures that can be counted by hand.

use super::access::key;
use super::beginning::run;
use super::tally;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tally_testkit::{Client, Scratch, Service, Site, now_ms, service, wait_until};

const BEFORE: &str = "\
application: counted
topics:
  user-actions: { key: actor_id, value: event, partitions: 4 }
  counters:     { key: subject_id, value: counters, cleanup: compact }
  verdicts:     { key: actor_id, value: verdict, retention: 1d }
processors:
  valid:  { type: decode, from: user-actions }
  views:  { type: count, from: valid, event: view }
  likes:  { type: count, from: valid, event: like }
  totals: { type: total, from: [views, likes], to: counters }
sinks:
  database: { type: database, from: [counters, verdicts] }
";

/// 60 views of six actors, ten of each, in turn: four of the ten are of `article:1`, six of `article:2`. And two likes. All of
/// one time, so that they are in one window.
fn events(occurred_at_ms: i64) -> Vec<String> {
    let event = |id: String, event_type: &str, actor: usize, subject: u8, round: usize| {
        format!(
            r#"{{"event_id":"{id}","type":"{event_type}","actor_id":"u{actor}","subject_id":"article:{subject}","occurred_at":{occurred_at_ms},"properties":{{"round":{round}}}}}"#
        )
    };
    let view = |n: usize| event(format!("v{n}"), "view", n % 6, if n < 24 { 1 } else { 2 }, n / 6);
    (0..60).map(view).chain((0..2).map(|n| event(format!("l{n}"), "like", n, 1, 0))).collect()
}

/// Each actor has three views at most; the third of them makes an expression fail; and likes have another name.
fn after(before: &str) -> String {
    before
        .replace(
            "  views:  { type: count, from: valid,",
            "  calm:   { type: rate_check, from: valid, rules: [{ name: burst, by: [actor_id], events: [view], max: 3, per: 24h, grace: 24h }] }\n  \
             views:  { type: count, from: calm, where: \"properties.round < 2 || properties.missing == 1\",",
        )
        .replace("  likes:  {", "  hearts: {")
        .replace("from: [views, likes]", "from: [views, hearts]")
}

/// Of the ten views of an actor two are counted, the third is rejected, and seven are limited.
const EFFECT: [&str; 7] = [
    "  48 would be decided differently",
    "    counted → limited burst: 42, such as v18 of u0, v19 of u1, v20 of u2",
    "    counted → dead letter of `views`: `where` No such key: 6, such as v12 of u0, v13 of u1, v14 of u2",
    "  results: 2 differ, 1 new, 1 no longer computed",
    "    hearts: 1 new",
    "    likes: 1 no longer computed",
    "    views: 2 of 2, such as article:1: 24 → 12, article:2: 36 → nothing",
];

/// A directory whose process has counted all events, with the topology `before`.
fn counted(dir: &Path, before: &str, flags: &[&str]) -> (Site, Service) {
    fs::write(dir.join("topology.yaml"), before).unwrap();
    let (site, service) = run(dir, |site| site.flags.extend(flags.iter().map(|flag| (*flag).to_owned())));
    let client = Client(site.listen.clone());
    let occurred_at_ms = now_ms() - 3_600_000;
    for event in events(occurred_at_ms) {
        let answer = client.post("/v1/events", "application/json", event.as_bytes()).unwrap();
        assert_eq!(answer.status, 202, "{event}");
        // Each has an append time of its own, so that there is one order of all partitions.
        std::thread::sleep(Duration::from_millis(2));
    }
    let counters = || client.get("/v1/subjects/article:2/counters").unwrap();
    wait_until("all events are counted", || {
        (counters().status == 200 && counters().json()["counters"]["views"] == 36).then_some(())
    });
    (site, service)
}

/// What the line begins with that has how much state there is.
const STATE: &str = "state in the log: ";

/// [`whole_plan`] without how much state there is: that changes while a process runs.
fn plan(dir: &Path, flags: &str) -> (Option<i32>, String, String) {
    let (code, stdout, stderr) = whole_plan(dir, flags);
    let lines = stdout.lines().filter(|line| !line.starts_with(STATE));
    (code, lines.map(|line| format!("{line}\n")).collect(), stderr)
}

fn state(dir: &Path, flags: &str) -> String {
    let (_, stdout, _) = whole_plan(dir, flags);
    stdout.lines().find(|line| line.starts_with(STATE)).unwrap_or_default().to_owned()
}

/// Runs `tally plan`: exit code, output and errors.
fn whole_plan(dir: &Path, flags: &str) -> (Option<i32>, String, String) {
    let output = tally(dir, &format!("plan {flags}"));
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The output begins with the effect on so many events.
fn has_effect(dir: &Path, flags: &str, events: usize, expected: &[&str]) {
    let (code, stdout, stderr) = plan(dir, flags);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    let (head, effect) = stdout.split_once('\n').unwrap();
    let effect: Vec<_> = effect.lines().take(expected.len()).collect();
    assert!(head.starts_with(&format!("effect on the last {events} events, ")), "{stdout}");
    assert!(head.ends_with(", both topologies without earlier state:"), "{stdout}");
    assert_eq!(effect, expected, "{stdout}");
}

#[test]
fn what_would_be_decided_and_computed_differently_is_counted() {
    let dir = Scratch::new();
    let (dir, file) = (dir.path(), dir.path().join("topology.yaml"));
    let (site, service) = counted(dir, BEFORE, &[]);

    // The same file has no effect.
    let (code, stdout, stderr) = plan(dir, "");
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(!stdout.contains("effect"), "{stdout}");

    // While the process runs, beside it and through its API, and after its end.
    fs::write(&file, after(BEFORE)).unwrap();
    has_effect(dir, "", 62, &EFFECT);
    let through = format!("--against http://{}", site.listen);
    has_effect(dir, &through, 62, &EFFECT);
    assert_eq!(plan(dir, &through), plan(dir, ""));
    let state = state(dir, &through);
    assert!(
        state.contains(" by-subject_id ") && state.contains("B in up to ") && state.ends_with(" records"),
        "{state}"
    );
    assert!(!state.contains(" 0 B ") && !state.contains(" 0 records"), "{state}");
    assert_eq!(service.terminate().0.code(), Some(0));
    has_effect(dir, "", 62, &EFFECT);
    assert!(!plan(dir, "--events 0").1.contains("effect"));

    // The two likes came last.
    let of_likes = [
        "  0 would be decided differently",
        "  results: 0 differ, 1 new, 1 no longer computed",
        "    hearts: 1 new",
        "    likes: 1 no longer computed",
    ];
    has_effect(dir, "--events 2", 2, &of_likes);

    // Both files by name, the other way round.
    fs::write(dir.join("after.yaml"), after(BEFORE)).unwrap();
    fs::write(&file, BEFORE).unwrap();
    let back = [
        "  48 would be decided differently",
        "    limited burst → counted: 42, such as v18 of u0, v19 of u1, v20 of u2",
        "    dead letter of `views`: `where` No such key → counted: 6, such as v12 of u0, v13 of u1, v14 of u2",
    ];
    has_effect(dir, "--running after.yaml", 62, &back);

    // A node that stops the process stops the replay.
    fs::write(&file, after(BEFORE).replace("missing == 1\",", "missing == 1\", on_error: halt,")).unwrap();
    let (code, stdout, _) = plan(dir, "");
    assert_eq!(code, Some(0), "{stdout}");
    assert!(stdout.starts_with("the effect on events is not known: the changed topology would stop: "), "{stdout}");
}

#[test]
fn a_log_on_kafka_is_read_like_an_embedded_one() {
    let Some(broker) = service("TALLY_TEST_KAFKA") else { return };
    let dir = Scratch::new();
    let dir = dir.path();
    let (name, log) = (format!("effect-{}", now_ms()), format!("kafka://{broker}"));
    let before = BEFORE.replace("application: counted", &format!("application: {name}\ntopic_prefix: {name}."));
    let (_, service) = counted(dir, &before, &["--log", &log]);
    let flags = format!("--against {log}");
    let (code, stdout, stderr) = plan(dir, &flags);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(!stdout.contains("effect") && stdout.ends_with("nothing is lost\n"), "{stdout}");

    fs::write(dir.join("topology.yaml"), after(&before)).unwrap();
    has_effect(dir, &flags, 62, &EFFECT);
    // A cluster does not say how many bytes it has.
    let state = state(dir, &flags);
    assert!(state.contains(" by-subject_id up to ") && !state.contains(" 0 records"), "{state}");
    assert_eq!(service.terminate().0.code(), Some(0));

    // What the cluster has otherwise.
    let changed = before.replace("cleanup: compact", "cleanup: delete");
    fs::write(dir.join("topology.yaml"), changed).unwrap();
    let (code, stdout, stderr) = plan(dir, &flags);
    assert_eq!((code, stderr.starts_with("1 topic cannot be changed")), (Some(1), true), "{stdout}{stderr}");
    assert!(stdout.lines().any(|line| line.starts_with(&format!("! topic {name}.counters"))), "{stdout}");
}

#[test]
fn the_api_of_a_process_gives_what_a_plan_needs_and_no_secret() {
    let dir = Scratch::new();
    let (dir, file) = (dir.path(), dir.path().join("topology.yaml"));
    let [reader, admin] = ["read", "admin"].map(|scope| key(dir, scope, scope));
    fs::write(&file, BEFORE).unwrap();
    let (site, service) = run(dir, |site| site.flags.extend(["--keys", "keys.yaml"].map(str::to_owned)));
    let against = format!("--against http://{}", site.listen);
    for (key, expected) in [("", "401: "), (&reader, "403: ")] {
        let flags = if key.is_empty() { against.clone() } else { format!("{against} --api-key {key}") };
        let (code, stdout, stderr) = plan(dir, &flags);
        assert!((code, &*stdout) == (Some(1), "") && stderr.contains(expected), "{stdout}{stderr}");
    }
    let flags = format!("{against} --api-key {admin}");

    // Topics that differ in the log, another application, and a log without events.
    fs::write(&file, BEFORE.replace("cleanup: compact", "cleanup: delete")).unwrap();
    let through = plan(dir, &flags);
    assert!(through.0 == Some(1) && through.1.contains("! topic counters "), "{through:?}");
    assert_eq!(through, plan(dir, ""));
    fs::write(&file, BEFORE.replace("application: counted", "application: other")).unwrap();
    let (code, stdout, _) = plan(dir, &flags);
    assert!(code == Some(0) && stdout.contains(": no state of application `other`\n"), "{stdout}");
    fs::write(&file, after(BEFORE)).unwrap();
    assert_eq!(plan(dir, &flags), plan(dir, ""));

    let client = Client(site.listen.clone());
    let ask = |body: &str| client.exchange("POST", "/v1/plan", &[("x-api-key", &admin)], body.as_bytes()).unwrap();
    let answer = ask(r#"{"application":"counted","topics":[],"events":5}"#).json();
    assert_eq!(answer["control"]["secret"], serde_json::json!(vec![0; 32]));
    assert_eq!(answer["control"]["generation"], 1);
    assert_eq!((&answer["topology"], &answer["root"]), (&BEFORE.into(), &"user-actions".into()));
    for body in
        ["", "[]", "{}", r#"{"application":"a","topics":[{"name":"t","partitions":1,"cleanup":"x"}],"events":1}"#]
    {
        assert_eq!(ask(body).status, 400, "{body}");
    }
    assert_eq!(service.terminate().0.code(), Some(0));
}
