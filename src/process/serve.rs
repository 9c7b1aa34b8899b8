//! The life of a process: from its arguments until SIGTERM.

use super::logging;
use super::parts::Parts;
use super::roles::Roles;
use super::who::Who;
use crate::commands::{Failure, traffic};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tally_access::AccessMetrics;
use tally_http::{Server, ServerConfig};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long requests in flight may take at the end.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(4);
/// How long the parts that serve requests may take to close.
const FRONT_DEADLINE: Duration = Duration::from_millis(4_500);
/// How long the whole shutdown may take; unfinished work is left to the next process. Below the promised 10 s.
const STOP_DEADLINE: Duration = Duration::from_secs(7);
/// How long connections may then take to close.
const CLOSE_DEADLINE: Duration = Duration::from_millis(500);
/// How long after that the process ends unconditionally: a client of a store or of the log may not close, on any
/// thread.
const END_DEADLINE: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT, or until a part cannot continue.
pub fn serve(roles: Roles) -> Result<(), Failure> {
    logging::start();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = workers(&roles) {
        runtime.worker_threads(workers);
    }
    let runtime = runtime.enable_all().build().map_err(Failure::no)?;
    let outcome = runtime.block_on(live(roles));
    // Work that still waits for a client or an unavailable log must not keep the process running.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// How many threads serve requests, unless the runtime chooses (`TOKIO_WORKER_THREADS`, else one per core). A process that
/// only ingests leaves a core to the threads of its log client: they have about half as much to do for each request, and the
/// threads would displace each other.
fn workers(roles: &Roles) -> Option<usize> {
    let only_ingests = roles.ingest.is_some() && roles.process.is_none() && roles.sink.is_none() && roles.api.is_none();
    let chosen = std::env::var_os("TOKIO_WORKER_THREADS").is_some();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (only_ingests && !chosen).then(|| (cores - 1).max(1))
}

/// The signals that end the process.
struct Asked {
    terminate: Signal,
    interrupt: Signal,
}

impl Asked {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(Failure::no);
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn live(roles: Roles) -> Result<(), Failure> {
    let mut asked = Asked::listen()?;
    let listen = &roles.site.listen;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|e| Failure::usage(format!("--listen {listen}: {e}: name a free address with --listen")))?;
    let address = listener.local_addr().map_err(Failure::no)?;
    // Nothing is accepted yet.
    roles.site.access.check(listen, address)?;
    let who = Who::open(&roles.site.access).await?;
    let (stopping, failed) = (CancellationToken::new(), CancellationToken::new());
    let mut starting = tokio::task::spawn_blocking({
        let (roles, failed) = (roles.clone(), failed.clone());
        move || Parts::start(&roles, &failed)
    });
    let parts = tokio::select! {
        parts = &mut starting => parts.map_err(Failure::no)??,
        () = asked.wait() => return end_start(starting).await,
    };
    let mut config = ServerConfig { shutdown_deadline: SHUTDOWN_DEADLINE, ..ServerConfig::default() };
    // Live streams must not use up the connections for requests.
    let live_streams = roles.api.as_ref().map_or(0, |(_, reads)| reads.live_streams);
    config.connections_max = config.connections_max.saturating_add(live_streams);
    let server = Server::new(config, parts.registry()).map_err(Failure::no)?;
    let access = AccessMetrics::new(parts.registry()).map_err(Failure::no)?;
    let router = parts.router(&roles, &who, &access, &stopping)?;
    let watching = tokio::spawn(who.watch(access, stopping.clone()));
    let serving = tokio::spawn({
        let stopping = stopping.clone();
        async move { server.serve(listener, router, stopping).await }
    });
    announce(address, &parts.kept());
    let demo = roles.demo.map(|rate| tokio::spawn(traffic(format!("http://{address}"), rate, 1, stopping.clone())));

    let ended_well = tokio::select! {
        () = asked.wait() => true,
        () = failed.cancelled() => false,
        () = parts.watch(&stopping) => false,
    };
    let deadline = Instant::now() + STOP_DEADLINE;
    tracing::info!(ended_well, "stopping");
    end_by(deadline + CLOSE_DEADLINE + END_DEADLINE, ended_well);
    stopping.cancel();
    // The parts need some of the time, so those in front of them get no more than requests in flight do.
    let front = async {
        if let Some(demo) = demo {
            let _ = demo.await;
        }
        let _ = serving.await;
        let _ = watching.await;
    };
    if tokio::time::timeout(FRONT_DEADLINE, front).await.is_err() {
        tracing::warn!("what serves requests does not end in time and is left alone");
    }
    stop(parts, deadline).await?;
    if ended_well { Ok(()) } else { Err(Failure::no("a part of the process could not go on")) }
}

/// A shutdown during the start: nothing was taken yet, and the start may be waiting for the log.
async fn end_start(starting: JoinHandle<Result<Parts, Failure>>) -> Result<(), Failure> {
    let deadline = Instant::now() + STOP_DEADLINE;
    end_by(deadline + CLOSE_DEADLINE + END_DEADLINE, true);
    match tokio::time::timeout_at(deadline.into(), starting).await {
        Ok(Ok(Ok(parts))) => stop(parts, deadline).await,
        _ => Ok(()),
    }
}

/// Stops the parts by the deadline, or abandons them soon after it.
async fn stop(parts: Parts, deadline: Instant) -> Result<(), Failure> {
    let stopped = tokio::task::spawn_blocking(move || parts.stop(deadline));
    match tokio::time::timeout_at((deadline + CLOSE_DEADLINE).into(), stopped).await {
        Ok(stopped) => stopped.map_err(Failure::no)?,
        Err(_) => {
            tracing::warn!("a connection cannot be closed; it ends with the process");
            Ok(())
        }
    }
}

/// Ends the process at that time if it is still running.
fn end_by(deadline: Instant, ended_well: bool) {
    std::thread::spawn(move || {
        std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
        tracing::warn!("something does not end in time and is left alone");
        std::process::exit(i32::from(!ended_well));
    });
}

fn announce(address: SocketAddr, kept: &[String]) {
    println!("listening on http://{address}");
    kept.iter().for_each(|line| println!("{line}"));
    tracing::info!(%address, "ready");
}
