use super::*;
use crate::log::in_process::batch::tests::assert_that_any_flipped_bit_is_noticed;
use crate::log::in_process::batch::{BatchRecords, Head, check};
use crate::log::{Header, Headers};
use proptest::prelude::*;

/// What has been written once must stay readable: never change these bytes, add a format instead.
const GOLDEN: [u8; 63] = [
    0xf2, 0x8f, 0xd8, 0x48, // crc
    2,    // format
    3, 0, 0, 0, // count
    0x15, 0xcd, 0x5b, 0x07, 0, 0, 0, 0, // time 123,456,789
    10, 0, 0, 0, // span
    44, 1, 0, 0, // reach 300
    2, 0, 3, 6, 0, b'k', b'1', b'h', b'e', b'l', b'l', b'o', // two offsets later: key, value, no headers
    0, 7, 0, 1, 6, 1, b'b', 2, 0, 0xff, 0xfe, // next, 7 ms later: no key, an empty value, one header
    0x80, 2, 3, 1, 0, 9, 1, b'b', 0, 0, 2, b's', b'q', 0, 0, // 256 offsets and 3 ms later: an empty key, no value
];

const GOLDEN_BASE: u64 = 1_000;
const GOLDEN_END: u64 = 1_300;

fn headers(list: &[Header<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Headers::encode(list, &mut bytes);
    bytes
}

fn decode(base: u64, value: &[u8]) -> Vec<Stored<'_>> {
    let head = check(base, value).expect("the block is whole");
    BatchRecords::new(base, head, value).map(|record| record.expect("the record is whole")).collect()
}

#[test]
fn blocks_are_as_they_always_were() {
    let (one, two) = (headers(&[("b", b"\xff\xfe")]), headers(&[("b", b""), ("sq", b"")]));
    let stored = |offset, after_ms: i64, key, value, headers| Stored {
        offset,
        append_time_ms: 123_456_789 + after_ms,
        key,
        value,
        headers,
    };
    let records = [
        stored(1_002, 0, Some(b"k1".as_slice()), Some(b"hello".as_slice()), b"".as_slice()),
        stored(1_003, 7, None, Some(b""), &one),
        stored(1_260, 10, Some(b""), None, &two),
    ];
    let mut block = BlockBuilder::new(GOLDEN_BASE);
    records.iter().for_each(|record| assert!(block.push(record)));
    assert_eq!(block.seal(GOLDEN_END), (GOLDEN_BASE, GOLDEN.to_vec()));
    let head = Head { format: Format::Block, count: 3, reach: 300, time_ms: 123_456_789, span_ms: 10 };
    assert_eq!(check(GOLDEN_BASE, &GOLDEN), Ok(head));
    assert_eq!(head.end(GOLDEN_BASE), GOLDEN_END);
    assert_eq!(decode(GOLDEN_BASE, &GOLDEN), records);
}

#[test]
fn any_flipped_bit_is_noticed() {
    assert_that_any_flipped_bit_is_noticed(GOLDEN_BASE, &GOLDEN);
}

#[test]
fn what_a_block_cannot_express_needs_another() {
    let at = |offset, append_time_ms| Stored { offset, append_time_ms, key: None, value: None, headers: &[] };
    let mut block = BlockBuilder::new(5);
    assert!(block.push(&at(7, 1_000)));
    assert!(!block.push(&at(8, 999)), "the time was set back");
    assert!(!block.push(&at(8, 1_001 + i64::from(u32::MAX))), "too long after the first");
    assert!(!block.push(&at(8 + (1 << 32), 1_000)), "too many offsets between");
    assert!(block.push(&at(8, 1_000 + i64::from(u32::MAX))));
    let (base, bytes) = block.seal(9);
    let head = check(base, &bytes).expect("the block is whole");
    assert_eq!((head.count, head.newest_ms()), (2, 1_000 + i64::from(u32::MAX)));
    let mut block = BlockBuilder::new(5);
    assert!(block.push(&at(5, i64::MAX)));
    let (base, bytes) = block.seal(u64::MAX);
    assert_eq!(check(base, &bytes).map(|head| head.reach), Ok(u32::MAX), "the rest is a gap");
}

type Owned = (u64, u32, Option<Vec<u8>>, Option<Vec<u8>>, Vec<u8>);

fn any_record() -> impl Strategy<Value = Owned> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
    let gap = prop_oneof![Just(0), 0..100_000u64];
    (gap, 0..500u32, proptest::option::of(bytes()), proptest::option::of(bytes()), bytes())
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        records in proptest::collection::vec(any_record(), 1..40),
        base in 0..u64::MAX / 2,
        time_ms in any::<i32>(),
        tail in 0..1_000u64,
    ) {
        let (mut offset, mut append_time_ms) = (base, i64::from(time_ms));
        let mut stored = Vec::new();
        for (gap, later_ms, key, value, headers) in &records {
            offset += gap;
            append_time_ms += i64::from(*later_ms);
            let (key, value) = (key.as_deref(), value.as_deref());
            stored.push(Stored { offset, append_time_ms, key, value, headers });
            offset += 1;
        }
        let mut block = BlockBuilder::new(base);
        for record in &stored {
            let most = block.len_bytes() + BlockBuilder::record_bytes_max(record);
            prop_assert!(block.push(record));
            prop_assert!(block.len_bytes() <= most);
        }
        let (base, bytes) = block.seal(offset + tail);
        prop_assert_eq!(decode(base, &bytes), stored);
        let head = check(base, &bytes).unwrap();
        prop_assert_eq!((head.newest_ms(), head.end(base)), (append_time_ms, offset + tail));
    }
}
