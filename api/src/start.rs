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
use crate::reads::totals::Template;
use crate::reads::view_metrics::measure_view;
use crate::reads::warm_up::warm_up;
use crate::reads::{Caches, Reads};
use crate::state::Api;
use prometheus::Registry;
use std::hash::BuildHasher;
use std::sync::Arc;
use tally_model::ReceiptKey;
use tally_streams::log::{Log, Time};

/// What the API is put together from.
pub struct Parts {
    /// The parts of the topology that the API uses.
    pub config: ApiConfig,
    /// The graph, for those who draw it.
    pub topology: TopologyAnswer,
    /// For positions, and for the time of a receipt.
    pub log: Arc<dyn Log>,
    /// What the database sink writes.
    pub database: Arc<ReadDatabase>,
    /// The caches in front of the database.
    pub caches: Caches,
    /// What signed the receipts.
    pub receipt_key: ReceiptKey,
    /// What time it is.
    pub clock: Time,
    /// The live streams.
    pub live: LiveConfig,
    /// The other processes, for those who watch all of them.
    pub peers: Vec<Peer>,
}

impl Api {
    /// Puts the parts together and makes the metrics known to a registry. Call it within a tokio runtime.
    pub fn new(parts: Parts, registry: &Registry) -> Result<Arc<Self>, prometheus::Error> {
        let Parts { config, topology, log, database, caches, receipt_key, clock, live, peers } = parts;
        let append_times = AppendTimes::new(log.clone(), &config.input_topic);
        let template = Template::new(&config.metrics);
        let topology = topology.with_metrics(&config);
        let metrics = ApiMetrics::register(registry)?;
        let has_view = caches.redis.is_some();
        // Random, so that no id of another process is taken for one of this.
        let process = std::hash::RandomState::new().hash_one(clock().wall_ms);
        let reads = Reads::new(config, template, caches, database.clone(), metrics);
        let live = Live::start(live, process, reads.clone(), receipt_key.clone());
        let progress = ProgressReader::new(reads.clone(), log.clone(), clock.clone());
        let processes = Arc::new(Processes::new(registry.clone(), process, peers)?);
        processes::start(&processes, &progress, &database, clock.clone());
        // Without a Redis, the cache in this process has everything.
        if has_view {
            tokio::spawn(warm_up(Arc::downgrade(&reads)));
            tokio::spawn(measure_view(Arc::downgrade(&reads), log.clone(), clock.clone()));
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
        }))
    }
}
