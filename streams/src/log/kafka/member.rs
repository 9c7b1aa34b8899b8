//! Membership in a group, on a client of its own that reads nothing.
//!
//! Reading uses another client that is assigned by hand (see `consumer`), so a rebalance never affects reading, and
//! restoring never delays the group. Assignments are acknowledged with empty lists: the client fetches nothing, and the
//! assignment is kept here.
//!
//! If the broker gives a member's name to another, that need not be another process: a delayed request to join, of this
//! client or of a dead process, may arrive late and have the same effect. So a member joins again, and gives up only if
//! it loses its name repeatedly. Of two processes with one name, the older gives up first.

use super::super::{GroupMetadata, LogError};
use super::context;
use super::lookup::Lookup;
use super::native;
use super::orphans::Orphans;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaRespErr;
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// How long a dropped member may take to leave its group.
const GOODBYE: Duration = Duration::from_secs(2);
/// A member whose name another took joins again after this time, and gives up at the fifth loss within a minute.
const REJOIN_AFTER: Duration = Duration::from_secs(2);
const LOSSES_MAX: usize = 5;
const LOSSES_WITHIN: Duration = Duration::from_secs(60);

/// After a restart of the broker, a client was observed to rejoin without a callback, and the broker refused every
/// commit under the membership reported last. So the two are compared this often, and if they have differed for this
/// long the member starts over. A member that has not been assigned anything since it joined has nothing to compare: a
/// group may take longer than this to let it in, and one that begins again each time would never be let in.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const STALE_AFTER: Duration = Duration::from_secs(10);

/// A change of the assignment.
pub(super) enum Change {
    Assigned(Vec<u32>),
    Revoked { partitions: Vec<u32>, lost: bool },
}

/// See the module.
pub(super) struct Member {
    lookup: Arc<Lookup>,
    group: String,
    driver: String,
    name: String,
    /// How often it has taken a new name. See [`Orphans`].
    renamed: u32,
    orphans: Orphans,
    /// None between the loss of the name and the next try.
    client: Option<BaseConsumer<Rebalances>>,
    /// When the name was lost, lately.
    losses: VecDeque<Instant>,
    /// When the last client was given up. The next one comes [`REJOIN_AFTER`] later, and at once if the name is another.
    gave_up_at: Option<Instant>,
    /// Ours, from `Assigned` until `Revoked`.
    owned: BTreeSet<u32>,
    /// A revocation was returned and is not confirmed yet.
    revoking: bool,
    /// As of the last change of the assignment; None where there was none then.
    membership: Option<GroupMetadata>,
    /// When the client's membership was last read, and since when it differs from the one returned.
    looked_at: Instant,
    stale_since: Option<Instant>,
    leaving: bool,
}

struct Rebalances {
    group: String,
    queue: Mutex<VecDeque<(Change, Option<GroupMetadata>)>>,
    /// An error that ends the membership.
    failed: Mutex<Option<(Code, String)>>,
    /// Revocations are no longer acknowledged: see [`close`].
    closing: AtomicBool,
}

impl ClientContext for Rebalances {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        context::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code().filter(|code| ends_membership(*code)) {
            *lock(&self.failed) = Some((code, reason.to_owned()));
        }
        context::report(&error, reason);
    }
}

fn ends_membership(code: Code) -> bool {
    use Code::{Fatal, FencedInstanceId, GroupAuthorizationFailed, InvalidSessionTimeout, TopicAuthorizationFailed};
    matches!(
        code,
        Fatal | FencedInstanceId | GroupAuthorizationFailed | TopicAuthorizationFailed | InvalidSessionTimeout
    )
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ConsumerContext for Rebalances {
    fn rebalance(&self, client: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = list.elements().iter().filter_map(|element| u32::try_from(element.partition()).ok()).collect();
        let metadata = native::membership(client, &self.group);
        let change = match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let _ = client.incremental_assign(&TopicPartitionList::new());
                Change::Assigned(partitions)
            }
            _ if self.closing.load(Ordering::SeqCst) => {
                let _ = client.incremental_unassign(&TopicPartitionList::new());
                return;
            }
            // Confirmed at the poll after the one that returns it: until then they are ours and may be committed.
            _ => Change::Revoked { partitions, lost: client.assignment_lost() },
        };
        lock(&self.queue).push_back((change, metadata));
    }
}

fn connect(lookup: &Lookup, group: &str, driver: &str, name: &str) -> Result<BaseConsumer<Rebalances>, LogError> {
    let (queue, failed, closing) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
    let context = Rebalances { group: group.to_owned(), queue, failed, closing };
    let fatal = |error: KafkaError| LogError::Fatal(format!("group `{group}`: {error}"));
    let client: BaseConsumer<Rebalances> =
        lookup.options.member(group, name).create_with_context(context).map_err(fatal)?;
    client.subscribe(&[driver]).map_err(fatal)?;
    Ok(client)
}

