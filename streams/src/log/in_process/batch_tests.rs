use super::*;
use proptest::prelude::*;

/// What has been written once must stay readable: never change these bytes, add a format instead.
const GOLDEN: [u8; 55] = [
    0x77, 0x2f, 0xfc, 0x8a, // crc
    1,    // format
    3, 0, 0, 0, // count
    0x15, 0xcd, 0x5b, 0x07, 0, 0, 0, 0, // time 123,456,789
    7, 0, 0, 0, // span
    0, 3, 6, 0, b'k', b'1', b'h', b'e', b'l', b'l', b'o', // key, value, no headers
    7, 0, 1, 6, 1, b'b', 2, 0, 0xff, 0xfe, // 7 ms later, no key, an empty value, one header
    3, 1, 0, 9, 1, b'b', 0, 0, 2, b's', b'q', 0, 0, // 3 ms later, an empty key, no value, two headers
];

const GOLDEN_BASE: u64 = 1_000;

fn golden() -> BatchBuilder {
    let mut headers = [Vec::new(), Vec::new()];
    Headers::encode(&[("b", b"\xff\xfe")], &mut headers[0]);
    Headers::encode(&[("b", b""), ("sq", b"")], &mut headers[1]);
    let mut batch = BatchBuilder::with_capacity(0);
    batch.push(0, Some(b"k1"), Some(b"hello"), &[]);
    batch.push(7, None, Some(b""), &headers[0]);
    batch.push(3, Some(b""), None, &headers[1]);
    batch.seal(GOLDEN_BASE, 123_456_789);
    batch
}

fn decode(base: u64, value: &[u8]) -> Vec<Record<'_>> {
    let head = check(base, value).expect("the batch is whole");
    BatchRecords::new(base, head, value).map(|record| record.expect("the record is whole").into()).collect()
}

#[test]
fn batches_are_as_they_always_were() {
    assert_eq!(golden().as_bytes(), GOLDEN);
    let head = Head { format: Format::Batch, count: 3, reach: 3, time_ms: 123_456_789, span_ms: 7 };
    assert_eq!(check(GOLDEN_BASE, &GOLDEN), Ok(head));
    let records = decode(GOLDEN_BASE, &GOLDEN);
    let one = Record {
        offset: 1_001,
        append_time_ms: 123_456_796,
        key: None,
        value: Some(b""),
        headers: Headers::encoded(&[1, b'b', 2, 0, 0xff, 0xfe]),
    };
    assert_eq!(records[1], one);
    assert_eq!((records[0].key, records[0].value), (Some(b"k1".as_slice()), Some(b"hello".as_slice())));
    assert_eq!((records[2].offset, records[2].key, records[2].value), (1_002, Some(b"".as_slice()), None));
    assert_eq!(records[2].headers.get("sq"), Some(b"".as_slice()));
}

/// Of a stored value of either format.
pub fn assert_that_any_flipped_bit_is_noticed(base: u64, golden: &[u8]) {
    for bit in 0..golden.len() * 8 {
        let mut damaged = golden.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(check(base, &damaged).is_err(), "bit {bit}");
    }
    for len in 0..golden.len() {
        assert!(check(base, &golden[..len]).is_err(), "cut to {len}");
    }
    assert!(check(base + 1, golden).is_err(), "found under another offset");
}

#[test]
fn any_flipped_bit_is_noticed() {
    assert_that_any_flipped_bit_is_noticed(GOLDEN_BASE, &GOLDEN);
}

#[test]
fn records_that_lie_about_their_length_are_errors() {
    let mut batch = BatchBuilder::with_capacity(0);
    batch.push(0, Some(b"k"), Some(b"v"), &[]);
    let at = batch.bytes.len() - 5;
    assert_eq!(batch.bytes[at], 2, "the value's length and 1");
    batch.bytes[at] = 200;
    batch.seal(7, 0);
    let head = check(7, &batch.bytes).expect("the checksum matches");
    let records: Vec<_> = BatchRecords::new(7, head, &batch.bytes).collect();
    assert_eq!(records, [Err(7)]);
}

#[test]
fn batches_are_cut_at_a_bearable_size() {
    let mut batches = Batches::default();
    let value = [7; 1_000];
    for _ in 0..1_000 {
        batches.push(None, Some(&value), &[]);
    }
    batches.push(None, Some(&[1; 3 * BATCH_BYTES_MAX]), &[]);
    batches.push(None, Some(&value), &[]);
    let sizes: Vec<_> = batches.iter().map(BatchBuilder::len_bytes).collect();
    assert_eq!(batches.count(), 1_002);
    assert_eq!(sizes.len(), 6, "{sizes:?}");
    assert!(sizes[..3].iter().all(|size| (BATCH_BYTES_MAX - 1_100..=BATCH_BYTES_MAX).contains(size)), "{sizes:?}");
}

type Owned = (u32, Option<Vec<u8>>, Option<Vec<u8>>, Vec<u8>);

fn any_record() -> impl Strategy<Value = Owned> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
    (0..500u32, proptest::option::of(bytes()), proptest::option::of(bytes()), bytes())
}

fn build(records: &[Owned]) -> BatchBuilder {
    let mut batch = BatchBuilder::with_capacity(0);
    for (delta, key, value, headers) in records {
        batch.push(*delta, key.as_deref(), value.as_deref(), headers);
    }
    batch
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        first in proptest::collection::vec(any_record(), 1..20),
        second in proptest::collection::vec(any_record(), 1..20),
        base in 0..u64::MAX / 2,
        time_ms in any::<i32>(),
    ) {
        // Two batches that are put together are one.
        let time_ms = i64::from(time_ms);
        let mut batches = Batches { list: vec![build(&first)] };
        batches.append(Batches { list: vec![build(&second)] });
        prop_assert_eq!(batches.list.len(), 1);
        batches.list[0].seal(base, time_ms);
        let all: Vec<_> = first.into_iter().chain(second).collect();
        let read = decode(base, batches.list[0].as_bytes());
        prop_assert_eq!(read.len(), all.len());
        for (i, (record, (delta, key, value, headers))) in (0..).zip(read.iter().zip(&all)) {
            let expected = Record {
                offset: base + i,
                append_time_ms: time_ms + i64::from(*delta),
                key: key.as_deref(),
                value: value.as_deref(),
                headers: Headers::encoded(headers),
            };
            prop_assert_eq!(*record, expected);
        }
        let head = check(base, batches.list[0].as_bytes()).unwrap();
        let newest = read.iter().map(|record| record.append_time_ms).max();
        prop_assert_eq!(Some(head.newest_ms()), newest);
    }

    #[test]
    fn noise_is_no_batch(base in any::<u64>(), noise in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(check(base, &noise).is_err());
    }
}
