//! What runs inside of Redis. Every script touches one slot, and each may run twice.
//!
//! Lua counts in doubles, which cannot hold a version: versions and epochs are compared as the decimal numbers that
//! they are written as.

use crate::row::CounterRow;
use crate::target::Standing;
use redis::{Cmd, Pipeline, Script, cmd};
use std::sync::LazyLock;
use tally_model::{MetricValue, Ranking};

const OLDER: &str = "
local function older(a, b)
  return #a < #b or (#a == #b and a < b)
end
";

/// Keys: hashes of totals, of one slot. Arguments: the epoch; then for each key the number of metrics, the version, and
/// metric and JSON of the value of each.
///
/// The guard is (epoch, version): a hash is replaced as a whole, unless it is of a later epoch, or of this one and of a
/// greater version. Answers the latest epoch found: where that is later than the caller's, the caller is behind.
const TOTALS: &str = "
local at, latest = 2, ARGV[1]
for _, key in ipairs(KEYS) do
  local last = at + 1 + 2 * tonumber(ARGV[at])
  local found = redis.call('HMGET', key, '@epoch', '@version')
  local epoch, version = found[1], found[2]
  if epoch and older(ARGV[1], epoch) then
    if older(latest, epoch) then latest = epoch end
  elseif not (epoch == ARGV[1] and version and older(ARGV[at + 1], version)) then
    if epoch then redis.call('DEL', key) end
    redis.call('HSET', key, '@epoch', ARGV[1], '@version', ARGV[at + 1], unpack(ARGV, at + 2, last))
  end
  at = last + 1
end
return latest
";

/// Keys: the sorted set of a board and its hash. Arguments: the epoch, the version, the whole record; then score and
/// subject of each entry.
///
/// One guard, in the hash, for both: they are replaced together, so nothing stays that an older version or another
/// epoch had. Answers as TOTALS does.
const BOARD: &str = "
local found = redis.call('HMGET', KEYS[2], '@epoch', '@version')
local epoch, version = found[1], found[2]
if epoch and older(ARGV[1], epoch) then return epoch end
if epoch == ARGV[1] and version and older(ARGV[2], version) then return epoch end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[2], '@epoch', ARGV[1], '@version', ARGV[2], 'ranking', ARGV[3])
for at = 4, #ARGV, 1000 do
  redis.call('ZADD', KEYS[1], unpack(ARGV, at, math.min(at + 999, #ARGV)))
end
return ARGV[1]
";

/// Key: a marker. Argument: the epoch. Returns its value afterwards.
const MARK: &str = "
local found = redis.call('GET', KEYS[1])
if found and older(ARGV[1], found) then return found end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
";

/// Key: progress. Arguments: the epoch that the caller has seen, empty for none; the new one. Forgets all positions.
/// Answers the epoch afterwards.
const BEGIN: &str = "
local epoch = redis.call('HGET', KEYS[1], 'epoch') or ''
if epoch ~= ARGV[1] then return epoch end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'epoch', ARGV[2])
return ARGV[2]
";

/// Key: progress. Arguments: the epoch, the shards. From here on positions may be written. Answers the epoch found.
const OPEN: &str = "
local epoch = redis.call('HGET', KEYS[1], 'epoch') or ''
if epoch == ARGV[1] then redis.call('HSET', KEYS[1], 'shards', ARGV[2]) end
return epoch
";

/// Key: progress. Arguments: the epoch; then for each partition its field, what the caller expects there (the next
/// offset, `/`, the revision of the marks; empty for none) and the new value. All or nothing. Answers nothing when it is
/// done, else the field that differs and what was found; `epoch` first. What an older release stored has no revision:
/// there only the offset is compared.
const MOVE: &str = "
local epoch = redis.call('HGET', KEYS[1], 'epoch') or ''
if epoch ~= ARGV[1] or redis.call('HEXISTS', KEYS[1], 'shards') == 0 then return {'epoch', epoch} end
for at = 2, #ARGV, 3 do
  local stored, found = redis.call('HGET', KEYS[1], ARGV[at]), ''
  local expected = ARGV[at + 1]
  if stored then
    local value = cjson.decode(stored)
    found = string.format('%.0f', value.next_offset) .. '/' .. (value.revision or '')
    if not value.revision then expected = string.match(expected, '^[^/]*') .. '/' end
  end
  if found ~= expected then return {ARGV[at], found} end
end
for at = 2, #ARGV, 3 do
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 2])
end
return {}
";

