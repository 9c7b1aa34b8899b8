//! What keeps the caches of this process current where no sink fills them: threads that follow a topic.
//!
//! Of the topic of totals a cache takes in what comes for requested subjects. It begins at the end: what
//! was before, a load brings. See [`MemoryCache`] for how the two meet. Of the topic of boards a cache takes in all, from
//! the start: they are few, and their topic is compacted. A third one reads the topic of totals from the start as well and
//! keeps nothing but which subjects there are: no store is queried for others.

use super::followed::{Content, Followed};
use super::totals::Template;
use crate::metrics::ApiMetrics;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tally_cache::MemoryCache;
use tally_streams::log::{Consumer, Lag, Log, LogError, Now, Polled, Time, TopicPartition};

/// How long a poll waits for records; also how long a stop may go unnoticed.
const POLL: Duration = Duration::from_millis(100);
/// How long the feed rests after a failure of the log.
const REST: Duration = Duration::from_millis(500);
/// How often sizes and lags are measured.
const MEASURE_EVERY_MS: i64 = 2_000;
/// How long a mark may wait for a record before the end of the partition is queried.
const PROOF_AFTER_MS: i64 = 200;

/// The running thread. It ends when this is dropped.
pub struct Feed {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What follows a topic; [`Follower::poll_once`] moves it.
pub struct Follower {
    log: Arc<dyn Log>,
    cache: Arc<MemoryCache>,
    content: Content,
    partitions: Vec<Followed>,
    /// The internal topic in which tasks publish their progress.
    progress: Option<Arc<str>>,
    /// Since when a mark waits for a record, by the monotonic clock.
    doubts_since_ms: Option<i64>,
    /// None before the start and after a failure.
    consumer: Option<Box<dyn Consumer>>,
    /// What the log held when reading began, for those that are not there yet. A reader of the cache would go back in
    /// time before.
    goals: Vec<(TopicPartition, u64)>,
    /// By the monotonic clock.
    measured_at_ms: i64,
    clock_lag: Lag,
}

impl Feed {
    /// Follows all partitions of a topic on a thread of its own.
    pub fn spawn(name: &str, mut follower: Follower, metrics: ApiMetrics, clock: Time) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Err(error) = follower.poll_once(clock(), POLL) {
                    tracing::warn!("the in-process cache cannot be filled: {error}");
                    std::thread::park_timeout(REST);
                }
                follower.measure(&metrics, clock());
            }
        });
        Ok(Self { stop, thread: Some(thread?) })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic in it was reported, and the view is not served any more.
            let _ = thread.join();
        }
    }
}

impl Follower {
    /// One that has not started, of a topic of totals. The cache admits requested subjects.
    pub fn of_totals(
        log: Arc<dyn Log>,
        topic: &str,
        partitions: u32,
        cache: Arc<MemoryCache>,
        template: Arc<Template>,
    ) -> Self {
        Self::new(log, topic, partitions, cache, Content::Totals(template))
    }

    /// One that has not started, of a topic of boards. The cache admits all.
    pub fn of_boards(log: Arc<dyn Log>, topic: &str, partitions: u32, cache: Arc<MemoryCache>) -> Self {
        Self::new(log, topic, partitions, cache, Content::Boards)
    }

    /// One that has not started, of a topic of totals from its start. The cache remembers which subjects there are.
    pub fn of_subjects(log: Arc<dyn Log>, topic: &str, partitions: u32, cache: Arc<MemoryCache>) -> Self {
        Self::new(log, topic, partitions, cache, Content::Subjects)
    }

    fn new(log: Arc<dyn Log>, topic: &str, partitions: u32, cache: Arc<MemoryCache>, content: Content) -> Self {
        let topic: Arc<str> = topic.into();
        let followed = |number| Followed::new(TopicPartition::new(topic.clone(), number));
        let partitions = (0..partitions).map(followed).collect();
        Self {
            log,
            cache,
            content,
            partitions,
            progress: None,
            doubts_since_ms: None,
            consumer: None,
            goals: Vec::new(),
            measured_at_ms: i64::MIN,
            clock_lag: Lag::default(),
        }
    }

    /// With the internal topic in which tasks publish their progress, where there is one.
    pub fn with_progress(mut self, topic: Option<&str>) -> Self {
        self.progress = topic.map(Into::into);
        self
    }

    /// Reads what comes within `timeout`. After an error the cache is not served until this succeeds again.
    pub fn poll_once(&mut self, now: Now, timeout: Duration) -> Result<(), LogError> {
        let mut polled = self.advance(now, timeout);
        if let Err(LogError::OutOfRange { partition, .. }) = &polled
            && self.progress.as_ref() == Some(&partition.topic)
        {
            // What was replaced there is deleted, also in front of who reads slowly.
            polled = self.follow_progress();
        }
        if let Err(error) = &polled {
            self.cache.set_ready(false);
            self.consumer = None;
            if matches!(error, LogError::OutOfRange { .. }) {
                self.forget();
            }
        }
        polled
    }

