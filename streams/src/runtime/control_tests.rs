//! One record for all processes of an application.

use super::super::recorded_topology::{record_topology, recorded_topology};
use super::*;
use crate::log::memory::MemoryLog;
use crate::log::{Cleanup, TopicSpec, system_clock};

fn log() -> MemoryLog {
    let log = MemoryLog::new(system_clock());
    let spec = TopicSpec {
        name: "app-control".into(),
        partitions: 1,
        cleanup: Cleanup::Compact,
        retention: None,
        retention_bytes: None,
    };
    log.ensure_topics(&[spec]).unwrap();
    log
}

fn proposal(fingerprint: &Fingerprint) -> Proposal<'_> {
    Proposal { fingerprint, wire_versions: 2..=3, accept_added: false, raise_wire_version: false, random: [7; 40] }
}

#[test]
fn the_first_record_is_everybodys() {
    let (log, fingerprint) = (log(), Fingerprint::default());
    let first = establish(&log, "app", &proposal(&fingerprint)).unwrap();
    assert_eq!((first.generation, first.wire_version), (1, 3));
    let second = establish(&log, "app", &Proposal { random: [8; 40], ..proposal(&fingerprint) }).unwrap();
    assert_eq!(second, first, "its secrets too");
}

#[test]
fn a_newer_release_writes_what_the_older_one_reads_until_it_is_told() {
    let (log, fingerprint) = (log(), Fingerprint::default());
    let old = Proposal { wire_versions: 1..=2, ..proposal(&fingerprint) };
    let new = proposal(&fingerprint);
    let told = Proposal { raise_wire_version: true, ..new.clone() };
    let written = |proposal| establish(&log, "app", proposal).map(|control| control.wire_version);
    assert_eq!(written(&old).unwrap(), 2);
    assert_eq!(written(&new).unwrap(), 2);
    assert_eq!(written(&old).unwrap(), 2, "the way back is open");
    assert_eq!(written(&told).unwrap(), 3);
    assert_eq!(written(&new).unwrap(), 3, "once is enough");
    let refused = written(&old).unwrap_err().to_string();
    assert_eq!(refused, "records are written in wire version 3, and this tally knows up to 2: run a newer one");
    assert_eq!(written(&told).unwrap(), 3, "and nothing was changed by that");
}

#[test]
fn a_confirmed_time_is_kept_by_the_next_writer() {
    let (log, fingerprint) = (log(), Fingerprint::default());
    establish(&log, "app", &Proposal { wire_versions: 1..=2, ..proposal(&fingerprint) }).unwrap();
    let time = |partition| ConfirmedTime { partition, from_offset: 5, until_offset: 7, clock_ms: 1, log_ms: 2 };
    confirm(&log, "app", vec![time(0)]).unwrap();
    confirm(&log, "app", vec![time(1)]).unwrap();
    let raised = establish(&log, "app", &Proposal { raise_wire_version: true, ..proposal(&fingerprint) }).unwrap();
    assert_eq!((raised.wire_version, raised.confirmed_times), (3, vec![time(0), time(1)]));
}

#[test]
fn a_restored_log_has_another_id_and_the_same_secret() {
    let (log, fingerprint) = (log(), Fingerprint::default());
    let before = establish(&log, "app", &proposal(&fingerprint)).unwrap();
    let renewed = renew_log_id(&log, "app", [9; 8]).unwrap();
    assert_eq!(renewed, Control { log_id: [9; 8], ..before });
    assert_eq!(newest_control(&log, "app").unwrap(), Some(renewed));
}

#[test]
fn releases_are_not_skipped() {
    let (log, fingerprint) = (log(), Fingerprint::default());
    establish(&log, "app", &Proposal { wire_versions: 1..=1, ..proposal(&fingerprint) }).unwrap();
    let refused = establish(&log, "app", &proposal(&fingerprint)).unwrap_err().to_string();
    assert!(refused.contains("writes from 2 on: run the release before"), "{refused}");
}

#[test]
fn the_record_is_what_it_has_always_been() {
    let text = concat!(
        r#"{"version":1,"generation":1,"wire_version":1,"fingerprint":{"subtopologies":{}},"log_id":[1,2,3,4,5,6,7,8],"#,
        r#""secret":[9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9]}"#
    );
    let control: Control = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&control).unwrap(), text);
    let with_times = text.replace("]}", r#"],"confirmed_times":[{"partition":3,"from_offset":5,"until_offset":7,"clock_ms":1795248000000,"log_ms":1795341600000}]}"#);
    let read: Control = serde_json::from_str(&with_times).unwrap();
    assert_eq!((read.confirmed_times.len(), serde_json::to_string(&read).unwrap()), (1, with_times));
    let before: Control = serde_json::from_str(&text.replace(r#""wire_version":1,"#, "")).unwrap();
    assert_eq!(before, control, "records of before there was a wire version");
}

#[test]
fn the_topology_file_stands_beside_the_control_record() {
    let (log, fingerprint) = (log(), Fingerprint::default());
    assert_eq!(recorded_topology(&log, "app"), Ok(None));
    assert_eq!(recorded_topology(&log, "other"), Ok(None), "without a topic");
    let control = establish(&log, "app", &proposal(&fingerprint)).unwrap();
    let end = || log.ends(&[TopicPartition::new("app-control", 0)]).unwrap()[0];
    for (file, records) in [("a: 1", 1), ("a: 1", 0), ("a: 2", 1), ("a: 1", 1)] {
        let before = end();
        record_topology(&log, "app", file).unwrap();
        assert_eq!((recorded_topology(&log, "app"), end() - before), (Ok(Some(file.to_owned())), records));
        assert_eq!(newest_control(&log, "app").unwrap(), Some(control.clone()));
        assert_eq!(establish(&log, "app", &proposal(&fingerprint)).unwrap(), control);
    }
}
