//! The API's parts, and its routes.

use crate::answers::board_pages::BoardPages;
use crate::config::ApiConfig;
use crate::database::ReadDatabase;
use crate::live::{self, Live, LiveConfig};
use crate::metrics::ApiMetrics;
use crate::processes::{self, Peer, Processes};
use crate::reads::append_times::AppendTimes;
use crate::reads::boards::Flights;
use crate::reads::feed::{Feed, Follower};
use crate::reads::ladder::{Caches, Loader};
use crate::reads::redis::RedisStore;
use crate::reads::totals::Template;
use crate::reads::warm_up::warm_up;
use crate::routes::topology::TopologyAnswer;
use crate::routes::{counters, dead_letters, progress, rankings, reactions, receipts, topology};
use prometheus::Registry;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex};
use tally_cache::redis::RedisAddress;
use tally_cache::{Admit, CacheLimits, MemoryCache};
use tally_http::Check;
use tally_model::ReceiptKey;
use tally_streams::log::{Lag, Log, Time};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

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
    /// What is asked before the database.
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

/// What is asked before the database.
pub enum CacheLayer {
    /// Nothing: the database serves every read.
    None,
    /// The cache in this process, which a sink fills.
    Memory(Arc<MemoryCache>),
    /// Redis, which a sink fills; and before it a cache in this process of what is asked for and of all boards, which the
    /// API keeps current by itself.
    Redis(RedisAddress),
}

/// What the cache may hold that the API keeps current by itself: some 200,000 subjects.
const VIEW_LIMITS: CacheLimits = CacheLimits { size_bytes_max: 64 << 20 };

/// The state behind the routes.
pub struct Api {
    pub(crate) config: ApiConfig,
    pub(crate) topology: Arc<TopologyAnswer>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) database: Arc<ReadDatabase>,
    pub(crate) loader: Arc<Loader>,
    pub(crate) receipt_key: ReceiptKey,
    pub(crate) clock: Time,
    /// By root partition, for as long as events wait there.
    pub(crate) lags: Mutex<HashMap<u32, Lag>>,
    pub(crate) append_times: AppendTimes,
    /// All boards, where somebody in this process fills it.
    pub(crate) boards: Option<Arc<MemoryCache>>,
    /// Reads of boards under way.
    pub(crate) board_flights: Flights,
    /// Their first pages, as they were a moment ago.
    pub(crate) board_pages: BoardPages,
    pub(crate) live: Live,
    pub(crate) processes: Processes,
    /// End with the last request.
    _feeds: Vec<Feed>,
}

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
        let (mut feeds, mut boards) = (Vec::new(), None);
        let mut subjects = None;
        let (cache, redis) = match cache {
            CacheLayer::None => (None, None),
            CacheLayer::Memory(cache) => {
                boards = config.rankings.as_ref().filter(|rankings| rankings.cached).map(|_| cache.clone());
                subjects = Some(cache.clone());
                (Some(cache), None)
            }
            CacheLayer::Redis(address) => {
                let view = MemoryCache::new(VIEW_LIMITS, Admit::Asked);
                let (topic, partitions) = (&config.counters_topic, config.counters_partitions);
                let progress = config.progress_topic.as_deref();
                let follower = Follower::of_totals(log.clone(), topic, partitions, view.clone(), template.clone());
                let follower = follower.with_progress(progress);
                feeds.push(Feed::spawn("api-feed", follower, metrics.clone(), clock.clone())?);
                let known = subjects.insert(MemoryCache::of_all(CacheLimits { size_bytes_max: 0 })).clone();
                let follower = Follower::of_subjects(log.clone(), topic, partitions, known).with_progress(progress);
                feeds.push(Feed::spawn("api-feed-ids", follower, metrics.clone(), clock.clone())?);
                if let Some(topic) = config.rankings.as_ref().map(|rankings| &rankings.topic) {
                    let view = boards.insert(MemoryCache::new(VIEW_LIMITS, Admit::All)).clone();
                    let follower = Follower::of_boards(log.clone(), &topic.name, topic.partitions, view);
                    let follower = follower.with_progress(progress);
                    feeds.push(Feed::spawn("api-feed-boards", follower, metrics.clone(), clock.clone())?);
                }
                (Some(view), Some(RedisStore::new(address, template.clone())))
            }
        };
        // Nobody can foresee it, so no id of another process is taken for one of this.
        let process = std::hash::RandomState::new().hash_one(clock().wall_ms);
        let live = Live::new(live, process, metrics.live.clone());
        let loader =
            Loader::new(&config, template, Caches { totals: cache, subjects, redis }, database.clone(), metrics);
        let api = Self {
            config,
            topology: Arc::new(topology),
            log,
            database,
            loader,
            receipt_key,
            clock,
            lags: Mutex::default(),
            append_times,
            boards,
            board_flights: Flights::default(),
            board_pages: BoardPages::default(),
            live,
            processes: Processes::new(registry.clone(), process, peers)?,
            _feeds: feeds,
        };
        let api = Arc::new(api);
        live::start(&api);
        processes::start(&api);
        // Where a sink fills the cache, everything is there already.
        if api.loader.redis.is_some() {
            tokio::spawn(warm_up(Arc::downgrade(&api)));
        }
        let looking = api.clone();
        tokio::task::spawn_blocking(move || looking.loader.look_at_start(&*looking.log));
        Ok(api)
    }

    /// What has to be well before requests should come: every read may need the database.
    pub fn check(&self) -> Check {
        let database = self.database.clone();
        Check::new("the database", move || {
            let database = database.clone();
            async move { database.progress().await.map(drop).map_err(|_| "does not answer; the log says why".to_owned()) }
        })
    }
}

/// The routes, described for `/openapi.json`.
pub fn router(api: Arc<Api>) -> OpenApiRouter {
    // `collects/{actor_id}` takes PUT and DELETE, and hides the list of that metric from the router: it is given here.
    let owned = api.config.collects.as_ref().map(|_| crate::collects::PATH);
    let routes = match owned {
        Some(path) => OpenApiRouter::new().route(path, axum::routing::get(reactions::owned_actors)),
        None => OpenApiRouter::new(),
    };
    routes
        .routes(routes!(counters::subject_counters))
        .routes(routes!(counters::many_counters))
        .routes(routes!(rankings::rankings))
        .routes(routes!(rankings::ranking))
        .routes(routes!(reactions::actors))
        .routes(routes!(reactions::subjects))
        .routes(routes!(live::live))
        .routes(routes!(receipts::receipt))
        .routes(routes!(progress::progress))
        .routes(routes!(processes::history::history))
        .routes(routes!(processes::processes))
        .routes(routes!(topology::topology))
        .routes(routes!(dead_letters::dead_letters))
        .routes(routes!(dead_letters::reasons))
        .with_state(api)
}
