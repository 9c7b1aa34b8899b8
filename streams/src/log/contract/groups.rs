//! Groups: every partition has at most one owner, which gives it up before another gets it.

use std::collections::BTreeSet;

use super::harness::{Factory, Harness, Member, record};
use crate::log::{CommittedOffset, GroupMetadata, LogError, Polled, TopicPartition};

fn all(partitions: u32) -> BTreeSet<u32> {
    (0..partitions).collect()
}

/// Polls all members until they own all partitions in equal shares.
fn settle(harness: &Harness, members: &mut [&mut Member], partitions: u32) {
    harness.until("the group has settled", || {
        let moved = members.iter_mut().filter_map(|member| member.poll().then_some(())).count() > 0;
        let owned: Vec<_> = members.iter().map(|member| member.owned.len()).collect();
        let (least, most) = (owned.iter().min().copied(), owned.iter().max().copied());
        !moved && owned.iter().sum::<usize>() == partitions as usize && most <= least.map(|least| least + 1)
    });
    let union: BTreeSet<u32> = members.iter().flat_map(|member| member.owned.iter().copied()).collect();
    assert_eq!(union, all(partitions), "every partition has one owner");
}

/// And learns its membership.
pub fn a_single_member_gets_everything(factory: Factory<'_>) {
    let harness = factory();
    let (topic, group) = (harness.topic("driver", 5), harness.name("group"));
    let mut member = Member::join(&harness, &group, &topic);
    settle(&harness, &mut [&mut member], 5);
    let metadata = member.consumer.group_metadata();
    assert_eq!(metadata.group, group);
    assert!(!metadata.member.is_empty());
    let mut elsewhere = Member::join(&harness, &harness.name("another group"), &topic);
    settle(&harness, &mut [&mut elsewhere], 5);
    assert!(!member.poll(), "groups do not disturb each other");
}

/// Not before the owner's next poll, and no more than needs to move.
pub fn a_second_member_gets_half_after_it_was_given_back(factory: Factory<'_>) {
    let harness = factory();
    let (topic, group) = (harness.topic("driver", 6), harness.name("group"));
    let mut first = Member::join(&harness, &group, &topic);
    settle(&harness, &mut [&mut first], 6);
    let generation = first.consumer.group_metadata().generation;
    let mut second = Member::join(&harness, &group, &topic);
    harness.until("the first one is asked", || {
        second.poll();
        assert!(second.owned.is_empty(), "given while it still is the other's");
        first.poll();
        !first.revoked.is_empty()
    });
    assert_eq!(first.revoked.len(), 3, "only what moves is revoked");
    let moving = first.revoked.clone();
    for _ in 0..3 {
        second.poll();
        assert!(second.owned.is_empty(), "the first one may still be committing");
    }
    settle(&harness, &mut [&mut first, &mut second], 6);
    assert_eq!(second.owned, moving);
    let (one, two) = (first.consumer.group_metadata(), second.consumer.group_metadata());
    assert!(one.generation > generation);
    assert_eq!(one.generation, two.generation, "all members learn the generation");
    assert_ne!(one.member, two.member);
}

/// Without another word.
pub fn a_dropped_member_frees_its_partitions(factory: Factory<'_>) {
    let harness = factory();
    let (topic, group) = (harness.topic("driver", 7), harness.name("group"));
    let mut members: Vec<_> = (0..3).map(|_| Member::join(&harness, &group, &topic)).collect();
    settle(&harness, &mut members.iter_mut().collect::<Vec<_>>(), 7);
    let kept: Vec<_> = members[1..].iter().map(|member| member.owned.clone()).collect();
    members.remove(0);
    settle(&harness, &mut members.iter_mut().collect::<Vec<_>>(), 7);
    for (member, kept) in members.iter().zip(kept) {
        assert!(member.owned.is_superset(&kept), "the others keep what they had");
    }
}

/// Revoked first, time to commit, then nothing; and the others take over.
pub fn a_member_that_unsubscribes_gives_back_its_partitions(factory: Factory<'_>) {
    let harness = factory();
    let (topic, group) = (harness.topic("driver", 4), harness.name("group"));
    let at = TopicPartition::new(topic.as_str(), 0);
    harness.fill(&at, &["unread"]);
    let mut leaving = Member::join(&harness, &group, &topic);
    settle(&harness, &mut [&mut leaving], 4);
    leaving.consumer.assign(&at, 0).unwrap();
    leaving.consumer.unsubscribe().unwrap();
    harness.until("it is asked for everything", || {
        leaving.poll();
        leaving.owned.is_empty()
    });
    let mut producer = harness.log.producer(&harness.name("leaving")).unwrap();
    let last = CommittedOffset { offset: 1, metadata: "the last".into() };
    producer.send_offsets(&leaving.consumer.group_metadata(), &[(at.clone(), last.clone())]).unwrap();
    producer.commit().expect("what is in flight can be committed");
    assert!(!leaving.poll(), "then there is nothing more");
    assert!(matches!(leaving.consumer.poll(std::time::Duration::ZERO), Ok(Polled::Nothing)));
    let mut next = Member::join(&harness, &group, &topic);
    settle(&harness, &mut [&mut next], 4);
    harness.until("the offset shows", || harness.log.committed(&group, &at) == Ok(Some(last.clone())));
    // Without a subscription there is nothing to leave.
    harness.log.consumer(&group).unwrap().unsubscribe().unwrap();
}

