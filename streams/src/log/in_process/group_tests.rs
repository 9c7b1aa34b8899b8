use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn assigned(list: impl IntoIterator<Item = u32>, generation: i64) -> (Option<(Rebalance, i64)>, bool) {
    (Some((Rebalance::Assigned(list.into_iter().collect()), generation)), false)
}

#[test]
fn a_handover_takes_three_polls() {
    let mut groups = Groups::default();
    let one = groups.join("g", "driver", 4).unwrap();
    assert_eq!(groups.poll("g", one), assigned(0..4, 1));
    assert_eq!(groups.poll("g", one), (None, false));
    let two = groups.join("g", "driver", 4).unwrap();
    assert_eq!(groups.poll("g", two), assigned([], 2), "it knows the generation and has nothing yet");
    assert_eq!(groups.poll("g", two), (None, false));
    assert_eq!(groups.poll("g", one), (Some((Rebalance::Revoked(vec![2, 3]), 2)), false));
    assert_eq!(groups.poll("g", two), (None, false), "still the other's");
    assert_eq!(groups.poll("g", one), (None, true), "given back: the others should look");
    assert_eq!(groups.poll("g", two), assigned([2, 3], 2));
    assert_eq!(groups.poll("g", one), (None, false));
}

#[test]
fn what_was_revoked_and_comes_back_is_assigned_again() {
    let mut groups = Groups::default();
    let one = groups.join("g", "driver", 2).unwrap();
    groups.poll("g", one);
    let two = groups.join("g", "driver", 2).unwrap();
    assert_eq!(groups.poll("g", one), (Some((Rebalance::Revoked(vec![1]), 2)), false));
    groups.remove("g", two);
    assert_eq!(groups.poll("g", one), (Some((Rebalance::Assigned(vec![1]), 3)), true));
}

#[test]
fn a_group_reads_one_driver() {
    let mut groups = Groups::default();
    let one = groups.join("g", "driver", 2).unwrap();
    assert!(matches!(groups.join("g", "other", 3), Err(LogError::Mismatch { .. })));
    groups.remove("g", one);
    let two = groups.join("g", "other", 3).unwrap();
    assert_eq!(groups.poll("g", two), assigned(0..3, 3), "generations go on");
    assert_ne!(one, two, "member numbers are never given twice");
}

#[derive(Clone, Debug)]
enum Step {
    Join,
    Poll(usize),
    Unsubscribe(usize),
    Remove(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Join),
        8 => (0..8usize).prop_map(Step::Poll),
        1 => (0..8usize).prop_map(Step::Unsubscribe),
        1 => (0..8usize).prop_map(Step::Remove),
    ]
}

/// The members as they see themselves.
#[derive(Default)]
struct Members(Vec<(MemberId, BTreeSet<u32>)>);

impl Members {
    fn poll(&mut self, groups: &mut Groups, at: usize) -> bool {
        let (id, owned) = &mut self.0[at];
        match groups.poll("g", *id).0 {
            Some((Rebalance::Assigned(list), _)) => list.into_iter().for_each(|p| assert!(owned.insert(p))),
            Some((Rebalance::Revoked(list), _)) => list.iter().for_each(|p| assert!(owned.remove(p))),
            None => return false,
        }
        true
    }
}

proptest! {
    #[test]
    fn one_owner_each_and_all_in_the_end(
        partitions in 1..12u32,
        steps in proptest::collection::vec(any_step(), 1..80),
    ) {
        let mut groups = Groups::default();
        let mut members = Members::default();
        let mut leaving = BTreeSet::new();
        for step in steps {
            let count = members.0.len();
            match step {
                Step::Join => members.0.push((groups.join("g", "driver", partitions).unwrap(), BTreeSet::new())),
                _ if count == 0 => {}
                Step::Poll(at) => {
                    members.poll(&mut groups, at % count);
                }
                Step::Unsubscribe(at) => {
                    groups.unsubscribe("g", members.0[at % count].0);
                    leaving.insert(members.0[at % count].0);
                }
                Step::Remove(at) => {
                    let (id, _) = members.0.remove(at % count);
                    groups.remove("g", id);
                }
            }
            let mut owners = BTreeSet::new();
            for partition in members.0.iter().flat_map(|(_, owned)| owned) {
                prop_assert!(owners.insert(*partition), "{} has two owners", partition);
            }
        }
        for _ in 0..2 * members.0.len() + 2 {
            for at in 0..members.0.len() {
                members.poll(&mut groups, at);
            }
        }
        let staying: Vec<_> = members.0.iter().filter(|(id, _)| !leaving.contains(id)).map(|(_, owned)| owned.len()).collect();
        for (id, owned) in &members.0 {
            prop_assert!(!leaving.contains(id) || owned.is_empty(), "a member that leaves gives everything back");
        }
        if let (Some(most), Some(least)) = (staying.iter().max(), staying.iter().min()) {
            prop_assert_eq!(staying.iter().sum::<usize>(), partitions as usize, "everything has an owner");
            prop_assert!(most - least <= 1, "{:?}", staying);
        }
    }
}
