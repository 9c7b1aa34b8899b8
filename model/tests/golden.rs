//! The JSON formats of the topics, byte for byte. What has been written once must stay readable: never change a string
//! here. A new field gets a default and a new test; an old string stays (`docs/wire.md`).

use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use tally_model::{
    CounterWindow, Counters, Decimal, Event, EventFields, MetricValue, OutputCommit, PROGRESS_HEADER,
    PROGRESS_KEY_PREFIX, ProgressMark, Ranked, Ranking, Reaction, RootPosition, TaskProgress, UnknownFields, Verdict,
    VerdictKind, WindowSpec,
};

/// Generation 1, commit 42.
const VERSION: i64 = (1 << 48) | 42;

/// What is written is these bytes, and these bytes are read as what was written.
#[track_caller]
fn both_ways<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, json: &str) {
    assert_eq!(serde_json::to_string(value).unwrap(), json);
    reads(json, value);
}

/// Bytes of an older or a newer version are read as `value`.
#[track_caller]
fn reads<T: DeserializeOwned + PartialEq + Debug>(json: &str, value: &T) {
    assert_eq!(serde_json::from_str::<T>(json).unwrap(), *value);
}

fn counters() -> Counters {
    Counters {
        subject_id: "article:7".into(),
        counters: [("likes".to_owned(), 3.into()), ("visitors".to_owned(), 300.into())].into(),
        changed: vec!["visitors".into(), "likes".into()],
        approximate: vec!["visitors".into()],
        as_of_ms: 1_795_248_000_123,
        version: VERSION,
    }
}

#[test]
fn counters_are_what_they_have_always_been() {
    both_ways(
        &counters(),
        r#"{"subject_id":"article:7","counters":{"likes":3,"visitors":300},"changed":["visitors","likes"],"approximate":["visitors"],"as_of_ms":1795248000123,"version":281474976710698}"#,
    );
    let exact = Counters { approximate: Vec::new(), ..counters() };
    both_ways(
        &exact,
        r#"{"subject_id":"article:7","counters":{"likes":3,"visitors":300},"changed":["visitors","likes"],"as_of_ms":1795248000123,"version":281474976710698}"#,
    );
}

#[test]
fn counters_of_every_type_are_what_they_have_always_been() {
    let values = [
        ("dwell.ms", MetricValue::wide(1 << 64)),
        ("dwell.mean", Decimal::new(350, 2).unwrap().into()),
        ("dwell.last", MetricValue::text("it's \"7\"")),
        ("dwell.min", MetricValue::Null),
    ];
    let counters = Counters {
        counters: values.map(|(metric, value)| (metric.to_owned(), value)).into(),
        changed: vec!["dwell.mean".into()],
        approximate: Vec::new(),
        ..counters()
    };
    both_ways(
        &counters,
        r#"{"subject_id":"article:7","counters":{"dwell.last":"it's \"7\"","dwell.mean":3.50,"dwell.min":null,"dwell.ms":18446744073709551616},"changed":["dwell.mean"],"as_of_ms":1795248000123,"version":281474976710698}"#,
    );
}

#[test]
fn rankings_are_what_they_have_always_been() {
    let ranked = |subject_id: &str, score| Ranked { subject_id: subject_id.to_owned(), score };
    let ranking = Ranking {
        board: "hot".into(),
        items: vec![ranked("article:7", 12_345), ranked("article:12", 4_000)],
        as_of_ms: 1_795_248_000_123,
        version: VERSION,
    };
    both_ways(
        &ranking,
        r#"{"board":"hot","items":[{"subject_id":"article:7","score":12345},{"subject_id":"article:12","score":4000}],"as_of_ms":1795248000123,"version":281474976710698}"#,
    );
}

#[test]
fn counter_windows_are_what_they_have_always_been() {
    let window = CounterWindow {
        subject_id: "article:7".into(),
        metric: "views".into(),
        window: WindowSpec::Tumbling { size_ms: 3_600_000 },
        window_start_ms: 1_795_248_000_000,
        window_end_ms: 1_795_251_600_000,
        value: 12.into(),
        approximate: false,
        deleted: false,
        version: VERSION,
    };
    both_ways(
        &window,
        r#"{"subject_id":"article:7","metric":"views","window_ms":3600000,"window_start_ms":1795248000000,"value":12,"version":281474976710698}"#,
    );
    let estimate = CounterWindow { metric: "visitors".into(), value: 300.into(), approximate: true, ..window.clone() };
    both_ways(
        &estimate,
        r#"{"subject_id":"article:7","metric":"visitors","window_ms":3600000,"window_start_ms":1795248000000,"value":300,"approximate":true,"version":281474976710698}"#,
    );
    assert_eq!(window.key(), b"article:7\0views\x003600000\x001795248000000");
}

