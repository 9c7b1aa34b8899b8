//! Spans and what changed of them.

use super::*;
use proptest::prelude::*;
use tally_model::Partial;

fn span(at: (i64, i64), count: u64) -> Span {
    let mut values = Values::default();
    values.add(&[(1, Partial::Count(count))]);
    Span { at, values }
}

fn spans(all: &[((i64, i64), u64)]) -> Spans {
    let mut spans = Spans::default();
    for (at, count) in all {
        if spans.find(*at).is_none() {
            spans.insert(span(*at, *count));
        }
    }
    spans
}

proptest! {
    #[test]
    fn what_changed_restores_the_whole(
        before in prop::collection::vec(((0..4i64, 0..4i64), 1..4u64), 0..6),
        now in prop::collection::vec(((0..4i64, 0..4i64), 1..4u64), 0..6),
    ) {
        let (before, now) = (spans(&before), spans(&now));
        let mut delta = Vec::new();
        now.delta(&before, &mut delta);
        prop_assert_eq!(delta.is_empty(), now == before);
        let mut restored = before;
        prop_assert!(restored.apply(&delta));
        prop_assert_eq!(&restored, &now);
        let mut bytes = Vec::new();
        now.encode(&mut bytes);
        prop_assert_eq!(Spans::decode(&bytes), Some(now));
    }
}

#[test]
fn the_stored_bytes_are_what_they_have_always_been() {
    let (before, now) = (spans(&[((1, 2), 1), ((5, 6), 1)]), spans(&[((1, 4), 3)]));
    let mut bytes = Vec::new();
    now.delta(&before, &mut bytes);
    // One is gone, and the other one has grown from 1..2 to 1..4.
    assert_eq!(bytes, b"\x01\x0a\x0c\x01\x02\x08\x01\x02\x04\x05\x01\x01\x00\x00\x03");
}
