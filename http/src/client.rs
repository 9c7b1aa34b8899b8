//! A client of other HTTP servers: limits of time and size, TLS, and connections that are kept for the next request.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::http::uri::Scheme;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tower::Service;

type BoxError = Box<dyn Error + Send + Sync>;

/// The limits of a request.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// How long a connection may take; None for as long as the whole exchange.
    pub connect: Option<Duration>,
    /// How long the exchange may take, from the name of the server to the last byte of the body.
    pub exchange: Duration,
    /// The size of a body, in bytes.
    pub body_bytes_max: usize,
}

/// See the module. Clones share connections.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<Connector, Full<Bytes>>,
    limits: ClientLimits,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The exchange took longer than its limit.
    #[error("no response in time")]
    Late,
    /// The connection, or what came over it.
    #[error(transparent)]
    Exchange(#[from] hyper_util::client::legacy::Error),
}

impl ClientError {
    /// The reason not to trust the server, if that is the cause.
    pub fn distrust(&self) -> Option<&ServerError> {
        match self {
            Self::Late => None,
            Self::Exchange(error) => error.source()?.downcast_ref(),
        }
    }

    /// What began it, without what failed because of that.
    pub fn root_cause(&self) -> String {
        let chain = std::iter::successors(Some(self as &(dyn Error + 'static)), |error| (*error).source());
        chain.last().map(ToString::to_string).unwrap_or_default()
    }
}

/// Why a server is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No certificate can be for such a name.
    #[error("{0}")]
    Name(#[from] rustls::pki_types::InvalidDnsNameError),
    /// It needs TLS.
    #[error("`{0}` is not this machine: use https")]
    NotThisMachine(String),
    /// The handshake failed.
    #[error("TLS: {0}")]
    Tls(io::Error),
}

impl ServerError {
    /// Whether another attempt may succeed. A certificate does not become another's by waiting.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Name(_) | Self::NotThisMachine(_) => false,
            Self::Tls(error) => error.get_ref().is_none_or(|cause| !cause.is::<rustls::Error>()),
        }
    }
}

impl HttpClient {
    /// A client of `http` addresses.
    pub fn plain(limits: ClientLimits) -> Self {
        Self::new(None, limits)
    }

    /// A client of `https` addresses that trusts these certificates. It takes `http` addresses only of this machine.
    pub fn with_tls(roots: RootCertStore, limits: ClientLimits) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self::new(Some(TlsConnector::from(Arc::new(config))), limits))
    }

    fn new(tls: Option<TlsConnector>, limits: ClientLimits) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(tls.is_none());
        tcp.set_connect_timeout(limits.connect);
        let connector = Connector { tcp, tls };
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Self { client, limits }
    }

    /// Sends a request to the address that it names. Redirects are not followed. The body of the response is an error where
    /// it breaks off, or is longer than the limit.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Result<Bytes, BoxError>>, ClientError> {
        let exchange = async {
            let (head, body) = self.client.request(request.map(Full::new)).await?.into_parts();
            let body = Limited::new(body, self.limits.body_bytes_max).collect().await;
            Ok(Response::from_parts(head, body.map(|body| body.to_bytes())))
        };
        tokio::time::timeout(self.limits.exchange, exchange).await.unwrap_or(Err(ClientError::Late))
    }
}

/// Connects to the server of an address.
#[derive(Clone)]
struct Connector {
    tcp: HttpConnector,
    tls: Option<TlsConnector>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Connection for Box<dyn Stream> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, tls) = (self.tcp.call(uri.clone()), self.tls.clone());
        Box::pin(async move {
            let stream = connecting.await?.into_inner();
            let Some(tls) = tls else { return Ok(TokioIo::new(Box::new(stream) as Box<dyn Stream>)) };
            let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
            if uri.scheme() == Some(&Scheme::HTTPS) {
                let name = ServerName::try_from(host).map_err(ServerError::from)?;
                let stream = tls.connect(name, stream).await.map_err(ServerError::Tls)?;
                return Ok(TokioIo::new(Box::new(stream) as Box<dyn Stream>));
            }
            match stream.peer_addr().is_ok_and(|peer| !peer.ip().to_canonical().is_loopback()) {
                true => Err(ServerError::NotThisMachine(host).into()),
                false => Ok(TokioIo::new(Box::new(stream) as Box<dyn Stream>)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const LIMITS: ClientLimits = ClientLimits { connect: None, exchange: Duration::from_secs(60), body_bytes_max: 10 };

    /// Sends the path of each request back, if it is not `/silent`. Returns its address and the number of connections.
    async fn server() -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while let Ok(byte) = stream.read_u8().await {
                        head.push(byte);
                        if head.ends_with(b"\r\n\r\n") {
                            let text = String::from_utf8(std::mem::take(&mut head)).unwrap();
                            let path = text.split(' ').nth(1).unwrap();
                            if path != "/silent" {
                                let response =
                                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len());
                                stream.write_all(response.as_bytes()).await.unwrap();
                            }
                        }
                    }
                });
            }
        });
        (address, connections)
    }

    fn get(address: SocketAddr, path: &str) -> Request<Bytes> {
        Request::get(format!("http://{address}{path}")).body(Bytes::new()).unwrap()
    }

    #[tokio::test]
    async fn a_connection_is_kept_and_a_body_has_a_limit() {
        let (address, connections) = server().await;
        let client = HttpClient::plain(LIMITS);
        for path in ["/one", "/123456789"] {
            let response = client.send(get(address, path)).await.unwrap();
            assert_eq!(response.into_body().unwrap(), path);
        }
        assert_eq!(connections.load(Ordering::Relaxed), 1);
        let long = client.send(get(address, "/1234567890")).await.unwrap();
        assert_eq!(long.status(), 200);
        assert_eq!(long.into_body().unwrap_err().to_string(), "length limit exceeded");
    }

    #[tokio::test]
    async fn a_server_that_does_not_respond_is_late_and_one_that_is_not_there_is_named() {
        let (address, _) = server().await;
        let client = HttpClient::plain(ClientLimits { exchange: Duration::from_millis(50), ..LIMITS });
        assert!(matches!(client.send(get(address, "/silent")).await, Err(ClientError::Late)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = HttpClient::plain(LIMITS).send(get(address, "/")).await.unwrap_err();
        assert!(error.root_cause().starts_with("Connection refused") && error.distrust().is_none(), "{error:?}");
    }

    #[tokio::test]
    async fn a_client_with_tls_goes_without_it_only_to_this_machine() {
        let (address, _) = server().await;
        let client = HttpClient::with_tls(RootCertStore::empty(), LIMITS).unwrap();
        assert!(client.send(get(address, "/one")).await.unwrap().into_body().is_ok());
    }
}
