//! The reads of a process: what its sinks write, seen through the API.

use super::{Cache, SinkSide, Site, now_ms};
use crate::commands::{Addresses, CacheAddress, Failure};
use std::sync::Arc;
use tally_api::{Api, ApiConfig, CacheLayer, Marks, OutputTopic, Parts, ReadDatabase, router};
use tally_processors::{MetricKind, metrics};
use utoipa_axum::router::OpenApiRouter;

/// The topic of totals.
const COUNTERS: &str = "counters";

/// The API's routes, over the database and the cache that `sinks` fill.
pub fn read_side(site: &Site, addresses: &Addresses, sinks: &SinkSide) -> Result<OpenApiRouter, Failure> {
    let cached = site.topology.sinks.iter().any(|sink| sink.kind == "cache" && sink.from.iter().any(|t| t == COUNTERS));
    let cache = match (&sinks.cache, addresses.cache_read()?) {
        _ if !cached => CacheLayer::None,
        (Cache::Memory(cache), _) => CacheLayer::Memory(cache.clone()),
        (Cache::Redis(_), CacheAddress::Redis(address)) => CacheLayer::Redis(address),
        (Cache::Redis(_), CacheAddress::Memory) => CacheLayer::None,
    };
    let database = ReadDatabase::open(addresses.database_read()?)
        .map_err(|e| Failure::usage(format!("the database that the API reads: {e}")))?;
    let parts = Parts {
        config: config(site)?,
        log: site.log.clone(),
        database,
        cache,
        receipt_key: site.receipt_key(),
        clock: Arc::new(now_ms),
        checks: Vec::new(),
    };
    Ok(router(Api::new(parts, &site.registry).map_err(Failure::no)?))
}

fn config(site: &Site) -> Result<ApiConfig, Failure> {
    let topology = &site.topology;
    let root = &topology.subtopologies[0];
    let counters = topology.topics.get(COUNTERS).ok_or_else(|| {
        Failure::usage("the topology has no topic `counters`: the API reads its totals from what that topic feeds")
    })?;
    // Only topics that the database takes can be waited for there.
    let stored = |name: &str| {
        topology.sinks.iter().any(|sink| sink.kind == "database" && sink.from.iter().any(|topic| topic == name))
    };
    let mut outputs: Vec<OutputTopic> = Vec::new();
    for subtopology in &topology.subtopologies {
        for output in subtopology.outputs.iter().filter(|output| output.co_partitioned && stored(&output.topic)) {
            if outputs.iter().all(|known| known.name != *output.topic) {
                let marks = if subtopology.upstream.is_none() { Marks::Own } else { Marks::All };
                outputs.push(OutputTopic { name: output.topic.to_string(), partitions: output.partitions, marks });
            }
        }
    }
    let metrics = metrics(topology);
    Ok(ApiConfig {
        input_topic: topology.root.to_string(),
        input_partitions: root.partitions,
        group: topology.settings.application.clone(),
        counters_topic: COUNTERS.to_owned(),
        counters_partitions: counters.spec.partitions,
        outputs,
        unique_metrics: metrics
            .iter()
            .filter(|metric| metric.kind == MetricKind::Unique)
            .map(|metric| metric.name.clone())
            .collect(),
        metrics: metrics.into_iter().map(|metric| metric.name).collect(),
    })
}