    /// Another log, or one that has lost what was not read yet: nothing that is followed is complete any more.
    fn forget(&mut self) {
        self.cache.clear();
        for partition in &mut self.partitions {
            *partition = Followed::new(partition.address.clone());
        }
    }

    fn advance(&mut self, now: Now, timeout: Duration) -> Result<(), LogError> {
        if self.consumer.is_none() {
            self.start()?;
        }
        self.prove(now);
        let Some(consumer) = &mut self.consumer else { return Ok(()) };
        if let Polled::Records { from, records, next_offset } = consumer.poll(timeout)? {
            if self.progress.as_ref() == Some(&from.topic) {
                if let Some(partition) = self.partitions.get_mut(from.partition as usize) {
                    for record in records {
                        partition.hear(from, &record?)?;
                    }
                    partition.settle(&self.cache);
                }
                return Ok(());
            }
            let Some(partition) = self.partitions.get_mut(from.partition as usize) else { return Ok(()) };
            // Before any of them is passed over: see `MemoryCache`.
            self.cache.reaching(&partition.address, next_offset);
            // The end of the partition, queried after these records were read, at most once.
            let mut end = None;
            for record in records {
                let record = record?;
                if partition.is_behind(record.append_time_ms, now.wall_ms) && end.is_none() {
                    end = self.log.written_ends(std::slice::from_ref(&partition.address))?.first().copied();
                    partition.containment.distrust(end.unwrap_or_default());
                }
                partition.take(&self.cache, &self.content, &record)?;
            }
            partition.position = Some(next_offset);
            partition.containment.settle(next_offset);
            partition.publish(&self.cache);
        }
        self.step();
        let Some(consumer) = &self.consumer else { return Ok(()) };
        // Control records have no other way to be seen than by a position that moved.
        self.goals.retain(|(partition, goal)| consumer.position(partition).is_none_or(|position| position < *goal));
        self.cache.set_ready(self.goals.is_empty());
        Ok(())
    }

    /// Steps over what has no record, where a mark waits for that.
    fn step(&mut self) {
        let Some(consumer) = &self.consumer else { return };
        for partition in self.partitions.iter_mut().filter(|partition| partition.containment.waits()) {
            partition.position = partition.position.max(consumer.position(&partition.address));
            partition.settle(&self.cache);
        }
    }

    /// Where marks have waited for a record for a while, queries the ends of their partitions.
    fn prove(&mut self, now: Now) {
        if !self.partitions.iter().any(|partition| partition.containment.doubts()) {
            self.doubts_since_ms = None;
            return;
        }
        if now.since_ms(*self.doubts_since_ms.get_or_insert(now.monotonic_ms)) < PROOF_AFTER_MS {
            return;
        }
        self.doubts_since_ms = None;
        let doubtful = || self.partitions.iter().filter(|partition| partition.containment.doubts());
        let addresses: Vec<_> = doubtful().map(|partition| partition.address.clone()).collect();
        // Where the log does not answer, the next call tries again.
        let Ok(ends) = self.log.written_ends(&addresses) else { return };
        for (address, end) in addresses.iter().zip(ends) {
            self.partitions[address.partition as usize].containment.prove(end);
        }
    }

    fn start(&mut self) -> Result<(), LogError> {
        let mut consumer = self.log.consumer("api-feed")?;
        let mut positions = Vec::with_capacity(self.partitions.len());
        let mut goals = Vec::with_capacity(self.partitions.len());
        let addresses: Vec<_> = self.partitions.iter().map(|partition| partition.address.clone()).collect();
        let written_ends = self.log.written_ends(&addresses)?;
        for partition in &self.partitions {
            let (start, end) = self.log.bounds(&partition.address)?;
            let first = if matches!(self.content, Content::Totals(_)) { end } else { start };
            let position = partition.position.unwrap_or(first);
            if position < start || position > end {
                let partition = partition.address.clone();
                return Err(LogError::OutOfRange { partition, offset: position, start, end });
            }
            consumer.assign(&partition.address, position)?;
            positions.push(position);
            goals.push((partition.address.clone(), end));
        }
        for ((partition, position), written_end) in self.partitions.iter_mut().zip(positions).zip(written_ends) {
            self.cache.reaching(&partition.address, position);
            partition.position = Some(position);
            partition.containment.distrust(written_end);
        }
        self.goals = goals;
        self.consumer = Some(consumer);
        self.follow_progress()
    }

