//! The assignment of partitions to members: balanced, sticky, the same wherever it is computed.

use std::collections::HashMap;

/// Counts members within a group, in the order in which they joined.
pub(super) type MemberId = u64;

/// The new owners by partition, given who holds (or is about to get) them. Numbers of partitions differ by at most
/// one between members; a member keeps partitions that are within its share; neighbours move to the same member.
pub(super) fn assign(members: &[MemberId], holders: &[Option<MemberId>]) -> Vec<Option<MemberId>> {
    if members.is_empty() {
        return vec![None; holders.len()];
    }
    let mut shares = shares(members, holders);
    let mut targets = vec![None; holders.len()];
    for (target, holder) in targets.iter_mut().zip(holders) {
        if let Some(share) = holder.and_then(|holder| shares.get_mut(&holder)).filter(|share| **share > 0) {
            *share -= 1;
            *target = *holder;
        }
    }
    let mut open = members.iter().flat_map(|member| {
        let share = shares.get(member).copied().unwrap_or(0);
        std::iter::repeat_n(*member, share)
    });
    for target in targets.iter_mut().filter(|target| target.is_none()) {
        *target = open.next();
    }
    targets
}

/// The number of partitions of each member. If it does not divide evenly, the members that hold the most get one more.
fn shares(members: &[MemberId], holders: &[Option<MemberId>]) -> HashMap<MemberId, usize> {
    let held = |member: MemberId| holders.iter().filter(|holder| **holder == Some(member)).count();
    let mut by_held: Vec<(usize, MemberId)> = members.iter().map(|member| (held(*member), *member)).collect();
    by_held.sort_by_key(|(held, member)| (std::cmp::Reverse(*held), *member));
    let (share, rest) = (holders.len() / members.len(), holders.len() % members.len());
    by_held.iter().enumerate().map(|(i, (_, member))| (*member, share + usize::from(i < rest))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn newcomers_get_neighbours() {
        assert_eq!(assign(&[1], &[None; 4]), [Some(1); 4]);
        assert_eq!(assign(&[1, 2], &[Some(1); 5]), [Some(1), Some(1), Some(1), Some(2), Some(2)]);
        assert_eq!(assign(&[1, 2, 3], &[None; 5]), [Some(1), Some(1), Some(2), Some(2), Some(3)]);
        assert_eq!(assign(&[], &[Some(1); 2]), [None; 2]);
    }

    proptest! {
        #[test]
        fn balanced_and_sticky(
            members in proptest::collection::btree_set(1..9u64, 1..6),
            holders in proptest::collection::vec(proptest::option::of(1..9u64), 0..20),
        ) {
            let members: Vec<_> = members.into_iter().collect();
            let targets = assign(&members, &holders);
            prop_assert_eq!(targets.len(), holders.len());
            let held = |list: &[Option<MemberId>], m| list.iter().filter(|x| **x == Some(m)).count();
            let counts: Vec<_> = members.iter().map(|m| held(&targets, *m)).collect();
            prop_assert_eq!(counts.iter().sum::<usize>(), holders.len(), "everything has an owner");
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{:?}", counts);
            for (member, count) in members.iter().zip(counts) {
                let kept = targets.iter().zip(&holders).filter(|(t, h)| **t == Some(*member) && t == h).count();
                prop_assert_eq!(kept, count.min(held(&holders, *member)), "a partition moved for nothing");
            }
        }
    }
}
