//! Groups: the assignment of partitions of the driver topic to members.
//!
//! Coordination is cooperative, as in Kafka: a partition that moves is first revoked from its owner, which gives it
//! back with its next poll, and only then given to the next member. Nothing here waits or reads a clock; members learn
//! of changes by polling.

use std::collections::{BTreeMap, HashMap};

use super::assignment::{MemberId, assign};
use crate::log::{GroupMetadata, LogError};

/// What a poll returns to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rebalance {
    /// These are the member's from now on; possibly none, then only the generation is new.
    Assigned(Vec<u32>),
    /// These are taken from it; its next poll gives them back.
    Revoked(Vec<u32>),
}

/// All groups of a log.
#[derive(Default)]
pub(super) struct Groups {
    groups: HashMap<String, Group>,
}

impl Groups {
    /// A new member asks for partitions of `driver`, a topic of that many partitions.
    pub fn join(&mut self, group: &str, driver: &str, partitions: u32) -> Result<MemberId, LogError> {
        let state = self.groups.entry(group.to_owned()).or_default();
        if state.members.is_empty() && state.driver != driver {
            state.driver = driver.to_owned();
            state.owners = vec![None; partitions as usize];
            state.targets = vec![None; partitions as usize];
        }
        if state.driver != driver {
            let detail = format!(
                "is requested by a member of group `{group}`, which reads `{}`: use another group",
                state.driver
            );
            return Err(LogError::Mismatch { topic: driver.to_owned(), detail });
        }
        Ok(state.join())
    }

    /// What is new for a member, and the generation that it belongs to. Ends the membership of one that is leaving
    /// and has nothing left. `true` where others should poll.
    pub fn poll(&mut self, group: &str, member: MemberId) -> (Option<(Rebalance, i64)>, bool) {
        match self.groups.get_mut(group) {
            Some(state) => state.poll(member),
            None => (None, false),
        }
    }

    /// The member leaves cleanly: its partitions are revoked by its next poll.
    pub fn unsubscribe(&mut self, group: &str, member: MemberId) {
        if let Some(state) = self.groups.get_mut(group) {
            state.unsubscribe(member);
        }
    }

    /// The member and its partitions are removed.
    pub fn remove(&mut self, group: &str, member: MemberId) {
        if let Some(state) = self.groups.get_mut(group) {
            state.remove(member);
        }
    }

    /// Whether offsets may be committed under this membership. One without a member is not checked.
    pub fn check(&self, membership: &GroupMetadata) -> Result<(), LogError> {
        let GroupMetadata { group, generation, member } = membership;
        if group.is_empty() || member.is_empty() {
            return Ok(());
        }
        let state = self.groups.get(group);
        if !state.is_some_and(|state| state.members.keys().any(|id| member_name(*id) == *member)) {
            return Err(LogError::Aborted(format!(
                "`{member}` is not a member of group `{group}`: poll, then do it again"
            )));
        }
        match state {
            Some(state) if state.generation != *generation => Err(LogError::Aborted(format!(
                "generation {generation} of group `{group}` is over, {} is on: poll, then do it again",
                state.generation
            ))),
            _ => Ok(()),
        }
    }
}

/// A member's name in [`GroupMetadata`].
pub(super) fn member_name(id: MemberId) -> String {
    format!("member-{id}")
}

/// One group. It outlives its members, so that generations and member numbers never come twice.
#[derive(Default)]
struct Group {
    driver: String,
    generation: i64,
    /// By partition: the member that has been assigned it.
    owners: Vec<Option<MemberId>>,
    /// By partition: the member that shall have it.
    targets: Vec<Option<MemberId>>,
    members: BTreeMap<MemberId, Member>,
    last_member: MemberId,
    /// Incremented whenever an owner or a target changes: a member that has seen this number need not check.
    version: u64,
}

#[derive(Default)]
struct Member {
    /// The version after which there was nothing new for it.
    seen: u64,
    /// The generation that its last poll returned.
    generation: i64,
    /// What its last poll took from it; its next poll confirms that.
    revoking: Vec<u32>,
    leaving: bool,
}

impl Group {
    fn join(&mut self) -> MemberId {
        self.last_member += 1;
        self.members.insert(self.last_member, Member::default());
        self.rebalance();
        self.last_member
    }

    fn unsubscribe(&mut self, id: MemberId) {
        match self.members.get_mut(&id) {
            Some(member) if !member.leaving => member.leaving = true,
            _ => return,
        }
        self.rebalance();
    }

    fn remove(&mut self, id: MemberId) {
        let Some(member) = self.members.remove(&id) else {
            return;
        };
        for owner in self.owners.iter_mut().filter(|owner| **owner == Some(id)) {
            *owner = None;
        }
        self.version += 1;
        if !member.leaving {
            self.rebalance();
        }
    }

    fn rebalance(&mut self) {
        let active: Vec<MemberId> = self.members.iter().filter(|(_, m)| !m.leaving).map(|(id, _)| *id).collect();
        // The owner of a partition is its first choice; without an owner, the member that is about to get it.
        let holders = self.owners.iter().zip(&self.targets);
        let holders: Vec<_> = holders.map(|(owner, target)| owner.filter(|o| active.contains(o)).or(*target)).collect();
        self.targets = assign(&active, &holders);
        self.generation += 1;
        self.version += 1;
    }

    fn poll(&mut self, id: MemberId) -> (Option<(Rebalance, i64)>, bool) {
        let Some(member) = self.members.get_mut(&id) else {
            return (None, false);
        };
        let released = !member.revoking.is_empty();
        if released {
            for partition in member.revoking.drain(..) {
                self.owners[partition as usize] = None;
            }
            self.version += 1;
        }
        if member.seen == self.version {
            return (None, false);
        }
        let ours = |owner: &Option<MemberId>, target: &Option<MemberId>| (*owner == Some(id), *target == Some(id));
        let pairs = || (0u32..).zip(self.owners.iter().zip(&self.targets));
        let revoked: Vec<u32> =
            pairs().filter(|(_, (o, t))| ours(o, t) == (true, false)).map(|(partition, _)| partition).collect();
        if !revoked.is_empty() {
            member.generation = self.generation;
            member.revoking.clone_from(&revoked);
            return (Some((Rebalance::Revoked(revoked), self.generation)), released);
        }
        if member.leaving {
            self.members.remove(&id);
            return (None, released);
        }
        let assigned: Vec<u32> =
            pairs().filter(|(_, (o, t))| o.is_none() && **t == Some(id)).map(|(partition, _)| partition).collect();
        for partition in &assigned {
            self.owners[*partition as usize] = Some(id);
        }
        member.seen = self.version;
        if assigned.is_empty() && member.generation == self.generation {
            return (None, released);
        }
        member.generation = self.generation;
        (Some((Rebalance::Assigned(assigned), self.generation)), released)
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
