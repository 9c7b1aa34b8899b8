//! The consumer of the embedded and the memory log.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::assignment::MemberId;
use super::batch::{BATCH_BYTES_MAX, BatchRecords, Head};
use super::group::{Rebalance, member_name};
use super::packing::unpacked;
use super::storage::{Frames, PartitionId, frame_len, frames, push_frame};
use super::view::{Bounds, Deadline, View};
use crate::log::{Consumer, GroupMetadata, LogError, Polled, Record, TopicPartition};

/// Bytes of one poll that several small batches may fill; a larger batch is returned alone.
const POLL_BYTES_MAX: usize = BATCH_BYTES_MAX;

/// See [`Consumer`].
pub(super) struct EngineConsumer {
    view: Arc<View>,
    group: String,
    member: Option<MemberId>,
    /// As of the last rebalance that `poll` returned.
    generation: i64,
    reads: Vec<Read>,
    /// Which of `reads` is polled first.
    turn: usize,
    buffer: Vec<u8>,
    /// Takes the place of the buffer where that has packed blocks.
    unpacked: Vec<u8>,
}

/// A partition being read.
struct Read {
    at: TopicPartition,
    id: PartitionId,
    position: u64,
}

/// The result of a poll.
enum Found {
    Nothing,
    Rebalance(Rebalance),
    /// Frames that were checked and unpacked are in the buffer.
    Records {
        /// Index into `reads`.
        read: usize,
        /// The offset at which reading was.
        from: u64,
        /// The length of the valid frames.
        len_bytes: usize,
    },
}

impl EngineConsumer {
    /// A consumer that is in no group yet.
    pub fn new(view: Arc<View>, group: &str) -> Self {
        Self {
            view,
            group: group.to_owned(),
            member: None,
            generation: 0,
            reads: Vec::new(),
            turn: 0,
            buffer: Vec::new(),
            unpacked: Vec::new(),
        }
    }

    fn find(&mut self, timeout: Duration) -> Result<Found, LogError> {
        let deadline = Deadline::after(timeout);
        loop {
            let seen = self.view.changes().count();
            if let Some(rebalance) = self.rebalance() {
                return Ok(Found::Rebalance(rebalance));
            }
            if let Some(found) = self.fetch()? {
                return Ok(found);
            }
            if !self.view.changes().wait(seen, deadline) {
                return Ok(Found::Nothing);
            }
        }
    }

    fn rebalance(&mut self) -> Option<Rebalance> {
        let member = self.member?;
        let (news, others) = self.view.groups().poll(&self.group, member);
        if others {
            self.view.changes().raise();
        }
        let (rebalance, generation) = news?;
        self.generation = generation;
        Some(rebalance)
    }

    /// Reads from the next partition that has something.
    fn fetch(&mut self) -> Result<Option<Found>, LogError> {
        let Some((read, bounds)) = self.next_ready() else {
            return Ok(None);
        };
        self.turn = (read + 1) % self.reads.len();
        let Read { at, id, position } = &mut self.reads[read];
        check_position(at, *position, bounds)?;
        self.buffer.clear();
        self.view.storage.read(*id, *position, POLL_BYTES_MAX, &mut self.buffer)?;
        if frames(&self.buffer).next().is_none_or(|(base, _)| base > *position) {
            // Either a gap or records that were removed meanwhile; starts rise before records go.
            check_position(at, *position, self.view.bounds(at)?)?;
        }
        let (len_bytes, next) = take_frames(at, &mut self.buffer, &mut self.unpacked, *position, bounds.end)?;
        let from = std::mem::replace(position, next);
        Ok(Some(Found::Records { read, from, len_bytes }))
    }

    /// The next partition in turn whose position is not its end, and its bounds.
    fn next_ready(&self) -> Option<(usize, Bounds)> {
        let published = self.view.published();
        let (later, sooner) = self.reads.split_at(self.turn.min(self.reads.len()));
        let in_turn = (self.turn..).zip(sooner).chain((0..).zip(later));
        in_turn
            .map(|(i, read)| (i, read.position, published.bounds(read.id)))
            .find(|(_, position, bounds)| *position != bounds.end)
            .map(|(i, _, bounds)| (i, bounds))
    }

    fn leave(&mut self) {
        if let Some(member) = self.member.take() {
            self.view.groups().remove(&self.group, member);
            self.view.changes().raise();
        }
    }
}

fn check_position(at: &TopicPartition, position: u64, bounds: Bounds) -> Result<(), LogError> {
    if (bounds.start..=bounds.end).contains(&position) {
        return Ok(());
    }
    Err(LogError::OutOfRange { partition: at.clone(), offset: position, start: bounds.start, end: bounds.end })
}

