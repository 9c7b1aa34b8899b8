//! `owner: database`: the shipped topology's `collects`, driven without a log.

use super::{HOUR, NOW_MS, SHIPPED_TOPOLOGY, driver};
use serde_json::{Value, json};
use tally_model::SequenceKey;
use tally_processors::{Actions, REGISTRY, owned_toggle};
use tally_sinks::SINK_TYPES;
use tally_streams::log::partition_of;
use tally_streams::testkit::{TopologyTestDriver, Written};
use tally_streams::topology::Topology;

/// The secret of the driver's control record.
const SECRET: [u8; 32] = [7; 32];

fn value(kind: &str, occurred_at: i64) -> Vec<u8> {
    let event = json!({"event_id": "e1", "type": kind, "actor_id": "u1", "subject_id": "article:7", "occurred_at": occurred_at});
    event.to_string().into_bytes()
}

fn pipe(driver: &mut TopologyTestDriver<Actions>, value: &[u8], headers: &[(&str, &[u8])], append_time_ms: i64) {
    driver.pipe_to(partition_of(b"u1", 8), Some(b"u1"), value, headers, append_time_ms).unwrap();
}

/// As the relay writes it.
fn relay(driver: &mut TopologyTestDriver<Actions>, kind: &str, seq: i64, occurred_at: i64, append_time_ms: i64) {
    let value = value(kind, occurred_at);
    let mac = SequenceKey(SECRET).mac(seq, &value);
    pipe(driver, &value, &[("seq", &seq.to_be_bytes()), ("mac", &mac)], append_time_ms);
}

fn collects(driver: &mut TopologyTestDriver<Actions>) -> Value {
    let newest = driver.read("counters").pop();
    newest.map_or(Value::Null, |record| record.json()["counters"]["collects"].clone())
}

#[test]
fn the_number_orders_and_nothing_else() {
    let mut driver = driver();
    let mut step = |kind, seq, occurred_at, append| {
        relay(&mut driver, kind, seq, occurred_at, append);
        collects(&mut driver)
    };
    assert_eq!(step("collect", 1, NOW_MS + 10, NOW_MS), json!(1));
    assert_eq!(step("collect", 1, NOW_MS + 10, NOW_MS + 1), Value::Null, "the relay wrote it twice");
    assert_eq!(step("uncollect", 2, NOW_MS - 500, NOW_MS + 2), json!(0), "a host whose clock is behind");
    assert_eq!(step("collect", 1, NOW_MS + 10, NOW_MS + 3), Value::Null, "a relay that was taken for dead");
    assert_eq!(step("uncollect", 4, NOW_MS, NOW_MS + 4), Value::Null, "off already");
    assert_eq!(step("collect", 3, NOW_MS, NOW_MS + 5), Value::Null, "older than the fourth");
    assert_eq!(step("collect", 5, NOW_MS + HOUR, NOW_MS + 6), json!(1), "a host whose clock is far ahead");
    assert_eq!(step("uncollect", 6, NOW_MS - 300 * HOUR, NOW_MS + 7), json!(0), "the relay stood still for days");
    for topic in ["verdicts", "dead-letters", "reactions"] {
        assert!(driver.read(topic).is_empty(), "{topic}");
    }
}

#[test]
fn what_comes_late_is_in_totals_and_boards_once() {
    let mut driver = driver();
    relay(&mut driver, "collect", 1, NOW_MS - 30 * HOUR, NOW_MS);
    relay(&mut driver, "collect", 1, NOW_MS - 30 * HOUR, NOW_MS);
    assert_eq!(collects(&mut driver), json!(1));
    driver.advance_clock(NOW_MS + 60_000).unwrap();
    let boards: Vec<_> = driver.read("rankings").iter().map(Written::json).collect();
    let hot = boards.iter().rev().find(|board| board["board"] == "hot").expect("a board");
    // Six points, two of six hours into their epoch, five epochs ago: 6,000 * 2^(2/6) >> 5.
    assert_eq!(hot["items"], json!([{"subject_id": "article:7", "score": 236}]));
}

