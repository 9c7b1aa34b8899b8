//! The consumer on Kafka: a client that is assigned by hand and read in batches, and beside it, once subscribed, a
//! member of the group.

use super::super::{Consumer, GroupMetadata, Headers, LogError, Polled, Record, TopicPartition};
use super::context::Quiet;
use super::lookup::{Lookup, Which};
use super::member::{Change, Member};
use super::native::{Message, Queue};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Messages taken from the client at once.
const BATCH: usize = 4096;
/// How often the group is polled, and positions behind control records are queried, while waiting for records.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// If nothing has arrived for this long, positions are compared with the log's bounds, at this interval.
const BOUNDS_AFTER: Duration = Duration::from_secs(1);
/// How often partitions without progress are checked. If one has records at two checks and none arrives, it is read
/// with a new client: a broker that had just restarted may have reported to the present client that the partition does
/// not exist, which the client caches for minutes.
const STALLS_EVERY: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct KafkaConsumer {
    lookup: Arc<Lookup>,
    group: String,
    member: Option<Member>,
    /// Messages taken from the client; those before `done` have been returned. Dropped before the client, which would
    /// otherwise wait for them forever.
    messages: Vec<Message>,
    done: usize,
    reader: Option<Reader>,
    /// By topic and partition.
    reads: HashMap<TopicPartition, u64>,
    /// Assigned, but not passed to the client yet: all are passed at once, so that none gets a head start.
    fresh: HashSet<TopicPartition>,
    /// When the last record arrived, and when positions were last compared with the log's bounds.
    came_at: Instant,
    checked_at: Instant,
    /// The position of each partition at the last check for stalls, and whether there was more to read.
    looked: HashMap<TopicPartition, (u64, bool)>,
    looked_at: Instant,
    positions_at: Option<Instant>,
    /// The partition of the borrowed batch.
    current: TopicPartition,
}

/// The client that reads.
struct Reader {
    // The queue is dropped first: it uses the client.
    queue: Queue<Quiet>,
    client: Arc<BaseConsumer<Quiet>>,
    /// Topics whose metadata it has.
    topics: HashSet<Arc<str>>,
    /// Partitions that it has read or reads.
    used: HashSet<TopicPartition>,
}

/// The result of a poll, as indices: the borrowed records are made at the end.
enum Found {
    Nothing,
    Change(Change),
    Records { from: usize, to: usize, next_offset: u64 },
}

impl KafkaConsumer {
    pub fn new(lookup: Arc<Lookup>, group: &str) -> Self {
        Self {
            lookup,
            group: group.to_owned(),
            member: None,
            reader: None,
            reads: HashMap::new(),
            fresh: HashSet::new(),
            came_at: Instant::now(),
            checked_at: Instant::now(),
            looked: HashMap::new(),
            looked_at: Instant::now(),
            messages: Vec::new(),
            done: 0,
            positions_at: None,
            current: TopicPartition::new("", 0),
        }
    }

    fn reader(&mut self) -> Result<&mut Reader, LogError> {
        if self.reader.is_none() {
            let config = self.lookup.options.reader(true);
            let client = config.create_with_context(Quiet::default()).map_err(fatal)?;
            let client: Arc<BaseConsumer<Quiet>> = Arc::new(client);
            self.reader = Some(Reader {
                queue: Queue::new(client.clone()),
                client,
                topics: HashSet::new(),
                used: HashSet::new(),
            });
        }
        self.reader.as_mut().ok_or_else(|| LogError::Fatal("no client".to_owned()))
    }

