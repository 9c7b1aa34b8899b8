//! The content of Redis and the order of writes: guard, slots, refills, passwords.

mod fixture;

use fixture::*;
use prometheus::IntCounter;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use tally_cache::redis::RedisAddress;
use tally_sinks::{Batch, RedisTarget, Target, TargetError};
use tally_streams::log::TopicPartition;

/// A record of a subject: its version and how many metrics it has.
type Entry = (usize, i64, usize);

fn entries() -> impl Strategy<Value = Vec<Vec<Entry>>> {
    // Beyond 2^53, where doubles no longer distinguish neighbours; and short ones beside long ones.
    let version = prop_oneof![0..12i64, (0..6i64).prop_map(|low| (40 << 48) + (1 << 47) + low)];
    prop::collection::vec(prop::collection::vec((0..4usize, version, 0..4usize), 1..5), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_greatest_version_wins_whatever_the_order(batches in entries()) {
        for place in redis_places() {
            let mut target = place.target();
            let mut model = BTreeMap::<usize, (i64, BTreeMap<String, i64>)>::new();
            for (at, entries) in batches.iter().enumerate() {
                let mut batch = Batch::default();
                let mut folded = BTreeMap::<usize, (i64, BTreeMap<String, i64>)>::new();
                for (subject, version, metrics) in entries {
                    let names = ["likes", "views", "shares"];
                    let totals: Vec<_> = names[..*metrics].iter().map(|name| (*name, at as i64 - 3)).collect();
                    add_counters(&mut batch, &counters(&format!("article:{subject}"), &totals, &[], *version), false);
                    let row = (*version, totals.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect());
                    if folded.get(subject).is_none_or(|(known, _)| known <= version) {
                        folded.insert(*subject, row);
                    }
                }
                for (subject, row) in folded {
                    if model.get(&subject).is_none_or(|(known, _)| *known <= row.0) {
                        model.insert(subject, row);
                    }
                }
                let expected = (at > 0).then_some((at as u64, 0));
                batch.positions.push(step(expected, at as u64 + 1, &[], 1));
                target.write(&batch).unwrap();
            }
            for (subject, (version, totals)) in model {
                let id = format!("article:{subject}");
                prop_assert_eq!(place.totals(&id), totals);
                prop_assert_eq!(&place.hash(&id)["@version"], &version.to_string());
            }
        }
    }
}

#[test]
fn a_batch_over_all_slots_is_written_with_one_slot_a_script() {
    for place in redis_places() {
        let mut target = place.target();
        let mut batch = Batch::default();
        for i in 0..2_500 {
            add_counters(&mut batch, &counters(&format!("article:{i}"), &[("likes", i)], &["likes"], 1), false);
        }
        batch.positions.push(step(None, 7, &[(0, 1)], 1));
        target.write(&batch).unwrap();
        for i in [0, 1, 99, 100, 101, 999, 1_000, 2_499] {
            assert_eq!(place.totals(&format!("article:{i}"))["likes"], i);
        }
        assert!(
            place.progress()["counters/0"].starts_with(r#"{"next_offset":7,"version":1,"generation":0,"roots":[{"#)
        );
    }
}

#[test]
fn a_refill_claims_nothing_before_its_end() {
    for place in redis_places() {
        let topics = [Arc::from("counters")];
        let goal = |offset| [(TopicPartition::new("counters", 0), offset)];
        let refill_until = || {
            let stored: serde_json::Value = serde_json::from_str(&place.progress()["counters/0"]).unwrap();
            stored.get("refill_until").and_then(serde_json::Value::as_u64)
        };
        let move_to = |target: &mut dyn Target, expected, next_offset| {
            let mut batch = Batch::default();
            batch.positions.push(step(expected, next_offset, &[(0, 1)], 1));
            target.write(&batch).unwrap();
            refill_until()
        };
        let mut target = place.target();
        assert_eq!(target.positions(&topics).unwrap(), []);
        target.begin(&goal(10));
        assert_eq!(move_to(&mut *target, None, 5), Some(10));
        // A sink that takes over continues to the current end of the topic.
        let mut target = place.target();
        assert_eq!(target.positions(&topics).unwrap()[0].next_offset, 5);
        target.begin(&goal(12));
        assert_eq!(move_to(&mut *target, Some((5, 1)), 11), Some(12));
        assert_eq!(move_to(&mut *target, Some((11, 1)), 12), None);
        // From now on a sink that starts is late, but what it claims is there.
        let mut target = place.target();
        target.positions(&topics).unwrap();
        target.begin(&goal(20));
        assert_eq!(move_to(&mut *target, Some((12, 1)), 13), None);
    }
}

fn failure(target: &mut RedisTarget) -> String {
    match target.positions(&[Arc::from("counters")]) {
        Err(TargetError::Unavailable(cause)) => cause,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_password_is_used_and_never_told() {
    if !can_start_redis() {
        return;
    }
    let redis = OwnRedis::with(&["--user", "tally", "on", ">se/cret", "~*", "&*", "+@all", "--user", "default", "off"]);
    let target = |password: &str| {
        let address = RedisAddress::parse(&format!("redis://tally:{password}@{}", redis.node())).unwrap();
        RedisTarget::new(address, IntCounter::new("refills", "Refills.").unwrap()).unwrap()
    };
    let cause = failure(&mut target("wrong"));
    assert!(cause.contains("WRONGPASS") || cause.to_lowercase().contains("auth"), "{cause}");
    assert!(!cause.contains("wrong@") && cause.contains(&redis.node()), "{cause}");
    assert_eq!(target("se%2Fcret").positions(&[Arc::from("counters")]).unwrap(), []);
}