#[test]
fn a_limit_of_the_actor_does_not_hold_what_the_database_has() {
    let mut driver = driver();
    for seq in 1..=101 {
        relay(&mut driver, if seq % 2 == 1 { "collect" } else { "uncollect" }, seq, NOW_MS, NOW_MS);
    }
    assert_eq!(collects(&mut driver), json!(1));
    assert!(driver.read("verdicts").is_empty());
}

#[test]
fn without_a_valid_mac_it_is_a_dead_letter() {
    let mut driver = driver();
    let value = value("collect", NOW_MS);
    let (seq, mac) = (1i64.to_be_bytes(), SequenceKey(SECRET).mac(1, &value));
    let forged = SequenceKey([8; 32]).mac(1, &value);
    for (headers, reason) in [
        (vec![], "header `seq` is missing"),
        (vec![("seq", &seq[..])], "header `mac` is missing"),
        (vec![("seq", &seq[..]), ("mac", &forged[..])], "header `mac` is missing or does not fit"),
        (vec![("seq", &2i64.to_be_bytes()[..]), ("mac", &mac[..])], "header `mac`"),
    ] {
        pipe(&mut driver, &value, &headers, NOW_MS);
        let letters = driver.read("dead-letters");
        let header = letters[0].headers.iter().find(|(name, _)| name == "reason").unwrap();
        assert!(String::from_utf8_lossy(&header.1).starts_with(reason), "{header:?}");
        assert_eq!(driver.read("verdicts")[0].json()["verdict"], "dead");
    }
    assert_eq!(collects(&mut driver), Value::Null);
    // The headers do not make another type of event anything special.
    let like = String::from_utf8(value).unwrap().replace("collect", "like");
    pipe(&mut driver, like.as_bytes(), &[("seq", &seq), ("mac", &mac)], NOW_MS - 100 * HOUR);
    pipe(&mut driver, like.as_bytes(), &[("seq", &seq), ("mac", &mac)], NOW_MS);
    assert_eq!(driver.read("verdicts")[0].json()["verdict"], "duplicate");
}

#[test]
fn the_file_says_who_owns_what_and_is_told_what_cannot_be() {
    let load = |text: &str| Topology::load("topology.yaml", text, REGISTRY, SINK_TYPES);
    let owned = owned_toggle(&load(SHIPPED_TOPOLOGY).unwrap()).unwrap();
    assert_eq!((&*owned.metric, &*owned.on, &*owned.off), ("collects", "collect", "uncollect"));
    let unowned = SHIPPED_TOPOLOGY.replace(", owner: database", "");
    assert_eq!(owned_toggle(&load(&unowned).unwrap()), None);
    let differences = load(SHIPPED_TOPOLOGY).unwrap().fingerprint().compare(&load(&unowned).unwrap().fingerprint());
    assert!(
        matches!(differences, tally_streams::topology::Difference::Changed(_)),
        "numbers and times are not the same"
    );
    for (from, to, expected) in [
        ("off: unlike,", "off: unlike, owner: database,", "only a toggle named `collects`"),
        ("owner: database", "owner: somebody", "owner"),
        ("owner: database", "owner: database, counts: [{ metric: collects, subject: subject_id }]", "must be left out"),
        ("event: share", "event: collect", "`collect` is taken by `shares` as well"),
        ("unfollow, share]", "unfollow, share, uncollect]", "the database owns `uncollect`"),
    ] {
        assert!(SHIPPED_TOPOLOGY.contains(from), "{from}");
        let refused =
            load(&SHIPPED_TOPOLOGY.replacen(from, to, 1)).err().unwrap_or_else(|| panic!("{to} is taken")).to_string();
        assert!(refused.contains(expected), "{to}: {refused}");
    }
}
