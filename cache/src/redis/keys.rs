//! The names of the keys. Braces are hash tags: what stands between them chooses the slot.

use super::address::RedisAddress;
use super::slot::{slot_of, tag_of};

/// The field of a hash of totals that holds the record's version. No metric begins with `@`.
pub const VERSION_FIELD: &str = "@version";
/// The field of a hash of totals that holds the epoch in which it was written.
pub const EPOCH_FIELD: &str = "@epoch";

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