/// Checks the batches below `end`, and unpacks them if need be: then `spare` and `buffer` change places. Returns how many
/// bytes of frames are good and the offset after them; fails where the first one is damaged.
fn take_frames(
    at: &TopicPartition,
    buffer: &mut Vec<u8>,
    spare: &mut Vec<u8>,
    position: u64,
    end: u64,
) -> Result<(usize, u64), LogError> {
    let (mut len_bytes, mut next, mut is_copied) = (0, position, false);
    for (base, value) in frames(buffer).take_while(|(base, _)| *base < end) {
        match unpacked(base, value) {
            Ok((head, value)) => {
                if matches!(value, Cow::Owned(_)) && !is_copied {
                    // Nothing before it was packed.
                    spare.clear();
                    spare.extend_from_slice(&buffer[..len_bytes]);
                    is_copied = true;
                }
                if is_copied {
                    push_frame(spare, base, &value);
                }
                len_bytes += frame_len(&value);
                next = head.end(base);
            }
            Err(detail) if len_bytes == 0 => {
                return Err(LogError::Corrupt { address: format!("{at} offset {base}"), detail: detail.to_owned() });
            }
            // What is before the damage is delivered first.
            Err(_) => break,
        }
    }
    match is_copied {
        true => std::mem::swap(buffer, spare),
        // Most consumers read old blocks only when they begin.
        false => *spare = Vec::new(),
    }
    if len_bytes == 0 {
        // Nothing is stored between the position and the end.
        next = end;
    }
    Ok((len_bytes, next.max(position)))
}

impl Consumer for EngineConsumer {
    fn subscribe(&mut self, driver: &str, _member: &str) -> Result<(), LogError> {
        let partitions = self.view.registry().topic(driver)?.partitions;
        self.leave();
        self.member = Some(self.view.groups().join(&self.group, driver, partitions)?);
        self.view.changes().raise();
        Ok(())
    }

    fn unsubscribe(&mut self) -> Result<(), LogError> {
        self.reads.clear();
        if let Some(member) = self.member {
            self.view.groups().unsubscribe(&self.group, member);
            self.view.changes().raise();
        }
        Ok(())
    }

    fn assign(&mut self, partition: &TopicPartition, offset: u64) -> Result<(), LogError> {
        match self.reads.iter_mut().find(|read| read.at == *partition) {
            Some(read) => read.position = offset,
            None => {
                let id = self.view.registry().id(partition)?;
                self.reads.push(Read { at: partition.clone(), id, position: offset });
            }
        }
        Ok(())
    }

    fn unassign(&mut self, partition: &TopicPartition) {
        self.reads.retain(|read| read.at != *partition);
    }

    fn poll(&mut self, timeout: Duration) -> Result<Polled<'_>, LogError> {
        Ok(match self.find(timeout)? {
            Found::Nothing => Polled::Nothing,
            Found::Rebalance(Rebalance::Assigned(partitions)) => Polled::Assigned(partitions),
            Found::Rebalance(Rebalance::Revoked(partitions)) => Polled::Revoked { partitions, lost: false },
            Found::Records { read, from, len_bytes } => {
                let Read { at, position, .. } = &self.reads[read];
                let records = FetchedRecords::new(at, &self.buffer[..len_bytes], from);
                Polled::Records { from: at, records: Box::new(records), next_offset: *position }
            }
        })
    }

    fn position(&self, partition: &TopicPartition) -> Option<u64> {
        self.reads.iter().find(|read| read.at == *partition).map(|read| read.position)
    }

    fn group_metadata(&self) -> GroupMetadata {
        let member = self.member.map(member_name).unwrap_or_default();
        GroupMetadata { group: self.group.clone(), generation: self.generation, member }
    }
}

impl Drop for EngineConsumer {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The records of one poll, decoded one by one.
struct FetchedRecords<'a> {
    at: &'a TopicPartition,
    frames: Frames<'a>,
    batch: Option<BatchRecords<'a>>,
    /// Records before belong to a batch that begins before the position.
    from: u64,
}

impl<'a> FetchedRecords<'a> {
    fn new(at: &'a TopicPartition, buffer: &'a [u8], from: u64) -> Self {
        Self { at, frames: frames(buffer), batch: None, from }
    }
}

impl<'a> Iterator for FetchedRecords<'a> {
    type Item = Result<Record<'a>, LogError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.batch.as_mut().and_then(Iterator::next) {
                Some(Ok(record)) if record.offset < self.from => {}
                Some(Ok(record)) => return Some(Ok(record.into())),
                Some(Err(offset)) => {
                    let detail = "a record cannot be decoded although the checksum matches".to_owned();
                    return Some(Err(LogError::Corrupt { address: format!("{} offset {offset}", self.at), detail }));
                }
                None => {
                    let (base, value) = self.frames.next()?;
                    let head = Head::decode(value)?;
                    self.batch = Some(BatchRecords::new(base, head, value));
                }
            }
        }
    }
}
