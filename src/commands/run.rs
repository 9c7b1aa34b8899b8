//! `tally run`: everything in one process.

use super::addresses::Addresses;
use super::{Failure, demo};
use crate::process::{SinkSide, Site, StreamSide, door, logging, page, read_side, sinks, stream_threads};
use axum::Router;
use clap::Args;
use std::net::SocketAddr;
use std::time::Duration;
use tally_http::{Edge, Server, ServerConfig, metrics_page, openapi_page};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

/// A request that has no answer after this long gets 503. Reads may wait up to 10 s for a receipt.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// How long requests in flight may take at the end.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(4);

/// Arguments of `tally run`.
#[derive(Args, Clone)]
pub struct RunArgs {
    #[command(flatten)]
    addresses: Addresses,
    /// Stream threads; by default one per core
    #[arg(long, env = "TALLY_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Accept stores and subtopologies that the running generation does not have: they start empty
    #[arg(long)]
    accept_added: bool,
    /// Proxies whose X-Forwarded-For is believed: addresses or networks, separated by commas
    #[arg(long, env = "TALLY_TRUSTED_PROXIES", value_name = "CIDR", value_delimiter = ',')]
    trusted_proxy: Vec<String>,
    /// Send sample traffic to this process's own door, this many events per second
    #[arg(long, value_name = "RATE", num_args = 0..=1, default_missing_value = "200")]
    demo: Option<u32>,
}

#[derive(OpenApi)]
#[openapi(info(title = "tally", description = "Events in, exact counts out. Errors are application/problem+json."))]
struct Description;

/// Runs until SIGTERM or SIGINT, or until a part cannot go on.
pub fn run(args: RunArgs) -> Result<(), Failure> {
    logging::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::no)?;
    let outcome = runtime.block_on(serve(args));
    // Whatever still waits for a client must not hold the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve(args: RunArgs) -> Result<(), Failure> {
    let (mut terminate, mut interrupt) = (listen_for(SignalKind::terminate())?, listen_for(SignalKind::interrupt())?);
    let listener = TcpListener::bind(&args.addresses.listen).await.map_err(|e| {
        Failure::usage(format!("--listen {}: {e}: name a free address with --listen", args.addresses.listen))
    })?;
    let address = listener.local_addr().map_err(Failure::no)?;
    let (stopping, failed) = (CancellationToken::new(), CancellationToken::new());
    let started = tokio::task::spawn_blocking({
        let (args, failed) = (args.clone(), failed.clone());
        move || start(&args, &failed)
    });
    let (site, sinks, streams) = started.await.map_err(Failure::no)??;
    let router = routes(&site, &args, &sinks)?;
    let server =
        Server::new(ServerConfig { shutdown_deadline: SHUTDOWN_DEADLINE, ..ServerConfig::default() }, &site.registry);
    let server = server.map_err(Failure::no)?;
    let serving = tokio::spawn({
        let stopping = stopping.clone();
        async move { server.serve(listener, router, stopping).await }
    });
    announce(address);
    let demo =
        args.demo.map(|rate| tokio::spawn(demo::traffic(format!("http://{address}"), rate, 1, stopping.clone())));

    let ended_well = tokio::select! {
        _ = terminate.recv() => true,
        _ = interrupt.recv() => true,
        () = failed.cancelled() => false,
        () = sinks.watch(&stopping) => false,
    };
    tracing::info!(ended_well, "stopping");
    stopping.cancel();
    if let Some(demo) = demo {
        let _ = demo.await;
    }
    let _ = serving.await;
    // In the order that records flow, so that each part still takes what the one before it has written.
    let stopped = tokio::task::spawn_blocking(move || {
        let streams = streams.stop();
        let sinks = sinks.stop();
        drop(site);
        streams.and(sinks)
    });
    stopped.await.map_err(Failure::no)??;
    if ended_well { Ok(()) } else { Err(Failure::no("a part of the process could not go on")) }
}

/// Opens the log and starts what runs on threads of its own. Blocks.
fn start(args: &RunArgs, failed: &CancellationToken) -> Result<(Site, SinkSide, StreamSide), Failure> {
    let site = Site::open(&args.addresses, args.accept_added)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or(cores, usize::from).min(site.topology.subtopologies[0].partitions as usize);
    let sinks = sinks(&site, &args.addresses)?;
    let streams = stream_threads(&site, threads, failed)?;
    Ok((site, sinks, streams))
}

fn listen_for(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    signal(kind).map_err(Failure::no)
}

fn announce(address: SocketAddr) {
    println!("listening on http://{address}");
    tracing::info!(%address, "ready");
}

/// Every route of the process, described in one document.
fn routes(site: &Site, args: &RunArgs, sinks: &SinkSide) -> Result<Router, Failure> {
    let door = tally_ingest::router(door(site, &args.trusted_proxy)?);
    let reads = read_side(site, &args.addresses, sinks)?;
    let (router, description) =
        OpenApiRouter::with_openapi(Description::openapi()).merge(door).merge(reads).split_for_parts();
    let router = router
        .merge(openapi_page(&description).map_err(Failure::no)?)
        .merge(metrics_page(site.registry.clone()))
        .merge(page::page(site));
    Ok(Edge::new(&site.registry, REQUEST_TIMEOUT).map_err(Failure::no)?.wrap(router))
}
