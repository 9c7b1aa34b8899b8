//! The accept loop: connections are limited in number and time, and end at shutdown.

use crate::connection::{refuse, serve_connection};
use crate::peer::canonical;
use axum::Router;
use prometheus::{IntCounter, IntGauge, Registry};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many refused connections may wait at once until their client has read why; more are just closed.
const REFUSALS_MAX: usize = 64;
/// How long to wait when the system has no file handle to spare.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The limits of a server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Open connections; one more gets 503 and is closed.
    pub connections_max: usize,
    /// How long a request's head may take, and how long a connection may stay idle between requests.
    pub header_timeout: Duration,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// How long a client may leave its response unread.
    pub write_timeout: Duration,
    /// The longest head of a request (431). 100 subjects of 128 bytes in any script are some 40 KB in an address.
    pub header_bytes_max: usize,
    /// How long requests in flight may take after the shutdown begins.
    pub shutdown_deadline: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(20),
            header_bytes_max: 64 << 10,
            shutdown_deadline: Duration::from_secs(5),
        }
    }
}

/// How a server came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that had to be cut at the deadline.
    pub cut: usize,
}

/// Serves HTTP/1.1. Clones share limits on connections and metrics.
#[derive(Clone)]
pub struct Server {
    config: Arc<ServerConfig>,
    slots: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    connections: IntGauge,
    refused: IntCounter,
}

impl Server {
    /// Registers the metrics.
    pub fn new(config: ServerConfig, registry: &Registry) -> prometheus::Result<Self> {
        let connections = IntGauge::new("tally_http_connections", "Open connections.")?;
        let refused =
            IntCounter::new("tally_http_connections_refused_total", "Connections refused because of the limit.")?;
        registry.register(Box::new(connections.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        let slots = Arc::new(Semaphore::new(config.connections_max.min(Semaphore::MAX_PERMITS)));
        let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
        Ok(Self { config: Arc::new(config), slots, refusals, connections, refused })
    }

    /// Accepts until `shutdown` is cancelled, then finishes requests in flight within the deadline and closes the
    /// remaining connections. Handlers find the peer as [`axum::extract::ConnectInfo`] of a socket address.
    pub async fn serve(&self, listener: TcpListener, router: Router, shutdown: CancellationToken) -> Stopped {
        let tasks = TaskTracker::new();
        let cut = CancellationToken::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, canonical(peer), &router, &tasks, &shutdown, &cut),
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections; is the limit on open files too low?");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Closes the port: later connections must reach another process.
        drop(listener);
        tasks.close();
        let in_time = tokio::time::timeout(self.config.shutdown_deadline, tasks.wait()).await.is_ok();
        let stopped = Stopped { cut: if in_time { 0 } else { tasks.len() } };
        cut.cancel();
        tasks.wait().await;
        stopped
    }

    fn admit(
        &self,
        stream: TcpStream,
        peer: std::net::SocketAddr,
        router: &Router,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
        cut: &CancellationToken,
    ) {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            self.refused.inc();
            if let Ok(refusal) = self.refusals.clone().try_acquire_owned() {
                let cut = cut.clone();
                tasks.spawn(async move {
                    let _ = cut.run_until_cancelled(refuse(stream)).await;
                    drop(refusal);
                });
            }
            return;
        };
        let open = OpenConnection::new(self.connections.clone());
        let (config, router) = (self.config.clone(), router.clone());
        let (shutdown, cut) = (shutdown.clone(), cut.clone());
        tasks.spawn(async move {
            let _ = cut.run_until_cancelled(serve_connection(stream, peer, router, &config, shutdown)).await;
            drop((slot, open));
        });
    }
}

/// Counts a connection for as long as it lives.
struct OpenConnection(IntGauge);

impl OpenConnection {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Errors of a connection that ended before it was accepted do not concern the listener.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
