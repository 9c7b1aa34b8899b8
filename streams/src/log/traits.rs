//! The traits of an engine: [`Log`] and what it makes.

use super::error::LogError;
use super::record::{AppendBatch, ProducerRecord, Record, TopicPartition};
use super::space::Space;
use super::topic::TopicSpec;
use std::sync::Arc;
use std::time::Duration;

/// A log: a handle that is cheap to clone behind `Arc`.
pub trait Log: Send + Sync {
    /// Creates the topics that do not exist yet and verifies those that do: a different number of partitions or
    /// cleanup is [`LogError::Mismatch`].
    fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), LogError>;
    /// What [`Log::ensure_topics`] would refuse, without a change of the log: an error for each topic that is different.
    fn refusals(&self, topics: &[TopicSpec]) -> Result<Vec<LogError>, LogError>;
    /// Number of partitions, or `UnknownTopic`.
    fn partitions(&self, topic: &str) -> Result<u32, LogError>;
    /// Which of these topics do not exist now, or have another number of partitions, with that number. Never cached:
    /// topics can be deleted, and a cluster may recreate them by itself.
    fn altered_topics(&self, topics: &[TopicSpec]) -> Result<Vec<(String, Option<u32>)>, LogError> {
        let mut altered = Vec::new();
        for topic in topics {
            let found = match self.partitions(&topic.name) {
                Ok(found) => Some(found),
                Err(LogError::UnknownTopic(_)) => None,
                Err(error) => return Err(error),
            };
            if found != Some(topic.partitions) {
                altered.push((topic.name.clone(), found));
            }
        }
        Ok(altered)
    }
    /// `(start, end)`: the oldest offset kept, and the offset after the last committed record.
    fn bounds(&self, partition: &TopicPartition) -> Result<(u64, u64), LogError>;
    /// The ends of [`Log::bounds`] for many partitions at once, in their order. None of them was seen before the call.
    fn ends(&self, partitions: &[TopicPartition]) -> Result<Vec<u64>, LogError> {
        partitions.iter().map(|partition| self.bounds(partition).map(|(_, end)| end)).collect()
    }
    /// The offsets after everything written, open transactions included; at least the ends of [`Log::bounds`]. What a
    /// producer committed is below them once its `commit` has returned, even where readers do not see it yet.
    fn written_ends(&self, partitions: &[TopicPartition]) -> Result<Vec<u64>, LogError> {
        self.ends(partitions)
    }
    /// The values between the ends of [`Log::bounds`] and [`Log::written_ends`]: those of transactions that are open or
    /// aborted, or whose outcome has not reached the partition. None if the engine has no such values.
    fn unsettled(&self, partitions: &[TopicPartition]) -> Result<Vec<(TopicPartition, Vec<u8>)>, LogError> {
        let _ = partitions;
        Ok(Vec::new())
    }
    /// What the group has committed. Open transactions do not count and are not waited for; a commit of a moment ago
    /// may not be visible yet.
    fn committed(&self, group: &str, partition: &TopicPartition) -> Result<Option<CommittedOffset>, LogError>;
    /// What it takes on the disk of this machine. None for a log that is elsewhere.
    fn space(&self) -> Result<Option<Space>, LogError> {
        Ok(None)
    }
    /// Bytes that a partition takes in this process or on the disk of this machine. None for a log that is elsewhere.
    fn stored_bytes(&self, partition: &TopicPartition) -> Result<Option<u64>, LogError> {
        let _ = partition;
        Ok(None)
    }
    /// Deletes records below `before`; lower than the start or beyond the end is clamped.
    fn delete_records(&self, partition: &TopicPartition, before: u64) -> Result<(), LogError>;
    /// A consumer; `group` matters only to `subscribe`.
    fn consumer(&self, group: &str) -> Result<Box<dyn Consumer>, LogError>;
    /// A transactional producer; fences the present holder of the id.
    fn producer(&self, transactional_id: &str) -> Result<Box<dyn TransactionalProducer>, LogError>;
    /// An appender, for writes outside transactions.
    fn appender(&self) -> Result<Arc<dyn Appender>, LogError>;
}

/// What a group has committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: u64,
    /// What the committer wrote beside it: here the owner, the transactional id of the writer. At most 4,096 bytes.
    pub metadata: String,
}

/// The membership under which offsets are committed; a stale one makes the commit fail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMetadata {
    /// The group's id.
    pub group: String,
    /// Raised at every rebalance.
    pub generation: i64,
    /// The member's id within the group.
    pub member: String,
}

