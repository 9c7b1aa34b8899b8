//! The log: what the runtime sees of Kafka.
//!
//! Topics of partitions, a consumer in a group, a transactional producer, committed offsets with metadata. Three
//! engines implement it: [`embedded`] (one process, one directory, durable), [`memory`] (its twin for tests) and Kafka.
//! One suite of contract tests (`contract`) runs against all of them.
//!
//! What every engine promises:
//! - A transaction's records and committed offsets become visible together or not at all; consumers see committed
//!   records only, in offset order. Offsets may have gaps.
//! - Append times are set by the log and never run backwards within a partition; in the embedded log and in its twin not
//!   within the whole log, also over restarts.
//! - Once a call that commits or appends says `Ok`, the data survives `kill -9`.
//! - A producer that takes over a transactional id fences the former holder: nothing the former sends afterwards
//!   becomes visible.

mod appender;
mod batch;
mod clock;
mod consumer;
#[cfg(feature = "testkit")]
pub mod contract;
pub mod embedded;
mod engine;
mod group;
mod handle;
pub mod kafka;
mod keys;
pub mod memory;
mod murmur2;
mod partition;
mod producer;
mod registry;
mod request;
mod retention;
mod storage;
mod topic;
mod varint;
mod view;
mod wall;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use clock::{Clock, Lag, Now, Time, system_clock};
pub use murmur2::{murmur2, partition_of};
pub use topic::{Cleanup, TopicSpec};
pub use wall::{Doubt, Reading, WallClock, WallLimits, last_records};

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// From 0.
    pub partition: u32,
}

impl TopicPartition {
    /// A partition of a topic.
    pub fn new(topic: impl Into<Arc<str>>, partition: u32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A name and bytes that travel with a record.
pub type Header<'a> = (&'a str, &'a [u8]);

/// A record as read. Borrowed from the consumer's buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    /// Its place in the partition.
    pub offset: u64,
    /// Milliseconds since 1970, set by the log when it took the record.
    pub append_time_ms: i64,
    /// None and empty differ.
    pub key: Option<&'a [u8]>,
    /// None is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// In the order they were written.
    pub headers: Headers<'a>,
}

/// The headers of a record, decoded on demand: most readers never look.
#[derive(Clone, Copy)]
pub struct Headers<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    /// A sequence of `name length: u8, name, value length: u16 LE, value`.
    Encoded(&'a [u8]),
    /// Kafka's.
    Native(kafka::NativeHeaders<'a>),
}

impl Default for Headers<'_> {
    fn default() -> Self {
        Self::encoded(&[])
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl PartialEq for Headers<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a> Headers<'a> {
    /// Headers out of the bytes that [`Headers::encode`] made.
    pub fn encoded(bytes: &'a [u8]) -> Self {
        Self(Source::Encoded(bytes))
    }

    /// Encodes headers. Names are at most 255 bytes and values at most 65,535: longer ones are cut.
    pub fn encode(headers: &[Header<'_>], out: &mut Vec<u8>) {
        for (name, value) in headers {
            let (name, value) = (&name.as_bytes()[..name.floor_char_boundary(255)], &value[..value.len().min(65_535)]);
            out.push(name.len() as u8);
            out.extend_from_slice(name);
            out.extend_from_slice(&(value.len() as u16).to_le_bytes());
            out.extend_from_slice(value);
        }
    }

    /// The first header of that name.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// All headers. Ends early where the bytes are damaged.
    pub fn iter(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let (mut source, mut index) = (self.0, 0..);
        std::iter::from_fn(move || match &mut source {
            Source::Encoded(rest) => decode_header(rest),
            Source::Native(headers) => headers.at(index.next()?),
        })
    }
}

/// Takes a header off encoded ones.
fn decode_header<'a>(rest: &mut &'a [u8]) -> Option<Header<'a>> {
    let (&n, tail) = rest.split_first()?;
    let (name, tail) = tail.split_at_checked(n as usize)?;
    let (len, tail) = tail.split_first_chunk::<2>()?;
    let (value, tail) = tail.split_at_checked(u16::from_le_bytes(*len) as usize)?;
    *rest = tail;
    Some((std::str::from_utf8(name).ok()?, value))
}

/// A record to be written.
#[derive(Clone, Copy, Debug)]
pub struct ProducerRecord<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition; the sender computes it ([`partition_of`]), the log never guesses.
    pub partition: u32,
    /// None and empty differ.
    pub key: Option<&'a [u8]>,
    /// None is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// See [`Headers`] for limits.
    pub headers: &'a [Header<'a>],
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
    /// Partitions of the driver topic taken from this member. The caller commits what is in flight, then polls again:
    /// that poll tells the group that they are free. `lost` means they are gone already: nothing may be committed for them.
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
    /// The membership as of the last rebalance that `poll` told of.
    fn group_metadata(&self) -> GroupMetadata;
}

/// Whether a producer can begin a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It can, since a moment ago: it has been replaced since the last transaction.
    Renewed,
    /// It is being replaced: ask again soon.
    Waiting,
}

