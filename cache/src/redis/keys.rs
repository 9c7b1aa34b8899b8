//! The names of the keys. Braces are hash tags: the text between them selects the slot.
//!
//! A board has two keys of one slot, written by one script. The sorted set is for any client of Redis. It cannot
//! hold the ranking itself: among equal scores `ZRANGE … REV` begins with the greatest member, where a board begins with
//! the least; and scores are doubles, which distinguish neighbours only up to 2^53. So the hash beside it holds the
//! record as it came from the topic, with version and epoch: the guard of both, and what the API answers from.

use super::address::RedisAddress;
use super::slot::{slot_of, tag_of};

/// The field of a hash of totals, or of a board, that holds the record's version. No metric begins with `@`.
pub const VERSION_FIELD: &str = "@version";
/// The field of such a hash that holds the epoch in which it was written.
pub const EPOCH_FIELD: &str = "@epoch";
/// The field of a board's hash that holds the whole record, as JSON.
pub const RANKING_FIELD: &str = "ranking";

/// The keys under one prefix, `tally:` by default.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// The keys of an address.
    pub fn new(address: &RedisAddress) -> Self {
        Self { prefix: address.prefix.clone() }
    }

    /// `tally:{subject_id}:counters`: a hash of all totals of a subject, with version and epoch. In slot [`slot_of`] the
    /// subject's id, which holds no braces.
    pub fn counters(&self, subject_id: &str) -> String {
        [&self.prefix, "{", subject_id, "}:counters"].concat()
    }

    /// `tally:board:{board}`: a sorted set of a board's subjects, by score in thousandths. In slot [`Keys::board_slot`].
    pub fn board(&self, board: &str) -> String {
        [&self.prefix, "board:{", board, "}"].concat()
    }

    /// `tally:board:{board}:ranking`: a hash of the whole record, with version and epoch. In the same slot.
    pub fn ranking(&self, board: &str) -> String {
        [&self.prefix, "board:{", board, "}:ranking"].concat()
    }

    /// The slot of both keys of a board.
    pub fn board_slot(board: &str) -> u16 {
        // A tag ends at the first closing brace. The names of boards begin with that of a node, so it is never empty.
        slot_of(board.split('}').next().unwrap_or(board))
    }

    /// `tally:{tag}:limit`: a bucket of the ingest APIs, a number that expires within a minute. In slot [`slot_of`] the tag.
    pub fn limit(&self, tag: &str) -> String {
        [&self.prefix, "{", tag, "}:limit"].concat()
    }

    /// `tally:progress`: the hash of the positions, with the epoch that they belong to.
    pub fn progress(&self) -> String {
        [&self.prefix, "progress"].concat()
    }

    /// The slot of [`Keys::progress`].
    pub fn progress_slot(&self) -> u16 {
        slot_of(&self.progress())
    }

    /// `tally:{tag}:epoch`: the marker in a slot. It holds the epoch in which its shard was last known to be whole.
    pub fn marker(&self, slot: u16) -> String {
        [&self.prefix, "{", &tag_of(slot), "}:epoch"].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_they_have_always_been() {
        let address = RedisAddress::parse("redis://h").unwrap();
        let keys = Keys::new(&address);
        assert_eq!(keys.counters("article:7"), "tally:{article:7}:counters");
        assert_eq!(keys.board("hot@sports"), "tally:board:{hot@sports}");
        assert_eq!(keys.ranking("hot@sports"), "tally:board:{hot@sports}:ranking");
        assert_eq!(keys.progress(), "tally:progress");
        assert_eq!(keys.limit("actor:00ff:600"), "tally:{actor:00ff:600}:limit");
    }

    #[test]
    fn both_keys_of_a_board_lie_in_its_slot_whatever_its_group_is() {
        // `CLUSTER KEYSLOT "tally:board:{hot/a}b}:ranking"` is that of `hot/a`.
        for (board, tag) in [("hot", "hot"), ("hot/a}b", "hot/a"), ("hot/{a", "hot/{a"), ("hot/}", "hot/")] {
            assert_eq!(Keys::board_slot(board), slot_of(tag), "{board}");
        }
    }
}