/// What a consumer's `poll` brought.
pub enum Polled<'a> {
    /// Nothing within the time-out.
    Nothing,
    /// Records of one partition, in offset order. `next_offset` is where reading goes on after the batch.
    Records {
        /// Where they come from.
        from: &'a TopicPartition,
        /// The records, borrowed until the next poll.
        records: Box<dyn Iterator<Item = Result<Record<'a>, LogError>> + 'a>,
        /// The offset after the last one (control records and gaps included).
        next_offset: u64,
    },
    /// Partitions of the driver topic given to this member. The caller assigns with [`Consumer::assign`] what it wants to read.
    /// Possibly none: then only the membership is new (any rebalance ends the generation before, for all members).
    Assigned(Vec<u32>),
    /// Partitions of the driver topic that are revoked from this member. The caller commits its open work, then polls
    /// again: that poll reports to the group that they are free. `lost` means they are gone already: nothing may be
    /// committed for them.
    Revoked {
        /// Partition numbers.
        partitions: Vec<u32>,
        /// Whether they already belong to another member.
        lost: bool,
    },
}

/// Reads committed records. Owned by one thread.
pub trait Consumer: Send {
    /// Joins the group named at creation and asks for partitions of `driver`; answers come from `poll`.
    /// `member` is a name that only this member has and that survives restarts: a member that returns under it in time
    /// gets its partitions back without a rebalance, and another holder of the name is fenced.
    fn subscribe(&mut self, driver: &str, member: &str) -> Result<(), LogError>;
    /// Stops all reading and leaves the group: `poll` until `Revoked` came, commit, and `poll` until `Nothing`; then drop.
    fn unsubscribe(&mut self) -> Result<(), LogError>;
    /// Starts (or, where it is read already, moves) reading a partition at an offset. An offset below the log's start
    /// or beyond its end makes a later poll fail with [`LogError::OutOfRange`].
    fn assign(&mut self, partition: &TopicPartition, offset: u64) -> Result<(), LogError>;
    /// Stops reading a partition; unknown ones are ignored.
    fn unassign(&mut self, partition: &TopicPartition);
    /// The next batch, rebalance, or nothing within `timeout`. Partitions with data take turns.
    fn poll(&mut self, timeout: Duration) -> Result<Polled<'_>, LogError>;
    /// Where reading of an assigned partition goes on.
    fn position(&self, partition: &TopicPartition) -> Option<u64>;
    /// The membership as of the last rebalance that `poll` returned.
    fn group_metadata(&self) -> GroupMetadata;
}

/// Whether a producer can begin a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// A transaction can begin.
    Ready,
    /// A transaction can begin; the producer was replaced since the last one.
    Renewed,
    /// The producer is being replaced: retry soon.
    Waiting,
}

/// Writes in transactions. Owned by one thread. Creating it fences the former holder of the id.
pub trait TransactionalProducer: Send {
    /// Whether a transaction is open or can begin without waiting. Does not wait itself; a call that begins a
    /// transaction earlier waits.
    fn readiness(&mut self) -> Result<Readiness, LogError> {
        Ok(Readiness::Ready)
    }
    /// Adds a record to the open transaction (opens one if there is none). A record that is rejected for its content
    /// (`UnknownTopic`, too large) leaves the transaction as it was.
    fn send(&mut self, record: ProducerRecord<'_>) -> Result<(), LogError>;
    /// Adds committed offsets to the open transaction (opens one if there is none).
    fn send_offsets(
        &mut self,
        group: &GroupMetadata,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Result<(), LogError>;
    /// Makes the transaction durable and visible; without an open one, does nothing. After an error the transaction is
    /// lost: `abort` (a formality in some engines), then retry if the error allows. [`LogError::Uncertain`]: it is
    /// unknown whether it took effect; read the log.
    fn commit(&mut self) -> Result<(), LogError>;
    /// Drops the open transaction.
    fn abort(&mut self) -> Result<(), LogError>;
}

/// Where an append ended: the last offset per partition, ascending by partition.
pub type AppendedOffsets = Vec<(u32, u64)>;

/// Called once when an append is durable or has failed. May run on any thread: it must not block.
pub type Completion = Box<dyn FnOnce(Result<AppendedOffsets, LogError>) + Send>;

/// Appends outside transactions, for the ingest API. Shared by all threads.
pub trait Appender: Send + Sync {
    /// Writes `records` to `topic`, each to its partition; calls `done` once with the outcome of all.
    /// Never blocks: where the queue is full it fails at once with [`LogError::Busy`] (through `done`).
    /// After a failure some of the records may have been written.
    fn append(&self, topic: &str, records: AppendBatch, done: Completion);
}
