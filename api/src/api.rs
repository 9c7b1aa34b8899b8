//! The API's parts, and its routes.

use crate::appended::AppendTimes;
use crate::cache::CountersCache;
use crate::config::ApiConfig;
use crate::database::ReadDatabase;
use crate::metrics::ApiMetrics;
use crate::totals::Template;
use crate::{counters, progress, receipts};
use prometheus::Registry;
use std::sync::Arc;
use tally_http::Check;
use tally_model::ReceiptKey;
use tally_streams::log::Log;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What the API is put together from.
pub struct Parts {
    /// What it has to know of the topology.
    pub config: ApiConfig,
    /// For positions, and for the time of a receipt.
    pub log: Arc<dyn Log>,
    /// What the database sink writes.
    pub database: Arc<ReadDatabase>,
    /// What the cache sink writes; without one the database serves every read.
    pub cache: Option<Arc<dyn CountersCache>>,
    /// What signed the receipts.
    pub receipt_key: ReceiptKey,
    /// Milliseconds since 1970.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
}

/// The state behind the routes.
pub struct Api {
    pub(crate) config: ApiConfig,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) database: Arc<ReadDatabase>,
    pub(crate) cache: Option<Arc<dyn CountersCache>>,
    pub(crate) receipt_key: ReceiptKey,
    pub(crate) clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    pub(crate) append_times: AppendTimes,
    pub(crate) template: Template,
    pub(crate) metrics: ApiMetrics,
}

impl Api {
    /// Puts the parts together and makes the metrics known to a registry.
    pub fn new(parts: Parts, registry: &Registry) -> Result<Arc<Self>, prometheus::Error> {
        let Parts { config, log, database, cache, receipt_key, clock } = parts;
        let append_times = AppendTimes::new(log.clone(), &config.input_topic);
        let template = Template::new(&config.metrics, &config.unique_metrics);
        let metrics = ApiMetrics::register(registry)?;
        Ok(Arc::new(Self { config, log, database, cache, receipt_key, clock, append_times, template, metrics }))
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
    OpenApiRouter::new()
        .routes(routes!(counters::subject_counters))
        .routes(routes!(counters::many_counters))
        .routes(routes!(receipts::receipt))
        .routes(routes!(progress::progress))
        .with_state(api)
}
