//! Sums and scores against the plainest arithmetic that there is.

use super::slots::{Aging, Scoring, Slots};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tally_streams::store::{Ranked, StoreValue};

const ONE: i128 = 1 << 32;
const NOW: i64 = 100;

/// Scoring without a minimum of actors.
fn of(aging: Aging) -> Scoring {
    Scoring { aging, actors_min: 0 }
}

fn slots(sums: &[(i64, i128)]) -> Slots {
    let mut slots = Slots::default();
    sums.iter().for_each(|(slot, amount)| slots.add(*slot, *amount));
    slots
}

impl Slots {
    fn score_at(&self, rule: Scoring, tick: i64) -> Option<i128> {
        Slots::score(self.rank(rule, tick)?, rule, tick)
    }
}

/// Over the common denominator 2^64, so that nothing is cut off but at the end. Sums of up to 58 bits fit.
fn naive_decayed(sums: &BTreeMap<i64, i128>, tick: i64) -> Option<i128> {
    let counting = sums.range(tick - 64..);
    let exact: i128 = counting.map(|(epoch, sum)| sum << (epoch - (tick - 64))).sum();
    let thousandths = exact.div_euclid(1 << (64 + 32));
    (thousandths > 0).then_some(thousandths)
}

fn changes() -> impl Strategy<Value = Vec<(i64, i128)>> {
    let amount = prop_oneof![-5_000..5_000i128, -(1i128 << 52)..1 << 52, Just(-ONE), Just(ONE), Just(ONE * 4_000)];
    prop::collection::vec((NOW - 70..=NOW, amount), 0..40)
}