/// Closing waits until every revocation is acknowledged, including one that arrives meanwhile; without an
/// acknowledgement, forever. A client of librdkafka 2.12 occasionally does not close at all and is abandoned.
fn close(client: BaseConsumer<Rebalances>) {
    client.context().closing.store(true, Ordering::SeqCst);
    // One that was returned before and is not confirmed yet.
    let _ = client.incremental_unassign(&TopicPartitionList::new());
    let (closed, is_closed) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        drop(client);
        let _ = closed.send(());
    });
    if is_closed.recv_timeout(GOODBYE).is_err() {
        tracing::warn!("a member's client does not close; it is left behind");
    }
}

impl Member {
    /// Joins the group for partitions of `driver`.
    pub fn join(lookup: &Arc<Lookup>, group: &str, driver: &str, name: &str) -> Result<Self, LogError> {
        lookup.partitions(driver)?;
        Ok(Self {
            lookup: lookup.clone(),
            group: group.to_owned(),
            driver: driver.to_owned(),
            name: name.to_owned(),
            renamed: 0,
            orphans: Orphans::new(),
            client: Some(connect(lookup, group, driver, name)?),
            losses: VecDeque::new(),
            gave_up_at: None,
            owned: BTreeSet::new(),
            revoking: false,
            membership: None,
            looked_at: Instant::now(),
            stale_since: None,
            leaving: false,
        })
    }

    /// The changes since the last call, one by one. Does not wait.
    pub fn poll(&mut self) -> Result<Option<Change>, LogError> {
        let Some(client) = &self.client else {
            if !self.leaving && self.gave_up_at.is_none_or(|gave_up_at| gave_up_at.elapsed() >= REJOIN_AFTER) {
                self.client = Some(connect(&self.lookup, &self.group, &self.driver, &self.present_name())?);
            }
            return Ok(None);
        };
        if std::mem::take(&mut self.revoking) {
            // Only now are they free for others.
            let answered = client.incremental_unassign(&TopicPartitionList::new());
            answered.map_err(|e| LogError::Fatal(format!("group `{}`: {e}", self.group)))?;
        }
        if lock(&client.context().queue).is_empty() {
            // Nothing is assigned, so all that comes are events, and errors of partitions that do not matter here.
            let _ = client.poll(Duration::ZERO);
        }
        let failed = lock(&client.context().failed).take();
        if let Some((code, reason)) = failed {
            let code = client.client().fatal_error().map_or(code, |(code, _)| code);
            return match code {
                Code::FencedInstanceId => self.lose_name().map(Some),
                _ => Err(LogError::Fatal(format!("group `{}`: {reason}", self.group))),
            };
        }
        let Some((change, membership)) = lock(&client.context().queue).pop_front() else {
            if self.is_stale() {
                let group = self.group.as_str();
                // That is no other process, so it may happen any number of times.
                tracing::warn!(
                    group,
                    member = self.name,
                    "the membership is another than the group reported; joining again"
                );
                self.gave_up_at = Some(Instant::now());
                return Ok(Some(self.join_again()));
            }
            let group = self.group.as_str();
            if self.orphans.are_found(&self.lookup, group, &self.driver, self.owned.len()) {
                tracing::warn!(group, member = self.name, "some partitions have no owner; joining again for them");
                (self.renamed, self.gave_up_at) = (self.renamed + 1, None);
                return Ok(Some(self.join_again()));
            }
            return Ok(None);
        };
        self.membership = membership;
        Ok(Some(match change {
            // The session ended before the poll, so they may be another's already. The client reports that next.
            Change::Assigned(_) if self.membership.is_none() => return Ok(None),
            Change::Assigned(partitions) => {
                let fresh: Vec<_> = partitions.into_iter().filter(|partition| self.owned.insert(*partition)).collect();
                Change::Assigned(fresh)
            }
            Change::Revoked { partitions, lost } => {
                self.revoking = true;
                let ours: Vec<_> = partitions.into_iter().filter(|partition| self.owned.remove(partition)).collect();
                Change::Revoked { partitions: ours, lost }
            }
        }))
    }

    /// See [`STALE_AFTER`]. Called when everything that the group reported is acknowledged.
    fn is_stale(&mut self) -> bool {
        let now = Instant::now();
        let Some(client) = self.client.as_ref().filter(|_| now >= self.looked_at + LOOK_EVERY) else { return false };
        self.looked_at = now;
        let differs = self.membership.is_some() && native::membership(client, &self.group) != self.membership;
        let since = self.stale_since.take().filter(|_| differs).or(differs.then_some(now));
        self.stale_since = since;
        since.is_some_and(|since| now >= since + STALE_AFTER)
    }

