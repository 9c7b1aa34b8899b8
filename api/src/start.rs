//! How the API is put together.

use crate::answers::board_pages::BoardPages;
use crate::answers::progress::ProgressReader;
use crate::answers::topology::TopologyAnswer;
use crate::config::ApiConfig;
use crate::database::ReadDatabase;
use crate::live::{Live, LiveConfig};
use crate::metrics::ApiMetrics;
use crate::processes::{self, Peer, Processes};
use crate::reads::append_times::AppendTimes;
use crate::reads::feed::{Feed, Follower};
use crate::reads::totals::Template;
use crate::reads::warm_up::warm_up;
use crate::reads::{Caches, Reads};
use crate::state::Api;
use prometheus::Registry;
use std::hash::BuildHasher;
use std::sync::Arc;
use tally_cache::redis::RedisAddress;
use tally_cache::{Admit, CacheLimits, MemoryCache};
use tally_model::ReceiptKey;
use tally_streams::log::{Log, Time};

/// What the API is put together from.
pub struct Parts {
    /// What it has to know of the topology.
    pub config: ApiConfig,
    /// The graph, for those who draw it.
    pub topology: TopologyAnswer,
    /// For positions, and for the time of a receipt.
    pub log: Arc<dyn Log>,
    /// What the database sink writes.
    pub database: Arc<ReadDatabase>,
    /// The cache in front of the database.
    pub cache: CacheLayer,
    /// What signed the receipts.
    pub receipt_key: ReceiptKey,
    /// What time it is.
    pub clock: Time,
    /// The live streams.
    pub live: LiveConfig,
    /// The other processes, for those who watch all of them.
    pub peers: Vec<Peer>,
}

/// The cache in front of the database.
pub enum CacheLayer {
    /// Nothing: the database serves every read.
    None,
    /// The cache in this process, which a sink fills.
    Memory(Arc<MemoryCache>),
    /// Redis, which a sink fills; and before it a cache in this process of requested subjects and all boards, which the
    /// API keeps current by itself.
    Redis(RedisAddress),
}

/// What the cache may hold that the API keeps current by itself: some 200,000 subjects.
const VIEW_LIMITS: CacheLimits = CacheLimits { size_bytes_max: 64 << 20 };

/// Why the API cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Two of a name.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// No thread for the feed.
    #[error("a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl Api {
    /// Puts the parts together and makes the metrics known to a registry. Call it within a tokio runtime.
    pub fn new(parts: Parts, registry: &Registry) -> Result<Arc<Self>, ApiError> {
        let Parts { config, topology, log, database, cache, receipt_key, clock, live, peers } = parts;
        let append_times = AppendTimes::new(log.clone(), &config.input_topic);
        let template = Template::new(&config.metrics, &config.unique_metrics);
        let metrics = ApiMetrics::register(registry)?;
        let (mut caches, mut feeds) = (Caches::default(), Vec::new());
        match cache {
            CacheLayer::None => {}
            CacheLayer::Memory(cache) => {
                let has_boards = config.rankings.as_ref().is_some_and(|rankings| rankings.cached);
                caches.boards = has_boards.then(|| cache.clone());
                caches.totals = Some((cache.clone(), cache));
            }
            CacheLayer::Redis(address) => {
                let views = Views { config: &config, log: &log, metrics: &metrics, clock: &clock };
                feeds = views.feed(&template, &mut caches)?;
                caches.redis = Some(address);
            }
        }
        let is_fed = !feeds.is_empty();
        // Random, so that no id of another process is taken for one of this.
        let process = std::hash::RandomState::new().hash_one(clock().wall_ms);
        let reads = Reads::new(config, template, caches, database.clone(), metrics);
        let live = Live::start(live, process, reads.clone(), receipt_key.clone());
        let progress = ProgressReader::new(reads.clone(), log.clone(), clock.clone());
        let processes = Arc::new(Processes::new(registry.clone(), process, peers)?);
        processes::start(&processes, &progress, &database, clock.clone());
        // Where a sink fills the cache, everything is there already.
        if is_fed {
            tokio::spawn(warm_up(Arc::downgrade(&reads)));
        }
        let totals = reads.totals.clone();
        tokio::task::spawn_blocking(move || totals.look_at_start(&*log));
        Ok(Arc::new(Self {
            topology: Arc::new(topology),
            reads,
            progress,
            append_times,
            board_pages: BoardPages::default(),
            live,
            processes,
            receipt_key,
            clock,
            _feeds: feeds,
        }))
    }
}

/// What the caches are fed from that the API keeps current by itself.
struct Views<'a> {
    config: &'a ApiConfig,
    log: &'a Arc<dyn Log>,
    metrics: &'a ApiMetrics,
    clock: &'a Time,
}

impl Views<'_> {
    /// Makes the caches, and starts the feeds that keep them current.
    fn feed(&self, template: &Arc<Template>, caches: &mut Caches) -> std::io::Result<Vec<Feed>> {
        let Self { config, log, metrics, clock } = *self;
        let progress = config.progress_topic.as_deref();
        let spawn = |name: &str, follower: Follower| {
            Feed::spawn(name, follower.with_progress(progress), metrics.clone(), clock.clone())
        };
        let (topic, partitions) = (config.counters_topic.as_str(), config.counters_partitions);
        let view = MemoryCache::new(VIEW_LIMITS, Admit::Asked);
        let subjects = MemoryCache::of_all(CacheLimits { size_bytes_max: 0 });
        let totals = Follower::of_totals(log.clone(), topic, partitions, view.clone(), template.clone());
        let ids = Follower::of_subjects(log.clone(), topic, partitions, subjects.clone());
        let mut feeds = vec![spawn("api-feed", totals)?, spawn("api-feed-ids", ids)?];
        caches.totals = Some((view, subjects));
        if let Some(topic) = config.rankings.as_ref().map(|rankings| &rankings.topic) {
            let view = caches.boards.insert(MemoryCache::new(VIEW_LIMITS, Admit::All)).clone();
            let boards = Follower::of_boards(log.clone(), &topic.name, topic.partitions, view);
            feeds.push(spawn("api-feed-boards", boards)?);
        }
        Ok(feeds)
    }
}
