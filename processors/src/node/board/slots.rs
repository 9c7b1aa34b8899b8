//! A board's state of a subject: one exact sum per slot of time, and their score.
//!
//! A slot is a half-life epoch or a bucket of a window, counted since 1970. Sums are of integers, and a retraction goes
//! to the slot of the change that it retracts. So sums depend neither on the order of changes nor on how they were
//! combined, and a retracted change leaves nothing behind.

use super::actors::Actors;
use super::decay::FRACTION_BITS;
use serde::{Deserialize, Serialize};
use tally_streams::store::{Rank, Ranked, StoreValue};

/// Epochs that are older count nothing: each is dropped whole.
const EPOCHS_MAX: i64 = 64;
/// How many epochs ahead of the clock are kept apart.
const EPOCHS_AHEAD_MAX: i64 = 64;
/// The least expected value of a trending subject: one, in thousandths.
const EXPECTED_MIN: i128 = 1_000;
/// Marks in place of a slot for an actor in a difference: its last act, or that it is forgotten. No time has these
/// slots.
const ACTED: i64 = i64::MIN;
const FORGOTTEN: i64 = i64::MIN + 1;

/// How a board forgets. A tick is the slot that the clock is in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Aging {
    /// A change counts half after one epoch.
    HalfLife,
    /// Changes in the last buckets count, including the bucket of the clock.
    Window {
        /// How many.
        buckets: i64,
    },
    /// The last buckets count by their excess over the value expected from the buckets before.
    Trend {
        /// How many are observed.
        buckets: i64,
        /// The number of earlier slots that give the expected value.
        baseline: i64,
    },
}

/// The parameters of a score besides sums and tick.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Scoring {
    pub aging: Aging,
    /// The number of distinct actors required; 0 for none.
    pub actors_min: usize,
}

impl Aging {
    /// The first slot that counts at a tick.
    pub fn first_slot(self, tick: i64) -> i64 {
        match self {
            Self::HalfLife => tick.saturating_sub(EPOCHS_MAX),
            Self::Window { buckets } => tick.saturating_sub(buckets - 1),
            Self::Trend { buckets, baseline } => tick.saturating_sub(buckets + baseline - 1),
        }
    }

    /// The first slot whose actors count at a tick.
    fn first_acted(self, tick: i64) -> i64 {
        match self {
            Self::Trend { buckets, .. } => tick.saturating_sub(buckets - 1),
            _ => self.first_slot(tick),
        }
    }

    /// The first tick after `tick` at which a slot counts otherwise, beside its decay.
    fn next_tick(self, slot: i64, tick: i64) -> i64 {
        match self {
            Self::HalfLife => slot.saturating_add(EPOCHS_MAX + 1),
            Self::Window { buckets } => slot.saturating_add(buckets),
            Self::Trend { buckets, .. } if slot.saturating_add(buckets) > tick => slot.saturating_add(buckets),
            Self::Trend { buckets, baseline } => slot.saturating_add(buckets + baseline),
        }
    }
}

/// Sums by slot, ascending; none is 0. In thousandths for a window, in 2^-32 thousandths for a half-life. And the
/// actors, if the board needs them; never empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Slots(Vec<(i64, i128)>, Option<Box<Actors>>);

impl Slots {
    /// Adds to the sum of a slot. 127 bits hold 2^63 changes of the greatest weight; larger sums wrap around, so that
    /// even then the order does not matter.
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
        self.change_actors(|actors| actors.forget_before(slot));
    }

    /// Records an act; at most `max` actors are remembered.
    pub fn act(&mut self, hash: u64, slot: i64, max: usize) {
        self.1.get_or_insert_default().act(hash, slot, max);
    }

    fn change_actors(&mut self, change: impl FnOnce(&mut Actors)) {
        if let Some(actors) = &mut self.1 {
            change(actors);
            if actors.is_empty() {
                self.1 = None;
            }
        }
    }

    fn counting(&self, aging: Aging, tick: i64) -> &[(i64, i128)] {
        let first = aging.first_slot(tick);
        &self.0[self.0.partition_point(|(slot, _)| *slot < first)..]
    }
}

