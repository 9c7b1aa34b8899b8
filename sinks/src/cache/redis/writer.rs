//! Batches into Redis: totals and boards first, positions when all of them are acknowledged.

use super::scripts;
use super::session::{Ended, Met, Opened, Session};
use crate::batch::{Batch, Move};
use crate::row::CounterRow;
use crate::target::{Standing, StoredPosition, TargetError};
use hashbrown::{HashMap, HashSet};
use prometheus::IntCounter;
use redis::{Cmd, Pipeline, Value};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_cache::redis::{Keys, RedisAddress, RedisProgress, StoredPartition, slot_of, text};
use tally_model::{Ranking, TRUST_MS};
use tally_streams::log::TopicPartition;

/// Keys per script. A longer script would block other clients.
const SCRIPT_KEYS_MAX: usize = 100;
/// Keys and entries of boards on their way to one shard at a time.
const PIPELINE_KEYS_MAX: usize = 1_000;
/// A refill that took longer may have missed records that were compacted meanwhile: it continues to the end that the
/// topic has then.
const REFILL_AGE_MAX: Duration = Duration::from_millis(TRUST_MS as u64 / 2);

/// The sink's side of Redis.
pub struct Writer {
    address: RedisAddress,
    /// None before the start and after a failure.
    session: Option<Session>,
    /// The epoch of the last session; None before the first one.
    epoch: Option<u64>,
    met: Met,
    /// Partitions that are being filled from the start of their topic.
    refills: HashMap<TopicPartition, Refill>,
    /// The ends of the topics when the sink started, for partitions without a stored position.
    goals: HashMap<TopicPartition, u64>,
    /// Partitions whose stored position is that of a whole filling.
    whole: HashSet<TopicPartition>,
    refills_begun: IntCounter,
}

#[derive(Clone, Copy)]
struct Refill {
    until: u64,
    since: Instant,
}

impl From<Ended> for TargetError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Away(failure) => Self::Unavailable(failure.to_string()),
            Ended::Lost(reason) => Self::Lost(reason),
        }
    }
}

impl Writer {
    pub fn new(address: RedisAddress, refills_begun: IntCounter) -> Self {
        let (refills, goals, whole) = (HashMap::new(), HashMap::new(), HashSet::new());
        Self { address, session: None, epoch: None, met: Met::default(), refills, goals, whole, refills_begun }
    }

    /// The valid positions.
    pub async fn positions(&mut self, topics: &[Arc<str>]) -> Result<Vec<StoredPosition>, Ended> {
        let progress = match self.session.take() {
            Some(session) => self.progress(session).await?,
            None => None,
        };
        let stored = match progress {
            Some(progress) => progress.partitions,
            None => {
                let opened = Session::open(&self.address, &mut self.met).await?;
                let stored = opened.progress.partitions.clone();
                self.enter(opened);
                stored
            }
        };
        self.whole = stored.iter().filter(|(_, s)| s.refill_until.is_none()).map(|(p, _)| p.clone()).collect();
        let of_topics = stored.into_iter().filter(|(partition, _)| topics.contains(&partition.topic));
        let position = |(partition, stored): (TopicPartition, StoredPartition)| {
            let StoredPartition { next_offset, version, roots, .. } = stored;
            StoredPosition { partition, next_offset, roots, version }
        };
        Ok(of_topics.map(position).collect())
    }

    /// The progress of a session that is still valid; None otherwise.
    async fn progress(&mut self, mut session: Session) -> Result<Option<RedisProgress>, Ended> {
        match session.look(&[], true).await {
            Ok(_) => {}
            Err(Ended::Lost(_)) => return Ok(None),
            Err(away) => return Err(away),
        }
        let progress = RedisProgress::read(&session.shards, &session.keys).await?;
        let same = progress.epoch == Some(session.epoch);
        self.session = Some(session).filter(|_| same);
        Ok(Some(progress).filter(|_| same))
    }

    /// Partitions without a position that is whole are refilled up to these offsets.
    pub fn begin(&mut self, goals: &[(TopicPartition, u64)]) {
        self.goals = goals.iter().cloned().collect();
        let since = Instant::now();
        let refilled = self.goals.iter().filter(|(partition, _)| !self.whole.contains(*partition));
        self.refills =
            refilled.map(|(partition, until)| (partition.clone(), Refill { until: *until, since })).collect();
    }

