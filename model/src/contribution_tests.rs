//! Combining contributions, and their bytes.

use super::*;
use crate::partial::{Datum, Picked};
use crate::quantile::Buckets;

fn slot(window: u32, from_ms: i64, to_ms: i64) -> Slot {
    Slot { window, from_ms, to_ms, session: None }
}

fn session(from_ms: i64, to_ms: i64) -> Slot {
    Slot { session: Some(SessionRule { gap_ms: 10, max_ms: 100 }), ..slot(7, from_ms, to_ms) }
}

fn contribution(slots: &[Slot], values: &[(u32, Partial)]) -> Contribution {
    Contribution {
        subject_id: "article:7".into(),
        node: "dwell".into(),
        slots: slots.to_vec(),
        values: values.to_vec(),
    }
}

fn encode(contributions: &mut [Contribution], bytes_max: usize) -> Vec<Vec<u8>> {
    let (mut encoder, mut bodies) = (ContributionsEncoder::default(), Vec::new());
    contributions.iter_mut().for_each(|one| encoder.push(one, bytes_max, |body| bodies.push(body)));
    encoder.finish(|body| bodies.push(body));
    bodies
}

fn decode(bodies: &[Vec<u8>]) -> Vec<Contribution> {
    let mut read = Vec::new();
    bodies.iter().for_each(|body| decode_contributions(body, |one| read.push(one)).unwrap());
    read
}

#[test]
fn the_body_is_what_it_has_always_been() {
    let picked = |datum| Picked { order: (-1, 3, 300), datum };
    let values = [
        (1, Partial::Count(2)),
        (2, Partial::Sum(-3)),
        (3, Partial::Min(4)),
        (4, Partial::Max(5)),
        (5, Partial::First(picked(Datum::Number(6)))),
        (6, Partial::Last(picked(Datum::Text("x".into())))),
        (7, Partial::Average { sum: 7, count: 2 }),
        (8, Partial::Distinct(vec![301, 300, 300])),
        (300, Partial::Quantile(Buckets([(-1, 1), (2, 3)].into()))),
    ];
    let slots = [slot(9, 120_000, 180_000), session(-5, 6)];
    let bodies = encode(&mut [contribution(&slots, &values)], 1 << 19);
    let golden = [
        b"\x00\x03\x01\x05dwell\x01".as_slice(),
        b"\x09article:7\x00\x02\x09\x80\xd3\x0e\xc0\xfc\x15\x07\x09\x0c",
        b"\x09\x01\x00\x02\x02\x01\x05\x03\x02\x08\x04\x03\x0a",
        b"\x05\x04\x01\x03\xac\x02\x00\x0c",
        b"\x06\x05\x01\x03\xac\x02\x01\x01x",
        b"\x07\x06\x0e\x02\x08\x07\x02\xac\x02\xad\x02\xac\x02\x08\x02\x01\x01\x04\x03",
    ];
    assert_eq!(bodies, [golden.concat()]);
    let read = decode(&bodies);
    assert_eq!((read.len(), &*read[0].subject_id, &*read[0].node), (1, "article:7", "dwell"));
    assert_eq!(read[0].slots, [slots[0], slot(7, -5, 6)]);
    assert_eq!(read[0].values[7].1, Partial::Distinct(vec![300, 301]));
    assert_eq!((&read[0].values[..7], &read[0].values[8]), (&values[..7], &values[8]));
}

#[test]
fn sessions_join_up_to_the_gap_and_not_across_a_cut() {
    let rule = SessionRule { gap_ms: 10, max_ms: 100 };
    for (a, b, joined) in [
        ((0, 5), (15, 20), true),
        ((0, 5), (16, 20), false),
        ((15, 20), (0, 5), true),
        ((0, 50), (10, 12), true),
        ((95, 99), (100, 100), false),
        ((-1, -1), (0, 0), false),
        ((-100, -95), (-90, -90), true),
    ] {
        assert_eq!(rule.joins(a, b), joined, "{a:?} {b:?}");
        assert_eq!(rule.joins(b, a), joined, "{b:?} {a:?}");
    }
}

#[test]
fn contributions_of_the_same_windows_are_one() {
    let mut first = contribution(&[slot(1, 0, 60), session(0, 5)], &[(1, Partial::Count(1))]);
    let other = contribution(&[slot(1, 0, 60), session(12, 15)], &[(1, Partial::Count(2)), (2, Partial::Max(3))]);
    assert!(first.joins(&other));
    first.merge(&other);
    assert_eq!(first.slots, [slot(1, 0, 60), session(0, 15)]);
    assert_eq!(first.values, [(1, Partial::Count(3)), (2, Partial::Max(3))]);
    for other in [
        contribution(&[slot(1, 5, 60), session(12, 15)], &[]),
        contribution(&[slot(1, 0, 60), session(26, 26)], &[]),
        contribution(&[slot(1, 0, 60)], &[]),
        Contribution { subject_id: "article:8".into(), ..first.clone() },
        Contribution { node: "other".into(), ..first.clone() },
    ] {
        assert!(!first.joins(&other), "{other:?}");
    }
}

#[test]
fn the_first_and_the_last_are_found_in_any_order() {
    let picked = |order, text: &str| Picked { order, datum: Datum::Text(text.into()) };
    let all = [picked((5, 1, 9), "a"), picked((5, 0, 9), "b"), picked((5, 1, 8), "c"), picked((4, 9, 9), "d")];
    let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]];
    for order in orders {
        let mut first = Partial::First(all[order[0]].clone());
        let mut last = Partial::Last(all[order[0]].clone());
        for at in &order[1..] {
            first.merge(&Partial::First(all[*at].clone()));
            last.merge(&Partial::Last(all[*at].clone()));
        }
        assert_eq!(first, Partial::First(all[3].clone()));
        assert_eq!(last, Partial::Last(all[0].clone()));
    }
}

#[test]
fn a_hot_subject_is_cut_into_parts_and_comes_out_whole() {
    let hashes = (0..100_000u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
    let values = [(1, Partial::Count(100_000)), (2, Partial::Distinct(hashes))];
    let bodies = encode(&mut [contribution(&[slot(1, 0, 0)], &values)], 64 << 10);
    assert!(bodies.len() > 5 && bodies.iter().all(|body| body.len() < 300 << 10));
    let mut read = decode(&bodies);
    let mut whole = read.remove(0);
    read.iter().for_each(|part| whole.merge(part));
    assert_eq!(whole.values[0], values[0]);
    let Partial::Distinct(mut hashes) = whole.values[1].1.clone() else { panic!("{:?}", whole.values[1]) };
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 100_000);
}

#[test]
fn damaged_bodies_are_errors() {
    let values = [(1, Partial::Count(1)), (2, Partial::Sum(1 << 100))];
    let body = encode(&mut [contribution(&[slot(1, 0, 0)], &values)], 1 << 19).remove(0);
    for len in 0..body.len() {
        assert!(decode_contributions(&body[..len], drop).is_err(), "cut at {len}");
    }
    let longer = [body.as_slice(), b"x"].concat();
    assert!(decode_contributions(&longer, drop).is_err());
    assert!(holds_contributions(&body) && !crate::holds_tops(&body));
}