/// The score of epochs at a tick: the sum over all of them of `sum * 2^(epoch - tick)`, truncated to a whole number.
///
/// It is computed from the oldest epoch on, halving from epoch to epoch and truncating each time. This is exact: for a
/// real x and a whole n, floor((floor(x) + n) / 2) = floor((x + n) / 2), since floor(x) + n = floor(x + n) and no whole
/// number lies between floor(y) / 2 and y / 2. By induction the result is the exact sum, truncated once.
///
/// For the same reason the value at the next tick is this one halved and truncated, as long as no epoch is dropped:
/// ageing never reverses the order of two subjects, it only makes close scores equal.
fn decayed(epochs: &[(i64, i128)], tick: i64) -> i128 {
    let (past, ahead) = epochs.split_at(epochs.partition_point(|(epoch, _)| *epoch <= tick));
    let (mut value, mut at) = (0i128, tick);
    for (epoch, sum) in past {
        value = halved(value, epoch.saturating_sub(at)).saturating_add(*sum);
        at = *epoch;
    }
    value = halved(value, tick.saturating_sub(at));
    for (epoch, sum) in ahead {
        // The clock is that of the slowest upstream task; changes may be of epochs that it has not reached.
        let doublings = (*epoch).saturating_sub(tick).min(EPOCHS_AHEAD_MAX);
        value = value.saturating_add(sum.saturating_mul(1 << doublings));
    }
    value
}

/// Rise against the own baseline, in the manner of Mastodon's trends: (observed - expected)^2 / expected, cut off to a
/// whole number, where more was observed than expected; expected is never less than one. It is what `calculate_scores` in
/// `app/models/trends/tags.rb` of <https://github.com/mastodon/mastodon> does with today's and yesterday's accounts. It
/// differs in three things: sums of weights over any two times are compared, not accounts of two days; they move by a
/// bucket; and a peak is not remembered, so that a score is a function of what is in the buckets alone. What is a
/// threshold there is `min_actors` here.
fn risen(slots: &[(i64, i128)], buckets: i64, baseline: i64, tick: i64) -> i128 {
    // Within 64 bits, so that its square and what is expected are exact. A sum of 2^63 thousandths takes nine billion
    // actions of the greatest weight.
    let sum = |slots: &[(i64, i128)]| total(slots).clamp(i64::MIN.into(), i64::MAX.into());
    let (before, observed) = slots.split_at(before_window(slots, buckets, tick));
    let expected = (sum(before) * i128::from(buckets) / i128::from(baseline)).max(EXPECTED_MIN);
    match sum(observed) - expected {
        risen @ 1.. => risen.saturating_mul(risen) / expected,
        _ => 0,
    }
}

/// How many slots lie before the window.
fn before_window(slots: &[(i64, i128)], buckets: i64, tick: i64) -> usize {
    slots.partition_point(|(slot, _)| *slot <= tick.saturating_sub(buckets))
}

fn total(slots: &[(i64, i128)]) -> i128 {
    slots.iter().fold(0, |sum, (_, amount)| sum.wrapping_add(*amount))
}

fn halved(value: i128, times: i64) -> i128 {
    value >> times.clamp(0, 127)
}

impl Ranked for Slots {
    type Rule = Scoring;

