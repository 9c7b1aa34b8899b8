//! Partitions without an owner although their group is stable.
//!
//! A member that must give up partitions does so and joins again; only then are they assigned to another. If it is
//! killed in between and returns under its name, the broker treats it as a static member that was away for a moment: it
//! gets its remaining partitions without a rebalance, and what it gave up stays without an owner forever. So members
//! check the assignments of their group.

use super::lookup::Lookup;
use rdkafka::consumer::Consumer as _;
use std::time::{Duration, Instant};

/// Interval of the checks of a group. A single check may find partitions without owners, because a rebalance has two
/// steps.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOOKS: u32 = 3;
/// How long a check may block the member.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// The observations of one member.
pub(super) struct Orphans {
    looked_at: Instant,
    /// Consecutive checks that found some, while this member had less than its share.
    found: u32,
}

impl Orphans {
    pub fn new() -> Self {
        Self { looked_at: Instant::now(), found: 0 }
    }

    /// Whether consecutive checks find some that this member could have: it has `owned` partitions of the driver.
    pub fn are_found(&mut self, lookup: &Lookup, group: &str, driver: &str, owned: usize) -> bool {
        let now = Instant::now();
        if now < self.looked_at + LOOK_EVERY {
            return false;
        }
        self.looked_at = now;
        self.found = if has_orphans(lookup, group, driver, owned).unwrap_or(false) { self.found + 1 } else { 0 };
        if self.found < LOOKS {
            return false;
        }
        self.found = 0;
        true
    }
}

/// None if the group does not answer or is not stable.
fn has_orphans(lookup: &Lookup, group: &str, driver: &str, owned: usize) -> Option<bool> {
    let partitions = lookup.partitions(driver).ok()? as usize;
    let list = lookup.any_client().fetch_group_list(Some(group), ANSWER_WITHIN).ok()?;
    let found = list.groups().iter().find(|found| found.name() == group && found.state() == "Stable")?;
    let assigned = found.members().iter().map(|member| assigned(member.assignment().unwrap_or_default(), driver));
    let given_out = assigned.sum::<Option<usize>>()?;
    let share = partitions.div_ceil(found.members().len().max(1));
    Some(given_out < partitions && owned < share)
}

/// How many partitions of a topic an assignment has, in the form of Kafka's ConsumerProtocolAssignment: version (i16), an
/// array of topic (string) and partitions (array of i32), and more that is not needed here. An empty one has none.
fn assigned(mut bytes: &[u8], topic: &str) -> Option<usize> {
    if bytes.is_empty() {
        return Some(0);
    }
    let bytes = &mut bytes;
    take(bytes, 2)?;
    let mut count = 0;
    for _ in 0..length(bytes)? {
        let name_len = u16::from_be_bytes(take(bytes, 2)?.try_into().ok()?);
        let name = take(bytes, name_len.into())?;
        let partitions = length(bytes)?;
        take(bytes, partitions.checked_mul(4)?)?;
        if name == topic.as_bytes() {
            count += partitions;
        }
    }
    Some(count)
}

fn length(bytes: &mut &[u8]) -> Option<usize> {
    usize::try_from(i32::from_be_bytes(take(bytes, 4)?.try_into().ok()?)).ok()
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_read_as_kafka_writes_them() {
        // Version 1; two topics: "ab" with partitions 0 and 7, "c" with 1; no user data.
        let bytes = [
            &[0, 1, 0, 0, 0, 2][..],
            &[0, 2, b'a', b'b', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7],
            &[0, 1, b'c', 0, 0, 0, 1, 0, 0, 0, 1],
            &[255, 255, 255, 255],
        ]
        .concat();
        assert_eq!((assigned(&bytes, "ab"), assigned(&bytes, "c"), assigned(&bytes, "d")), (Some(2), Some(1), Some(0)));
        assert_eq!(assigned(&[], "ab"), Some(0));
        for cut in 1..bytes.len() - 4 {
            assert_eq!(assigned(&bytes[..cut], "ab"), None, "cut at {cut}");
        }
    }
}