    /// Passes newly assigned partitions to the client.
    ///
    /// A client reads a partition once. If a partition is assigned again, librdkafka 2.12 sometimes loses its first
    /// records (the version barrier of the former assignment overtakes it), so reading continues with a new client.
    fn tell_client(&mut self) -> Result<(), LogError> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        if self.reader.as_ref().is_some_and(|reader| self.fresh.iter().any(|at| reader.used.contains(at))) {
            self.drop_reader();
        }
        let fresh: Vec<_> = self.fresh.iter().cloned().collect();
        let mut list = TopicPartitionList::with_capacity(fresh.len());
        for at in &fresh {
            self.introduce(at)?;
            let position = self.reads.get(at).copied().unwrap_or_default();
            let offset = Offset::Offset(position as i64);
            list.add_partition_offset(&at.topic, at.partition as i32, offset).map_err(fatal)?;
            let name = CString::new(&*at.topic).map_err(|_| LogError::UnknownTopic(at.to_string()))?;
            self.reader()?.queue.forward(&name, at.partition);
        }
        let reader = self.reader()?;
        reader.client.incremental_assign(&list).map_err(fatal)?;
        reader.used.extend(fresh);
        self.fresh.clear();
        self.came_at = Instant::now();
        Ok(())
    }

    /// Continues all reading with a new client, from the present positions.
    fn drop_reader(&mut self) {
        self.messages.clear();
        self.done = 0;
        if let Some(reader) = self.reader.take() {
            // Closing takes as long as its requests in flight.
            std::thread::spawn(move || drop(reader));
        }
        self.fresh = self.reads.keys().cloned().collect();
    }

    /// Loads a topic's metadata into the reading client. Without it, a partition would be read only once the client
    /// happens to learn of the topic.
    fn introduce(&mut self, at: &TopicPartition) -> Result<(), LogError> {
        let lookup = self.lookup.clone();
        let reader = self.reader()?;
        if reader.topics.contains(&at.topic) {
            return Ok(());
        }
        lookup.ask(|left| {
            let metadata = reader.client.fetch_metadata(Some(&at.topic), left)?;
            let known = metadata.topics().iter().any(|topic| topic.partitions().len() > at.partition as usize);
            known.then_some(()).ok_or(KafkaError::MetadataFetch(Code::LeaderNotAvailable))
        })?;
        reader.topics.insert(at.topic.clone());
        Ok(())
    }

    /// Compares the positions with the log's bounds if nothing has arrived for a while: the client does not always
    /// report a position outside of them.
    fn check_bounds(&mut self) -> Result<(), LogError> {
        let now = Instant::now();
        if now < self.came_at + BOUNDS_AFTER || now < self.checked_at + BOUNDS_AFTER {
            return Ok(());
        }
        self.checked_at = now;
        let of: Vec<_> = self.reads.keys().cloned().collect();
        let starts = self.lookup.offsets(&of, Which::Start)?;
        let ends = self.lookup.offsets(&of, Which::WrittenEnd)?;
        for ((at, start), end) in of.iter().zip(starts).zip(ends) {
            let position = self.reads.get(at).copied().unwrap_or_default();
            if position < start || position > end {
                return Err(self.out_of_range(at, position)?);
            }
        }
        Ok(())
    }

    /// Called if the client returns nothing. See [`STALLS_EVERY`].
    fn check_stalls(&mut self) -> Result<(), LogError> {
        let now = Instant::now();
        if now < self.looked_at + STALLS_EVERY {
            return Ok(());
        }
        self.looked_at = now;
        let before = std::mem::take(&mut self.looked);
        let of: Vec<_> = self.reads.keys().cloned().collect();
        let ends = self.lookup.offsets(&of, Which::CommittedEnd)?;
        let mut stalled = None;
        for (at, end) in of.into_iter().zip(ends) {
            let position = self.reads.get(&at).copied().unwrap_or_default();
            let behind = position < end;
            if behind && before.get(&at) == Some(&(position, true)) {
                stalled = Some(at.clone());
            }
            self.looked.insert(at, (position, behind));
        }
        if let Some(at) = stalled {
            tracing::warn!(partition = %at, "the client returns no records although there are some; replacing it");
            self.looked.clear();
            self.drop_reader();
            self.tell_client()?;
        }
        Ok(())
    }

    fn out_of_range(&self, at: &TopicPartition, offset: u64) -> Result<LogError, LogError> {
        let start = self.lookup.offsets(std::slice::from_ref(at), Which::Start)?[0];
        let end = self.lookup.offsets(std::slice::from_ref(at), Which::CommittedEnd)?[0];
        Ok(LogError::OutOfRange { partition: at.clone(), offset, start, end })
    }

    fn find(&mut self, timeout: Duration) -> Result<Found, LogError> {
        self.tell_client()?;
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(change) = self.member.as_mut().map(Member::poll).transpose()?.flatten() {
                return Ok(Found::Change(change));
            }
            if let Some(found) = self.buffered()? {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = left.min(LOOK_EVERY);
            let Some(reader) = self.reader.as_mut() else {
                if left.is_zero() {
                    return Ok(Found::Nothing);
                }
                std::thread::sleep(wait.min(Duration::from_millis(5)));
                continue;
            };
            self.messages.clear();
            self.done = 0;
            reader.queue.poll(wait, BATCH, &mut self.messages);
            if !self.messages.is_empty() {
                self.came_at = Instant::now();
                continue;
            }
            // Events of the client itself; no other events arrive there.
            let _ = reader.client.poll(Duration::ZERO);
            if let Some(found) = self.step_over_control_records()? {
                return Ok(found);
            }
            self.check_bounds()?;
            self.check_stalls()?;
            if Instant::now() >= deadline {
                return Ok(Found::Nothing);
            }
        }
    }

    /// The next run of messages of one partition.
    fn buffered(&mut self) -> Result<Option<Found>, LogError> {
        while let Some(first) = self.messages.get(self.done) {
            let from = self.done;
            if let Some(error) = first.error() {
                self.done += 1;
                self.check(from, Code::from(error))?;
                continue;
            }
            let (topic, partition) = (first.topic(), first.partition());
            let same = |message: &&Message| {
                message.partition() == partition && message.error().is_none() && message.topic() == topic
            };
            let count = self.messages[from..].iter().take_while(same).count();
            self.done = from + count;
            let next_offset = self.messages[self.done - 1].offset() + 1;
            let known = |at: &TopicPartition| {
                at.partition as i32 == partition && at.topic.as_bytes() == self.messages[from].topic().to_bytes()
            };
            if !known(&self.current) {
                match self.reads.keys().find(|at| known(at)) {
                    Some(at) => self.current = at.clone(),
                    // Unassigned meanwhile.
                    None => continue,
                }
            }
            if let Some(position) = self.reads.get_mut(&self.current) {
                *position = next_offset;
                return Ok(Some(Found::Records { from, to: self.done, next_offset }));
            }
        }
        Ok(None)
    }

    /// The meaning of an error that arrived in place of a record.
    fn check(&self, index: usize, code: Code) -> Result<(), LogError> {
        let message = &self.messages[index];
        let is_it = |at: &&TopicPartition| {
            at.partition as i32 == message.partition() && at.topic.as_bytes() == message.topic().to_bytes()
        };
        let read = self.reads.iter().find(|(at, _)| is_it(at));
        match (code, read) {
            (Code::PartitionEOF, _) => Ok(()),
            (Code::AutoOffsetReset | Code::OffsetOutOfRange, Some((at, position))) => {
                Err(self.out_of_range(at, *position)?)
            }
            (Code::AutoOffsetReset | Code::OffsetOutOfRange, None) => Ok(()),
            (Code::TopicAuthorizationFailed, _) => {
                Err(LogError::Fatal(format!("reading {}: {code}", message.topic().to_string_lossy())))
            }
            // The client recovers by itself: a leader moved, or a broker is unavailable.
            _ => {
                tracing::debug!(%code, "a partition cannot be read at present");
                Ok(())
            }
        }
    }

    /// Control records and aborted records are not returned; if only such records follow, the position lags.
    fn step_over_control_records(&mut self) -> Result<Option<Found>, LogError> {
        let now = Instant::now();
        if self.positions_at.is_some_and(|at| now < at + LOOK_EVERY) {
            return Ok(None);
        }
        self.positions_at = Some(now);
        let Some(reader) = &self.reader else { return Ok(None) };
        let positions = reader.client.position().map_err(fatal)?;
        for element in positions.elements() {
            let Offset::Offset(position) = element.offset() else { continue };
            let at = TopicPartition::new(element.topic(), element.partition() as u32);
            if let Some(known) = self.reads.get_mut(&at).filter(|known| **known < position as u64) {
                *known = position as u64;
                let next_offset = *known;
                self.current = at;
                // Queried again immediately: there may be more partitions.
                self.positions_at = None;
                return Ok(Some(Found::Records { from: 0, to: 0, next_offset }));
            }
        }
        Ok(None)
    }

    /// Drops buffered messages of a partition: they belong to a former assignment.
    fn forget(&mut self, at: &TopicPartition) {
        let done = self.done;
        let mut index = 0;
        self.messages.retain(|message| {
            index += 1;
            let same = at.partition as i32 == message.partition() && at.topic.as_bytes() == message.topic().to_bytes();
            index > done && !same
        });
        self.done = 0;
    }
}

