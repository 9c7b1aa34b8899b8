//! What this process and those named by `--peers` report of themselves, and what happened in the last hour.
//!
//! A browser may send requests only to the server that its page came from. So that server queries the others, with a key
//! of its own.

mod history;
mod peer;

pub use history::Sample;
pub use peer::{Peer, PeerError};

use crate::answers::progress::ProgressReader;
use crate::database::ReadDatabase;
use history::History;
use prometheus::{IntGauge, Opts, Registry, TextEncoder};
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use tally_streams::log::Time;
use tokio::task::JoinSet;
use tokio::time::sleep;
use utoipa::ToSchema;

/// How often the others are queried at most, however many consoles are open.
const LOOK_EVERY: Duration = Duration::from_secs(1);
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

/// A process.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ProcessItem {
    /// As in `--peers`; absent for this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub address: Option<String>,
    /// Metrics as Prometheus text; absent if the process does not respond.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub metrics: Option<String>,
    /// Why the metrics are absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<String>,
}

impl Processes {
    /// This process, which has a registry, and the others. `process` distinguishes it from every other one.
    pub fn new(registry: Registry, process: u64, peers: Vec<Peer>) -> prometheus::Result<Self> {
        let id = format!("{process:016x}");
        let info =
            Opts::new("tally_api_process_info", "Always 1; identifies this process among those that the console sees.");
        let mark = format!("{}{{process=\"{id}\"}} ", info.fq_name());
        let info = IntGauge::with_opts(info.const_label("process", id))?;
        info.set(1);
        registry.register(Box::new(info))?;
        let peers = peers.into_iter().map(Arc::new).collect();
        Ok(Self { registry, mark, peers, seen: tokio::sync::Mutex::default(), history: Mutex::default() })
    }

    /// What all of them report, at most a second old.
    pub async fn look(&self) -> Arc<Vec<ProcessItem>> {
        // Requests that come meanwhile wait for the same answers.
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

    /// What happened in the last hour, the oldest first.
    pub fn samples(&self) -> Vec<Sample> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).samples().cloned().collect()
    }

    fn own(&self) -> ProcessItem {
        let metrics = TextEncoder::new().encode_to_string(&self.registry.gather());
        let error = metrics.as_ref().err().map(ToString::to_string);
        ProcessItem { address: None, metrics: metrics.ok(), error }
    }
}

/// Samples what happens for as long as the processes and the reader are there.
pub fn start(processes: &Arc<Processes>, progress: &Arc<ProgressReader>, database: &Arc<ReadDatabase>, clock: Time) {
    let sampler = Sampler {
        processes: Arc::downgrade(processes),
        progress: Arc::downgrade(progress),
        database: Arc::downgrade(database),
        clock,
    };
    tokio::spawn(async move {
        while sampler.sample().await.is_some() {
            sleep(SAMPLE_EVERY).await;
        }
    });
}

/// What a sample is made of.
struct Sampler {
    processes: Weak<Processes>,
    progress: Weak<ProgressReader>,
    database: Weak<ReadDatabase>,
    clock: Time,
}

impl Sampler {
    /// Takes one sample; None where there is nothing to sample any more.
    async fn sample(&self) -> Option<()> {
        let (processes, progress) = (self.processes.upgrade()?, self.progress.upgrade()?);
        let database = self.database.upgrade()?;
        let progress = match progress.read(database.progress_aside()).await {
            Ok(progress) => Some(progress),
            Err(error) => {
                tracing::debug!("no progress for the history: {error}");
                None
            }
        };
        let items = processes.look().await;
        let mut history = processes.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.take((self.clock)().wall_ms, progress.as_ref(), &items);
        Some(())
    }
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
        let shown: Vec<_> = items.iter().map(|item| (item.address.as_deref(), item.error.as_deref())).collect();
        assert_eq!(shown[..2], [(None, None), (Some(&*addresses[1]), None)]);
        let strange = (Some(&*addresses[2]), Some("is not a tally process: its /metrics has no tally metrics"));
        assert_eq!((shown[2], shown[3].0), (strange, Some(&*gone)));
        assert!(shown[3].1.is_some_and(|error| error.contains("refused")), "{shown:?}");
        assert_eq!(items.len(), 4);
    }
}
