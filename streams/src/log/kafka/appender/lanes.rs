//! Records that wait until the batch before them has its response, and the requests that they belong to.

use super::super::native::{AppendProducer, AppendTopic};
use crate::log::{AppendedOffsets, Completion, LogError, OwnedRecord};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The records for a topic.
pub(super) struct Lanes {
    pub producer: Arc<AppendProducer<Request>>,
    pub topic: AppendTopic,
    pub by_partition: Vec<Mutex<Lane>>,
    pub load: Arc<Load>,
}

/// How much a client has to do. The numbers decide only when records are sent, so they may be a moment old.
#[derive(Default)]
pub(super) struct Load {
    /// Lanes with records in flight.
    pub lanes_under_way: AtomicUsize,
    /// Records that wait in lanes.
    pub records_waiting: AtomicUsize,
}

/// The records for a partition.
#[derive(Default)]
pub(super) struct Lane {
    /// Records that the producer has and that have no response yet.
    pub under_way: usize,
    /// They have their response, and the records that wait are about to be sent.
    pub gathers: bool,
    /// Records that wait, each with its request.
    pub waiting: Vec<(OwnedRecord, Arc<Request>)>,
}

impl Lane {
    /// Whether a record may be sent immediately.
    pub fn is_open(&self) -> bool {
        self.under_way == 0 && !self.gathers && self.waiting.is_empty()
    }
}

impl Lanes {
    pub fn lane(&self, partition: u32) -> Option<MutexGuard<'_, Lane>> {
        let lane = self.by_partition.get(partition as usize)?;
        Some(lane.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends records of one partition, immediately or once those in flight have their response.
    pub fn offer(&self, partition: u32, records: impl Iterator<Item = OwnedRecord>, request: &Arc<Request>) {
        let Some(mut lane) = self.lane(partition) else { return records.for_each(drop) };
        // The caller holds the request as well, so it does not complete under the lock.
        match lane.is_open() {
            true => records.for_each(|record| self.send(&mut lane, &record, request)),
            false => {
                let before = lane.waiting.len();
                lane.waiting.extend(records.map(|record| (record, request.clone())));
                self.load.records_waiting.fetch_add(lane.waiting.len() - before, Ordering::Relaxed);
            }
        }
    }

    fn send(&self, lane: &mut Lane, record: &OwnedRecord, request: &Arc<Request>) {
        match self.producer.send(&self.topic, record, request) {
            Ok(()) => {
                self.load.lanes_under_way.fetch_add(usize::from(lane.under_way == 0), Ordering::Relaxed);
                lane.under_way += 1;
            }
            // Records that were sent before this one may still arrive, so the outcome of the request is uncertain.
            Err(error) => request.pending().refuse(LogError::Uncertain(error.text)),
        }
    }

    fn take(&self, lane: &mut Lane) -> Vec<(OwnedRecord, Arc<Request>)> {
        self.load.records_waiting.fetch_sub(lane.waiting.len(), Ordering::Relaxed);
        std::mem::take(&mut lane.waiting)
    }

    /// Drops the records that wait, which fails their requests.
    pub fn clear(&self) {
        for partition in 0..self.by_partition.len() as u32 {
            // Dropped behind the lock: a completion may append more.
            let waiting = self.lane(partition).map(|mut lane| self.take(&mut lane));
            drop(waiting);
        }
    }

    /// Records in flight to a partition got their response. If that is an error, the waiting records would fail as well.
    /// Returns whether none is in flight any more; the lane then gathers until it is [released](Self::release).
    pub fn answered(&self, partition: u32, count: usize, error: Option<&LogError>) -> bool {
        // Dropped behind the lock: a completion may append more.
        let mut failed = Vec::new();
        let Some(mut lane) = self.lane(partition) else { return false };
        let before = lane.under_way;
        lane.under_way = before.saturating_sub(count);
        if let Some(error) = error {
            failed = self.take(&mut lane);
            failed.iter().for_each(|(_, request)| request.pending().refuse(error.clone()));
        }
        let gathers = lane.under_way == 0;
        self.load.lanes_under_way.fetch_sub(usize::from(gathers && before > 0), Ordering::Relaxed);
        lane.gathers |= gathers;
        drop(lane);
        drop(failed);
        gathers
    }

    /// Sends the records that wait.
    pub fn release(&self, partition: u32) {
        // Dropped behind the lock: a completion may append more.
        let waiting;
        let Some(mut lane) = self.lane(partition) else { return };
        lane.gathers = false;
        waiting = self.take(&mut lane);
        waiting.iter().for_each(|(record, request)| self.send(&mut lane, record, request));
    }
}

/// A request in flight. The delivery report of its last record drops it, which completes it.
pub(super) struct Request {
    pub lanes: Arc<Lanes>,
    pub pending: Mutex<Pending>,
}

impl Request {
    pub fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of a request. Dropping it completes the request, which has succeeded only if every record was delivered.
pub(super) struct Pending {
    pub done: Option<Completion>,
    /// Records whose delivery is not reported yet.
    pub missing: usize,
    /// The last offset by partition, ascending.
    pub last: AppendedOffsets,
    pub error: Option<LogError>,
    /// Its share of `queued_bytes`.
    pub bytes: usize,
    pub queued_bytes: Arc<AtomicUsize>,
}

impl Pending {
    pub fn delivered(&mut self, partition: u32, count: usize, offset: u64) {
        self.missing = self.missing.saturating_sub(count);
        match self.last.binary_search_by_key(&partition, |(known, _)| *known) {
            Ok(at) => self.last[at].1 = self.last[at].1.max(offset),
            Err(at) => self.last.insert(at, (partition, offset)),
        }
    }

    /// Notes an error. The first one is the request's.
    pub fn refuse(&mut self, error: LogError) {
        self.error.get_or_insert(error);
    }

    pub fn fail(mut self, error: LogError) {
        self.refuse(error);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.queued_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        let never_sent = || LogError::Uncertain("the client ended before everything was sent".to_owned());
        let error = self.error.take().or_else(|| (self.missing > 0).then(never_sent));
        if let Some(done) = self.done.take() {
            done(error.map_or_else(|| Ok(std::mem::take(&mut self.last)), Err));
        }
    }
}
