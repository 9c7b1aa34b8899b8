//! The view of an API beside Redis: a cache of requested subjects and all boards in the API's process.

use super::Site;
use super::read_side::api_config;
use super::stores::Stores;
use crate::commands::{CacheAddress, Failure, ReadArgs};
use prometheus::Registry;
use std::sync::Arc;
use std::time::Duration;
use tally_cache::{Admit, CacheLimits, MemoryCache};
use tally_model::OutputType;
use tally_sinks::{HeadStart, MemoryTarget, SinkConfig, SinkMetrics, SinkTask, SinkThread, StoreKind};

/// How large the view may grow: some 200,000 subjects.
const LIMITS: CacheLimits = CacheLimits { size_bytes_max: 64 << 20 };
/// Records per batch. They do not linger, since a write within this process is cheap.
const RECORDS_MAX: usize = 10_000;

/// Starts the sink that fills the view. None where the API reads no Redis. The API works without the view: while the sink
/// fails, it reads from Redis.
pub fn view(
    site: &Site,
    stores: &Stores,
    reads: &ReadArgs,
    head_start: HeadStart,
) -> Result<Option<(SinkThread, Arc<MemoryCache>)>, Failure> {
    let config = api_config(&site.topology, stores)?;
    if !stores.has(&site.topology, StoreKind::Cache, &config.counters_topic)
        || reads.cache(&stores.cache)? == CacheAddress::Memory
    {
        return Ok(None);
    }
    let rankings = config.rankings.map(|rankings| (rankings.topic.name, OutputType::Ranking));
    let config = SinkConfig {
        name: "api-view".into(),
        // It joins no group, since no other process writes to this cache.
        group: "api-feed".into(),
        member: "api-feed".into(),
        topics: [(config.counters_topic, OutputType::Counters)].into_iter().chain(rankings).collect(),
        progress_topic: Some(site.topology.progress_topic()),
        records_max: RECORDS_MAX,
        linger: Duration::ZERO,
    };
    // The API measures the view; the metrics of sinks are about stores that processes share.
    let metrics = SinkMetrics::register(&Registry::new()).map_err(Failure::no)?;
    let cache = MemoryCache::of_all(LIMITS, Admit::Asked);
    let task = SinkTask::new(config, site.log.clone(), Box::new(MemoryTarget::new(cache.clone())), &metrics);
    let failing = cache.clone();
    let thread = SinkThread::spawn_optional(task, head_start, move || failing.set_ready(false)).map_err(Failure::no)?;
    Ok(Some((thread, cache)))
}
