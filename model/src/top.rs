//! The top of a board in one partition of its subjects, and its format in the hop to the merging task.
//!
//! A body is two bytes, 0 and the form, and then tops in postcard until the end (`docs/wire.md`). No body of changes
//! begins with 0: it would name no metric.

use crate::{WireError, holds_contributions};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Distinguishes such a body from one of changes.
const MARK: u8 = 0;
/// The format byte after the mark. Readers reject greater ones.
const FORM: u8 = 2;
/// The format byte if every score fits 64 bits: both formats then have the same bytes, which older programs read.
const FORM_64: u8 = 1;

/// The first subjects of one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionTop {
    /// The board.
    pub board: Arc<str>,
    /// The partition that these subjects are in.
    pub partition: u32,
    /// The epoch of the scores: that of the partition's clock. One epoch later all scores are halved. 0 if the board
    /// does not decay.
    pub epoch: i64,
    /// The subjects, all there are up to the board's length: by score descending, then by id ascending. Scores in
    /// thousandths, greater than 0.
    pub items: Vec<(Arc<str>, i128)>,
}

#[derive(Serialize, Deserialize)]
struct Entry<'a> {
    board: &'a str,
    partition: u32,
    epoch: i64,
    #[serde(borrow)]
    items: Vec<(&'a str, i128)>,
}

/// Whether a body holds tops: or else changes, or contributions, which have a form of their own.
pub fn holds_tops(body: &[u8]) -> bool {
    body.first() == Some(&MARK) && !holds_contributions(body)
}

/// Packs tops into bodies of about `bytes_max` each.
pub fn encode_tops<'a>(
    tops: impl IntoIterator<Item = &'a PartitionTop>,
    bytes_max: usize,
    mut emit: impl FnMut(Vec<u8>),
) {
    let mut body = vec![MARK, FORM_64];
    for PartitionTop { board, partition, epoch, items } in tops {
        let items = items.iter().map(|(subject_id, score)| (&**subject_id, *score)).collect();
        let entry = Entry { board, partition: *partition, epoch: *epoch, items };
        // Only a failing writer fails here, and a vector does not.
        body = postcard::to_extend(&entry, body).unwrap_or_default();
        if let Some(form) = body.get_mut(1)
            && entry.items.iter().any(|(_, score)| i64::try_from(*score).is_err())
        {
            *form = FORM;
        }
        if body.len() >= bytes_max {
            emit(std::mem::replace(&mut body, vec![MARK, FORM_64]));
        }
    }
    if body.len() > 2 {
        emit(body);
    }
}

/// Unpacks a body.
pub fn decode_tops(body: &[u8], mut each: impl FnMut(PartitionTop)) -> Result<(), WireError> {
    let mut rest = match body {
        [MARK, FORM_64..=FORM, rest @ ..] => rest,
        [MARK, form, ..] => {
            let reason = format!("tops in form {form}, and this program reads up to {FORM}: run a newer one");
            return Err(WireError(reason));
        }
        _ => return Err(WireError("no tops".to_owned())),
    };
    while !rest.is_empty() {
        let taken = postcard::take_from_bytes::<Entry<'_>>(rest).map_err(|e| WireError(e.to_string()))?;
        let (Entry { board, partition, epoch, items }, tail) = taken;
        rest = tail;
        let items = items.into_iter().map(|(subject_id, score)| (subject_id.into(), score)).collect();
        each(PartitionTop { board: board.into(), partition, epoch, items });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(board: &str) -> PartitionTop {
        let items = vec![("article:7".into(), 12_345), ("article:12".into(), 4_000)];
        PartitionTop { board: board.into(), partition: 3, epoch: 83_113, items }
    }

    fn encode(tops: &[PartitionTop], bytes_max: usize) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        encode_tops(tops, bytes_max, |body| bodies.push(body));
        bodies
    }

    fn decode(bodies: &[Vec<u8>]) -> Vec<PartitionTop> {
        let mut tops = Vec::new();
        bodies.iter().for_each(|body| decode_tops(body, |top| tops.push(top)).unwrap());
        tops
    }

    #[test]
    fn the_body_is_what_it_has_always_been() {
        let golden = b"\x00\x01\x03hot\x03\xd2\x92\x0a\x02\x09article:7\xf2\xc0\x01\x0aarticle:12\xc0\x3e";
        assert_eq!(encode(&[top("hot")], 1 << 19), [golden.to_vec()]);
        assert_eq!(decode(&[golden.to_vec()]), [top("hot")]);
    }

    #[test]
    fn scores_beyond_64_bits_have_a_form_of_their_own() {
        let greatest = PartitionTop { items: vec![("a:1".into(), i128::MAX), ("a:2".into(), 5)], ..top("hot") };
        let just = PartitionTop { items: vec![("a:1".into(), i64::MAX.into())], ..top("hot") };
        let bodies = encode(&[just.clone(), greatest.clone(), just.clone()], 1);
        assert_eq!(bodies.iter().map(|body| body[1]).collect::<Vec<_>>(), [1, 2, 1]);
        assert_eq!(decode(&bodies), [just.clone(), greatest, just]);
        let golden =
            [b"\x00\x02\x03hot\x03\xd2\x92\x0a\x02\x03a:1".as_slice(), &[0xfe], &[0xff; 17], b"\x03\x03a:2\x0a"];
        assert_eq!(bodies[1], golden.concat());
    }

    #[test]
    fn many_are_cut_into_bodies_and_all_come_out() {
        let tops: Vec<_> = (0..50).map(|i| top(&format!("board{i}"))).collect();
        let bodies = encode(&tops, 100);
        assert!(bodies.len() > 10 && bodies.iter().all(|body| holds_tops(body)));
        assert_eq!(decode(&bodies), tops);
        assert!(encode(&[], 100).is_empty());
    }

    #[test]
    fn an_empty_top_is_a_top() {
        let empty = PartitionTop { items: Vec::new(), ..top("hot") };
        assert_eq!(decode(&encode(std::slice::from_ref(&empty), 100)), [empty]);
    }

    #[test]
    fn damaged_and_newer_bodies_are_errors() {
        let body = encode(&[top("hot")], 1 << 19).remove(0);
        for len in (0..body.len()).filter(|len| *len != 2) {
            assert!(decode_tops(&body[..len], drop).is_err(), "cut at {len}");
        }
        assert!(decode_tops(&[body.as_slice(), b"x"].concat(), drop).is_err());
        assert!(decode_tops(b"\x00\x03", drop).unwrap_err().to_string().contains("form 3"));
        assert!(decode_tops(b"\x00\x00", drop).is_err());
        assert!(decode_tops(b"\x01\x05likes", drop).is_err());
    }
}
