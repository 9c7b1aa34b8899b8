//! Adding values up, and their stored form.

use super::*;
use proptest::prelude::*;
use std::sync::Arc;
use tally_model::{Millionths, Picked};

fn partial() -> impl Strategy<Value = (u32, Partial)> {
    let picked = (0..4i64, 0..3u32, 0..3u64, "[ab]{0,2}").prop_map(|(time, partition, offset, text)| Picked {
        order: (time, partition, offset),
        datum: Datum::Text(text.into()),
    });
    prop_oneof![
        (1..4u64).prop_map(|count| (1, Partial::Count(count))),
        any::<i64>().prop_map(|sum| (2, Partial::Sum(sum.into()))),
        any::<i64>().prop_map(|value| (3, Partial::Min(value.into()))),
        any::<i64>().prop_map(|value| (4, Partial::Max(value.into()))),
        picked.clone().prop_map(|picked| (5, Partial::First(picked))),
        picked.prop_map(|picked| (6, Partial::Last(picked))),
        any::<i32>().prop_map(|sum| (7, Partial::Average { sum: sum.into(), count: 1 })),
        (0..600u64, 0..200u64).prop_map(|(from, count)| {
            (8, Partial::Distinct((from..from + count).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect()))
        }),
        prop::collection::btree_map(-5..5i16, 1..3u64, 1..4).prop_map(|counts| (9, Partial::Quantile(Buckets(counts)))),
    ]
}

fn values(partials: &[(u32, Partial)]) -> Values {
    let mut values = Values::default();
    partials.iter().for_each(|one| values.add(std::slice::from_ref(one)));
    values
}

/// By id: the order in which values came decides nothing.
fn sorted(values: &Values) -> Vec<(u32, Held)> {
    let mut sorted = values.0.clone();
    sorted.sort_by_key(|(id, _)| *id);
    sorted
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn the_order_decides_nothing(partials in prop::collection::vec(partial(), 0..40).prop_shuffle(), cut in 0..40usize) {
        // Picked values of equal order are of one event, and equal.
        let mut partials = partials;
        let mut seen = std::collections::BTreeMap::new();
        for (id, partial) in &mut partials {
            if let Partial::First(picked) | Partial::Last(picked) = partial {
                picked.datum = seen.entry((*id, picked.order)).or_insert_with(|| picked.datum.clone()).clone();
            }
        }
        let whole = values(&partials);
        let backwards = values(&partials.iter().rev().cloned().collect::<Vec<_>>());
        prop_assert_eq!(sorted(&whole), sorted(&backwards));
        let (a, b) = partials.split_at(cut.min(partials.len()));
        let mut merged = values(a);
        merged.merge(&values(b));
        prop_assert_eq!(sorted(&merged), sorted(&whole));
    }

    #[test]
    fn what_changed_restores_the_whole(a in prop::collection::vec(partial(), 0..20), b in prop::collection::vec(partial(), 0..20)) {
        let before = values(&a);
        let mut now = before.clone();
        b.iter().for_each(|one| now.add(std::slice::from_ref(one)));
        let mut delta = Vec::new();
        now.delta(&before, &mut delta);
        prop_assert_eq!(delta.is_empty(), now == before);
        let mut restored = before.clone();
        prop_assert!(restored.apply(&delta));
        prop_assert_eq!(&restored, &now);
        // Applied again it changes nothing.
        prop_assert!(restored.apply(&delta));
        prop_assert_eq!(&restored, &now);
        let mut bytes = Vec::new();
        now.encode(&mut bytes);
        prop_assert_eq!(Values::decode(&bytes), Some(now));
    }
}

#[test]
fn the_stored_bytes_are_what_they_have_always_been() {
    let picked = Picked { order: (-1, 2, 3), datum: Datum::Number(4) };
    let values = values(&[
        (300, Partial::Sum(-3)),
        (2, Partial::First(picked)),
        (3, Partial::Distinct(vec![300, 1])),
        (4, Partial::Quantile(Buckets([(-1, 2)].into()))),
    ]);
    let mut bytes = Vec::new();
    values.encode(&mut bytes);
    let golden = [
        b"\x04\xac\x02\x00\x01\x05\x02\x00\x04\x01\x02\x03\x00\x08".as_slice(),
        b"\x03\x02\x02\x01\xac\x02\x04\x01\x01\x01\x02",
    ];
    assert_eq!(bytes, golden.concat());
    let mut estimate = Sketch::default();
    (0..300u64).for_each(|hash| drop(estimate.add(hash)));
    let estimate = Values(vec![(1, Held::Distinct(estimate))]);
    bytes.clear();
    estimate.encode(&mut bytes);
    assert_eq!((bytes.len(), &bytes[..5]), (16_390, b"\x01\x01\x04\x80\x80".as_slice()));
    assert_eq!(Values::decode(&bytes), Some(estimate));
}

#[test]
fn results_have_the_declared_decimals() {
    let value = |function, scale| AggregateValue { metric: Arc::from("n.v"), function, scale };
    let q = Function::Quantile(Millionths(500_000));
    for (function, scale, partial, expected) in [
        (Function::Count, 0, None, "0"),
        (Function::Sum, 2, None, "0.00"),
        (Function::Distinct, 0, None, "0"),
        (Function::Min, 0, None, "null"),
        (Function::Average, 0, None, "null"),
        (q, 0, None, "null"),
        (Function::Last, 0, None, "null"),
        (Function::Sum, 2, Some(Partial::Sum(-150)), "-1.50"),
        (Function::Sum, 0, Some(Partial::Sum(1 << 70)), "1180591620717411303424"),
        (Function::Average, 0, Some(Partial::Average { sum: 2, count: 3 }), "0.667"),
        (Function::Average, 2, Some(Partial::Average { sum: -1, count: 2 }), "-0.00500"),
        (Function::Average, 9, Some(Partial::Average { sum: 1, count: 2 }), "0.000000001"),
        (q, 1, Some(Partial::Quantile(Buckets([(5, 1), (15, 1)].into()))), "0.5"),
        (Function::Last, 0, Some(Partial::Last(Picked { order: (0, 0, 0), datum: Datum::Text("x".into()) })), "\"x\""),
        (Function::Last, 1, Some(Partial::Last(Picked { order: (0, 0, 0), datum: Datum::Number(15) })), "1.5"),
    ] {
        let partials: Vec<_> = partial.into_iter().map(|partial| (1, partial)).collect();
        let result = values(&partials).result(1, &value(function, scale));
        assert_eq!(result.to_string(), expected, "{function:?} {partials:?}");
    }
}