    /// Whether Redis answers. The next read of the positions detects data that it has lost meanwhile.
    pub async fn probe(&mut self) -> Result<(), TargetError> {
        match self.session().await {
            Ok(session) => self.session = Some(session),
            Err(TargetError::Lost(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
        match self.check().await {
            Err(TargetError::Lost(_)) => Ok(()),
            checked => checked,
        }
    }

    /// Whether the session is still valid.
    pub async fn check(&mut self) -> Result<(), TargetError> {
        // Before the first session nothing was claimed.
        if self.epoch.is_none() {
            return Ok(());
        }
        let mut session = self.session().await?;
        session.look(&[], true).await?;
        self.session = Some(session);
        Ok(())
    }

    /// Writes a batch. The session is kept only after success: after a failure, the outcome of commands in flight and
    /// the masters of the connections are unknown.
    pub async fn write(&mut self, batch: &Batch) -> Result<(), TargetError> {
        let mut session = self.session().await?;
        let fields: Vec<String> = batch.positions.iter().map(|step| step.partition.to_string()).collect();
        let found = session.look(&fields, false).await?;
        let found: Vec<_> = found.into_iter().map(|stored| stored.as_ref().map(standing)).collect();
        if let Some((step, found)) = batch.positions.iter().zip(&found).find(|(step, found)| step.expected != **found) {
            let error = moved(step, *found);
            self.session = Some(session);
            return Err(error);
        }
        let mut expected = found;
        if batch
            .positions
            .iter()
            .any(|step| step.expected.is_some_and(|expected| step.next_offset < expected.next_offset))
        {
            // Another log: its versions start low and would be refused by the guard within the same epoch.
            session = self.begin_again(session).await?;
            expected.fill(None);
        }
        self.write_rows(&session, batch).await?;
        let finished_late = self.write_positions(&session, batch, &fields, &expected).await?;
        self.session = Some(session);
        match finished_late {
            Some(partition) => {
                Err(TargetError::Lost(format!("{partition}: the refill took long and goes on to the end")))
            }
            None => Ok(()),
        }
    }

    async fn session(&mut self) -> Result<Session, TargetError> {
        if let Some(session) = self.session.take() {
            return Ok(session);
        }
        if let Some(epoch) = self.epoch {
            return Ok(Session::reopen(&self.address, &mut self.met, epoch).await?);
        }
        let opened = Session::open(&self.address, &mut self.met).await?;
        self.enter(opened);
        self.session.take().ok_or_else(|| TargetError::Unavailable("redis: no session".into()))
    }

    fn enter(&mut self, opened: Opened) {
        let Opened { session, begun, .. } = opened;
        if let Some(reason) = begun {
            tracing::warn!(epoch = session.epoch, redis = %self.address, "Redis is filled from the start: {reason}");
            self.refills_begun.inc();
        }
        self.met.seen = self.met.seen.max(session.epoch);
        self.epoch = Some(session.epoch);
        self.session = Some(session);
    }

    async fn begin_again(&mut self, session: Session) -> Result<Session, TargetError> {
        let opened = session.begin_again("a position moved back: the log was replaced").await?;
        self.whole.clear();
        let goals: Vec<_> = self.goals.drain().collect();
        self.begin(&goals);
        self.enter(opened);
        self.session().await
    }

    /// Every row is acknowledged when this returns, by a shard that had its marker afterwards.
    async fn write_rows(&mut self, session: &Session, batch: &Batch) -> Result<(), TargetError> {
        let mut of_shard = vec![Vec::new(); session.shards.len()];
        let totals = totals(session, batch.counters.rows());
        for (shard, keys, command) in totals.into_iter().chain(boards(session, batch.rankings.rows())) {
            of_shard[shard].push((keys, command));
        }
        let mut of_shard: Vec<_> = of_shard.into_iter().map(|commands| commands.into_iter().peekable()).collect();
        while of_shard.iter_mut().any(|commands| commands.peek().is_some()) {
            let mut pipelines = Vec::with_capacity(of_shard.len());
            let mut scripts = Vec::with_capacity(of_shard.len());
            for (shard, commands) in of_shard.iter_mut().enumerate() {
                let (mut pipeline, mut keys) = (Pipeline::new(), 0);
                while let Some((of_command, command)) = commands.next_if(|_| keys < PIPELINE_KEYS_MAX) {
                    keys += of_command;
                    pipeline.add_command(command);
                }
                scripts.push(pipeline.len());
                if !pipeline.is_empty() {
                    session.ask_markers(shard, &mut pipeline);
                }
                pipelines.push(pipeline);
            }
            let answers = session.ask_each(pipelines).await?;
            for (shard, (mut answers, scripts)) in
                answers.into_iter().zip(scripts).enumerate().filter(|(_, (_, n))| *n > 0)
            {
                self.check_epochs(session, answers.by_ref().take(scripts))?;
                session.check_markers(shard, &mut answers)?;
            }
        }
        Ok(())
    }

    fn check_epochs(&mut self, session: &Session, answers: impl Iterator<Item = Value>) -> Result<(), TargetError> {
        let epochs = answers.filter_map(|answer| text(&answer)?.parse::<u64>().ok());
        self.met.seen = epochs.fold(self.met.seen, u64::max);
        if self.met.seen > session.epoch {
            return Err(TargetError::Lost(format!("redis: there are rows of epoch {}, which is later", self.met.seen)));
        }
        Ok(())
    }

    /// Returns the partition that has reached the end of its refill too late to trust it, if any.
    async fn write_positions(
        &mut self,
        session: &Session,
        batch: &Batch,
        fields: &[String],
        expected: &[Option<Standing>],
    ) -> Result<Option<TopicPartition>, TargetError> {
        if batch.positions.is_empty() {
            return Ok(None);
        }
        let mut finished_late = None;
        let mut values = Vec::with_capacity(batch.positions.len());
        for step in &batch.positions {
            let refill = self.refills.get(&step.partition);
            let reached = refill.is_some_and(|refill| step.next_offset >= refill.until);
            let late = refill.is_some_and(|refill| refill.since.elapsed() > REFILL_AGE_MAX);
            if reached && late {
                finished_late = Some(step.partition.clone());
            }
            let refill_until = refill.filter(|_| !reached || late).map(|refill| refill.until);
            let Move { next_offset, version, ref roots, .. } = *step;
            values.push(StoredPartition { next_offset, version, refill_until, roots: roots.clone() });
        }
        let steps = fields.iter().zip(expected).zip(&values).map(|((f, e), v)| (f.as_str(), *e, v.to_json()));
        let command = scripts::move_positions(&session.keys.progress(), session.epoch, steps);
        let answer = session.ask_progress(command).await.map_err(Ended::from)?;
        let Value::Array(answer) = answer else {
            return Err(TargetError::Unavailable("redis: the script of the positions gave no answer".into()));
        };
        if let [field, found] = &answer[..] {
            let (field, found) = (text(field), text(found).and_then(|found| scripts::found(&found)));
            let step = batch.positions.iter().zip(fields).find(|(_, known)| Some(*known) == field.as_ref());
            return Err(match step {
                Some((step, _)) => moved(step, found),
                None => TargetError::Lost("redis: another sink has begun to refill it".into()),
            });
        }
        for (step, value) in batch.positions.iter().zip(values) {
            if value.refill_until.is_none() {
                self.refills.remove(&step.partition);
                self.whole.insert(step.partition.clone());
            }
        }
        Ok(finished_late)
    }
}

fn standing(stored: &StoredPartition) -> Standing {
    Standing { next_offset: stored.next_offset, revision: stored.roots.revision() }
}

fn moved(step: &Move, found: Option<Standing>) -> TargetError {
    TargetError::Moved { partition: step.partition.clone(), expected: step.expected, found }
}

/// A script: its shard, how many keys and entries it has, the command.
type OfShard = (usize, usize, Cmd);

/// The scripts for these totals. All keys of one are of one slot; without a Cluster there is only one shard, and any keys
/// will do.
fn totals(session: &Session, rows: &[CounterRow]) -> Vec<OfShard> {
    let cluster = session.shards.is_cluster();
    let slot = |row: &CounterRow| if cluster { slot_of(&row.subject_id) } else { 0 };
    let mut rows: Vec<_> = rows.iter().map(|row| (slot(row), row)).collect();
    rows.sort_by_key(|(slot, _)| *slot);
    let script = |rows: &[(u16, &CounterRow)]| {
        let keys: Vec<String> = rows.iter().map(|(_, row)| session.keys.counters(&row.subject_id)).collect();
        let command = scripts::totals(session.epoch, &keys, rows.iter().map(|(_, row)| *row));
        (session.shards.of(rows[0].0), keys.len(), command)
    };
    let of_slots = rows.chunk_by(|(a, _), (b, _)| a == b);
    of_slots.flat_map(|rows| rows.chunks(SCRIPT_KEYS_MAX)).map(script).collect()
}

/// The scripts for these boards, one each.
fn boards(session: &Session, rankings: &[Ranking]) -> Vec<OfShard> {
    let script = |ranking: &Ranking| {
        let keys = [session.keys.board(&ranking.board), session.keys.ranking(&ranking.board)];
        let shard = session.shards.of(Keys::board_slot(&ranking.board));
        (shard, keys.len() + ranking.items.len(), scripts::board(session.epoch, &keys, ranking))
    };
    rankings.iter().map(script).collect()
}
