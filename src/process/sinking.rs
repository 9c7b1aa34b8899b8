//! The sinks of a process.

use super::Site;
use crate::commands::{Addresses, CacheAddress, Failure};
use prometheus::IntCounter;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tally_cache::redis::RedisAddress;
use tally_cache::{Admit, CacheLimits, MemoryCache};
use tally_sinks::{
    Database, MemoryTarget, RedisTarget, Retention, SinkConfig, SinkKind, SinkMetrics, SinkTask, SinkThread, Target,
    ValueType,
};
use tally_streams::topology::Sink;
use tokio_util::sync::CancellationToken;

/// How often the sinks are looked after.
const WATCH: Duration = Duration::from_millis(200);

/// The running sinks.
pub struct SinkSide {
    threads: Vec<SinkThread>,
    /// What the cache sinks fill.
    pub cache: Cache,
}

/// What the cache sinks fill.
pub enum Cache {
    /// A cache of this process.
    Memory(Arc<MemoryCache>),
    /// A Redis.
    Redis(RedisAddress),
}

/// Starts every sink of the topology.
pub fn sinks(site: &Site, addresses: &Addresses) -> Result<SinkSide, Failure> {
    let database = addresses.database()?;
    let instance = instance(site.state.path())?;
    let metrics = SinkMetrics::register(&site.registry).map_err(Failure::no)?;
    let cache = match addresses.cache()? {
        CacheAddress::Memory => Cache::Memory(MemoryCache::new(CacheLimits::default(), Admit::All)),
        CacheAddress::Redis(address) => Cache::Redis(address),
    };
    let mut threads = Vec::new();
    for sink in &site.topology.sinks {
        let config = config(site, sink, &instance)?;
        let target: Box<dyn Target> = match config.kind {
            SinkKind::Database => Box::new(Database::open(database, retention(site)).map_err(Failure::usage)?),
            SinkKind::Cache => cache_target(&cache, metrics.refills(&config.name))?,
        };
        let task = SinkTask::new(config, site.log.clone(), target, &metrics);
        threads.push(SinkThread::spawn(task).map_err(Failure::no)?);
    }
    Ok(SinkSide { threads, cache })
}

fn cache_target(cache: &Cache, refills: IntCounter) -> Result<Box<dyn Target>, Failure> {
    Ok(match cache {
        Cache::Memory(cache) => Box::new(MemoryTarget::new(cache.clone())),
        Cache::Redis(address) => Box::new(RedisTarget::new(address.clone(), refills).map_err(Failure::no)?),
    })
}

/// A name of this process that survives restarts, as its state directory does: groups know their members by it.
fn instance(state_dir: &Path) -> Result<String, Failure> {
    let path = state_dir.join("instance");
    let failed = |e: std::io::Error| Failure::usage(format!("{}: {e}", path.display()));
    match std::fs::read_to_string(&path) {
        Ok(name) if !name.trim().is_empty() => return Ok(name.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(_) | Err(_) => {}
    }
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| Failure::no(format!("the system gives no random bytes: {e}")))?;
    let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(&path, &name).map_err(failed)?;
    Ok(name)
}

fn config(site: &Site, sink: &Sink, instance: &str) -> Result<SinkConfig, Failure> {
    let topic = |name: &String| {
        let value = site.topology.topics.get(name).map_or("", |topic| topic.value.as_str());
        let value_type = ValueType::from_name(value);
        let value_type = value_type.ok_or_else(|| Failure::usage(format!("sink `{}` cannot read `{name}`", sink.name)));
        Ok((name.clone(), value_type?))
    };
    let group = format!("{}-sink-{}", site.topology.settings.application, sink.name);
    Ok(SinkConfig {
        name: sink.name.clone(),
        member: format!("{group}-{instance}"),
        group,
        kind: if sink.kind == "cache" { SinkKind::Cache } else { SinkKind::Database },
        topics: sink.from.iter().map(topic).collect::<Result<_, Failure>>()?,
        records_max: sink.records_max,
        linger: sink.linger,
    })
}

/// Rows are kept for as long as their topics say.
fn retention(site: &Site) -> Retention {
    let default = Retention::default();
    let of = |value: &str, default: Duration| {
        let topic = site.topology.topics.values().find(|topic| topic.value == value);
        topic.and_then(|topic| topic.spec.retention).unwrap_or(default)
    };
    Retention {
        verdicts: of("verdict", default.verdicts),
        dead_letters: of("raw", default.dead_letters),
        counter_windows: of("counter", default.counter_windows),
    }
}

impl SinkSide {
    /// Returns when a sink has ended by itself: it cannot go on.
    pub async fn watch(&self, stopping: &CancellationToken) {
        while !self.threads.iter().any(SinkThread::is_finished) {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(WATCH) => {}
            }
        }
    }

    /// Writes what has been read, and ends.
    pub fn stop(self) -> Result<(), Failure> {
        self.threads.iter().for_each(SinkThread::stop);
        let outcomes: Vec<_> = self.threads.into_iter().map(SinkThread::join).collect();
        outcomes.into_iter().collect::<Result<(), _>>().map_err(Failure::no)
    }
}