    /// With a half-life, the decayed value at the last epoch: each epoch later it is halved, and truncated again (see
    /// [`decayed`]). An epoch that the clock has not reached counts more with each tick until then, within limits: its rank
    /// is that of the tick alone.
    fn rank(&self, rule: Scoring, tick: i64) -> Option<Rank> {
        let aging = rule.aging;
        let acted = || self.1.as_ref().map_or(0, |actors| actors.since(aging.first_acted(tick)));
        if rule.actors_min > 0 && acted() < rule.actors_min {
            return None;
        }
        let slots = self.counting(aging, tick);
        match aging {
            Aging::HalfLife => {
                let at = slots.last()?.0.min(tick);
                Rank::new(decayed(slots, at), at)
            }
            Aging::Window { .. } => Rank::new(total(slots), 0),
            Aging::Trend { buckets, baseline } => Rank::new(risen(slots, buckets, baseline, tick), 0),
        }
    }

    fn score(rank: Rank, Scoring { aging, .. }: Scoring, tick: i64) -> Option<i128> {
        let score = match aging {
            Aging::HalfLife => rank.truncated(tick.saturating_add(FRACTION_BITS.into())),
            Aging::Window { .. } | Aging::Trend { .. } => rank.truncated(0),
        };
        (score > 0).then_some(score)
    }

    fn next_tick(&self, Scoring { aging, .. }: Scoring, tick: i64) -> Option<i64> {
        let slots = self.counting(aging, tick);
        if aging == Aging::HalfLife && slots.last().is_some_and(|(epoch, _)| *epoch > tick) {
            return Some(tick.saturating_add(1));
        }
        // Slots leave in their order: first the window, then the baseline.
        let observed = match aging {
            Aging::Trend { buckets, .. } => slots.get(before_window(slots, buckets, tick)),
            Aging::HalfLife | Aging::Window { .. } => None,
        };
        let acted = self.1.as_ref().and_then(|actors| actors.oldest_since(aging.first_acted(tick)));
        let next = slots.first().into_iter().chain(observed).map(|(slot, _)| *slot).chain(acted);
        next.map(|slot| aging.next_tick(slot, tick)).min()
    }

    fn ages_each_tick(Scoring { aging, .. }: Scoring) -> bool {
        aging == Aging::HalfLife
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty() && self.1.is_none()
    }

    /// Slot, and low and high half of the addition to its sum. For an actor [`ACTED`], hash and slot, or [`FORGOTTEN`],
    /// hash and 0.
    fn difference(&self, before: &Self, items: &mut Vec<u64>) {
        if self.1 != before.1 {
            let no_actors = Actors::default();
            let [now, was] = [self, before].map(|slots| slots.1.as_deref().unwrap_or(&no_actors));
            now.differences(was, |hash, slot| match slot {
                Some(slot) => items.extend([ACTED as u64, hash, slot as u64]),
                None => items.extend([FORGOTTEN as u64, hash, 0]),
            });
        }
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
            match *slot as i64 {
                ACTED => self.1.get_or_insert_default().set(*low, Some(*high as i64)),
                FORGOTTEN => self.change_actors(|actors| actors.set(*low, None)),
                slot => self.add(slot, (i128::from(*high as i64) << 64) | i128::from(*low)),
            }
        }
        rest.is_empty()
    }
}

impl StoreValue for Scoring {
    fn encode(&self, out: &mut Vec<u8>) {
        *out = postcard::to_extend(self, std::mem::take(out)).unwrap_or_default();
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (scoring, rest) = postcard::take_from_bytes(bytes).ok()?;
        rest.is_empty().then_some(scoring)
    }
}

impl StoreValue for Slots {
    /// Sums; actors behind them where there are any.
    fn encode(&self, out: &mut Vec<u8>) {
        // Only a failing writer fails here, and a vector does not.
        *out = postcard::to_extend(&self.0, std::mem::take(out)).unwrap_or_default();
        if let Some(actors) = &self.1 {
            *out = postcard::to_extend(actors, std::mem::take(out)).unwrap_or_default();
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (sums, rest) = postcard::take_from_bytes(bytes).ok()?;
        if rest.is_empty() {
            return Some(Self(sums, None));
        }
        let (actors, rest) = postcard::take_from_bytes(rest).ok()?;
        rest.is_empty().then_some(Self(sums, Some(actors)))
    }
}
