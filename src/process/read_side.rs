//! The reads of a process: what its sinks write, seen through the API.

use super::Site;
use super::graph::graph;
use super::grpc::Methods;
use super::ingest::CallerRules;
use super::sinking::SinkSide;
use super::stores::Stores;
use crate::commands::{CacheAddress, Failure, PageArgs, ReadArgs};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tally_access::Routes;
use tally_api::{
    Api, ApiConfig, Caches, CollectEvents, Collects, CollectsParts, LiveConfig, Marks, Metric, OutputTopic, Parts,
    PrivateKinds, Rankings, ReadDatabase, WriteAddress, collects_router, router,
};
use tally_cache::MemoryCache;
use tally_http::Check;
use tally_model::{OutputType, WindowSpec};
use tally_processors::{Actions, MetricSpec, metrics, owned_toggle, private_kinds};
use tally_sinks::StoreKind;
use tally_streams::log::Now;
use tally_streams::topology::{Route, Subtopology, Target, Topology};
use tokio_util::sync::CancellationToken;

/// Outbox rows that another process has not sent for this long are sent by this one.
const TAKEOVER_AFTER: Duration = Duration::from_secs(2);

/// Clients may cache a board for a second; this much of it is spent here.
const BOARD_PAGES_FOR: Duration = Duration::from_millis(100);

/// The API's routes, over the database and the cache that `sinks` fill in this process, and its health check. The same
/// over gRPC goes to `methods`.
/// `stopping` ends its live streams.
pub fn read_side(
    site: &Site,
    (reads, page): (&ReadArgs, &PageArgs),
    callers: &CallerRules,
    sinks: Option<&SinkSide>,
    stopping: &CancellationToken,
    methods: &mut Methods,
) -> Result<(Routes, Check), Failure> {
    let stores = site.stores.as_ref().ok_or_else(|| Failure::no("an API needs stores"))?;
    let config = api_config(&site.topology, stores)?;
    let caches = match stores.has(&site.topology, StoreKind::Cache, &config.counters_topic) {
        true => caches(&config, reads.cache(&stores.cache)?, sinks.and_then(|sinks| sinks.cache.clone())),
        false => Caches::default(),
    };
    let replica = reads.database()?;
    let database = ReadDatabase::open(replica.as_ref().unwrap_or(&stores.database).as_str())
        .map_err(|e| Failure::usage(format!("the database that the API reads: {e}")))?;
    let parts = Parts {
        config,
        topology: graph(&site.topology),
        log: site.log.clone(),
        database,
        caches,
        receipt_key: site.receipt_key(),
        clock: Arc::new(Now::of_system),
        live: LiveConfig { streams_max: reads.live_streams, stopping: stopping.clone() },
        peers: page.peers()?,
    };
    let api = Api::new(parts, &site.registry).map_err(Failure::no)?;
    let check = api.check();
    methods.reads(&api);
    let mut routes = router(api);
    if let Some(collects) = collects(site, stores, callers)? {
        methods.collects(collects.clone());
        routes = routes.merge(collects_router(collects));
    }
    Ok((routes, check))
}

/// The caches that the API reads before the database. A view beside Redis has all boards, whether or not a sink writes
/// them to Redis.
fn caches(config: &ApiConfig, address: CacheAddress, in_process: Option<Arc<MemoryCache>>) -> Caches {
    let redis = match address {
        CacheAddress::Memory => None,
        CacheAddress::Redis(address) => Some(address),
    };
    let has_boards = redis.is_some() || config.rankings.as_ref().is_some_and(|rankings| rankings.cached);
    Caches { boards: in_process.clone().filter(|_| has_boards), totals: in_process, redis }
}

/// The collects of the API, if the topology has a toggle that the database owns.
fn collects(site: &Site, stores: &Stores, callers: &CallerRules) -> Result<Option<Arc<Collects>>, Failure> {
    let Some(owned) = owned_toggle(&site.topology) else { return Ok(None) };
    let database = WriteAddress::parse(stores.database.as_str())
        .map_err(|e| Failure::usage(format!("the database that the API writes collects to: {e}")))?;
    let root = site.topology.root.clone();
    let partitions = site.log.partitions(&root).map_err(Failure::no)?;
    let parts = CollectsParts {
        database,
        events: CollectEvents { on: owned.on.into(), off: owned.off.into() },
        topic: (root, partitions),
        appender: site.log.appender().map_err(Failure::no)?,
        receipt_key: site.receipt_key(),
        clock: site.trusted_clock(),
        limits: Some(callers.limits.clone()),
        trusted_proxies: callers.trusted_proxies.clone(),
        private_kinds: PrivateKinds::new(private_kinds(&site.topology)),
        // An embedded log has one process, so rows that another process left can be sent at once.
        takeover_after: site.watch.as_ref().map_or(Duration::ZERO, |_| TAKEOVER_AFTER),
    };
    Ok(Some(Collects::start(parts, &site.registry).map_err(Failure::no)?))
}

