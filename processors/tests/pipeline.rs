//! The shipped topology, driven without a log: what each processor does, as seen from the outputs.

#[path = "pipeline/collects.rs"]
mod collects;
#[path = "pipeline/hold.rs"]
mod hold;
#[path = "pipeline/windows.rs"]
mod windows;

use serde_json::{Value, json};
use tally_model::{PROGRESS_HEADER, RootPosition, TaskProgress};
use tally_processors::{Actions, REGISTRY};
use tally_sinks::SINK_TYPES;
use tally_streams::testkit::{TopologyTestDriver, Written};
use tally_streams::topology::Topology;
use tally_testkit::{NOW_MS, SHIPPED_TOPOLOGY};

const HOUR: i64 = 3_600_000;

fn driver() -> TopologyTestDriver<Actions> {
    let topology = Topology::load("topology.yaml", SHIPPED_TOPOLOGY, REGISTRY, SINK_TYPES);
    TopologyTestDriver::new(topology.unwrap_or_else(|e| panic!("{e}")))
}

/// An event with what a test does not care about filled in.
fn event(id: &str, kind: &str, actor: &str, subject: &str, occurred_at: i64) -> Value {
    json!({"event_id": id, "type": kind, "actor_id": actor, "subject_id": subject, "occurred_at": occurred_at})
}

fn pipe(driver: &mut TopologyTestDriver<Actions>, event: Value, append_time_ms: i64) {
    let actor = event["actor_id"].as_str().unwrap().to_owned();
    driver.pipe(&actor, event.to_string().as_bytes(), append_time_ms).unwrap();
}

/// The newest counters of a subject.
fn counters(driver: &mut TopologyTestDriver<Actions>, subject: &str) -> Value {
    let records = driver.read("counters");
    let newest = records.iter().rev().map(Written::json).find(|record| record["subject_id"] == subject);
    newest.map_or(Value::Null, |record| record["counters"].clone())
}

fn verdicts(driver: &mut TopologyTestDriver<Actions>) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let verdict = |record: &Written| (text(&record.json()["event_id"]), text(&record.json()["verdict"]));
    driver.read("verdicts").iter().map(verdict).collect()
}

fn named(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(id, verdict)| ((*id).to_owned(), (*verdict).to_owned())).collect()
}

#[test]
fn a_view_counts_in_totals_windows_and_visitors() {
    let mut driver = driver();
    pipe(&mut driver, event("e1", "view", "u1", "article:7", NOW_MS), NOW_MS + 5);
    pipe(&mut driver, event("e2", "view", "u1", "article:7", NOW_MS + 1), NOW_MS + 6);
    pipe(&mut driver, event("e3", "view", "u2", "article:7", NOW_MS + 2), NOW_MS + 7);
    let windows: Vec<_> = driver.read("counter-windows").iter().map(Written::json).collect();
    assert_eq!(counters(&mut driver, "article:7"), json!({"views": 3, "visitors": 2}));
    let of_views = |w: &&Value, length: i64| w["window_ms"] == length && w["metric"] == "views";
    let newest = |length: i64| windows.iter().rev().find(|w| of_views(w, length)).unwrap().clone();
    assert_eq!(newest(HOUR)["value"], 3);
    assert_eq!(newest(HOUR)["window_start_ms"], NOW_MS.div_euclid(HOUR) * HOUR);
    assert_eq!(newest(24 * HOUR)["value"], 3);
}

#[test]
fn an_event_counts_once() {
    let mut driver = driver();
    pipe(&mut driver, event("e1", "view", "u1", "article:7", NOW_MS), NOW_MS);
    pipe(&mut driver, event("e1", "view", "u1", "article:7", NOW_MS), NOW_MS + 1);
    pipe(&mut driver, event("e1", "view", "u1", "article:7", NOW_MS), NOW_MS + 23 * HOUR);
    pipe(&mut driver, event("e1", "view", "u2", "article:7", NOW_MS), NOW_MS + 23 * HOUR);
    assert_eq!(counters(&mut driver, "article:7"), json!({"views": 2, "visitors": 2}));
    assert_eq!(verdicts(&mut driver), named(&[("e1", "duplicate"), ("e1", "duplicate")]));
}