proptest! {
    #[test]
    fn a_decayed_score_is_the_exact_sum_cut_off_once(changes in changes(), later in 0..70i64) {
        let mut sums: BTreeMap<i64, i128> = BTreeMap::new();
        changes.iter().for_each(|(epoch, amount)| *sums.entry(*epoch).or_default() += amount);
        let tick = NOW + later;
        prop_assert_eq!(slots(&changes).score_at(of(Aging::HalfLife), tick), naive_decayed(&sums, tick));
    }

    #[test]
    fn one_epoch_later_it_is_its_half_cut_off(changes in changes()) {
        // Nothing so old that it is dropped meanwhile.
        let slots = slots(&changes.into_iter().filter(|(epoch, _)| *epoch > NOW - 20).collect::<Vec<_>>());
        let mut score = slots.score_at(of(Aging::HalfLife), NOW).unwrap_or_default();
        for tick in NOW + 1..NOW + 40 {
            score /= 2;
            prop_assert_eq!(slots.score_at(of(Aging::HalfLife), tick).unwrap_or_default(), score);
        }
    }

    #[test]
    fn order_decides_nothing_and_what_is_taken_back_leaves_nothing(
        changes in changes(), others in changes(), seed in any::<u64>()
    ) {
        let mut shuffled = changes.clone();
        shuffled.extend(others.iter().flat_map(|(slot, amount)| [(*slot, *amount), (*slot, -amount)]));
        shuffled.sort_by_key(|(slot, amount)| (*slot as u64 ^ *amount as u64 ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        prop_assert_eq!(slots(&shuffled), slots(&changes));
    }

    #[test]
    fn a_window_is_the_sum_of_its_buckets(changes in changes(), buckets in 1..80i64, tick in NOW - 90..NOW + 90) {
        let counts = |slot: i64| slot > tick - buckets;
        let sum: i128 = changes.iter().filter(|(slot, _)| counts(*slot)).map(|(_, amount)| amount).sum();
        let score = slots(&changes).score_at(of(Aging::Window { buckets }), tick);
        prop_assert_eq!(score, (sum > 0).then_some(sum));
    }

    #[test]
    fn the_next_tick_is_the_first_at_which_a_score_changes(
        changes in changes(), buckets in 1..80i64, baseline in 1..80i64
    ) {
        let mut slots = slots(&changes);
        changes.iter().for_each(|(slot, amount)| slots.act(*amount as u64 % 5, *slot, 2));
        for (aging, actors_min) in [
            (Aging::Window { buckets }, 0), (Aging::Window { buckets }, 2),
            (Aging::Trend { buckets, baseline }, 0), (Aging::Trend { buckets, baseline }, 2),
        ] {
            let (rule, mut tick) = (Scoring { aging, actors_min }, NOW);
            while let Some(next) = slots.next_tick(rule, tick) {
                prop_assert!(next > tick);
                for between in tick..next {
                    prop_assert_eq!(slots.score_at(rule, between), slots.score_at(rule, tick));
                }
                tick = next;
            }
            prop_assert_eq!(slots.score_at(rule, tick), None);
        }
    }

    #[test]
    fn a_rank_stays_until_the_next_tick_and_the_score_follows_from_it(
        changes in prop::collection::vec((NOW - 70..NOW + 6, -(1i128 << 44)..1 << 44), 1..20), actors_min in 0..3usize
    ) {
        let mut slots = slots(&changes);
        changes.iter().for_each(|(slot, amount)| slots.act(*amount as u64 % 5, *slot, 2));
        let (rule, mut tick) = (Scoring { aging: Aging::HalfLife, actors_min }, NOW);
        let mut sums: BTreeMap<i64, i128> = BTreeMap::new();
        changes.iter().for_each(|(epoch, amount)| *sums.entry(*epoch).or_default() += amount);
        while let Some(next) = slots.next_tick(rule, tick) {
            prop_assert!(next > tick);
            let rank = slots.rank(rule, tick);
            for between in tick..next {
                prop_assert_eq!(slots.rank(rule, between), rank);
                let score = rank.and_then(|rank| Slots::score(rank, rule, between));
                prop_assert_eq!(score, slots.score_at(rule, between));
                let actors: std::collections::BTreeSet<_> =
                    changes.iter().filter(|(slot, _)| *slot >= between - 64).map(|(_, n)| *n as u64 % 5).collect();
                let enough = actors.len() >= actors_min;
                prop_assert_eq!(score, naive_decayed(&sums, between).filter(|_| enough));
            }
            tick = next;
        }
        prop_assert_eq!(slots.rank(rule, tick), None);
    }

    #[test]
    fn a_difference_makes_one_of_the_other_and_bytes_come_back(before in changes(), now in changes()) {
        let with_actors = |changes: &[(i64, i128)]| {
            let mut slots = slots(changes);
            changes.iter().for_each(|(slot, amount)| slots.act(*amount as u64 % 9, *slot, 4));
            slots
        };
        let (mut value, now) = (with_actors(&before), with_actors(&now));
        let (mut items, mut bytes) = (Vec::new(), Vec::new());
        now.difference(&value, &mut items);
        prop_assert!(value.apply(&items));
        prop_assert_eq!(&value, &now);
        items.clear();
        now.difference(&value, &mut items);
        prop_assert!(items.is_empty());
        now.encode(&mut bytes);
        prop_assert_eq!(Slots::decode(&bytes), Some(now));
    }
}

#[test]
fn sixty_four_epochs_count_and_the_sixty_fifth_is_dropped_whole() {
    let aging = Aging::HalfLife;
    let huge = slots(&[(NOW, ONE << 64)]);
    assert_eq!(huge.score_at(of(aging), NOW + 64), Some(1));
    assert_eq!(huge.score_at(of(aging), NOW + 65), None);
    assert_eq!(huge.next_tick(of(aging), NOW + 64), Some(NOW + 65));
    assert_eq!(huge.next_tick(of(aging), NOW + 65), None);
    let mut slots = slots(&[(NOW, 5), (NOW + 1, 7)]);
    slots.forget_before(aging.first_slot(NOW + 65));
    assert_eq!(slots, super::slots_tests::slots(&[(NOW + 1, 7)]));
}

#[test]
fn what_is_ahead_of_the_clock_counts_as_much_as_it_will_have_counted() {
    let ahead = slots(&[(NOW, 3 * ONE), (NOW + 1, ONE), (NOW + 3, ONE)]);
    let scores: Vec<_> = (NOW..NOW + 5).map(|tick| ahead.score_at(of(Aging::HalfLife), tick)).collect();
    assert_eq!(scores, [3 + 2 + 8, 6, 3, 1, 0].map(|score| (score > 0).then_some(score)));
    assert_eq!(slots(&[(i64::MAX, ONE)]).score_at(of(Aging::HalfLife), NOW), Some(1 << 64));
    assert_eq!(slots(&[(i64::MIN, ONE)]).score_at(of(Aging::HalfLife), NOW), None);
    assert_eq!(ahead.score_at(of(Aging::Window { buckets: 1 }), NOW), Some(5 << 32));
}

#[test]
fn sums_without_measure_wrap_around_and_scores_do_not() {
    let most = i128::MAX;
    let mut slots = slots(&[(NOW, most), (NOW, most), (NOW, -most)]);
    assert_eq!(slots.score_at(of(Aging::HalfLife), NOW), Some(most >> 32));
    slots.add(NOW, -most);
    assert!(slots.is_empty());
}

#[test]
fn the_stored_bytes_are_what_they_have_always_been() {
    let mut rule = Vec::new();
    let trend = Scoring { aging: Aging::Trend { buckets: 12, baseline: 300 }, actors_min: 5 };
    trend.encode(&mut rule);
    assert_eq!((rule.as_slice(), Scoring::decode(&rule)), (&b"\x02\x18\xd8\x04\x05"[..], Some(trend)));
    assert_eq!(Scoring::decode(&rule[1..]), None);
    let mut bytes = Vec::new();
    slots(&[(83_113, 4_000), (83_114, -ONE)]).encode(&mut bytes);
    assert_eq!(bytes, b"\x02\xd2\x92\x0a\xc0\x3e\xd4\x92\x0a\xff\xff\xff\xff\x1f");
    let mut acted = slots(&[(83_113, 4_000)]);
    acted.act(7, 83_113, 2);
    acted.act(300, 83_114, 2);
    let mut with_actors = Vec::new();
    acted.encode(&mut with_actors);
    assert_eq!(with_actors, b"\x01\xd2\x92\x0a\xc0\x3e\x02\x07\xd2\x92\x0a\xac\x02\xd4\x92\x0a");
    assert_eq!(Slots::decode(&with_actors), Some(acted.clone()));
    let mut difference = Vec::new();
    acted.difference(&slots(&[(83_113, 3_000)]), &mut difference);
    let acts = i64::MIN as u64;
    assert_eq!(difference, [acts, 7, 83_113, acts, 300, 83_114, 83_113, 1_000, 0]);
    assert_eq!(Slots::decode(&bytes[1..]), None);
    assert_eq!(Slots::decode(b""), None);
}

#[test]
fn who_trends_has_risen_above_what_was_to_be_expected() {
    let rule = of(Aging::Trend { buckets: 2, baseline: 8 });
    let score = |sums: &[(i64, i128)]| slots(sums).score_at(rule, NOW);
    // 40 in eight buckets let expect 10 in two.
    let baseline = [(NOW - 9, 15_000), (NOW - 5, 5_000), (NOW - 2, 20_000)];
    let and = |observed: i128| score(&[baseline.as_slice(), &[(NOW, observed)]].concat());
    assert_eq!(and(30_000), Some(40_000), "(30 - 10)^2 / 10");
    assert_eq!(and(10_001), None, "0.001^2 / 10");
    assert_eq!((and(10_000), and(2_000)), (None, None));
    // Where nothing was, one is expected.
    assert_eq!(score(&[(NOW - 1, 3_000)]), Some(4_000), "(3 - 1)^2 / 1");
    assert_eq!(score(&[(NOW - 10, 99_000), (NOW, 3_000)]), Some(4_000), "what lies before the baseline");
    assert_eq!(score(&[(NOW - 5, -99_000), (NOW, 3_000)]), Some(4_000), "a baseline below nothing");
    // Observed at most 2^63 - 1, and 24.75 expected.
    let most = i128::from(i64::MAX) - 24_750;
    assert_eq!(score(&[(NOW - 5, 99_000), (NOW, i128::MAX)]), Some(most * most / 24_750));
    assert_eq!(score(&[(NOW - 5, 99_000), (NOW, i64::MAX.into())]), Some(most * most / 24_750), "the greatest sum");
    assert!(score(&[(NOW - 5, 99_000), (NOW, i128::from(i64::MAX) - 1)]) < Some(most * most / 24_750), "one less");
    // The greatest baseline counts as 2^63 - 1, and lets expect 2^61 - 1.
    assert_eq!(score(&[(NOW - 5, i128::MAX), (NOW, (1 << 62) - 1)]), Some((1 << 61) + 1));
}

/// 64 bits end at 96 views of the greatest weight.
#[test]
fn trends_keep_their_order_whatever_the_weight() {
    let rule = of(Aging::Trend { buckets: 2, baseline: 8 });
    for weight in [1, 1_000, 1_000_000] {
        let score = |views: i128| slots(&[(NOW, views * weight * 1_000)]).score_at(rule, NOW).unwrap();
        let scores: Vec<_> = [2, 50, 95, 96, 97, 100, 300, 1_000_000, 1_000_000_000].map(score).into();
        assert!(scores.is_sorted_by(|a, b| a < b), "{weight}: {scores:?}");
        let risen = (300 * weight - 1) * 1_000;
        assert_eq!(score(300), risen * risen / 1_000, "(300 - 1)^2 / 1, by weight");
    }
}

#[test]
fn a_subject_enters_when_enough_have_acted_and_leaves_with_their_acts() {
    let rule = Scoring { aging: Aging::Window { buckets: 10 }, actors_min: 2 };
    let mut slots = slots(&[(NOW, 5_000)]);
    slots.act(1, NOW - 5, 2);
    slots.act(1, NOW - 4, 2);
    assert_eq!(slots.score_at(rule, NOW), None, "one, twice");
    slots.act(2, NOW - 3, 2);
    assert_eq!(slots.score_at(rule, NOW), Some(5_000));
    assert_eq!((slots.score_at(rule, NOW + 5), slots.score_at(rule, NOW + 6)), (Some(5_000), None));
    // Nothing but actors is kept as long as they count: order must not matter to what comes.
    slots.add(NOW, -5_000);
    assert!(!slots.is_empty() && slots.next_tick(rule, NOW) == Some(NOW + 6));
}