    /// Another has the name: joins again, unless that has happened too often. See the module.
    fn lose_name(&mut self) -> Result<Change, LogError> {
        let group = self.group.as_str();
        let now = Instant::now();
        self.losses.push_back(now);
        self.losses.retain(|lost_at| lost_at.elapsed() < LOSSES_WITHIN);
        if self.losses.len() >= LOSSES_MAX {
            return Err(LogError::Fatal(format!(
                "group `{group}`: another process has joined under this member's name: give each process a state \
                 directory of its own (--state), never a copy of another's"
            )));
        }
        tracing::warn!(group, member = self.name, "the member's name was given to another; joining again");
        self.gave_up_at = Some(now);
        Ok(self.join_again())
    }

    /// Reports everything as lost. The next client joins under a membership of its own.
    fn join_again(&mut self) -> Change {
        if let Some(client) = self.client.take() {
            // Closing takes as long as its requests under way.
            std::thread::spawn(move || close(client));
        }
        (self.revoking, self.membership, self.stale_since) = (false, None, None);
        Change::Revoked { partitions: std::mem::take(&mut self.owned).into_iter().collect(), lost: true }
    }

    /// A name that the group does not know triggers a full rebalance.
    fn present_name(&self) -> String {
        match self.renamed {
            0 => self.name.clone(),
            times => format!("{}-{times}", self.name),
        }
    }

    /// Leaves: `poll` until the partitions are revoked, and once more.
    pub fn unsubscribe(&mut self) {
        let leaving = std::mem::replace(&mut self.leaving, true);
        if let Some(client) = self.client.as_ref().filter(|_| !leaving) {
            client.unsubscribe();
        }
    }

    /// The membership as of the last rebalance, never the client's present one: a broker accepts offsets of any
    /// partition from any current member, so two owners of a partition could both commit. If there was none, it is an
    /// invalid one, which the broker refuses; it would not check offsets without a member name at all.
    pub fn metadata(&self) -> GroupMetadata {
        let none = || GroupMetadata { group: self.group.clone(), generation: -1, member: "nobody".to_owned() };
        self.membership.clone().unwrap_or_else(none)
    }
}

impl Drop for Member {
    /// A static member that is just dropped would keep its partitions until its session ends.
    fn drop(&mut self) {
        self.unsubscribe();
        let deadline = Instant::now() + GOODBYE;
        while (!self.owned.is_empty() || self.revoking) && Instant::now() < deadline {
            if self.poll().is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        if let Some(client) = self.client.take() {
            close(client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::KafkaOptions;
    use super::*;

    /// Of a broker that does not answer.
    fn member() -> Member {
        let options = KafkaOptions { patience: Duration::ZERO, ..KafkaOptions::new("127.0.0.1:1") };
        let lookup = Arc::new(Lookup::new(options).unwrap());
        let client = Some(connect(&lookup, "group", "topic", "name").unwrap());
        Member {
            lookup,
            group: "group".to_owned(),
            driver: "topic".to_owned(),
            name: "name".to_owned(),
            renamed: 0,
            orphans: Orphans::new(),
            client,
            losses: VecDeque::new(),
            gave_up_at: None,
            owned: BTreeSet::from([3]),
            revoking: false,
            membership: Some(GroupMetadata { group: "group".to_owned(), generation: 7, member: "id".to_owned() }),
            looked_at: long_ago(),
            stale_since: Some(long_ago()),
            leaving: false,
        }
    }

    fn long_ago() -> Instant {
        Instant::now().checked_sub(STALE_AFTER + LOOK_EVERY).expect("a machine that has run for a while")
    }

    #[test]
    fn a_group_that_takes_long_to_let_a_member_in_is_waited_for() {
        let mut member = member();
        let Ok(Some(Change::Revoked { partitions, lost: true })) = member.poll() else { panic!("it is not given up") };
        assert_eq!((partitions, member.metadata().generation), (vec![3], -1));
        for _ in 0..2 * LOSSES_MAX {
            member.gave_up_at = Some(long_ago());
            assert!(matches!(member.poll(), Ok(None)));
            assert!(member.client.is_some(), "it does not join again");
            // The client has no membership yet. However long that takes, it goes on joining.
            (member.looked_at, member.stale_since) = (long_ago(), None);
            assert!(!member.is_stale() && member.stale_since.is_none());
        }
        assert!(member.losses.is_empty(), "nobody has its name");
    }

    #[test]
    fn a_member_that_loses_its_name_again_and_again_gives_up() {
        let mut member = member();
        for _ in 1..LOSSES_MAX {
            assert!(matches!(member.lose_name(), Ok(Change::Revoked { lost: true, .. })));
            assert!(matches!(member.poll(), Ok(None)) && member.client.is_none(), "it joins again at once");
        }
        assert!(member.lose_name().is_err());
    }
}