/// Aborted, with all that was in the transaction; under the present one they pass.
pub fn offsets_of_a_former_generation_are_refused(factory: Factory<'_>) {
    let harness = factory();
    let (topic, group) = (harness.topic("driver", 2), harness.name("group"));
    let at = TopicPartition::new(topic.as_str(), 0);
    let mut producer = harness.log.producer(&harness.name("stale")).unwrap();
    let mut commit = |metadata: &GroupMetadata, offset: u64| {
        producer.send(record(&topic, 0, "beside")).unwrap();
        let committed = CommittedOffset { offset, metadata: String::new() };
        let sent = producer.send_offsets(metadata, &[(at.clone(), committed)]);
        let done = sent.and_then(|()| producer.commit());
        if done.is_err() {
            producer.abort().unwrap();
        }
        done
    };
    let mut first = Member::join(&harness, &group, &topic);
    settle(&harness, &mut [&mut first], 2);
    let former = first.consumer.group_metadata();
    commit(&former, 1).unwrap();
    let mut second = Member::join(&harness, &group, &topic);
    settle(&harness, &mut [&mut first, &mut second], 2);
    assert!(matches!(commit(&former, 2), Err(LogError::Aborted(_))));
    commit(&first.consumer.group_metadata(), 3).unwrap();
    let gone = second.consumer.group_metadata();
    drop(second);
    settle(&harness, &mut [&mut first], 2);
    assert!(matches!(commit(&gone, 4), Err(LogError::Aborted(_))));
    let foreign = GroupMetadata { member: "nobody".into(), ..first.consumer.group_metadata() };
    assert!(matches!(commit(&foreign, 5), Err(LogError::Aborted(_))));
    harness.until("the offset shows", || harness.log.committed(&group, &at).unwrap().map(|c| c.offset) == Some(3));
    harness.until("what passed shows", || harness.read_all(&at).len() == 2);
}

/// Those who keep what they have, and those who get nothing.
pub fn everybody_is_told_of_a_rebalance(factory: Factory<'_>) {
    let harness = factory();
    let (topic, group) = (harness.topic("driver", 1), harness.name("group"));
    let mut first = Member::join(&harness, &group, &topic);
    settle(&harness, &mut [&mut first], 1);
    let before = first.consumer.group_metadata().generation;
    let mut second = Member::join(&harness, &group, &topic);
    harness.until("both know the generation", || {
        first.poll();
        second.poll();
        let (one, two) = (first.consumer.group_metadata(), second.consumer.group_metadata());
        one.generation > before && one.generation == two.generation
    });
    settle(&harness, &mut [&mut first, &mut second], 1);
    assert_eq!((first.owned.len(), second.owned.len()), (1, 0), "nothing moved for nothing");
    let mut producer = harness.log.producer(&harness.name("told")).unwrap();
    let committed = CommittedOffset { offset: 1, metadata: String::new() };
    producer
        .send_offsets(&first.consumer.group_metadata(), &[(TopicPartition::new(topic.as_str(), 0), committed)])
        .unwrap();
    producer.commit().unwrap();
}

/// A tool may set a group's offsets.
pub fn offsets_without_a_member_are_not_checked(factory: Factory<'_>) {
    let harness = factory();
    let (topic, group) = (harness.topic("driver", 1), harness.name("group"));
    let at = TopicPartition::new(topic.as_str(), 0);
    let metadata = harness.log.consumer(&group).unwrap().group_metadata();
    assert_eq!((metadata.group.as_str(), metadata.member.as_str()), (group.as_str(), ""));
    let mut producer = harness.log.producer(&harness.name("tool")).unwrap();
    let committed = CommittedOffset { offset: 12, metadata: "tool".into() };
    producer.send_offsets(&metadata, &[(at.clone(), committed.clone())]).unwrap();
    producer.commit().unwrap();
    harness.until("the offset shows", || harness.log.committed(&group, &at) == Ok(Some(committed.clone())));
}

/// Members that come and go in any order.
pub fn no_partition_ever_has_two_owners(factory: Factory<'_>) {
    let harness = factory();
    let (topic, group) = (harness.topic("driver", 8), harness.name("group"));
    let mut members: Vec<Member> = Vec::new();
    // A fixed sequence that mixes joining, leaving and polling.
    let mut state = 0x2545_f491_u32;
    for _ in 0..120 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (what, who) = (state >> 24 & 7, (state >> 16) as usize);
        match what {
            0 if members.len() < 5 => members.push(Member::join(&harness, &group, &topic)),
            1 if members.len() > 1 => drop(members.remove(who % members.len())),
            _ if members.is_empty() => continue,
            _ => {
                let at = who % members.len();
                members[at].poll();
            }
        }
        let mut owners = BTreeSet::new();
        for partition in members.iter().flat_map(|member| &member.owned) {
            assert!(owners.insert(*partition), "{partition} has two owners");
        }
    }
    if members.is_empty() {
        members.push(Member::join(&harness, &group, &topic));
    }
    settle(&harness, &mut members.iter_mut().collect::<Vec<_>>(), 8);
}