impl Consumer for KafkaConsumer {
    fn subscribe(&mut self, driver: &str, member: &str) -> Result<(), LogError> {
        self.member = None;
        self.member = Some(Member::join(&self.lookup, &self.group, driver, member)?);
        Ok(())
    }

    fn unsubscribe(&mut self) -> Result<(), LogError> {
        let reads: Vec<_> = self.reads.keys().cloned().collect();
        for at in reads {
            self.unassign(&at);
        }
        if let Some(member) = &mut self.member {
            member.unsubscribe();
        }
        Ok(())
    }

    fn assign(&mut self, partition: &TopicPartition, offset: u64) -> Result<(), LogError> {
        self.lookup.check(partition)?;
        self.unassign(partition);
        self.reads.insert(partition.clone(), offset);
        self.fresh.insert(partition.clone());
        Ok(())
    }

    fn unassign(&mut self, partition: &TopicPartition) {
        if self.reads.remove(partition).is_none() {
            return;
        }
        self.forget(partition);
        if self.fresh.remove(partition) {
            return;
        }
        if let (Some(reader), Ok(list)) = (&self.reader, one(partition, Offset::Invalid))
            && let Err(error) = reader.client.incremental_unassign(&list)
        {
            tracing::warn!(%partition, %error, "a partition could not be unassigned");
        }
    }