#[test]
fn windows_of_other_kinds_are_what_they_have_always_been() {
    let session = CounterWindow {
        subject_id: "user:u42".into(),
        metric: "sessions.mean".into(),
        window: WindowSpec::Session { gap_ms: 1_800_000, max_ms: 43_200_000 },
        window_start_ms: 1_795_248_000_123,
        window_end_ms: 1_795_248_900_456,
        value: Decimal::new(-5, 1).unwrap().into(),
        approximate: false,
        deleted: false,
        version: VERSION,
    };
    both_ways(
        &session,
        r#"{"subject_id":"user:u42","metric":"sessions.mean","window":"session:1800000:43200000","window_start_ms":1795248000123,"window_end_ms":1795248900456,"value":-0.5,"version":281474976710698}"#,
    );
    assert_eq!(session.key(), b"user:u42\0sessions.mean\0session:1800000:43200000\x001795248000123");
    let absorbed = CounterWindow { value: MetricValue::Null, deleted: true, ..session.clone() };
    both_ways(
        &absorbed,
        r#"{"subject_id":"user:u42","metric":"sessions.mean","window":"session:1800000:43200000","window_start_ms":1795248000123,"window_end_ms":1795248900456,"value":null,"deleted":true,"version":281474976710698}"#,
    );
    assert_eq!(absorbed.key(), session.key());
    for json in [
        r#"{"subject_id":"a:1","metric":"m","window_start_ms":0,"value":1,"version":1}"#,
        r#"{"subject_id":"a:1","metric":"m","window":"sliding:1","window_start_ms":0,"value":1,"version":1}"#,
        r#"{"subject_id":"a:1","metric":"m","window_ms":1,"window":"sliding:1","window_start_ms":0,"window_end_ms":1,"value":1,"version":1}"#,
        r#"{"subject_id":"a:1","metric":"m","window":"daily:1","window_start_ms":0,"window_end_ms":1,"value":1,"version":1}"#,
    ] {
        assert!(serde_json::from_str::<CounterWindow>(json).is_err(), "{json}");
    }
}

#[test]
fn reactions_are_what_they_have_always_been() {
    let reaction = Reaction {
        actor_id: "u42".into(),
        metric: "likes".into(),
        subject_id: "article:7".into(),
        active: true,
        occurred_at_ms: 1_795_248_000_123,
        appended_at_ms: 1_795_248_000_456,
        version: VERSION,
    };
    both_ways(
        &reaction,
        r#"{"actor_id":"u42","metric":"likes","subject_id":"article:7","active":true,"occurred_at_ms":1795248000123,"appended_at_ms":1795248000456,"version":281474976710698}"#,
    );
    assert_eq!(reaction.key(), b"u42\0likes\0article:7");
}

fn verdict(kind: VerdictKind) -> Verdict {
    Verdict {
        partition: 3,
        offset: 70_000,
        request: Some("00112233445566778899aabbccddeeff".into()),
        event_id: Some("e1".into()),
        actor_id: Some("u42".into()),
        verdict: kind,
        reason: "counted before".into(),
        node: "fresh".into(),
        appended_at_ms: 1_795_248_000_456,
        version: VERSION,
    }
}

#[test]
fn verdicts_are_what_they_have_always_been() {
    both_ways(
        &verdict(VerdictKind::Duplicate),
        r#"{"partition":3,"offset":70000,"request":"00112233445566778899aabbccddeeff","event_id":"e1","actor_id":"u42","verdict":"duplicate","reason":"counted before","node":"fresh","appended_at_ms":1795248000456,"version":281474976710698}"#,
    );
    let bare = Verdict { request: None, event_id: None, actor_id: None, ..verdict(VerdictKind::Dead) };
    both_ways(
        &bare,
        r#"{"partition":3,"offset":70000,"verdict":"dead","reason":"counted before","node":"fresh","appended_at_ms":1795248000456,"version":281474976710698}"#,
    );
}

