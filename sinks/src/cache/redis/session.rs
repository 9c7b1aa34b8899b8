//! Connections under one epoch: the state that they found, and whether it is still valid.
//!
//! The invariant of this module: **while a position can be read under `tally:progress`, every shard has every record
//! below it.** Three events can break it, and each is detected:
//!
//! - A shard was emptied (FLUSHALL, or an empty one in its place): its marker is missing.
//! - A shard was replaced (a restart, a promoted replica, another node): run id or replication id differ. Its data may
//!   be older than what it acknowledged.
//! - Another sink detected a loss first: the epoch differs.
//!
//! Then all positions are deleted before anything else, and the topics are read again from their start.

use super::scripts;
use redis::{Cmd, Pipeline, Value, cmd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tally_cache::redis::{
    EPOCH, Keys, NodeIdentity, RedisAddress, RedisFailure, RedisProgress, RedisTimeouts, Shards, StoredPartition,
    StoredShard, text,
};

/// A shard that does not answer for this long is unavailable.
const TIMEOUTS: RedisTimeouts = RedisTimeouts { connect: Duration::from_secs(1), response: Duration::from_secs(1) };
/// A sink that began an epoch and has not opened it after this long has died.
const OPENING_MS: u64 = 3_000;
/// Maximum age of the last check of the masters when positions are written. Markers are checked in every write.
const LOOK_AGE_MAX: Duration = Duration::from_millis(200);

/// The epochs that a sink has seen.
#[derive(Default)]
pub struct Met {
    /// The latest.
    pub seen: u64,
    /// An epoch that was begun and not opened, and since when it is known.
    unopened: Option<(u64, Instant)>,
}

impl Met {
    /// Whether the sink that began this epoch may still be about to open it. Its number is the wall time of another
    /// machine: if that clock is ahead, the wait begins when the epoch is first seen.
    fn may_open(&mut self, epoch: u64) -> bool {
        let met_at = match self.unopened {
            Some((known, met_at)) if known == epoch => met_at,
            _ => Instant::now(),
        };
        self.unopened = Some((epoch, met_at));
        now_ms().saturating_sub(epoch) < OPENING_MS && met_at.elapsed() < Duration::from_millis(OPENING_MS)
    }
}

/// Connections to masters that were checked.
pub struct Session {
    /// The connections.
    pub shards: Shards,
    /// The names of the keys.
    pub keys: Keys,
    /// The epoch of all writes.
    pub epoch: u64,
    /// The masters at the start of the epoch.
    masters: Vec<StoredShard>,
    /// The markers that must exist, each with its shard.
    markers: Vec<(usize, String)>,
    looked_at: Instant,
}

/// Why a session is over.
#[derive(Debug)]
pub enum Ended {
    /// Redis does not answer, or answers with an error.
    Away(RedisFailure),
    /// Its data is lost, or another sink has begun an epoch.
    Lost(String),
}

impl From<RedisFailure> for Ended {
    fn from(failure: RedisFailure) -> Self {
        Self::Away(failure)
    }
}

/// A session and the progress from which it continues.
pub struct Opened {
    /// The session to write in.
    pub session: Session,
    /// Valid positions; none if an epoch was begun.
    pub progress: RedisProgress,
    /// Why an epoch was begun, if one was.
    pub begun: Option<String>,
}

/// The state that connecting found.
struct Found {
    shards: Shards,
    keys: Keys,
    nodes: Vec<NodeIdentity>,
    progress: RedisProgress,
    looked_at: Instant,
}

impl Session {
    /// Connects. Continues from the stored progress if it is valid; otherwise begins an epoch.
    pub async fn open(address: &RedisAddress, met: &mut Met) -> Result<Opened, Ended> {
        let found = Found::look(address).await?;
        match found.doubt(met).await? {
            None => Ok(found.resume()),
            Some(reason) => found.begin(met.seen, reason).await,
        }
    }

    /// Reconnects. Accepts only the epoch of the previous session.
    pub async fn reopen(address: &RedisAddress, met: &mut Met, epoch: u64) -> Result<Self, Ended> {
        let found = Found::look(address).await?;
        match found.doubt(met).await? {
            None if found.progress.epoch == Some(epoch) => Ok(found.resume().session),
            None => Err(Ended::Lost(ANOTHER_EPOCH.into())),
            Some(reason) => Err(Ended::Lost(reason)),
        }
    }

    /// Forgets all positions and begins an epoch on the same connections.
    pub async fn begin_again(self, reason: &str) -> Result<Opened, Ended> {
        let nodes = masters(&self.shards).await?;
        let looked_at = Instant::now();
        let progress = RedisProgress { epoch: Some(self.epoch), ..RedisProgress::default() };
        let seen = self.epoch;
        Found { shards: self.shards, keys: self.keys, nodes, progress, looked_at }.begin(seen, reason.into()).await
    }

    /// Checks that the session is still valid, and reads these fields of progress with the same commands. The masters
    /// are checked if `thorough` requests it, or if the last check was too long ago.
    pub async fn look(&mut self, fields: &[String], thorough: bool) -> Result<Vec<Option<StoredPartition>>, Ended> {
        let asked_at = Instant::now();
        let thorough = thorough || asked_at.duration_since(self.looked_at) > LOOK_AGE_MAX;
        let progress_shard = self.shards.of(self.keys.progress_slot());
        let mut pipelines = vec![Pipeline::new(); self.shards.len()];
        for (shard, marker) in &self.markers {
            pipelines[*shard].cmd("GET").arg(marker);
        }
        pipelines[progress_shard].cmd("HMGET").arg(self.keys.progress()).arg(EPOCH).arg(fields);
        if thorough {
            pipelines.iter_mut().for_each(NodeIdentity::ask);
        }
        let mut answers = self.ask_each(pipelines).await?;
        for (shard, _) in &self.markers {
            self.check_marker(*shard, answers[*shard].next())?;
        }
        let found = answers[progress_shard].next();
        if thorough {
            let node = |(shard, answers): (usize, &mut std::vec::IntoIter<Value>)| {
                let identity = answers.next().zip(answers.next());
                let identity =
                    identity.and_then(|(server, replication)| NodeIdentity::from_answers(&server, &replication));
                identity.ok_or_else(|| self.shards.failure(shard, "INFO answered what cannot be understood"))
            };
            let nodes = answers.iter_mut().enumerate().map(node).collect::<Result<Vec<_>, _>>()?;
            if let Some(doubt) = differ(&self.shards, &nodes, &self.masters) {
                return Err(Ended::Lost(doubt));
            }
            self.looked_at = asked_at;
        }
        self.positions(progress_shard, found)
    }

    fn check_marker(&self, shard: usize, found: Option<Value>) -> Result<(), Ended> {
        if found.as_ref().and_then(text).is_some_and(|epoch| epoch == self.epoch.to_string()) {
            return Ok(());
        }
        Err(Ended::Lost(no_marker(&self.shards, shard)))
    }

    fn positions(&self, shard: usize, found: Option<Value>) -> Result<Vec<Option<StoredPartition>>, Ended> {
        let Some(Value::Array(values)) = found else {
            return Err(self.shards.failure(shard, "no answer to HMGET").into());
        };
        let mut values = values.iter().map(text);
        if values.next().flatten() != Some(self.epoch.to_string()) {
            return Err(Ended::Lost(ANOTHER_EPOCH.into()));
        }
        let read = |json: Option<String>| {
            let read = json.as_deref().map(StoredPartition::from_json).transpose();
            read.map_err(|cause| self.shards.failure(shard, format!("{}: {cause}", self.keys.progress())).into())
        };
        values.map(read).collect()
    }

    /// Sends a pipeline to every shard (where it has commands) and takes the answers apart. An error that a script or
    /// a command answered ends the session.
    pub async fn ask_each(&self, pipelines: Vec<Pipeline>) -> Result<Vec<std::vec::IntoIter<Value>>, Ended> {
        let mut answers: Vec<_> = pipelines.iter().map(|_| Vec::new()).collect();
        let asked: Vec<_> = pipelines.into_iter().enumerate().filter(|(_, pipeline)| !pipeline.is_empty()).collect();
        let of: Vec<usize> = asked.iter().map(|(shard, _)| *shard).collect();
        for (shard, values) in of.into_iter().zip(self.shards.ask_each(asked).await?) {
            let checked = values.into_iter().map(|value| self.shards.checked(shard, value));
            answers[shard] = checked.collect::<Result<_, _>>()?;
        }
        Ok(answers.into_iter().map(Vec::into_iter).collect())
    }

    /// Sends one command about progress.
    pub async fn ask_progress(&self, command: Cmd) -> Result<Value, RedisFailure> {
        ask(&self.shards, self.shards.of(self.keys.progress_slot()), command).await
    }

    /// The queries for a shard's markers, to be sent after the writes to it.
    pub fn ask_markers(&self, shard: usize, pipeline: &mut Pipeline) {
        for (_, marker) in self.markers.iter().filter(|(of, _)| *of == shard) {
            pipeline.cmd("GET").arg(marker);
        }
    }

    /// Checks the replies to these queries.
    pub fn check_markers(&self, shard: usize, answers: &mut impl Iterator<Item = Value>) -> Result<(), Ended> {
        let mut markers = self.markers.iter().filter(|(of, _)| *of == shard);
        markers.try_for_each(|_| self.check_marker(shard, answers.next()))
    }

    fn new(shards: Shards, keys: Keys, epoch: u64, masters: Vec<StoredShard>, looked_at: Instant) -> Self {
        let marker = |master: &StoredShard| (shards.of(master.marker), keys.marker(master.marker));
        Self { markers: masters.iter().map(marker).collect(), shards, keys, epoch, masters, looked_at }
    }
}

const ANOTHER_EPOCH: &str = "redis: the positions are gone, or another sink has begun to refill it";

impl Found {
    async fn look(address: &RedisAddress) -> Result<Self, Ended> {
        let shards = Shards::connect(address, TIMEOUTS).await?;
        let keys = Keys::new(address);
        let scripts = shards.ask_each((0..shards.len()).map(|shard| (shard, scripts::load())).collect()).await?;
        for (shard, loaded) in scripts.into_iter().enumerate() {
            loaded.into_iter().try_for_each(|value| shards.checked(shard, value).map(drop))?;
        }
        let looked_at = Instant::now();
        let nodes = masters(&shards).await?;
        let progress = RedisProgress::read(&shards, &keys).await?;
        Ok(Self { shards, keys, nodes, progress, looked_at })
    }

    /// Why the stored progress is not valid; None if it is.
    async fn doubt(&self, met: &mut Met) -> Result<Option<String>, Ended> {
        let seen = met.seen;
        let Some(epoch) = self.progress.epoch else { return Ok(Some("redis: there is no progress".into())) };
        if epoch < seen {
            return Ok(Some(format!("redis: epoch {epoch} comes before {seen}, which was met before")));
        }
        if self.progress.shards.is_empty() {
            if met.may_open(epoch) {
                let shard = self.shards.of(self.keys.progress_slot());
                return Err(self.shards.failure(shard, "another sink is about to begin filling it").into());
            }
            return Ok(Some("redis: another sink began to fill it and died".into()));
        }
        let doubt = differ(&self.shards, &self.nodes, &self.progress.shards);
        if doubt.is_some() {
            return Ok(doubt);
        }
        for master in &self.progress.shards {
            let shard = self.shards.of(master.marker);
            let marker = ask(&self.shards, shard, get(&self.keys.marker(master.marker))).await?;
            if text(&marker) != Some(epoch.to_string()) {
                return Ok(Some(no_marker(&self.shards, shard)));
            }
        }
        Ok(None)
    }

    fn resume(self) -> Opened {
        let Self { shards, keys, progress, looked_at, .. } = self;
        let (epoch, masters) = (progress.epoch.unwrap_or_default(), progress.shards.clone());
        Opened { session: Session::new(shards, keys, epoch, masters, looked_at), progress, begun: None }
    }

    /// Begins an epoch: positions are deleted, every shard is marked, and only then are positions written again. If two
    /// sinks do this at the same time, one of them wins each step, and the other starts over.
    async fn begin(self, seen: u64, reason: String) -> Result<Opened, Ended> {
        let Self { shards, keys, nodes, progress, looked_at } = self;
        let progress_shard = shards.of(keys.progress_slot());
        let slots = shards.last_slots();
        let markers: Vec<_> = slots.iter().map(|slot| keys.marker(*slot)).enumerate().collect();
        let mut latest = seen.max(progress.epoch.unwrap_or_default());
        for (shard, marker) in &markers {
            let marked = ask(&shards, *shard, get(marker)).await?;
            latest = latest.max(text(&marked).and_then(|epoch| epoch.parse().ok()).unwrap_or_default());
        }
        let epoch = now_ms().max(latest + 1);
        let expect = |found: Value| match text(&found).is_some_and(|found| found == epoch.to_string()) {
            true => Ok(()),
            false => Err(Ended::Lost(ANOTHER_EPOCH.into())),
        };
        expect(ask(&shards, progress_shard, scripts::begin(&keys.progress(), progress.epoch, epoch)).await?)?;
        for (shard, marker) in &markers {
            expect(ask(&shards, *shard, scripts::mark(marker, epoch)).await?)?;
        }
        let stored = |(node, marker): (NodeIdentity, &u16)| {
            let NodeIdentity { run_id, replication_id, .. } = node;
            StoredShard { run_id, replication_id, marker: *marker }
        };
        let masters: Vec<_> = nodes.into_iter().zip(&slots).map(stored).collect();
        // Plain strings and numbers always become JSON.
        let json = serde_json::to_string(&masters).unwrap_or_default();
        expect(ask(&shards, progress_shard, scripts::open(&keys.progress(), epoch, &json)).await?)?;
        let progress = RedisProgress { epoch: Some(epoch), shards: masters.clone(), ..RedisProgress::default() };
        Ok(Opened { session: Session::new(shards, keys, epoch, masters, looked_at), progress, begun: Some(reason) })
    }
}

/// The identity that every shard reports. One that does not take writes is no master, even if the Cluster lists it as one.
async fn masters(shards: &Shards) -> Result<Vec<NodeIdentity>, RedisFailure> {
    let nodes = NodeIdentity::of_all(shards).await?;
    match nodes.iter().position(|node| !node.is_master) {
        Some(shard) => Err(shards.failure(shard, "is a replica, which takes no writes: name its master")),
        None => Ok(nodes),
    }
}

/// Why these nodes are not the masters of the epoch; None if they are.
fn differ(shards: &Shards, nodes: &[NodeIdentity], masters: &[StoredShard]) -> Option<String> {
    for (shard, node) in nodes.iter().enumerate() {
        let name = shards.node(shard);
        let known =
            |master: &&StoredShard| master.run_id == node.run_id && master.replication_id == node.replication_id;
        if !node.is_master {
            return Some(format!("redis {name}: is a replica now"));
        }
        if !masters.iter().any(|master| known(&master)) {
            return Some(format!("redis {name}: was restarted or replaced: what it has may be older than what it had"));
        }
        if !masters.iter().any(|master| shards.of(master.marker) == shard) {
            return Some(format!("redis {name}: has none of the slots by which a loss is noticed"));
        }
    }
    (nodes.len() != masters.len()).then(|| format!("redis: {} masters where there were {}", nodes.len(), masters.len()))
}

fn no_marker(shards: &Shards, shard: usize) -> String {
    format!("redis {}: was emptied, or is refilled by another sink", shards.node(shard))
}

fn get(key: &str) -> Cmd {
    cmd("GET").arg(key).clone()
}

async fn ask(shards: &Shards, shard: usize, command: Cmd) -> Result<Value, RedisFailure> {
    let mut pipeline = Pipeline::with_capacity(1);
    pipeline.add_command(command);
    let answer = shards.ask(shard, &pipeline).await?.pop().unwrap_or_default();
    shards.checked(shard, answer)
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_of_a_clock_that_was_ahead_is_waited_for_no_longer_than_any_other() {
        let mut met = Met::default();
        let (day_ms, now_ms) = (86_400_000, now_ms());
        assert!(met.may_open(now_ms + day_ms), "it may have begun just now");
        let long_ago = Instant::now().checked_sub(Duration::from_millis(OPENING_MS)).unwrap();
        met.unopened = Some((now_ms + day_ms, long_ago));
        assert!(!met.may_open(now_ms + day_ms));
        assert!(met.may_open(now_ms + day_ms + 1), "another one");
        assert!(!met.may_open(now_ms - day_ms), "the sink that began it has died long ago");
    }
}
