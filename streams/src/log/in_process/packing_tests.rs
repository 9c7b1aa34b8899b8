use super::*;
use crate::log::in_process::batch::tests::assert_that_any_flipped_bit_is_noticed;
use crate::log::in_process::batch::{BatchRecords, Stored};
use crate::log::in_process::block::BlockBuilder;
use proptest::prelude::*;

const BASE: u64 = 1_000;

/// Two records of 100 times `a` and 100 times `b`, as format 3 was first written. What has been written once must stay
/// readable: never change these bytes, add a format instead.
const GOLDEN: &[u8] = &[
    0x39, 0x9b, 0xa0, 0x0b, // crc
    3,    // format
    2, 0, 0, 0, // count
    5, 0, 0, 0, 0, 0, 0, 0, // time
    0, 0, 0, 0, // span
    2, 0, 0, 0, // reach
    216, 0, 0, 0, // length
    0x28, 0xb5, 0x2f, 0xfd, 0x20, 0xd8, 0xb5, 0x00, 0x00, 0x50, 0x00, 0x00, 0x04, 0x65, 0x00, 0x6b, 0x65, 0x79, 0x61,
    0x62, 0x03, 0x00, 0x00, 0x4f, 0xf2, 0x86, 0x17, 0x80, 0x14, 0x1c, 0x01,
];

fn block(values: &[&[u8]]) -> Vec<u8> {
    let mut block = BlockBuilder::new(BASE);
    for (offset, value) in (BASE..).zip(values) {
        let record = Stored { offset, append_time_ms: 5, key: Some(b"key"), value: Some(value), headers: &[] };
        assert!(block.push(&record));
    }
    block.seal(BASE + values.len() as u64).1
}

fn golden_block() -> Vec<u8> {
    block(&[&[b'a'; 100], &[b'b'; 100]])
}

#[test]
fn packed_blocks_are_read_as_they_always_were() {
    let (head, value) = unpacked(BASE, GOLDEN).expect("it is unpacked");
    assert_eq!((head.format, head.count, head.reach), (Format::Block, 2, 2));
    let block = golden_block();
    assert_eq!((value[4..].to_vec(), unpacked_len(GOLDEN)), (block[4..].to_vec(), block.len()));
    let values: Vec<_> =
        BatchRecords::new(BASE, head, &value).map(|record| record.expect("it is whole").value).collect();
    assert_eq!(values, [Some([b'a'; 100].as_slice()), Some([b'b'; 100].as_slice())]);
}

#[test]
fn any_flipped_bit_is_noticed() {
    assert_that_any_flipped_bit_is_noticed(BASE, GOLDEN);
}

/// Damage that the checksum does not show, since it was computed after it.
#[test]
fn records_that_cannot_be_unpacked_are_an_error() {
    let sealed = |mut value: Vec<u8>| {
        let crc = checksum(BASE, &value[4..]);
        value[..4].copy_from_slice(&crc.to_le_bytes());
        value
    };
    let packed = pack(BASE, golden_block());
    let shorter = packed[..packed.len() - 1].to_vec();
    let lengths = [0u32, 1, 215, 217, u32::MAX].map(|len| {
        let mut value = packed.clone();
        value[BLOCK_HEAD_BYTES..PACKED_HEAD_BYTES].copy_from_slice(&len.to_le_bytes());
        value
    });
    for value in lengths.into_iter().chain([shorter, packed[..PACKED_HEAD_BYTES].to_vec()]) {
        let error = unpacked(BASE, &sealed(value)).expect_err("it is refused");
        assert!(error.contains("cannot be unpacked"), "{error}");
    }
    // Without a length.
    assert!(unpacked(BASE, &sealed(packed[..BLOCK_HEAD_BYTES + 3].to_vec())).is_err());
}

#[test]
fn what_does_not_shrink_stays_as_it_is() {
    let mut state = 7_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let noise: Vec<u8> = (0..1_000).map(|_| noise()).collect();
    let noisy = block(&[&noise]);
    assert_eq!(pack(BASE, noisy.clone()), noisy);
    let (head, value) = unpacked(BASE, &noisy).expect("it is whole");
    assert_eq!((head.format, matches!(value, Cow::Borrowed(_))), (Format::Block, true));
    assert!(pack(BASE, golden_block()).len() < 100);
}

proptest! {
    #[test]
    fn what_is_packed_is_unpacked(
        values in proptest::collection::vec((any::<u8>(), 0..4_000usize, proptest::collection::vec(any::<u8>(), 0..40)), 1..40),
    ) {
        let values: Vec<_> = values.iter().map(|(byte, len, noise)| [&vec![*byte; *len], noise.as_slice()].concat()).collect();
        let block = block(&values.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let packed = pack(BASE, block.clone());
        prop_assert!(packed.len() <= block.len());
        prop_assert_eq!(unpacked_len(&packed), block.len());
        let (head, value) = unpacked(BASE, &packed).unwrap();
        prop_assert_eq!((head.format, &value[4..]), (Format::Block, &block[4..]));
    }
}
