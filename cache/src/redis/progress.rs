//! The content of `tally:progress`: how far each partition is contained, and under which conditions that is true.
//!
//! The hash has a field `epoch`, a field `shards`, and a field `<topic>/<partition>` for each partition.
//!
//! **Epoch**: one filling of Redis, from the start of the topics. A larger number is a later one (milliseconds since
//! 1970, or more if a larger epoch exists). Every hash of totals names the epoch in which it was written. Entries of
//! another epoch may be older than the positions claim: a reader treats them as misses.
//!
//! **Shards**: the masters that were checked when the epoch began, by run id, replication id and the slot of a marker.
//! If a master has been replaced, its data may be lost, and the whole hash is invalid.

use super::keys::Keys;
use super::shards::{RedisFailure, Shards, text};
use hashbrown::HashMap;
use redis::{Pipeline, Value, cmd};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tally_model::Roots;
use tally_streams::log::TopicPartition;

/// The field of the epoch.
pub const EPOCH: &str = "epoch";
/// The field of the shards. It is missing while an epoch is being opened.
pub const SHARDS: &str = "shards";

/// A master as it was when an epoch began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredShard {
    /// Run id of the process: differs after a restart.
    pub run_id: String,
    /// Id of the history of the data: differs after a restart and after a replica became the master. Replicas have
    /// their master's.
    pub replication_id: String,
    /// The slot of its marker.
    pub marker: u16,
}

/// How far a partition is contained.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPartition {
    /// Everything below is contained.
    pub next_offset: u64,
    /// The greatest version among it.
    pub version: i64,
    /// Until this offset is reached, less is contained than the position and the roots claim: compaction has removed
    /// records whose successors have not been read again yet.
    pub refill_until: Option<u64>,
    /// How far the input is contained.
    pub roots: Roots,
}

/// The whole hash.
#[derive(Clone, Debug, Default)]
pub struct RedisProgress {
    /// None where there is no progress at all.
    pub epoch: Option<u64>,
    /// Empty while the epoch is being opened: then nothing is claimed.
    pub shards: Vec<StoredShard>,
    /// Those that were written to since the epoch began.
    pub partitions: HashMap<TopicPartition, StoredPartition>,
}

#[derive(Serialize, Deserialize)]
struct Json<'a> {
    next_offset: u64,
    version: i64,
    generation: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refill_until: Option<u64>,
    #[serde(borrow)]
    roots: &'a RawValue,
    /// [`Roots::revision`], for a script that compares it. Text: Lua's numbers cannot hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
}

impl StoredPartition {
    /// From a field's value.
    pub fn from_json(json: &str) -> Result<Self, String> {
        let stored = serde_json::from_str::<Json<'_>>(json).map_err(|e| e.to_string())?;
        let Json { next_offset, version, generation, refill_until, roots, revision: _ } = stored;
        let roots = Roots::from_json(roots.get(), generation).map_err(|e| e.to_string())?;
        Ok(Self { next_offset, version, refill_until, roots })
    }

    /// `{"next_offset","version","generation","refill_until","roots":[{"partition","next_offset","clock_ms","task","version"}],"revision"}`.
    pub fn to_json(&self) -> String {
        let revision = self.roots.names_commits().then(|| self.roots.revision().to_string());
        let Self { next_offset, version, refill_until, .. } = *self;
        let roots = self.roots.to_json();
        let json = |roots: &RawValue| {
            let generation = (version >> 48) as u16;
            serde_json::to_string(&Json { next_offset, version, generation, refill_until, roots, revision })
        };
        // Numbers and JSON always become JSON.
        serde_json::from_str::<&RawValue>(&roots).and_then(json).unwrap_or_default()
    }
}

impl RedisProgress {
    /// Reads the hash.
    pub async fn read(shards: &Shards, keys: &Keys) -> Result<Self, RedisFailure> {
        let shard = shards.of(keys.progress_slot());
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(cmd("HGETALL").arg(keys.progress()).clone());
        let answer = shards.ask(shard, &pipeline).await?.pop().unwrap_or_default();
        let answer = shards.checked(shard, answer)?;
        Self::from_value(&answer).map_err(|cause| shards.failure(shard, format!("{}: {cause}", keys.progress())))
    }

    fn from_value(value: &Value) -> Result<Self, String> {
        let mut progress = Self::default();
        for (field, value) in fields(value) {
            let (Some(field), Some(value)) = (text(field), text(value)) else { continue };
            let wrong = |cause: String| format!("field `{field}`: {cause}");
            match field.rsplit_once('/') {
                None if field == EPOCH => progress.epoch = Some(value.parse().map_err(|_| wrong(value.clone()))?),
                None if field == SHARDS => {
                    progress.shards = serde_json::from_str(&value).map_err(|e| wrong(e.to_string()))?;
                }
                Some((topic, partition)) => {
                    let Ok(partition) = partition.parse() else { continue };
                    let stored = StoredPartition::from_json(&value).map_err(wrong)?;
                    progress.partitions.insert(TopicPartition::new(topic, partition), stored);
                }
                // A later version may have more fields.
                _ => {}
            }
        }
        Ok(progress)
    }
}

/// The pairs of a hash, as one protocol or the other answers it.
pub fn fields(value: &Value) -> Vec<(&Value, &Value)> {
    match value {
        Value::Map(pairs) => pairs.iter().map(|(field, value)| (field, value)).collect(),
        Value::Array(list) => list.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect(),
        _ => Vec::new(),
    }
}

/// The identity that a node reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// See [`StoredShard`].
    pub run_id: String,
    /// See [`StoredShard`].
    pub replication_id: String,
    /// Whether it takes writes.
    pub is_master: bool,
}