#[test]
fn an_event_that_repeats_when_its_id_is_forgotten_is_late() {
    let mut driver = driver();
    for append in [NOW_MS, NOW_MS + 24 * HOUR, NOW_MS + 24 * HOUR + 1, NOW_MS + 300 * HOUR] {
        pipe(&mut driver, event("e1", "view", "u1", "article:7", NOW_MS), append);
    }
    assert_eq!(counters(&mut driver, "article:7"), json!({"views": 1, "visitors": 1}));
    assert_eq!(verdicts(&mut driver), named(&[("e1", "duplicate"), ("e1", "late"), ("e1", "late")]));
}

#[test]
fn the_sixty_first_event_of_ten_seconds_is_limited_whatever_time_it_claims() {
    let mut driver = driver();
    let start = NOW_MS.div_euclid(10_000) * 10_000;
    for i in 0..62 {
        pipe(&mut driver, event(&format!("e{i}"), "view", "u1", "article:7", NOW_MS - 1000 * i), start + 5);
    }
    pipe(&mut driver, event("next", "view", "u1", "article:7", NOW_MS), start + 10_000);
    assert_eq!(counters(&mut driver, "article:7")["views"], 61);
    assert_eq!(verdicts(&mut driver), named(&[("e60", "limited"), ("e61", "limited")]));
}

