//! What a board keeps of a subject: one exact sum per slot of time, and the score that they make.
//!
//! A slot is a half-life epoch or a bucket of a window, counted since 1970. Sums are of integers, and a retraction goes
//! to the slot of what it retracts: so they depend neither on the order of changes nor on how they were combined, and
//! what was taken back leaves nothing behind.

use super::decay::FRACTION_BITS;
use tally_streams::store::{Ranked, StoreValue};

/// Epochs that are older count nothing: each is dropped whole.
const EPOCHS_MAX: i64 = 64;
/// How far ahead of the clock an epoch is told from the next one.
const EPOCHS_AHEAD_MAX: i64 = 64;

/// How a board forgets. A tick is the slot that the clock is in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Aging {
    /// What is one epoch old counts half.
    HalfLife,
    /// What is in one of the last buckets counts, the one that the clock is in included.
    Window {
        /// How many.
        buckets: i64,
    },
}

impl Aging {
    /// The first slot that counts at a tick.
    pub fn first_slot(self, tick: i64) -> i64 {
        match self {
            Self::HalfLife => tick.saturating_sub(EPOCHS_MAX),
            Self::Window { buckets } => tick.saturating_sub(buckets - 1),
        }
    }
}

/// Sums by slot, ascending; none is 0. Of a window in thousandths; of a half-life in 2^-32 thousandths.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Slots(Vec<(i64, i128)>);

impl Slots {
    /// Adds to the sum of a slot. 127 bits hold 2^63 changes of the greatest weight; what is beyond wraps around, so
    /// that even then the order does not matter.
    pub fn add(&mut self, slot: i64, amount: i128) {
        match self.0.binary_search_by_key(&slot, |(slot, _)| *slot) {
            Ok(at) => {
                let sum = &mut self.0[at].1;
                *sum = sum.wrapping_add(amount);
                if *sum == 0 {
                    self.0.remove(at);
                }
            }
            Err(_) if amount == 0 => {}
            Err(at) => self.0.insert(at, (slot, amount)),
        }
    }

    /// Forgets what lies before a slot.
    pub fn forget_before(&mut self, slot: i64) {
        let behind = self.0.partition_point(|(known, _)| *known < slot);
        self.0.drain(..behind);
    }

    fn counting(&self, aging: Aging, tick: i64) -> &[(i64, i128)] {
        let first = aging.first_slot(tick);
        &self.0[self.0.partition_point(|(slot, _)| *slot < first)..]
    }
}

/// What epochs count at a tick: the sum over all of them of `sum * 2^(epoch - tick)`, cut off to a whole number.
///
/// It is computed from the oldest epoch on, halving from epoch to epoch and cutting off each time. Nothing is lost by
/// that: for a real x and a whole n, floor((floor(x) + n) / 2) = floor((x + n) / 2), since floor(x) + n = floor(x + n)
/// and no whole number lies between floor(y) / 2 and y / 2. By induction the result is the exact sum, cut off once.
///
/// For the same reason the value at the next tick is this one halved and cut off, as long as no epoch is dropped: ageing
/// never turns the order of two subjects round, it only makes equal what was close.
fn decayed(epochs: &[(i64, i128)], tick: i64) -> i128 {
    let (past, ahead) = epochs.split_at(epochs.partition_point(|(epoch, _)| *epoch <= tick));
    let (mut value, mut at) = (0i128, tick);
    for (epoch, sum) in past {
        value = halved(value, epoch.saturating_sub(at)).saturating_add(*sum);
        at = *epoch;
    }
    value = halved(value, tick.saturating_sub(at));
    for (epoch, sum) in ahead {
        // The clock is that of the slowest; changes may come from epochs that it has not reached.
        let doublings = (*epoch).saturating_sub(tick).min(EPOCHS_AHEAD_MAX);
        value = value.saturating_add(sum.saturating_mul(1 << doublings));
    }
    value
}

fn halved(value: i128, times: i64) -> i128 {
    value >> times.clamp(0, 127)
}

impl Ranked for Slots {
    type Rule = Aging;

    fn score(&self, aging: Aging, tick: i64) -> Option<i64> {
        let slots = self.counting(aging, tick);
        let score = match aging {
            Aging::HalfLife => decayed(slots, tick) >> FRACTION_BITS,
            Aging::Window { .. } => slots.iter().fold(0i128, |sum, (_, amount)| sum.wrapping_add(*amount)),
        };
        (score > 0).then(|| i64::try_from(score).unwrap_or(i64::MAX))
    }

    fn next_tick(&self, aging: Aging, tick: i64) -> Option<i64> {
        let (oldest, _) = self.counting(aging, tick).first()?;
        Some(match aging {
            Aging::HalfLife => tick + 1,
            Aging::Window { buckets } => oldest.saturating_add(buckets),
        })
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Slot, low and high half of what is added to its sum.
    fn difference(&self, before: &Self, items: &mut Vec<u64>) {
        let mut item = |slot: i64, amount: i128| {
            if amount != 0 {
                items.extend([slot as u64, amount as u64, (amount >> 64) as u64]);
            }
        };
        let (mut now, mut was) = (self.0.iter().peekable(), before.0.iter().peekable());
        loop {
            match (now.peek(), was.peek()) {
                (Some((slot, sum)), Some((other, before))) if slot == other => {
                    item(*slot, sum.wrapping_sub(*before));
                    now.next();
                    was.next();
                }
                (Some((slot, sum)), other) if other.is_none_or(|(other, _)| slot < other) => {
                    item(*slot, *sum);
                    now.next();
                }
                (_, Some((slot, before))) => {
                    item(*slot, before.wrapping_neg());
                    was.next();
                }
                _ => return,
            }
        }
    }

    fn apply(&mut self, items: &[u64]) -> bool {
        let (slots, rest) = items.as_chunks();
        for [slot, low, high] in slots {
            self.add(*slot as i64, (i128::from(*high as i64) << 64) | i128::from(*low));
        }
        rest.is_empty()
    }
}

impl StoreValue for Slots {
    fn encode(&self, out: &mut Vec<u8>) {
        // Only a failing writer fails here, and a vector does not.
        *out = postcard::to_extend(&self.0, std::mem::take(out)).unwrap_or_default();
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (slots, rest) = postcard::take_from_bytes(bytes).ok()?;
        rest.is_empty().then_some(Self(slots))
    }
}