    fn poll(&mut self, timeout: Duration) -> Result<Polled<'_>, LogError> {
        Ok(match self.find(timeout)? {
            Found::Nothing => Polled::Nothing,
            Found::Change(Change::Assigned(partitions)) => Polled::Assigned(partitions),
            Found::Change(Change::Revoked { partitions, lost }) => Polled::Revoked { partitions, lost },
            Found::Records { from, to, next_offset } => {
                let records = self.messages[from..to].iter().map(|message| Ok(record(message)));
                Polled::Records { from: &self.current, records: Box::new(records), next_offset }
            }
        })
    }

    fn position(&self, partition: &TopicPartition) -> Option<u64> {
        self.reads.get(partition).copied()
    }

    fn group_metadata(&self) -> GroupMetadata {
        match &self.member {
            Some(member) => member.metadata(),
            None => GroupMetadata { group: self.group.clone(), ..GroupMetadata::default() },
        }
    }
}

#[inline]
fn record(message: &Message) -> Record<'_> {
    Record {
        offset: message.offset(),
        append_time_ms: message.time_ms(),
        key: message.key(),
        value: message.value(),
        headers: Headers::listed(message),
    }
}

fn one(at: &TopicPartition, offset: Offset) -> Result<TopicPartitionList, LogError> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(&at.topic, at.partition as i32, offset).map_err(fatal)?;
    Ok(list)
}

fn fatal(error: KafkaError) -> LogError {
    LogError::Fatal(error.to_string())
}