#[test]
fn a_rule_by_address_counts_a_network_of_ipv6_once_and_every_spelling_as_one() {
    let limited = |prefix: &str, ips: &[&str]| {
        let rule = format!("{{ name: address, by: [ip], events: [share], max: 1, per: 10s{prefix} }},");
        let text = SHIPPED_TOPOLOGY.replace("rules: [", &format!("rules: [ {rule}"));
        let topology = Topology::load("topology.yaml", &text, REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}"));
        let mut driver = TopologyTestDriver::new(topology);
        for (n, ip) in ips.iter().enumerate() {
            let mut share = event(&format!("e{n}"), "share", "u1", "article:7", NOW_MS);
            share["ip"] = json!(ip);
            pipe(&mut driver, share, NOW_MS + 1);
        }
        verdicts(&mut driver).into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    let mapped = ["203.0.113.9", "::ffff:203.0.113.9", "::FFFF:CB00:7109", "203.0.113.8"];
    assert_eq!(limited("", &mapped), ["e1", "e2"]);
    let networks = ["2001:db8::1", "2001:DB8:0:0::2", "2001:db8:0:1::1", "2001:db8:1::1"];
    assert_eq!(limited("", &networks), ["e1"]);
    assert_eq!(limited(", ipv6_prefix: 48", &networks), ["e1", "e2"]);
    assert_eq!(limited(", ipv6_prefix: 128", &["2001:db8::1", "2001:db8::2", "2001:0db8:0::1"]), ["e2"]);
    for (prefix, by, error) in [("0", "ip", "must be from 1 to 128"), ("64", "actor_id", "goes with `ip` in `by`")] {
        let rule = format!("{{ name: x, by: [{by}], events: [share], max: 1, per: 10s, ipv6_prefix: {prefix} }},");
        let text = SHIPPED_TOPOLOGY.replace("rules: [", &format!("rules: [ {rule}"));
        let refused = Topology::load("topology.yaml", &text, REGISTRY, SINK_TYPES).err().unwrap().to_string();
        assert!(refused.contains(error) && refused.contains("topology.yaml:"), "{refused}");
    }
}

#[test]
fn the_latest_effective_time_decides_a_toggle() {
    let mut driver = driver();
    let mut append_time_ms = NOW_MS + 60_000;
    let mut step = |id: &str, kind: &str, occurred_at: i64| {
        // A window of the rule for toggles each.
        append_time_ms += 5_000;
        pipe(&mut driver, event(id, kind, "u1", "article:7", occurred_at), append_time_ms);
        let reactions: Vec<_> = driver.read("reactions").iter().map(|r| r.json()["active"].clone()).collect();
        (counters(&mut driver, "article:7")["likes"].clone(), reactions)
    };
    assert_eq!(step("e1", "like", NOW_MS + 10), (json!(1), vec![json!(true)]));
    assert_eq!(step("e2", "unlike", NOW_MS + 5), (Value::Null, vec![]), "older than the like");
    assert_eq!(step("e3", "like", NOW_MS + 20), (Value::Null, vec![]), "liked already");
    assert_eq!(step("e4", "unlike", NOW_MS + 15), (Value::Null, vec![]), "older than the second like");
    assert_eq!(step("e5", "unlike", NOW_MS + 20), (json!(0), vec![json!(false)]), "a tie: the later in the log");
    assert_eq!(step("e6", "unlike", NOW_MS + 30), (Value::Null, vec![]), "never negative");
    assert!(verdicts(&mut driver).is_empty(), "a toggle that changes nothing has no verdict");
}

#[test]
fn a_follow_counts_for_both_and_an_impossible_subject_is_a_dead_letter_before_anything_counts() {
    let mut driver = driver();
    pipe(&mut driver, event("e1", "follow", "u1", "user:u2", NOW_MS), NOW_MS);
    let records: Vec<_> = driver.read("counters").iter().map(Written::json).collect();
    let of = |subject: &str| records.iter().find(|r| r["subject_id"] == subject).unwrap()["counters"].clone();
    assert_eq!(of("user:u2"), json!({"followers": 1}));
    assert_eq!(of("user:u1"), json!({"following": 1}));

    // `user:` and 124 bytes are one byte too many for a subject.
    let actor = "x".repeat(120);
    pipe(&mut driver, event("e2", "follow", &actor, "user:u2", NOW_MS), NOW_MS);
    assert_eq!(driver.read("counters").len(), 2, "120 bytes still fit");
    let topology = SHIPPED_TOPOLOGY.replace("'user:' + actor_id", "'follower-of-somebody:' + actor_id");
    let topology = Topology::load("t", &topology, REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}"));
    let mut driver = TopologyTestDriver::new(topology);
    pipe(&mut driver, event("e3", "follow", &actor, "user:u2", NOW_MS), NOW_MS);
    assert!(driver.read("counters").is_empty());
    assert_eq!(verdicts(&mut driver), named(&[("e3", "dead")]));
    let letter = driver.read("dead-letters").remove(0);
    assert_eq!(letter.headers[1], ("node".to_owned(), b"follows".to_vec()));
    let header = |name: &str| letter.headers.iter().find(|(n, _)| n == name).map(|(_, v)| String::from_utf8_lossy(v));
    assert_eq!(header("reason").as_deref(), Some("count `following`: the subject must have at most 128 bytes"));
    assert!(header("detail").unwrap().contains(&actor));
}

#[test]
fn a_read_counts_from_five_seconds_on() {
    let mut driver = driver();
    for (id, duration) in [("e1", 4_999), ("e2", 5_000)] {
        let mut read = event(id, "read", "u1", "article:7", NOW_MS);
        read["duration_ms"] = json!(duration);
        pipe(&mut driver, read, NOW_MS);
    }
    assert_eq!(counters(&mut driver, "article:7"), json!({"reads": 1}));
}

#[test]
fn what_is_no_event_becomes_a_dead_letter_with_its_reason_and_disturbs_nothing() {
    let mut driver = driver();
    let good = event("e1", "view", "u1", "article:7", NOW_MS).to_string();
    let ahead = event("e2", "view", "u1", "article:7", NOW_MS + HOUR).to_string();
    let unknown = event("e3", "dance", "u1", "article:7", NOW_MS).to_string();
    let number = good.replace("\"u1\"", "7");
    let partition = "the record is not in the partition that murmur2 of its key names: set `partitioner=murmur2_random` in the producer";
    let key = "the record's key is not its actor_id: send that as the key";
    /// Partition, key, value, the reason, and how the detail begins.
    type Case<'a> = (u32, Option<&'a [u8]>, &'a [u8], &'a str, &'a str);
    let cases: &[Case<'_>] = &[
        (0, Some(b"u1"), b"not json", "not JSON: expected ident", "line 1 column 2"),
        (0, Some(b"u1"), b"", "not JSON: EOF while parsing a value", "line 1 column 0"),
        (0, Some(b"u1"), b"{\"event_id\":\"\xff\"}", "not JSON: invalid UTF-8", "byte 13"),
        (0, Some(b"u1"), b"\0\0\0\0\x01{}", "not JSON: expected value", "line 1 column 1"),
        (0, Some(b"u1"), b"{} {}", "not JSON: trailing characters", "line 1 column 4"),
        (0, Some(b"u1"), b"[]", "expected an event: a JSON object", "sequence, line 1 column"),
        (0, Some(b"u1"), number.as_bytes(), "`actor_id`: expected a string", "integer `7`, line 1 column"),
        (0, Some(b"u2"), good.as_bytes(), key, "key `u2`, actor_id `u1`"),
        (0, None, good.as_bytes(), key, "key none, actor_id `u1`"),
        (1, Some(b"u1"), good.as_bytes(), partition, "actor `u1` belongs to partition 0 of 8, not 1"),
        (0, Some(b"u1"), ahead.as_bytes(), "`occurred_at` lies more than 5 minutes ahead of the server's clock", ""),
        (0, Some(b"u1"), unknown.as_bytes(), "`type` is counted by no processor of the topology", "`dance`"),
    ];
    for (i, (partition, key, value, reason, detail)) in cases.iter().enumerate() {
        // A header of the record's own is not taken for ours.
        driver.pipe_to(*partition, *key, value, &[("b", &[7; 16]), ("detail", b"mine")], NOW_MS).unwrap();
        let letters = driver.read("dead-letters");
        let headers: Vec<_> =
            letters[0].headers.iter().map(|(n, v)| (n.as_str(), String::from_utf8_lossy(v))).collect();
        assert_eq!(letters.len(), 1, "case {i}");
        let first = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| &**value);
        assert_eq!(first("reason"), Some(*reason), "case {i}");
        let found = first("detail").unwrap();
        assert!(if detail.is_empty() { found.is_empty() } else { found.starts_with(detail) }, "case {i}: {found}");
        let address: Vec<_> = headers[2..5].iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(address[..2], ["topic=user-actions".to_owned(), format!("partition={partition}")]);
        assert_eq!(letters[0].value, *value);
        let verdict = driver.read("verdicts").remove(0).json();
        assert_eq!((&verdict["verdict"], &verdict["request"]), (&json!("dead"), &json!("07".repeat(16))));
    }
    pipe(&mut driver, serde_json::from_str(&good).unwrap(), NOW_MS);
    assert_eq!(counters(&mut driver, "article:7"), json!({"views": 1, "visitors": 1}));
}

