//! The reads of a process: what its sinks write, seen through the API.

use super::sinking::SinkSide;
use super::{Site, now_ms};
use crate::commands::{CacheAddress, Failure, ReadArgs, StoreArgs};
use std::sync::Arc;
use tally_api::{Api, ApiConfig, CountersCache, Marks, OutputTopic, Parts, ReadDatabase, Totals, router};
use tally_cache::MemoryCache;
use tally_http::Check;
use tally_model::RootPosition;
use tally_processors::{MetricKind, metrics};
use tokio::sync::watch;
use utoipa_axum::router::OpenApiRouter;

/// The edge type of totals: the topic that has them is the one that the API reads from, whatever its name.
const COUNTERS: &str = "counters";

/// The sink's cache, as the API wants it.
struct CacheReader {
    cache: Arc<MemoryCache>,
    /// The topic of totals.
    topic: String,
}

impl CountersCache for CacheReader {
    fn get(&self, subject_id: &str) -> Option<Totals> {
        self.cache.get(subject_id).map(|cached| cached.counters.to_vec())
    }

    fn roots(&self, partition: u32) -> Arc<[RootPosition]> {
        self.cache.roots(&self.topic, partition)
    }

    fn ready(&self) -> bool {
        self.cache.ready()
    }

    fn subscribe(&self) -> watch::Receiver<u64> {
        self.cache.subscribe()
    }
}

/// The API's routes, over the database and the cache that `sinks` fill in this process; and what has to be well.
pub fn read_side(
    site: &Site,
    stores: &StoreArgs,
    reads: &ReadArgs,
    sinks: Option<&SinkSide>,
) -> Result<(OpenApiRouter, Check), Failure> {
    let config = config(site)?;
    let topic = config.counters_topic.clone();
    let cached = site.topology.sinks.iter().any(|sink| sink.kind == "cache" && sink.from.contains(&topic));
    let cache = match reads.cache(stores)? {
        CacheAddress::Memory => sinks.filter(|_| cached).and_then(|sinks| sinks.cache.clone()),
        CacheAddress::Redis(_) => None,
    };
    let cache = cache.map(|cache| Arc::new(CacheReader { cache, topic }) as Arc<dyn CountersCache>);
    let database = ReadDatabase::open(reads.database(stores)?)
        .map_err(|e| Failure::usage(format!("the database that the API reads: {e}")))?;
    let parts = Parts {
        config,
        log: site.log.clone(),
        database,
        cache,
        receipt_key: site.receipt_key(),
        clock: Arc::new(now_ms),
    };
    let api = Api::new(parts, &site.registry).map_err(Failure::no)?;
    let check = api.check();
    Ok((router(api), check))
}

fn config(site: &Site) -> Result<ApiConfig, Failure> {
    let topology = &site.topology;
    let root = &topology.subtopologies[0];
    let (counters_topic, counters) =
        topology.topics.iter().find(|(_, topic)| topic.value == COUNTERS).ok_or_else(|| {
            Failure::usage(
                "the topology has no topic with `value: counters`: the API reads its totals from what such a topic feeds",
            )
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
        counters_topic: counters_topic.clone(),
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