/// Writes in transactions. Owned by one thread. Creating it fences the former holder of the id.
pub trait TransactionalProducer: Send {
    /// Whether a transaction can begin without waiting, or goes on. Does not wait itself; a call that begins a transaction
    /// all the same does.
    fn readiness(&mut self) -> Result<Readiness, LogError> {
        Ok(Readiness::Ready)
    }
    /// Adds a record to the open transaction (opens one where there is none). A record that is refused for what it is
    /// (`UnknownTopic`, too large) leaves the transaction as it was.
    fn send(&mut self, record: ProducerRecord<'_>) -> Result<(), LogError>;
    /// Adds committed offsets to the open transaction (opens one where there is none).
    fn send_offsets(
        &mut self,
        group: &GroupMetadata,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Result<(), LogError>;
    /// Makes the transaction durable and visible; without an open one, does nothing.
    /// After an error the transaction is gone: `abort` (a formality in some engines), then retry if the error allows.
    /// [`LogError::Uncertain`]: it is unknown whether it took effect; read the log.
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

/// Records on their way to [`Appender::append`], packed into one buffer.
#[derive(Default)]
pub struct AppendBatch {
    /// `(partition, encoded record)` in order; see [`AppendBatch::push`].
    pub records: Vec<OwnedRecord>,
}

/// A record that owns its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedRecord {
    /// The partition it goes to.
    pub partition: u32,
    /// None and empty differ.
    pub key: Option<bytes::Bytes>,
    /// None is a tombstone.
    pub value: Option<bytes::Bytes>,
    /// Encoded headers, see [`Headers`].
    pub headers: bytes::Bytes,
}

impl AppendBatch {
    /// Adds a record.
    pub fn push(&mut self, record: OwnedRecord) {
        self.records.push(record);
    }

    /// What the records take in a queue, about.
    pub fn len_bytes(&self) -> usize {
        let part = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
        self.records.iter().map(|r| 16 + part(&r.key) + part(&r.value) + r.headers.len()).sum()
    }
}

/// A log: a handle that is cheap to clone behind `Arc`.
pub trait Log: Send + Sync {
    /// Creates the topics that do not exist yet and verifies those that do: a different number of partitions or
    /// cleanup is [`LogError::Mismatch`].
    fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), LogError>;
    /// Number of partitions, or `UnknownTopic`.
    fn partitions(&self, topic: &str) -> Result<u32, LogError>;
    /// Those of these topics that do not exist now, or have another number of partitions: with that number. Never
    /// cached: topics can be deleted, and a cluster may recreate them by itself.
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
    /// The values between the ends of [`Log::bounds`] and [`Log::written_ends`]: of transactions that are open, or whose
    /// outcome has not reached the partition, or that were aborted. None where a log has no such thing.
    fn unsettled(&self, partitions: &[TopicPartition]) -> Result<Vec<(TopicPartition, Vec<u8>)>, LogError> {
        let _ = partitions;
        Ok(Vec::new())
    }
    /// What the group has committed. Open transactions do not count and are not waited for; what was committed a moment
    /// ago may not show yet.
    fn committed(&self, group: &str, partition: &TopicPartition) -> Result<Option<CommittedOffset>, LogError>;
    /// Forgets records below `before`; lower than the start or beyond the end is clamped.
    fn delete_records(&self, partition: &TopicPartition, before: u64) -> Result<(), LogError>;
    /// A consumer; `group` matters only to `subscribe`.
    fn consumer(&self, group: &str) -> Result<Box<dyn Consumer>, LogError>;
    /// A transactional producer; fences the present holder of the id.
    fn producer(&self, transactional_id: &str) -> Result<Box<dyn TransactionalProducer>, LogError>;
    /// An appender, for writes outside transactions.
    fn appender(&self) -> Result<Arc<dyn Appender>, LogError>;
}

/// What can go wrong, sorted by what the caller has to do about it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LogError {
    /// The transaction certainly had no effect: abort, return to the committed offsets, retry.
    #[error("the transaction was aborted: {0}")]
    Aborted(String),
    /// It is unknown whether it took effect: rebuild what depends on it from the log.
    #[error("the outcome is unknown: {0}")]
    Uncertain(String),
    /// Another producer holds this transactional id now: drop this one and the tasks that it wrote for.
    #[error("fenced: another producer took over `{0}`")]
    Fenced(String),
    /// The log does not answer at present, or not yet: try again later. Nothing was done.
    #[error("the log does not answer: {0}")]
    Unavailable(String),
    /// Too much is under way: try again later. Nothing was written.
    #[error("the log's queue is full")]
    Busy,
    /// No room on the disk: nothing was written; try again when there is room.
    #[error("no room: {0}")]
    Full(String),
    /// The offset is outside what the log keeps.
    #[error("{partition}: offset {offset} is outside {start}..={end}")]
    OutOfRange {
        /// Which partition.
        partition: TopicPartition,
        /// The offset asked for.
        offset: u64,
        /// The oldest offset kept.
        start: u64,
        /// The offset after the last record.
        end: u64,
    },
    /// No such topic or partition.
    #[error("no such topic or partition: {0}")]
    UnknownTopic(String),
    /// A topic exists and differs from what is asked.
    #[error("topic `{topic}` {detail}")]
    Mismatch {
        /// The topic.
        topic: String,
        /// What differs, and what to do.
        detail: String,
    },
    /// Bytes that do not check out.
    #[error("damaged data at {address}: {detail}")]
    Corrupt {
        /// Where: partition and offset, or a file.
        address: String,
        /// What is wrong.
        detail: String,
    },
    /// Anything that will not go away by itself.
    #[error("{0}")]
    Fatal(String),
}