impl NodeIdentity {
    /// Adds the questions to a pipeline; [`NodeIdentity::from_answers`] takes their two answers.
    pub fn ask(pipeline: &mut Pipeline) {
        pipeline.cmd("INFO").arg("server").cmd("INFO").arg("replication");
    }

    /// From the answers; None where they are something else.
    pub fn from_answers(server: &Value, replication: &Value) -> Option<Self> {
        let (server, replication) = (text(server)?, text(replication)?);
        let line = |info: &str, name: &str| {
            let mut lines = info.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(known, _)| *known == name).map(|(_, value)| value.trim().to_owned())
        };
        Some(Self {
            run_id: line(&server, "run_id")?,
            replication_id: line(&replication, "master_replid")?,
            is_master: line(&replication, "role")? == "master",
        })
    }

    /// Reads the origin of every shard, in their order.
    pub async fn of_all(shards: &Shards) -> Result<Vec<Self>, RedisFailure> {
        let mut pipeline = Pipeline::with_capacity(2);
        Self::ask(&mut pipeline);
        let answers = shards.ask_each((0..shards.len()).map(|shard| (shard, pipeline.clone())).collect()).await?;
        let read = |(shard, answers): (usize, Vec<Value>)| {
            let mut checked = answers.into_iter().map(|answer| shards.checked(shard, answer));
            let (server, replication) = (checked.next().transpose()?, checked.next().transpose()?);
            let identity =
                server.zip(replication).and_then(|(server, replication)| Self::from_answers(&server, &replication));
            identity.ok_or_else(|| shards.failure(shard, "INFO does not say run_id, role and master_replid"))
        };
        answers.into_iter().enumerate().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_model::{ProgressMark, RootPosition};

    const STORED: &str = r#"{"next_offset":7,"version":281474976710661,"generation":1,"refill_until":9,"roots":[{"partition":0,"next_offset":5,"clock_ms":50,"task":"by-subject_id/3"}]}"#;

    const WITH_COMMIT: &str = r#"{"next_offset":7,"version":281474976710661,"generation":1,"roots":[{"partition":0,"next_offset":5,"clock_ms":50,"task":"by-subject_id/3","version":281474976710661}],"revision":"281474976710661"}"#;

    fn stored_as_of(refill_until: Option<u64>, commit: i64) -> StoredPartition {
        let mut roots = Roots::default();
        let root = RootPosition { partition: 0, next_offset: 5, clock_ms: 50 };
        let version = (1 << 48) + commit;
        roots.apply(ProgressMark { task: "by-subject_id/3".into(), generation: 1, roots: vec![root], version });
        StoredPartition { next_offset: 7, version: (1 << 48) + 5, refill_until, roots }
    }

    /// As older releases stored it: without the commit of a mark.
    fn stored(refill_until: Option<u64>) -> StoredPartition {
        stored_as_of(refill_until, 0)
    }

    #[test]
    fn marks_are_stored_with_their_commits() {
        assert_eq!(stored_as_of(None, 5).to_json(), WITH_COMMIT);
        assert_eq!(StoredPartition::from_json(WITH_COMMIT).unwrap(), stored_as_of(None, 5));
    }

    #[test]
    fn the_stored_form_is_what_it_has_always_been() {
        assert_eq!(stored(Some(9)).to_json(), STORED);
        assert_eq!(StoredPartition::from_json(STORED).unwrap(), stored(Some(9)));
        let complete = STORED.replace(r#""refill_until":9,"#, "");
        assert_eq!(stored(None).to_json(), complete);
        assert_eq!(StoredPartition::from_json(&complete).unwrap(), stored(None));
        let shard = StoredShard { run_id: "a".into(), replication_id: "b".into(), marker: 16_383 };
        let json = r#"{"run_id":"a","replication_id":"b","marker":16383}"#;
        assert_eq!(serde_json::to_string(&shard).unwrap(), json);
    }

    #[test]
    fn a_hash_is_read_in_either_protocol() {
        let bulk = |text: &str| Value::BulkString(text.into());
        let shards = r#"[{"run_id":"a","replication_id":"b","marker":1}]"#;
        let pairs = [("epoch", "17"), ("shards", shards), ("counters/3", STORED), ("later", "?")];
        let list = Value::Array(pairs.iter().flat_map(|(field, value)| [bulk(field), bulk(value)]).collect());
        let map = Value::Map(pairs.iter().map(|(field, value)| (bulk(field), bulk(value))).collect());
        for value in [list, map] {
            let progress = RedisProgress::from_value(&value).unwrap();
            assert_eq!((progress.epoch, progress.shards.len()), (Some(17), 1));
            assert_eq!(progress.partitions[&TopicPartition::new("counters", 3)], stored(Some(9)));
        }
        assert_eq!(RedisProgress::from_value(&Value::Array(Vec::new())).unwrap().epoch, None);
        let broken = Value::Array(vec![bulk("counters/3"), bulk("{}")]);
        assert!(RedisProgress::from_value(&broken).unwrap_err().starts_with("field `counters/3`: missing field"));
    }

    #[test]
    fn a_node_says_who_it_is() {
        let text = |text: &str| Value::BulkString(text.replace('\n', "\r\n").into_bytes());
        let server = text("# Server\nredis_version:7.0.15\nrun_id:aa\n");
        let replication = text("# Replication\nrole:slave\nmaster_host:h\nmaster_replid:bb\nmaster_replid2:00\n");
        let identity = NodeIdentity { run_id: "aa".into(), replication_id: "bb".into(), is_master: false };
        assert_eq!(NodeIdentity::from_answers(&server, &replication), Some(identity));
        assert_eq!(NodeIdentity::from_answers(&replication, &server), None);
    }
}