#[test]
fn unknown_fields_in_records_are_ignored_and_a_missing_time_is_the_logs() {
    let mut driver = driver();
    let json = br#"{"event_id":"e1","type":"view","actor_id":"u1","subject_id":"article:7","next_year":{"a":[1]}}"#;
    driver.pipe("u1", json, NOW_MS).unwrap();
    assert_eq!(counters(&mut driver, "article:7"), json!({"views": 1, "visitors": 1}));
    let window = driver.read("counter-windows").remove(0).json();
    assert!(window["window_start_ms"].as_i64().unwrap() <= NOW_MS);
}

#[test]
fn visitors_are_exact_up_to_256_and_said_to_be_approximate_above() {
    let mut driver = driver();
    driver.hold();
    for i in 0..256 {
        pipe(&mut driver, event("e", "view", &format!("u{i}"), "article:7", NOW_MS), NOW_MS);
    }
    driver.commit().unwrap();
    let record = driver.read("counters").pop().unwrap().json();
    assert_eq!((&record["counters"]["visitors"], &record["approximate"]), (&json!(256), &Value::Null));
    for i in 0..2_000 {
        pipe(&mut driver, event("f", "view", &format!("u{i}"), "article:7", NOW_MS), NOW_MS);
    }
    driver.commit().unwrap();
    let record = driver.read("counters").pop().unwrap().json();
    let error = record["counters"]["visitors"].as_f64().unwrap() / 2_000.0 - 1.0;
    assert!(error.abs() < 0.04 && record["approximate"] == json!(["visitors"]), "{record}");
}