struct Loadable {
    code: String,
    hash: String,
}

impl Loadable {
    fn new(code: &str) -> Self {
        let code = [OLDER, code].concat();
        Self { hash: Script::new(&code).get_hash().to_owned(), code }
    }

    /// `EVALSHA` with its keys; arguments follow.
    fn invoke(&self, keys: &[String]) -> Cmd {
        let mut command = cmd("EVALSHA");
        command.arg(&self.hash).arg(keys.len()).arg(keys);
        command
    }
}

static ALL: LazyLock<[Loadable; 6]> = LazyLock::new(|| [TOTALS, MARK, BEGIN, OPEN, MOVE, BOARD].map(Loadable::new));

/// Loads all scripts. A Redis forgets them with a restart, a failover or `SCRIPT FLUSH`.
pub fn load() -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(ALL.len());
    for script in ALL.iter() {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(&script.code);
    }
    pipeline
}

/// Writes the totals of some subjects, whose keys are of one slot.
pub fn totals<'a>(epoch: u64, keys: &[String], rows: impl Iterator<Item = &'a CounterRow>) -> Cmd {
    let mut command = ALL[0].invoke(keys);
    command.arg(epoch);
    for row in rows {
        command.arg(row.totals.len()).arg(row.version.max(0));
        for (metric, value) in &row.totals {
            command.arg(&**metric);
            match value {
                MetricValue::Integer(value) => command.arg(*value),
                other => command.arg(other.to_string()),
            };
        }
    }
    command
}

/// Replaces a board: its sorted set and its hash.
pub fn board(epoch: u64, keys: &[String; 2], ranking: &Ranking) -> Cmd {
    let mut command = ALL[5].invoke(keys);
    // Strings and numbers always become JSON.
    let json = serde_json::to_string(ranking).unwrap_or_default();
    command.arg(epoch).arg(ranking.version.max(0)).arg(json);
    for item in &ranking.items {
        command.arg(item.score).arg(&item.subject_id);
    }
    command
}

/// Sets a marker.
pub fn mark(key: &str, epoch: u64) -> Cmd {
    let mut command = ALL[1].invoke(&[key.to_owned()]);
    command.arg(epoch);
    command
}

/// Begins an epoch.
pub fn begin(key: &str, seen: Option<u64>, epoch: u64) -> Cmd {
    let mut command = ALL[2].invoke(&[key.to_owned()]);
    command.arg(seen.map_or_else(String::new, |seen| seen.to_string())).arg(epoch);
    command
}

/// The call that opens an epoch.
pub fn open(key: &str, epoch: u64, shards: &str) -> Cmd {
    let mut command = ALL[3].invoke(&[key.to_owned()]);
    command.arg(epoch).arg(shards);
    command
}

/// Moves positions: field, what is expected there, value.
pub fn move_positions<'a>(
    key: &str,
    epoch: u64,
    steps: impl Iterator<Item = (&'a str, Option<Standing>, String)>,
) -> Cmd {
    let mut command = ALL[4].invoke(&[key.to_owned()]);
    command.arg(epoch);
    for (field, expected, value) in steps {
        let expected = expected.map_or_else(String::new, |at| format!("{}/{}", at.next_offset, at.revision));
        command.arg(field).arg(expected).arg(value);
    }
    command
}

/// What [`MOVE`] found where something else was expected; None where there was nothing.
pub fn found(text: &str) -> Option<Standing> {
    let (next_offset, revision) = text.split_once('/')?;
    Some(Standing { next_offset: next_offset.parse().ok()?, revision: revision.parse().unwrap_or(0) })
}
