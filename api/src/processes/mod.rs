//! `GET /v1/processes`: what this process and the others that it is told of report of themselves.
//!
//! A browser may ask only the server that its page came from. So that server asks the others, with a key of its own.

pub mod history;
mod peer;

pub use peer::{Peer, PeerError};

use crate::routes::progress;
use crate::routes::query::Query;
use crate::routes::reply::of_moment;
use crate::state::Api;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use history::History;
use prometheus::{IntGauge, Opts, Registry, TextEncoder};
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use tally_http::ApiProblem;
use tokio::task::JoinSet;
use tokio::time::sleep;
use utoipa::ToSchema;

/// However many consoles are open, the others are asked at most so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The metric that tells processes apart.
const INFO: &str = "tally_api_process_info";
/// How often a sample goes into the history.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// This process and the others.
pub struct Processes {
    registry: Registry,
    /// A line of this process's metrics that no other process has.
    mark: String,
    peers: Vec<Arc<Peer>>,
    /// What they reported last, and when that was.
    seen: tokio::sync::Mutex<Option<(Instant, Arc<Vec<ProcessItem>>)>>,
    history: Mutex<History>,
}

/// What the processes report of themselves.
#[derive(Serialize, ToSchema)]
pub struct ProcessesAnswer {
    /// This process first, then those that it was told of, in that order.
    #[schema(value_type = Vec<ProcessItem>)]
    items: Arc<Vec<ProcessItem>>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ProcessItem {
    /// As in `--peers`; absent for the process that answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub address: Option<String>,
    /// Its metrics as Prometheus text; absent where it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub metrics: Option<String>,
    /// Why there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<String>,
}

impl Processes {
    /// This process, which has a registry, and the others. `process` tells it from every other one.
    pub fn new(registry: Registry, process: u64, peers: Vec<Peer>) -> prometheus::Result<Self> {
        let id = format!("{process:016x}");
        let mark = format!("{INFO}{{process=\"{id}\"}} ");
        let info = IntGauge::with_opts(Opts::new(INFO, "Tells this process from others.").const_label("process", id))?;
        info.set(1);
        registry.register(Box::new(info))?;
        let peers = peers.into_iter().map(Arc::new).collect();
        Ok(Self { registry, mark, peers, seen: tokio::sync::Mutex::default(), history: Mutex::default() })
    }

    /// What all of them report, at most a second old.
    async fn look(&self) -> Arc<Vec<ProcessItem>> {
        // Whoever comes meanwhile waits for the same look.
        let mut seen = self.seen.lock().await;
        if let Some((at, items)) = &*seen
            && at.elapsed() < LOOK_EVERY
        {
            return items.clone();
        }
        let mut asked = JoinSet::new();
        for (place, peer) in self.peers.iter().cloned().enumerate() {
            asked.spawn(async move { (place, peer.look().await) });
        }
        let mut others: Vec<_> = asked.join_all().await;
        others.sort_by_key(|(place, _)| *place);
        // One list of all processes is given to all of them: this one must not be counted twice.
        let is_other = |item: &ProcessItem| item.metrics.as_deref().is_none_or(|text| !text.contains(&self.mark));
        let others = others.into_iter().map(|(_, item)| item).filter(is_other);
        let items: Vec<_> = std::iter::once(self.own()).chain(others).collect();
        let items = Arc::new(items);
        *seen = Some((Instant::now(), items.clone()));
        items
    }

    fn own(&self) -> ProcessItem {
        let metrics = TextEncoder::new().encode_to_string(&self.registry.gather());
        let error = metrics.as_ref().err().map(ToString::to_string);
        ProcessItem { address: None, metrics: metrics.ok(), error }
    }
}

/// Samples what happens for as long as the API is there.
pub fn start(api: &Arc<Api>) {
    let api = Arc::downgrade(api);
    tokio::spawn(async move {
        while sample(&api).await {
            sleep(SAMPLE_EVERY).await;
        }
    });
}

/// Takes one sample; false where there is no API any more.
async fn sample(api: &Weak<Api>) -> bool {
    let Some(api) = api.upgrade() else { return false };
    let progress = match progress::read(&api, api.database.progress_aside()).await {
        Ok(progress) => Some(progress),
        Err(error) => {
            tracing::debug!("no progress for the history: {error}");
            None
        }
    };
    let processes = api.processes.look().await;
    let mut history = api.processes.history.lock().unwrap_or_else(PoisonError::into_inner);
    history.take((api.clock)().wall_ms, progress.as_ref(), &processes);
    true
}

/// What the processes report of themselves: this one, and those that it was told of with `--peers`.
#[utoipa::path(
    get,
    path = "/v1/processes",
    tag = "operations",
    responses(
        (status = 200, description = "Of each process its metrics, or why there are none", body = ProcessesAnswer),
        (status = 400, description = "A parameter: it takes none", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn processes(State(api): State<Arc<Api>>, RawQuery(query): RawQuery) -> Result<Response, ApiProblem> {
    Query::parse(query.as_deref(), &[])?;
    of_moment(&ProcessesAnswer { items: api.processes.look().await })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_http::metrics_page;

    /// The address at which a registry's metrics are served.
    async fn served(registry: &Registry) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, metrics_page(registry.clone())).into_future());
        address
    }

    #[tokio::test]
    async fn a_process_that_is_told_of_itself_is_one_and_what_does_not_answer_says_why() {
        let registries = [Registry::new(), Registry::new(), Registry::new()];
        let addresses = [served(&registries[0]).await, served(&registries[1]).await, served(&registries[2]).await];
        let gone = "http://127.0.0.1:1".to_owned();
        let peers = addresses.iter().chain([&gone]).map(|address| Peer::new(address, None).unwrap());
        let processes = Processes::new(registries[0].clone(), 7, peers.collect()).unwrap();
        let _other = Processes::new(registries[1].clone(), 8, Vec::new()).unwrap();
        let items = processes.look().await;
        let told: Vec<_> = items.iter().map(|item| (item.address.as_deref(), item.error.as_deref())).collect();
        assert_eq!(told[..2], [(None, None), (Some(&*addresses[1]), None)]);
        let strange = (Some(&*addresses[2]), Some("is no tally: its /metrics has none of tally's"));
        assert_eq!((told[2], told[3].0), (strange, Some(&*gone)));
        assert!(told[3].1.is_some_and(|error| error.contains("refused")), "{told:?}");
        assert_eq!(items.len(), 4);
    }
}
