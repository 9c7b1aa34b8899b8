//! A build without gRPC serves HTTP/1 alone.

use crate::server::ServerConfig;
use axum::Router;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// False: what is not HTTP/1 is answered as such.
pub(crate) async fn speaks(_: &TcpStream, _: Duration) -> io::Result<bool> {
    Ok(false)
}

/// Never called.
pub(crate) async fn serve(_: TcpStream, _: SocketAddr, _: Router, _: &ServerConfig, _: CancellationToken) {}
