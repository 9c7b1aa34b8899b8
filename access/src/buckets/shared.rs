//! The buckets that several processes share: one script in Redis; each call has one key and thus one slot.

use super::{Demand, Grant};
use crate::metrics::AccessMetrics;
use redis::{Pipeline, Script, Value};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tally_cache::redis::{Keys, RedisAddress, RedisFailure, RedisTimeouts, Shards, describe, slot_of};

/// The longest wait for Redis: a process also has local buckets.
const TIMEOUTS: RedisTimeouts =
    RedisTimeouts { connect: Duration::from_millis(500), response: Duration::from_millis(100) };
/// Pause between attempts to connect to an unavailable Redis.
const PAUSE: Duration = Duration::from_secs(1);

/// Key: a bucket. Arguments: microseconds per token, tokens in a full bucket, tokens wanted. Returns how many were
/// available, and in how many microseconds the next one is.
///
/// The generic cell rate algorithm (ITU-T I.371): what is kept is the time at which the bucket will be full again. The
/// clock is that of Redis, so the clocks of the processes do not matter. Times are whole microseconds, below 2^53.
const TAKE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local piece, size, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local full_at = tonumber(redis.call('GET', KEYS[1]) or 0)
if full_at < now or full_at > now + piece * size then
  full_at = full_at < now and now or now + piece * size
end
local taken = math.min(wanted, math.floor((now + piece * size - full_at) / piece))
if taken > 0 then
  full_at = full_at + taken * piece
  redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
end
local wait = 0
if taken < wanted then wait = full_at + piece - piece * size - now end
return {taken, wait}
";

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(TAKE));

/// Buckets in a Redis. Connects by itself, and reconnects as needed.
pub struct SharedBuckets {
    link: Arc<Link>,
    keys: Keys,
}

struct Link {
    address: RedisAddress,
    state: Mutex<State>,
    /// Whether the outage of Redis was logged: once is enough.
    told: AtomicBool,
}

enum State {
    /// The time of the last attempt.
    Away(Option<Instant>),
    Connecting,
    Up(Shards),
}

impl SharedBuckets {
    /// Buckets at an address. Does not connect before the first take.
    pub fn new(address: RedisAddress) -> Self {
        let keys = Keys::new(&address);
        Self {
            link: Arc::new(Link { address, state: Mutex::new(State::Away(None)), told: AtomicBool::new(false) }),
            keys,
        }
    }

    /// Takes the available tokens; returns each grant with the index of its demand, or None while Redis is unavailable.
    pub(super) async fn take(
        &self,
        demands: &[(usize, Demand)],
        metrics: &AccessMetrics,
    ) -> Option<Vec<(usize, Grant)>> {
        if demands.is_empty() {
            return None;
        }
        let shards = self.link.shards(metrics)?;
        match self.ask(&shards, demands).await {
            Ok(grants) => Some(grants),
            Err(failure) => {
                self.link.lost(&failure, metrics);
                None
            }
        }
    }

    async fn ask(&self, shards: &Shards, demands: &[(usize, Demand)]) -> Result<Vec<(usize, Grant)>, RedisFailure> {
        let mut by_shard: Vec<Vec<&(usize, Demand)>> = vec![Vec::new(); shards.len()];
        for demand in demands {
            by_shard[shards.of(slot_of(&tag(&demand.1)))].push(demand);
        }
        let used = by_shard.iter().enumerate().filter(|(_, demands)| !demands.is_empty());
        let pipelines = used.map(|(shard, demands)| {
            let mut pipeline = Pipeline::new();
            for (n, (_, demand)) in demands.iter().enumerate() {
                self.call(&mut pipeline, demand, n == 0);
            }
            (shard, pipeline)
        });
        let pipelines: Vec<_> = pipelines.collect();
        let order: Vec<_> = pipelines.iter().map(|(shard, _)| *shard).collect();
        let answers = shards.ask_each(pipelines).await?;
        let mut grants = Vec::with_capacity(demands.len());
        for (shard, answers) in order.into_iter().zip(answers) {
            for ((place, demand), answer) in by_shard[shard].iter().zip(answers) {
                grants.push((*place, granted(demand, &answer).map_err(|why| shards.failure(shard, why))?));
            }
        }
        Ok(grants)
    }

    /// The first call of a pipeline includes the script for the others: a restarted Redis has lost its scripts.
    fn call(&self, pipeline: &mut Pipeline, demand: &Demand, first: bool) {
        let piece_us = 60_000_000 / demand.per_minute;
        let call = match first {
            true => pipeline.cmd("EVAL").arg(TAKE),
            false => pipeline.cmd("EVALSHA").arg(SCRIPT.get_hash()),
        };
        let key = self.keys.limit(&tag(demand));
        call.arg(1).arg(key).arg(piece_us.max(1)).arg(demand.per_minute).arg(demand.pieces);
    }
}

fn tag(demand: &Demand) -> String {
    format!("{}:{:032x}:{}", demand.rule.as_str(), demand.hash, demand.per_minute)
}

fn granted(demand: &Demand, answer: &Value) -> Result<Grant, String> {
    match answer {
        Value::Array(parts) => match parts[..] {
            [Value::Int(taken), Value::Int(wait_us)] => Ok(Grant {
                rule: demand.rule,
                left: u32::try_from(taken).unwrap_or_default(),
                retry_after: Duration::from_micros(u64::try_from(wait_us).unwrap_or_default()),
            }),
            _ => Err("a bucket returned an unexpected value".into()),
        },
        Value::ServerError(error) => Err(describe(error)),
        _ => Err("a bucket returned an unexpected value".into()),
    }
}

impl Link {
    /// The connections, if there are any; otherwise a task starts to connect, and the caller does not wait for it.
    fn shards(self: &Arc<Self>, metrics: &AccessMetrics) -> Option<Shards> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Up(shards) => return Some(shards.clone()),
            State::Connecting => return None,
            State::Away(since) if since.is_some_and(|since| since.elapsed() < PAUSE) => return None,
            State::Away(_) => *state = State::Connecting,
        }
        let (link, metrics) = (self.clone(), metrics.clone());
        tokio::spawn(async move {
            match Shards::connect(&link.address, TIMEOUTS).await {
                Ok(shards) => {
                    tracing::info!("limits are shared through Redis");
                    link.told.store(false, Ordering::Relaxed);
                    metrics.shared_up.set(1);
                    *link.state.lock().unwrap_or_else(PoisonError::into_inner) = State::Up(shards);
                }
                Err(failure) => link.lost(&failure, &metrics),
            }
        });
        None
    }

    fn lost(&self, failure: &RedisFailure, metrics: &AccessMetrics) {
        metrics.shared_up.set(0);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(%failure, "limits are not shared: each process counts on its own until Redis answers");
        }
        *state = State::Away(Some(Instant::now()));
    }
}