/// The parts of the topology that the API uses.
pub fn api_config(topology: &Topology<Actions>, stores: &Stores) -> Result<ApiConfig, Failure> {
    let root = &topology.subtopologies[0];
    let (counters_topic, counters) =
        topology.topics.iter().find(|(_, topic)| topic.value == OutputType::Counters.name()).ok_or_else(|| {
            Failure::usage(
                "the topology has no topic with `value: counters`: the API reads its totals from what such a topic feeds",
            )
        })?;
    // Only topics that the database takes can be waited for there.
    let stored = |name: &str| stores.has(topology, StoreKind::Database, name);
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
    let mut windows = BTreeMap::<WindowSpec, Vec<String>>::new();
    for metric in &metrics {
        metric.windows.iter().for_each(|window| windows.entry(*window).or_default().push(metric.name.clone()));
    }
    let of_type = |wanted: OutputType| {
        outputs.iter().find(|output| topology.topics[&output.name].value == wanted.name()).cloned()
    };
    let (reactions, windows_topic) = (of_type(OutputType::Reaction), of_type(OutputType::CounterWindow));
    let rankings = of_type(OutputType::Ranking).map(|topic| Rankings {
        pages_for: BOARD_PAGES_FOR,
        cached: stores.has(topology, StoreKind::Cache, &topic.name),
        nodes: boards(topology),
        topic,
    });
    let mut dead_letters = (topology.subtopologies.iter())
        .filter_map(|subtopology| Some(&*subtopology.outputs[subtopology.dead_letters?].topic));
    if windows_topic.is_none() {
        windows.clear();
    }
    Ok(ApiConfig {
        input_topic: topology.root.to_string(),
        input_partitions: root.partitions,
        group: topology.settings.application.clone(),
        counters_topic: counters_topic.clone(),
        counters_partitions: counters.spec.partitions,
        reactions,
        windows,
        windows_topic,
        outputs,
        collects: owned_toggle(topology).map(|owned| owned.metric),
        toggles: writers(topology, OutputType::Reaction),
        rankings,
        dead_letters: dead_letters.any(stored),
        private_kinds: PrivateKinds::new(private_kinds(topology)),
        metrics: metrics.into_iter().map(metric).collect(),
    })
}

/// What the API needs of a metric.
fn metric(spec: MetricSpec) -> Metric {
    let MetricSpec { name, kind, value, totals, .. } = spec;
    Metric { name, value_type: value, of_nothing: kind.of_nothing(), totals, estimate: kind.estimate() }
}

/// The names of the boards: per node that writes them, the overall one and one for each group.
fn boards(topology: &Topology<Actions>) -> Vec<String> {
    let writers = writers(topology, OutputType::Ranking);
    let nodes = topology.subtopologies.iter().flat_map(|subtopology| &subtopology.nodes);
    let nodes = nodes.filter(|node| writers.iter().any(|writer| **writer == *node.name));
    nodes.flat_map(|node| node.facts.boards.iter().cloned()).collect()
}

/// The nodes that write to topics of this type, in the order of the file. For reactions, these are the metrics of the
/// rows.
fn writers(topology: &Topology<Actions>, output: OutputType) -> Vec<String> {
    let of = |subtopology: &Arc<Subtopology<Actions>>| {
        let writes = |target: &Target| {
            let Target::Output(index) = target else { return false };
            topology.topics[&*subtopology.outputs[*index].topic].value == output.name()
        };
        let nodes = subtopology.nodes.iter().filter(|node| node.routes.iter().flat_map(Route::targets).any(writes));
        nodes.map(|node| node.name.to_string()).collect::<Vec<_>>()
    };
    topology.subtopologies.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{DATABASE, StoreArgs};
    use tally_processors::REGISTRY;
    use tally_sinks::SINK_TYPES;

    fn configured(text: &str) -> ApiConfig {
        let topology = Topology::load("topology.yaml", text, REGISTRY, SINK_TYPES).unwrap();
        let args = StoreArgs { database: DATABASE.into(), cache: "memory:".into() };
        let stores = Stores::of(&topology, &args, |_| None).unwrap();
        api_config(&topology, &stores).unwrap()
    }

    #[test]
    fn every_read_finds_the_topic_it_answers_from() {
        let text = include_str!("../../topology.yaml");
        let shipped = configured(text);
        assert_eq!(shipped.counters_topic, "counters");
        assert_eq!(shipped.reactions.map(|topic| topic.name).as_deref(), Some("reactions"));
        assert_eq!(shipped.toggles, ["likes", "follows"]);
        assert_eq!(shipped.collects.as_deref(), Some("collects"));
        assert_eq!(shipped.windows_topic.map(|topic| topic.name).as_deref(), Some("counter-windows"));
        // A topic with boards has its readers only where the file has a node that writes it.
        assert_eq!(shipped.rankings.is_some(), text.contains("to: rankings"));
        let grouped =
            text.replace("half_life: 6h,", "half_life: 6h, group: properties.section, groups: [sports, news],");
        let boards = configured(&grouped).rankings.map(|rankings| rankings.nodes).unwrap_or_default();
        assert_eq!(boards[..3], ["hot", "hot@sports", "hot@news"]);
        // Topics that the database of the API does not store cannot be read from it.
        let elsewhere = configured(&text.replace(
            "\n  database: {",
            "\n  archive: { type: database, from: [reactions, rankings], url: \"sqlite:archive.db\" }\n  database: {",
        ));
        assert_eq!(elsewhere.outputs, configured(text).outputs);
        let unstored = configured(&text.replace("counter-windows, reactions, ", "counter-windows, "));
        assert_eq!((unstored.reactions, unstored.toggles), (None, vec!["likes".to_owned(), "follows".to_owned()]));
        let private = configured(include_str!("../../docs/cookbook/ips.yaml")).private_kinds;
        assert_eq!((private, shipped.private_kinds), (PrivateKinds::new(["ip".to_owned()]), PrivateKinds::default()));
    }
}