    /// Reads the internal topic from its start: it is small.
    fn follow_progress(&mut self) -> Result<(), LogError> {
        let (Some(topic), Some(consumer)) = (&self.progress, &mut self.consumer) else { return Ok(()) };
        // A task writes to the partitions that have its own number.
        for number in (0..self.log.partitions(topic)?).take(self.partitions.len()) {
            let address = TopicPartition::new(topic.clone(), number);
            consumer.assign(&address, self.log.bounds(&address)?.0)?;
        }
        Ok(())
    }

    fn measure(&mut self, metrics: &ApiMetrics, now: Now) {
        // The metrics are about subjects.
        let is_recent = now.since_ms(self.measured_at_ms) < MEASURE_EVERY_MS;
        if is_recent || !matches!(self.content, Content::Totals(_)) {
            return;
        }
        self.measured_at_ms = now.monotonic_ms;
        let (subjects, size_bytes) = self.cache.size();
        metrics.view_subjects.set(subjects as i64);
        metrics.view_size_bytes.set(size_bytes as i64);
        let addresses: Vec<_> = self.partitions.iter().map(|partition| partition.address.clone()).collect();
        // Where the log does not answer, the next poll reports it.
        if let Ok(ends) = self.log.ends(&addresses) {
            let behind = |(followed, end): (&Followed, u64)| followed.position.map_or(0, |at| end.saturating_sub(at));
            let lag: u64 = self.partitions.iter().zip(ends).map(behind).sum();
            metrics.view_lag_records.set(lag as i64);
        }
        let roots = self.partitions.iter().flat_map(|partition| partition.containment.roots().merged());
        if let Some(clock_ms) = roots.map(|root| root.clock_ms).filter(|clock_ms| *clock_ms > i64::MIN).min() {
            metrics.view_clock_lag_seconds.set(self.clock_lag.clock_ms(clock_ms, now) as f64 / 1_000.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_cache::{Admit, CacheLimits};
    use tally_model::{ProgressMark, Ranked, Ranking, RootPosition};
    use tally_streams::log::memory::MemoryLog;
    use tally_streams::log::{Cleanup, ProducerRecord, TopicSpec};

    fn write(log: &MemoryLog, board: &str, version: i64) {
        let items = vec![Ranked { subject_id: "a:1".into(), score: version }];
        let ranking = Ranking { board: board.into(), items, as_of_ms: version, version };
        let root = RootPosition { partition: 0, next_offset: version as u64, clock_ms: version };
        let mark = ProgressMark { task: "by-board/0".into(), generation: 0, roots: vec![root], version };
        let mut producer = log.producer("by-board/0").unwrap();
        for (key, value) in [
            (board.as_bytes().to_vec(), serde_json::to_vec(&ranking).unwrap()),
            (ProgressMark::key(&mark.task), serde_json::to_vec(&mark).unwrap()),
        ] {
            let (topic, key, value) = ("rankings", Some(key.as_slice()), Some(value.as_slice()));
            producer.send(ProducerRecord { topic, partition: 0, key, value, headers: &[] }).unwrap();
        }
        producer.commit().unwrap();
    }

    fn poll(follower: &mut Follower) {
        (0..10).for_each(|_| follower.poll_once(Now::both(0), Duration::ZERO).unwrap());
    }

    #[test]
    fn boards_are_read_from_the_start_and_again_where_the_log_has_lost_some() {
        let log = Arc::new(MemoryLog::new(Arc::new(|| 0)));
        let (name, cleanup) = ("rankings".to_owned(), Cleanup::Delete);
        log.ensure_topics(&[TopicSpec { name, partitions: 1, cleanup, retention: None }]).unwrap();
        let cache = MemoryCache::new(CacheLimits { size_bytes_max: 1 << 20 }, Admit::All);
        let partition = TopicPartition::new("rankings", 0);
        let versions =
            || cache.boards().iter().map(|ranking| (ranking.board.clone(), ranking.version)).collect::<Vec<_>>();
        let clock_ms = || cache.serving().unwrap().position(&partition).unwrap().clock_ms;
        for (board, version) in [("hot", 1), ("new", 2), ("hot", 3)] {
            write(&log, board, version);
        }
        let mut follower = Follower::of_boards(log.clone(), "rankings", 1, cache.clone());
        assert!(cache.serving().is_none(), "nothing was read yet");
        poll(&mut follower);
        assert_eq!((versions(), clock_ms()), (vec![("hot".into(), 3), ("new".into(), 2)], 3));
        // What it has not read is gone: so may be a board that no task writes any more.
        write(&log, "hot", 4);
        write(&log, "hot", 5);
        let end = log.bounds(&partition).unwrap().1;
        log.delete_records(&partition, end).unwrap();
        write(&log, "new", 6);
        while follower.poll_once(Now::both(0), Duration::ZERO).is_ok() {}
        assert!(cache.serving().is_none());
        poll(&mut follower);
        assert_eq!((versions(), clock_ms()), (vec![("new".into(), 6)], 6));
    }
}