#[test]
fn a_retraction_belongs_to_the_minute_of_its_like_and_spares_closed_windows() {
    // A toggle in windows needs a counting node; likes have none, so this looks at what crosses the hop: totals only.
    let mut driver = driver();
    pipe(&mut driver, event("e1", "like", "u1", "article:7", NOW_MS), NOW_MS);
    assert_eq!(counters(&mut driver, "article:7"), json!({"likes": 1}));
    pipe(&mut driver, event("e2", "unlike", "u1", "article:7", NOW_MS + 48 * HOUR), NOW_MS + 48 * HOUR);
    assert_eq!(counters(&mut driver, "article:7"), json!({"likes": 0}));
}

#[test]
fn a_rolled_back_transaction_leaves_no_trace() {
    let mut driver = driver();
    pipe(&mut driver, event("e1", "like", "u1", "article:7", NOW_MS), NOW_MS);
    assert_eq!(counters(&mut driver, "article:7"), json!({"likes": 1}));
    driver.hold();
    let later = NOW_MS + 5_000;
    pipe(&mut driver, event("e2", "unlike", "u1", "article:7", later), later);
    pipe(&mut driver, event("e3", "view", "u1", "article:7", later), later);
    driver.rollback();
    driver.read("verdicts");
    // The same again, as it would come from the log.
    pipe(&mut driver, event("e2", "unlike", "u1", "article:7", later), later);
    pipe(&mut driver, event("e3", "view", "u1", "article:7", later), later);
    driver.commit().unwrap();
    assert_eq!(counters(&mut driver, "article:7"), json!({"likes": 0, "views": 1, "visitors": 1}));
    assert!(verdicts(&mut driver).is_empty());
}

#[test]
fn combined_commits_give_the_same_totals_as_single_ones() {
    let events: Vec<_> = (0..400i64)
        .map(|i| {
            let kind = ["view", "like", "unlike", "share"][(i % 4) as usize];
            let (actor, subject) = (format!("u{}", i % 7), format!("article:{}", i % 3));
            event(&format!("e{}", i % 350), kind, &actor, &subject, NOW_MS + (i * 7919) % 50_000)
        })
        .collect();
    let run = |hold: bool| {
        let mut driver = driver();
        if hold {
            driver.hold();
        }
        for (i, event) in events.iter().enumerate() {
            pipe(&mut driver, event.clone(), NOW_MS + 60_000 + i as i64);
        }
        driver.commit().unwrap();
        let mut newest = std::collections::BTreeMap::new();
        for record in driver.read("counters").iter().map(Written::json) {
            // A like and its retraction within one commit are nothing at all, and a missing metric is 0.
            let mut counters = record["counters"].as_object().unwrap().clone();
            counters.retain(|_, value| *value != 0);
            newest.insert(record["subject_id"].to_string(), counters);
        }
        // Each event's in their order; between partitions there is none.
        let mut of_event = std::collections::BTreeMap::<_, Vec<_>>::new();
        for (event_id, verdict) in verdicts(&mut driver) {
            of_event.entry(event_id).or_default().push(verdict);
        }
        (newest, of_event)
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn progress_says_what_is_contained() {
    let mut driver = driver();
    pipe(&mut driver, event("e1", "view", "u1", "article:7", NOW_MS), NOW_MS);
    let of_u1 = |progress: &TaskProgress| progress.roots.iter().find(|root| root.partition == 0).copied();
    let expected = Some(RootPosition { partition: 0, next_offset: 1, clock_ms: NOW_MS });
    let last = driver.read_all("counters").pop().unwrap();
    let (name, bytes) = &last.headers[0];
    let header = TaskProgress::decode(bytes).unwrap();
    assert_eq!((name.as_str(), header.generation, of_u1(&header)), (PROGRESS_HEADER, 1, expected));
    // The internal topic names the last commit that wrote.
    let told =
        driver.read_all("tally-progress").into_iter().rfind(|record| record.key == header.task.as_bytes()).unwrap();
    let told = TaskProgress::decode(&told.value).unwrap();
    let counters = told.outputs.iter().find(|output| output.topic == "counters").unwrap();
    assert_eq!((of_u1(&told), counters.commit), (expected, header.commit));
}
