//! The sinks of a process.

use super::identity::{check_read, check_sink};
use super::view::view;
use super::{Roles, Site};
use crate::commands::{CacheAddress, Failure};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_cache::{Admit, MemoryCache};
use tally_http::Check;
use tally_model::OutputType;
use tally_processors::kept_windows;
use tally_sinks::{
    HeadStart, OpenError, Retention, SinkConfig, SinkMetrics, SinkTask, SinkThread, TargetSite, WindowRetention,
};
use tally_streams::runtime::StateDir;
use tally_streams::topology::Sink;
use tokio_util::sync::CancellationToken;

/// How often the sinks are checked.
const WATCH: Duration = Duration::from_millis(200);
/// Between checks of a sink that is to end.
const STOP_STEP: Duration = Duration::from_millis(5);

/// The running sinks.
pub struct SinkSide {
    threads: Vec<SinkThread>,
    /// Fills the view of the API, which works without it.
    view: Option<SinkThread>,
    /// The cache in this process, if it has one: that of the cache sinks, or the view.
    pub cache: Option<Arc<MemoryCache>>,
}

/// Starts the sinks of a process, each in the process that has its target: one that processes share in the role `sink`,
/// a memory cache where it is read. None if the process has neither.
pub fn sinks(site: &Site, roles: &Roles, head_start: &HeadStart) -> Result<Option<SinkSide>, Failure> {
    let Some(stores) = &site.stores else { return Ok(None) };
    if let Some((_, reads)) = &roles.api {
        check_read(site, &stores.database_from, &stores.database)?;
        if let Some(replica) = reads.database()? {
            check_read(site, "--database-read", &replica)?;
        }
    }
    let metrics = SinkMetrics::register(&site.registry).map_err(Failure::no)?;
    let reads = roles.api.as_ref().filter(|_| stores.cache == CacheAddress::Memory);
    let cache = reads.map(|(_, reads)| MemoryCache::of_all(reads.cache_limits(), Admit::All));
    let mut threads = Vec::new();
    for (sink, store) in stores.of_sinks(&site.topology) {
        let config = config(site, sink)?;
        let target = store.open(&TargetSite {
            sink: &sink.name,
            metrics: &metrics,
            log_id: site.control.log_id,
            retention: retention(site),
            writes: roles.sink.is_some(),
            memory: cache.clone(),
        });
        let Some(target) = target.map_err(|error| failure(sink, error))? else { continue };
        let mut task = SinkTask::new(config, site.log.clone(), target, &metrics);
        check_sink(&mut task, site.watch.is_some())?;
        threads.push(SinkThread::spawn(task, head_start.clone()).map_err(Failure::no)?);
    }
    let view =
        roles.api.as_ref().map(|(_, reads)| view(site, stores, reads, head_start.clone())).transpose()?.flatten();
    let (view, of_view) = view.unzip();
    Ok(Some(SinkSide { threads, view, cache: cache.or(of_view) }))
}

fn failure(sink: &Sink, error: OpenError) -> Failure {
    match error {
        OpenError::Database(error) => Failure::usage(error),
        OpenError::System(error) => Failure::no(format!("sink `{}`: {error}", sink.name)),
    }
}

fn config(site: &Site, sink: &Sink) -> Result<SinkConfig, Failure> {
    let topic = |name: &String| {
        let value = site.topology.topics.get(name).map_or("", |topic| topic.value.as_str());
        let output = OutputType::from_name(value);
        let output = output.ok_or_else(|| Failure::usage(format!("sink `{}` cannot read `{name}`", sink.name)));
        Ok((name.clone(), output?))
    };
    let group = format!("{}-sink-{}", site.topology.settings.application, sink.name);
    // A process without a directory of its own has only sinks that join no group.
    let id = site.state.as_ref().map_or("", StateDir::id);
    Ok(SinkConfig {
        name: sink.name.clone(),
        member: format!("{group}-{id}"),
        group,
        progress_topic: Some(site.topology.progress_topic()),
        topics: sink.from.iter().map(topic).collect::<Result<_, Failure>>()?,
        records_max: sink.records_max,
        linger: sink.linger,
    })
}

/// Rows are kept for the retention of their topics; those of some windows for a shorter time.
fn retention(site: &Site) -> Retention {
    let default = Retention::default();
    let of = |output: OutputType, default: Duration| {
        let topic = site.topology.topics.values().find(|topic| topic.value == output.name());
        topic.and_then(|topic| topic.spec.retention).unwrap_or(default)
    };
    Retention {
        verdicts: of(OutputType::Verdict, default.verdicts),
        dead_letters: of(OutputType::Raw, default.dead_letters),
        counter_windows: of(OutputType::CounterWindow, default.counter_windows),
        windows: kept_windows(&site.topology)
            .map(|(metrics, window, kept)| WindowRetention { metrics, window, kept })
            .collect(),
    }
}

impl SinkSide {
    /// Returns when a sink has ended by itself because it cannot continue.
    pub async fn watch(&self, stopping: &CancellationToken) {
        while !self.threads.iter().any(SinkThread::is_finished) {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(WATCH) => {}
            }
        }
    }

    /// Whether every sink can write.
    pub fn check(&self) -> Check {
        let states: Vec<_> = self.threads.iter().map(SinkThread::state).collect();
        Check::at_once("the sinks", move || {
            let ill = states.iter().filter_map(|state| Some(format!("`{}` {}", state.sink(), state.trouble()?)));
            let ill: Vec<_> = ill.collect();
            if ill.is_empty() { Ok(()) } else { Err(ill.join(", ")) }
        })
    }

    /// Writes what has been read, and ends. A sink that has not ended by the deadline waits for its target or for the
    /// log: what it has not written is read again by its successor.
    pub fn stop(self, deadline: Instant) -> Result<(), Failure> {
        let threads: Vec<_> = self.threads.into_iter().chain(self.view).collect();
        threads.iter().for_each(SinkThread::stop);
        let mut outcome = Ok(());
        for thread in threads {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(STOP_STEP);
            }
            if thread.is_finished() {
                outcome = outcome.and(thread.join().map_err(Failure::no));
            } else {
                tracing::warn!(sink = thread.state().sink(), "does not end in time and is left alone");
            }
        }
        outcome
    }
}