#[test]
fn kinds_of_verdicts_keep_their_names() {
    let kinds = [
        (VerdictKind::Duplicate, r#""duplicate""#),
        (VerdictKind::Limited, r#""limited""#),
        (VerdictKind::Late, r#""late""#),
        (VerdictKind::Dead, r#""dead""#),
        (VerdictKind::Held, r#""held""#),
        (VerdictKind::Released, r#""released""#),
    ];
    for (kind, json) in kinds {
        both_ways(&kind, json);
        assert_eq!(format!("\"{}\"", kind.as_str()), json);
    }
}

#[test]
fn progress_marks_are_what_they_have_always_been() {
    let mark = ProgressMark {
        task: "user-actions/3".into(),
        generation: 1,
        roots: vec![
            RootPosition { partition: 3, next_offset: 70_001, clock_ms: 1_795_248_000_456 },
            RootPosition { partition: 4, next_offset: 0, clock_ms: i64::MIN },
        ],
        version: VERSION,
    };
    both_ways(
        &mark,
        r#"{"task":"user-actions/3","generation":1,"roots":[{"partition":3,"next_offset":70001,"clock_ms":1795248000456},{"partition":4,"next_offset":0,"clock_ms":-9223372036854775808}],"version":281474976710698}"#,
    );
    let key = ProgressMark::key("user-actions/3");
    assert_eq!(key, b"\0progress/user-actions/3");
    assert!(key.starts_with(PROGRESS_KEY_PREFIX));
}

#[test]
fn progress_is_what_it_has_always_been() {
    let progress = TaskProgress {
        task: "by-subject_id/3".into(),
        generation: 1,
        commit: 300,
        roots: vec![
            RootPosition { partition: 3, next_offset: 70_001, clock_ms: 1_000 },
            RootPosition { partition: 4, next_offset: 0, clock_ms: i64::MIN },
        ],
        outputs: vec![
            OutputCommit { topic: "counters".into(), commit: 299 },
            OutputCommit { topic: "rankings".into(), commit: 0 },
        ],
    };
    let head = b"\x01\x0fby-subject_id/3\x01\xac\x02".as_slice();
    let roots = b"\x02\x03\xf1\xa2\x04\xd0\x0f\x04\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01".as_slice();
    let outputs = b"\x02\x08counters\xab\x02\x08rankings\x00".as_slice();
    let golden = [head, roots, outputs].concat();
    assert_eq!(progress.encode(), golden);
    assert_eq!(TaskProgress::decode(&golden), Ok(progress.clone()));
    // In a header.
    let header = TaskProgress { outputs: Vec::new(), ..progress };
    let golden = [head, roots, b"\x00"].concat();
    assert_eq!(header.encode(), golden);
    assert_eq!(TaskProgress::decode(&golden), Ok(header));
    assert_eq!(PROGRESS_HEADER, "progress");
    for wrong in [&b""[..], b"\x02", &golden[..7], &[&golden[..], b"\x00"].concat()] {
        assert!(TaskProgress::decode(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn fields_of_a_newer_version_and_another_order_do_not_matter() {
    reads(
        r#"{"version":281474976710698,"as_of_ms":1795248000123,"next_year":[{}],"approximate":["visitors"],"changed":["visitors","likes"],"counters":{"visitors":300,"likes":3},"subject_id":"article:7"}"#,
        &counters(),
    );
    reads(
        r#"{"partition":3,"offset":70000,"request":null,"verdict":"late","reason":"counted before","node":"fresh","appended_at_ms":1795248000456,"version":281474976710698,"next_year":1}"#,
        &Verdict { request: None, event_id: None, actor_id: None, ..verdict(VerdictKind::Late) },
    );
}

#[test]
fn events_in_the_log_are_what_they_have_always_been() {
    let sent = br#"{"properties":{"source":"feed","depth":3},"duration_ms":6200,"user_agent":"a","ip":"203.0.113.9",
        "occurred_at":"2026-11-21T08:00:00.123Z","subject_id":"article:7","actor_id":"u\"42","type":"read","event_id":"e1"}"#;
    let stored = br#"{"event_id":"e1","type":"read","actor_id":"u\"42","subject_id":"article:7","ip":"203.0.113.9","user_agent":"a","occurred_at":1795248000123,"duration_ms":6200,"properties":{"source":"feed","depth":3}}"#;
    let mut written = Vec::new();
    EventFields::parse(sent, UnknownFields::Refuse).unwrap().write_json(&mut written);
    assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(stored));
    let append_time_ms = 1_795_248_000_456;
    let event = Event::from_log(stored, append_time_ms).unwrap();
    assert_eq!(event, Event::from_log(sent, append_time_ms).unwrap());
    assert_eq!((event.occurred_at_ms, event.duration_ms), (1_795_248_000_123, Some(6_200)));
    // A producer beside the ingest API may leave the time out: then the event happened when the log took it.
    let timeless = br#"{"event_id":"e1","type":"view","actor_id":"u42","subject_id":"article:7"}"#;
    assert_eq!(Event::from_log(timeless, append_time_ms).unwrap().occurred_at_ms, append_time_ms);
}
